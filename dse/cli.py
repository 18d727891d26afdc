"""The command line: reads arguments, calls the library, prints. Everything it can do, Python can do."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from dse import __version__
from dse.errors import DseError, Fault, InputError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="dse")
def cli() -> None:
    """Design-space exploration for LLM inference.

    Write a YAML sweep over models, precisions, batch sizes, parallel layouts and hardware; get the Pareto
    frontiers of throughput, latency, memory and cost, and why each point is where it is.
    """


def main() -> None:
    """Entry point: errors of the user are plain lines, never a traceback; Ctrl-C leaves with 130."""
    sys.exit(run())


def run(arguments: list[str] | None = None) -> int:
    """The command line as a function: the exit code, with everything said on stdout and stderr."""
    try:
        code = cli.main(arguments, prog_name="dse", standalone_mode=False)
        if sys.stdout is not None:  # None: closed by the caller (`>&-`)
            sys.stdout.flush()
    except DseError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return InputError.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted; finished parts are kept, the same command goes on from there", 130)
    except (BrokenPipeError, SystemExit):
        # The reader (head, less) has gone, for which click and rich leave with 1; nobody is left to tell.
        return _unheard(0)
    except OSError as error:
        return _unheard(_fail(f"the output cannot be written: {error.strerror or error}", 1))
    except MemoryError:
        return _fail("out of memory; a smaller sweep, or --executor ray on a larger machine, may do", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _unheard(code: int) -> int:
    """What stdout still holds goes nowhere: Python would try to write it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


# -- sweep ----------------------------------------------------------------------------------------------


@cli.command()
@click.argument("sweep")
@click.option("--out", default="results", show_default=True, help="Folder the run's own folder is made in.")
@click.option("--executor", type=click.Choice(["auto", "local", "ray"]), default="auto", show_default=True)
@click.option("--ray-address", metavar="A", help="A Ray cluster to use instead of this machine.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a field of the sweep; repeatable.")
@click.option("--keep", type=click.Choice(["frontier", "all"]), help="Also write every point (points/*.parquet).")
@click.option(
    "--fidelity", type=click.Choice(["ideal", "datasheet", "calibrated"]), help="One fidelity for all points."
)
@click.option("--fresh", is_flag=True, help="Forget what an earlier run of the same content left.")
@click.option("--dry-run", is_flag=True, help="Check the sweep, print its size and estimate, run nothing.")
def sweep(
    sweep: str,
    out: str,
    executor: str,
    ray_address: str | None,
    settings: tuple[str, ...],
    keep: str | None,
    fidelity: str | None,
    fresh: bool,
    dry_run: bool,
) -> None:
    """Run SWEEP.yaml: score every point, write the frontiers and the report.

    Exits with 1 where no point is feasible, 2 where the sweep is at fault.
    """
    from dse.run.sweep import load_sweep, run_sweep

    changes = [
        *settings,
        *(f"{key}={value}" for key, value in (("keep", keep), ("fidelity", fidelity)) if value),
    ]
    found = load_sweep(sweep, changes)
    if dry_run:
        from dse.run.executors import choose
        from dse.run.plan import plan
        from dse.run.score import Engine

        engine = Engine(found)
        for line in plan(engine, choose(executor, engine.space.effort, ray_address)):
            click.echo(line)
        return
    from dse.report.progress import progress_bar
    from dse.report.summary import print_summary

    with progress_bar() as progress:
        run = run_sweep(
            found,
            out,
            executor=executor,
            ray_address=ray_address,
            fresh=fresh,
            progress=progress,
            say=progress.say,
        )
    print_summary(run.manifest, run.rows(), run.folder)
    if not run.manifest["feasible"]:
        raise click.exceptions.Exit(1)


# -- one point ------------------------------------------------------------------------------------------


