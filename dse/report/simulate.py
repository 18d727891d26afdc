"""A simulation on the terminal and as a page: load, latencies, what the replicas did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dse.report.columns import number_text
from dse.report.listing import aligned

LATENCIES = {"ttft_ms": "TTFT, ms", "tpot_ms": "TPOT, ms", "latency_s": "latency, s"}


def print_simulation(found: Mapping[str, Any]) -> None:
    """Print what `dse.run.simulate.Simulation.summary` has."""
    print(_deployment(found))
    print(_load(found))
    print(
        f"{number_text(found['requests_per_s'])} requests/s answered, "
        f"{number_text(found['output_tokens_per_s'])} tokens/s generated"
    )
    _latencies(found)
    if "slo" in found:
        print(_goodput(found))
    print(_use(found))


def write_simulation(data: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a simulation as one HTML file.

    Args:
        data: `summary` (see `print_simulation`), `timeline`, `windows` and `curves` (`dse.simulate.results`).
        path: the file to write; it appears whole or not at all.

    Raises:
        CannotRun: plotly's script is not installed.
    """
    from dse.report.html import render_page, write_page

    found = data["summary"]
    name = f"{found['model']} on {found['hardware']} under load"
    about = f"{_deployment(found)}. {_load(found)}."
    page = render_page("simulate.html", name=name, title=name, data={**data, "about": about}, details={})
    return write_page(path, page)


def _deployment(found: Mapping[str, Any]) -> str:
    copies = "" if found["replicas"] == 1 else f", {found['replicas']} replicas, {found['dispatch']}"
    devices = found["devices"] // found["replicas"]
    chunks = (
        "prompts first" if found["chunk_tokens"] is None else f"chunks in passes of {found['chunk_tokens']:,} tokens"
    )
    named = [found["precision"], found["runtime"], *(f"{name} {value}" for name, value in found["techniques"].items())]
    return (
        f"{found['model']} on {devices} × {found['hardware']}, {', '.join(named)}{copies}: "
        f"{chunks}, {found['slots'][0]:,} {'slot' if found['slots'][0] == 1 else 'slots'}"
    )


def _load(found: Mapping[str, Any]) -> str:
    measured = f"{found['measured']:,} of {found['requests']:,} requests measured"
    highest = f"{number_text(found['capacity_requests_per_s'])} requests/s"
    if found["load"] is None:
        return f"{measured}, all at once: {found['saturation']} (sustains {highest})"
    offered = number_text(found["offered_requests_per_s"])
    return (
        f"{measured}, offered {offered} where {highest} are sustained: load {found['load']:.0%}, {found['saturation']}"
    )


def _latencies(found: Mapping[str, Any]) -> None:
    names = list(found["ttft_ms"])
    rows = [["", *names]]
    rows += [[label, *(number_text(found[key][name]) for name in names)] for key, label in LATENCIES.items()]
    print()
    for line in aligned(rows, [False, *(True for _ in names)]):
        print(f"  {line}")
    print()


def _goodput(found: Mapping[str, Any]) -> str:
    limits = [f"{name.partition('_')[0].upper()} {number_text(most)} ms" for name, most in found["slo"].items() if most]
    return (
        f"goodput {number_text(found['goodput_requests_per_s'])} requests/s: "
        f"{found['share_within_slo']:.1%} within {' and '.join(limits)}"
    )


def _use(found: Mapping[str, Any]) -> str:
    shares = {"prompt": "prompt passes", "mixed": "mixed passes", "decode": "decode steps", "idle": "idle"}
    spent = ", ".join(
        f"{label} {found['utilisation'][key]:.1%}" for key, label in shares.items() if found["utilisation"][key]
    )
    running, waiting = found["running"], found["waiting"]
    line = (
        f"time: {spent}\n"
        f"running {number_text(running['mean'])} on average, {running['most']:,} at most; "
        f"waiting {number_text(waiting['mean'])}, {waiting['most']:,} at most"
    )
    if found["preemptions"]:
        line += (
            f"\n{found['preemptions']:,} evictions from the full cache, "
            f"{found['recomputed_tokens']:,} tokens computed again"
        )
    return line
