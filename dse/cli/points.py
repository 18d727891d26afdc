"""Single points: explain and place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dse.cli import options
from dse.cli.root import cli, print_json
from dse.errors import InputError


@cli.command()
@click.argument("run_dir", required=False)
@click.argument("number", required=False, type=int)
@click.option("--model", metavar="M", help="Name or path of a config.json.")
@click.option("--hardware", metavar="H", help="Name or path.")
@options.layout
@click.option("--batch", type=int, default=1, show_default=True)
@options.lengths
@click.option("--serving", default="static", show_default=True)
@click.option("--rate", type=float, metavar="R", help="Requests per second at one replica, for --serving open-loop.")
@click.option("--burstiness", type=float, default=1.0, show_default=True, help="Of the times between arrivals, CV.")
@click.option("--disaggregated", metavar="YAML", help="Its pools: '{prefill: {parallel: {tp: 1}}, devices: 8}'.")
@click.option("--offload", type=click.Choice(["none", "lp"]), default="none", show_default=True)
@options.overlap
@options.memory
@options.runtime
@options.kernels
@options.dequantization
@click.option("--chunk-tokens", default="none", show_default=True, help="Tokens of an iteration with chunked prefill.")
@options.requests
@options.fidelity
@click.option("--html", metavar="FILE", help="Write a page: layer graph, roofline, table.")
@options.as_json
def explain(run_dir: str | None, number: int | None, html: str | None, as_json: bool, **point: Any) -> None:
    """One point, operator by operator: --model M --hardware H ..., or RUN_DIR NUMBER of a finished run.

    Exits with 1 where the point cannot run, which is explained all the same.
    """
    from dse.report.explain import print_explain, why_not
    from dse.run.evaluate import explain as explain_point
    from dse.run.evaluate import explain_run

    if run_dir is not None:
        if number is None:
            raise InputError("expected RUN_DIR NUMBER; the number of a point stands in frontier.csv")
        found = explain_run(run_dir, number)
    else:
        missing = [f"--{name}" for name in ("model", "hardware") if not point[name]]
        if missing:
            raise InputError(f"missing {' and '.join(missing)} (or give RUN_DIR NUMBER)")
        found = explain_point(point.pop("model"), point.pop("hardware"), **axes_of(point))
    if html is not None:
        from dse.report.html import write_explain
        from dse.run.store import writing

        with writing(Path(html)):
            write_explain(found, Path(html))
    if as_json:
        print_json(found)
    elif html is not None:
        click.echo(f"wrote {html}")
    else:
        print_explain(found)
    if (reason := why_not(found)) is not None:
        click.echo(reason, err=True)
        raise click.exceptions.Exit(1)


@cli.command()
@click.option("--model", metavar="M", required=True, help="Name or path of a config.json.")
@click.option("--hardware", metavar="H", required=True, help="Name or path; its box has the host and the disk.")
@options.layout
@options.lengths
@click.option("--gpu-batch", type=int, help="Sequences of a GPU batch  [default: the best]")
@click.option("--num-batches", type=int, help="GPU batches of a block  [default: the best]")
@click.option(
    "--policy",
    metavar="WG,WC,CG,CC,HG,HC",
    help="Percent of weights, cache and hidden activations on accelerator and host; the rest lies on disk.",
)
@click.option("--whole-tensors", is_flag=True, help="Place the policy's weights matrix by matrix, as FlexGen does.")
@click.option("--host", metavar="WHAT", help="What the host computes: none, or any of attention,ffn,experts.")
@click.option("--latency", "latency_s", type=float, metavar="S", help="Most seconds from prompt to last token.")
@options.overlap
@options.memory
@options.dequantization
@options.fidelity
@options.as_json
def place(policy: str | None, host: str | None, as_json: bool, **point: Any) -> None:
    """Place weights, KV cache and activations over accelerator, host and disk for the highest throughput.

    Exits with 1 where nothing fits.
    """
    from dse.report.place import print_place
    from dse.run.place import place as place_point

    shares = None if policy is None else _numbers(policy, "--policy")
    work = None if host is None else [word.strip() for word in host.split(",") if word.strip() not in ("", "none")]
    found = place_point(point.pop("model"), point.pop("hardware"), policy=shares, host=work, **axes_of(point))
    if as_json:
        print_json(found)
    else:
        print_place(found)
    if found["status"] != "ok":
        raise click.exceptions.Exit(1)


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: expected numbers with commas between, got {text!r}") from None


def axes_of(point: dict[str, Any]) -> dict[str, Any]:
    """The axes of a point from its options."""
    from dse.cost.techniques import TECHNIQUES
    from dse.run.settings import value_of

    axes = {name: value for name, value in point.items() if value is not None}
    if "input_" in axes:
        axes["input"] = axes.pop("input_")
    for name in {*TECHNIQUES, "disaggregated"} & axes.keys():
        if isinstance(axes[name], str):
            axes[name] = value_of(axes[name], f"--{name.replace('_', '-')}")
    if str(axes.get("precision", "")).lstrip().startswith("{"):
        axes["precision"] = value_of(axes["precision"], "--precision")
    if "max_prefill_tokens" in axes:
        axes["max_prefill_tokens"] = value_of(str(axes["max_prefill_tokens"]), "--max-prefill-tokens")
    if axes["ep"] != "auto":
        if not str(axes["ep"]).isdigit():
            raise InputError(f"--ep: expected a whole number or auto, got {axes['ep']!r}")
        axes["ep"] = int(axes["ep"])
    return axes