@cli.command()
@click.argument("run_dir", required=False)
@click.argument("number", required=False, type=int)
@click.option("--model", metavar="M", help="Name or path of a config.json.")
@click.option("--hardware", metavar="H", help="Name or path.")
@click.option("--precision", metavar="P", help="Name of a scheme  [default: the model's own, else bf16]")
@click.option("--tp", type=int, default=1, show_default=True)
@click.option("--pp", type=int, default=1, show_default=True)
@click.option("--dp", type=int, default=1, show_default=True)
@click.option("--ep", default="auto", show_default=True, help="A number, or auto.")
@click.option("--batch", type=int, default=1, show_default=True)
@click.option("--input", "input_", type=int, default=1024, show_default=True, help="Prompt tokens.")
@click.option("--output", type=int, default=256, show_default=True, help="Generated tokens.")
@click.option("--serving", default="static", show_default=True)
@click.option("--runtime", default="ideal", show_default=True)
@click.option("--attention", default="fused", show_default=True, help="fused or unfused.")
@click.option("--kv-budget", default="none", show_default=True, help="Tokens the cache keeps per sequence.")
@click.option("--weight-sparsity", default="none", show_default=True, help="2:4, or the share of zeros.")
@click.option("--dequantization", default="fused", show_default=True, help="fused, or bytes moved per element.")
@click.option(
    "--fidelity",
    type=click.Choice(["ideal", "datasheet", "calibrated"]),
    default="calibrated",
    show_default=True,
)
@click.option("--html", metavar="FILE", help="Write a page: layer graph, roofline, table.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def explain(run_dir: str | None, number: int | None, html: str | None, as_json: bool, **point: Any) -> None:
    """One point, operator by operator: --model M --hardware H ..., or RUN_DIR NUMBER of a finished run."""
    from dse.report.explain import print_explain
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
        found = explain_point(point.pop("model"), point.pop("hardware"), **_axes(point))
    if html is not None:
        from dse.report.html import write_explain
        from dse.run.store import writing

        with writing(Path(html)):
            write_explain(found, Path(html))
    if as_json:
        _print_json(found)
    elif html is not None:
        click.echo(f"wrote {html}")
    else:
        print_explain(found)


@cli.command()
@click.option("--model", metavar="M", required=True, help="Name or path of a config.json.")
@click.option("--hardware", metavar="H", required=True, help="Name or path; its box has the host and the disk.")
@click.option("--precision", metavar="P", help="Name of a scheme  [default: the model's own, else bf16]")
@click.option("--tp", type=int, default=1, show_default=True)
@click.option("--pp", type=int, default=1, show_default=True)
@click.option("--dp", type=int, default=1, show_default=True)
@click.option("--ep", default="auto", show_default=True, help="A number, or auto.")
@click.option("--input", "input_", type=int, default=1024, show_default=True, help="Prompt tokens.")
@click.option("--output", type=int, default=256, show_default=True, help="Generated tokens.")
@click.option("--gpu-batch", type=int, help="Sequences of a GPU batch  [default: the best]")
@click.option("--num-batches", type=int, help="GPU batches of a block  [default: the best]")
@click.option(
    "--policy",
    metavar="WG,WC,CG,CC,HG,HC",
    help="Percent of weights, cache and hidden activations on accelerator and host; the rest lies on disk.",
)
@click.option("--host", metavar="WHAT", help="What the host computes: none, or any of attention,ffn,experts.")
@click.option("--latency", "latency_s", type=float, metavar="S", help="Most seconds from prompt to last token.")
@click.option("--overlap", type=click.Choice(["serial", "pairwise", "full"]), default="full", show_default=True)
@click.option("--dequantization", default="fused", show_default=True, help="fused, or bytes moved per element.")
@click.option(
    "--fidelity",
    type=click.Choice(["ideal", "datasheet", "calibrated"]),
    default="calibrated",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def place(policy: str | None, host: str | None, as_json: bool, **point: Any) -> None:
    """Place weights, KV cache and activations over accelerator, host and disk for the highest throughput.

    Exits with 1 where nothing fits.
    """
    from dse.report.place import print_place
    from dse.run.place import place as place_point

    shares = None if policy is None else _numbers(policy, "--policy")
    work = None if host is None else [word.strip() for word in host.split(",") if word.strip() not in ("", "none")]
    found = place_point(point.pop("model"), point.pop("hardware"), policy=shares, host=work, **_axes(point))
    if as_json:
        _print_json(found)
    else:
        print_place(found)
    if found["status"] != "ok":
        raise click.exceptions.Exit(1)


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError(f"{option}: expected numbers with commas between, got {text!r}") from None


def _axes(point: dict[str, Any]) -> dict[str, Any]:
    from dse.run.settings import value_of

    axes = {name: value for name, value in point.items() if value is not None}
    axes["input"] = axes.pop("input_")
    for name in {"kv_budget", "weight_sparsity", "dequantization"} & axes.keys():
        axes[name] = value_of(axes[name], f"--{name.replace('_', '-')}")
    if axes["ep"] != "auto":
        if not str(axes["ep"]).isdigit():
            raise InputError(f"--ep: expected a whole number or auto, got {axes['ep']!r}")
        axes["ep"] = int(axes["ep"])
    return axes


# -- runs -----------------------------------------------------------------------------------------------


@cli.command()
@click.argument("run_dir")
def report(run_dir: str) -> None:
    """Write the report of a finished run again."""
    from dse.run.sweep import rewrite_report

    click.echo(f"wrote {rewrite_report(run_dir)}")


@cli.command()
@click.argument("run_a")
@click.argument("run_b")
@click.option("--json", "as_json", is_flag=True)
def diff(run_a: str, run_b: str, as_json: bool) -> None:
    """What changed between two runs: inputs, counts, fronts."""
    from dse.run.diff import diff_runs
    from dse.run.folder import Run

    changes = diff_runs(Run.open(run_a), Run.open(run_b))
    if as_json:
        _print_json(changes)
    else:
        from dse.report.listing import print_diff

        print_diff(changes)


# -- this machine ---------------------------------------------------------------------------------------


@cli.command()
@click.option("--out", required=True, metavar="FILE.yaml", help="The hardware file to write; its stem is the name.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="What serves the model: the processors themselves, or the first GPU (needs PyTorch).",
)
@click.option("--disk", "disk_folder", metavar="DIR", help="Folder whose disk is measured  [default: that of FILE]")
@click.option("--disk-gb", type=float, default=4.0, show_default=True, help="Written there at most; 0: no disk.")
@click.option("--seconds", type=float, default=30.0, show_default=True, help="About how long to measure.")
@click.option("--base", metavar="NAME", help="Chip whose power, prices and unmeasured links are taken over.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def probe(out: str, **options: Any) -> None:
    """Measure this machine's ceilings into a hardware file.

    Memory bandwidth, matrix multiplication by dtype, disk; with --device cuda also the GPU's memory, its link to
    the host and, of several, their all-reduce. Use the file by its path: --hardware ./FILE.yaml --fidelity ideal.
    """
    from dse.calibrate.probe import probe as measure
    from dse.report.listing import print_rows

    found = measure(out, **options, say=lambda text: click.echo(text, err=True))
    print_rows("measured", found.rows())
    for note in found.hardware.notes.splitlines():
        click.echo(f"- {note}")
    click.echo(f"wrote {found.path}")


@cli.command()
@click.argument("data", nargs=-1, required=True)
@click.option("--hardware", metavar="H", required=True, help="Name or path of the chip that was timed.")
@click.option("--out", metavar="FILE.yaml", help="Write the chip's file with what was fitted  [default: print only]")
@click.option("--framework", "prefer", multiple=True, metavar="[CLASS=]NAME", help="Whose  [default: the fastest]")
@click.option("--without", multiple=True, metavar="CLASS", help="A class not to fit (collective ...); repeatable.")
@click.option("--source", default="", help="Where the timings come from, for the file.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def calibrate(data: tuple[str, ...], hardware: str, as_json: bool, **options: Any) -> None:
    """Fit a chip's efficiencies to timings of its kernels (DATA: Parquet, CSV or folders; see hardware/README.md).

    Prints errors on shapes that were held out, with default efficiencies and with the fitted ones.
    """
    from dse.calibrate.calibrate import calibrate as fit
    from dse.report.listing import print_rows

    found = fit(data, hardware, **options)
    if as_json:
        _print_json(found.plain())
        return
    print_rows("fitted", found.rows())
    click.echo("\n".join(found.remarks()))


# -- the library ----------------------------------------------------------------------------------------


@cli.command(name="list")
@click.argument(
    "what",
    type=click.Choice(["models", "hardware", "precisions", "runtimes", "objectives", "axes", "sweeps"]),
)
@click.option("--json", "as_json", is_flag=True)
def list_(what: str, as_json: bool) -> None:
    """What a sweep may name."""
    from dse.run.library import library

    rows = library(what)
    if as_json:
        _print_json(rows)
    else:
        from dse.report.listing import print_rows

        print_rows(what, rows)


@cli.command()
@click.argument("files", nargs=-1, required=True)
def check(files: tuple[str, ...]) -> None:
    """Check sweeps, hardware files and model configs without running anything."""
    from dse.run.library import check_file

    faults: list[Fault] = []
    for file in files:
        try:
            click.echo(f"{file}: {check_file(file)}")
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)


def _print_json(value: Any) -> None:
    import json

    from dse.run.store import finite

    click.echo(json.dumps(finite(value), indent=1, ensure_ascii=False, default=str))
