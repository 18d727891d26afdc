"""A plan's answer on the terminal: the recommendation, what else could be had, what binds, when it no longer does."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.report.columns import MISSING, number_text
from dse.report.plan_words import NAMED, fleet_text, headlines, sentences, signed, simulated_text

if TYPE_CHECKING:
    from rich.console import Console

Plain = Mapping[str, Any]

ALTERNATIVES = 12
"""Rows of that table; the report shows all."""
BUCKETS = 16


def print_plan(answer: Plain, folder: str | Path | None = None, console: Console | None = None) -> None:
    """Print what `dse.run.plan.plan` found.

    Args:
        answer: the plain answer.
        folder: where its files are.
        console: where to print; standard output when absent.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console(highlight=False)

    def say(text: str = "", style: str = "") -> None:
        console.print(Text(text, style=style))  # Text: a user's `[bold]` is a name, not markup

    def wrapped(line: str, style: str = "") -> None:
        say(textwrap.fill(line, console.width, subsequent_indent="  "), style)

    if answer["instances"]:
        wrapped(f"{answer['name']}: {answer['recommendation']}", "bold")
        _body(answer, console, say, wrapped)
    else:
        wrapped(f"{answer['name']}: {answer['status']}: {answer['reason']}", "bold")
        if len(answer["unserved"]) > NAMED:
            say()
            say("What nothing serves", "bold")
            _table(console, [_unserved(entry) for entry in answer["unserved"]])
            say()
    for line in _foot(answer):
        wrapped(line)
    if folder:
        console.print(Text(f"Report: {Path(folder) / 'report.html'}"), soft_wrap=True)


def _body(answer: Plain, console: Console, say: Callable[..., None], wrapped: Callable[..., None]) -> None:
    """Everything between the recommendation and the prices it rests on."""
    from rich.text import Text

    for line in headlines(answer):
        wrapped(line)
    for title, rows in tables(answer):
        say()
        say(title, "bold")
        _table(console, rows)
    say()
    for line in sentences(answer):
        wrapped(line)
    for entry in answer["deployments"]:
        commands, notes = entry.get("launch"), entry.get("launch_notes")
        if commands or notes:
            say(f"\n{entry['name']}, {entry['replicas']} x:", "bold")
        if commands:
            for line in next(iter(commands.values())).splitlines():
                console.print(Text(f"  {line}"), soft_wrap=True)
        for note in notes or ():
            wrapped(f"  {note}")
    say()


def tables(answer: Plain) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The tables of the terminal, as text."""
    yield "Deployments", [_deployment(entry) for entry in answer["deployments"]]
    rows = answer["alternatives"]
    hidden = f" ({len(rows) - ALTERNATIVES} more in the report)" if len(rows) > ALTERNATIVES else ""
    shown = [*rows[:ALTERNATIVES], *(row for row in rows[ALTERNATIVES:] if not row["title"].startswith("only "))]
    yield f"What else could be had{hidden}", [alternative_row(entry) for entry in shown]
    if len(answer["buckets"]) <= BUCKETS:
        yield "Demand", [_bucket(entry) for entry in answer["buckets"]]


def _deployment(entry: Plain) -> dict[str, str]:
    layout = " + ".join(map(_pool, entry["pools"])) if "pools" in entry else _degrees(entry)
    techniques = ", ".join(f"{name} {value}" for name, value in entry.get("techniques", {}).items())
    return {
        "replicas": f"{entry['replicas']} x",
        "hardware": " + ".join(dict.fromkeys(pool["hardware"] for pool in entry.get("pools", [entry]))),
        "layout": ", ".join(filter(None, (layout or "1 device", techniques))),
        "model": str(entry["model"]),
        "precision": str(entry.get("precision", MISSING)),
        "$/h": f"{entry['usd_per_hour']:,.2f}",
        "at peak": f"{entry['utilisation_at_peak']:.0%}",
        "rests on": f"{entry['evidence']} ±{entry['throughput_error_pct']:g}%" if "evidence" in entry else "the table",
    }


def _degrees(entry: Plain) -> str:
    return " ".join(f"{name}{entry[name]}" for name in ("tp", "pp", "dp", "ep") if entry.get(name, 1) > 1)


def _pool(entry: Plain) -> str:
    """`prefill 3 x tp2`."""
    return f"{entry['pool']} {entry['workers']} x {_degrees(entry) or 'tp1'}"


def alternative_row(entry: Plain) -> dict[str, str]:
    """One alternative, as text."""
    latency = ""
    if entry.get("ttft_ms") is not None:
        latency = f" (TTFT {number_text(entry['ttft_ms'])} ms, TPOT {number_text(entry.get('tpot_ms'))} ms)"
    return {
        "": entry["title"] + latency,
        "fleet": fleet_text(entry["instances"]),
        "$/h": f"{entry['usd_per_hour']:,.2f}",
        "more": signed(entry["difference_usd_per_hour"], 2),
        "%": signed(entry["difference_pct"], 1),
        "served": f"{entry['served']:.0%}",
        "kW": number_text(entry["power_kw"]),
        "simulated": simulated_text(entry),
    }


def _bucket(entry: Plain) -> dict[str, str]:
    by = ", ".join(f"{point['share']:.0%} {name}" for name, point in entry["served_by"].items())
    return {
        "model": str(entry["model"]),
        "size": f"{entry['input']}x{entry['output']}",
        "requests/s": number_text(entry["requests_per_s"]),
        "at peak": number_text(entry["peak_requests_per_s"]),
        "served": f"{entry['served']:.0%}",
        "by": by or "nothing",
    }


def _unserved(entry: Plain) -> dict[str, str]:
    return {
        "model": str(entry["model"]),
        "size": f"{entry['input']}x{entry['output']}",
        "requests/s": number_text(entry["requests_per_s"]),
        "why": entry["reason"],
    }


def _table(console: Console, rows: Sequence[Mapping[str, str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in rows[0]:
        numeric = all(row[name].lstrip("+-").replace(",", "").replace(".", "").rstrip("%").isdigit() for row in rows)
        table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(value) for value in row.values()))
    console.print(table)


def _foot(answer: Plain) -> Iterator[str]:
    used = [price for price in answer["prices"] if price["hardware"] in answer["instances"]]
    for price in used:
        dated = price["date"] or "no date"
        yield (
            f"Price of {price['hardware']}: ${price['usd_per_device_hour']:,.2f}/h {price['kind']}, {dated}, "
            f"{price['source'] or 'no source'}."
        )
    if answer["left_out"]["no_price"]:
        yield f"{len(answer['left_out']['no_price'])} accelerators without a quote of the kind asked for are left out."
    yield from answer["assumptions"]
