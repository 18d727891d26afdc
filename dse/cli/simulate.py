"""A deployment under load: requests of a trace, event by event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dse.cli import options
from dse.cli.points import axes_of
from dse.cli.root import cli, print_json


@cli.command()
@click.option("--model", metavar="M", required=True, help="Name or path of a config.json.")
@click.option("--hardware", metavar="H", required=True, help="Name or path.")
@click.option("--trace", metavar="FILE", help="CSV or JSON lines of arrival, input, output; without it, --rate draws.")
@click.option("--rate", type=float, metavar="R", help="Requests per second; a trace's arrivals are scaled to it.")
@click.option("--requests", type=int, help="Requests drawn  [default: 10000]")
@click.option("--lengths", help="INPUTxOUTPUT, a workload, or a CSV with weights  [default: 1024x256]")
@click.option("--burstiness", type=float, help="Coefficient of variation of the gaps; 1: Poisson  [default: 1]")
@click.option("--seed", type=int, help="Of what is drawn  [default: 0]")
@click.option("--replicas", type=int, default=1, show_default=True)
@click.option("--dispatch", default="round-robin", show_default=True, help="round-robin or least-loaded.")
@click.option("--chunk-tokens", type=int, metavar="C", help="Tokens of a pass under chunked prefill  [default: none]")
@click.option(
    "--max-prefill-tokens", type=int, default=8192, show_default=True, help="Of a prompt pass without chunks."
)
@click.option("--warmup", type=float, metavar="SHARE", help="Requests left out  [default: 0.1, of a trace 0]")
@click.option("--slo-ttft-ms", type=float, metavar="MS", help="Most time to first token of a good request.")
@click.option("--slo-tpot-ms", type=float, metavar="MS", help="Most mean time per token after it.")
@options.layout
@click.option("--batch", type=int, help="Most sequences at once in a replica  [default: what memory and engine allow]")
@options.memory_utilization
@options.runtime
@options.kernels
@options.requests
@options.fidelity
@click.option("--csv", "table", metavar="FILE", help="Write one row per request.")
@click.option("--html", metavar="FILE", help="Write a page: requests over time, latencies as distributions.")
@options.as_json
def simulate(table: str | None, html: str | None, as_json: bool, **asked: Any) -> None:
    """Replay a trace, or requests drawn at a rate, through replicas of a deployment.

    Says latencies and their percentiles, throughput and goodput, and how the offered load compares with the highest
    rate the replicas sustain.
    """
    from dse.report.progress import progress_bar
    from dse.report.simulate import print_simulation, write_simulation
    from dse.run.simulate import simulate as run
    from dse.run.store import writing

    chunk = asked.pop("chunk_tokens")
    with progress_bar("simulating", "summing up") as progress:
        model, hardware = asked.pop("model"), asked.pop("hardware")
        found = run(model, hardware, chunk_tokens=chunk, on_progress=progress, **axes_of(asked))
    if table is not None:
        with writing(Path(table)):
            found.requests().to_csv(table, index=False)
    if html is not None:
        with writing(Path(html)):
            write_simulation(found.page(), Path(html))
    if as_json:
        print_json(found.summary)
    else:
        print_simulation(found.summary)
