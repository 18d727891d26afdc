"""A plan's answer on the terminal: the recommendation, what else could be had, what binds, when it no longer does."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.report.columns import MISSING, number_text

if TYPE_CHECKING:
    from rich.console import Console

Plain = Mapping[str, Any]

ALTERNATIVES = 12
"""Rows of that table; the report shows all."""
BUCKETS = 16

_LIMITS = {
    "limit usd_per_hour": "the budget",
    "limit capital_usd": "the capital",
    "limit watts": "the power",
    "headroom": "the head-room",
    "redundancy": "the redundancy",
    "whole boxes": "whole boxes",
}
TRAFFIC = "10 % more traffic"


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


def headlines(answer: Plain) -> Iterator[str]:
    """Money, energy and how the program ended, in a line each."""
    costs = answer["economics"]
    yield (
        f"${costs['usd_per_hour']:,.2f} an hour, ${costs['usd_per_month']:,.0f} a month, "
        f"${costs['usd_per_year']:,.0f} a year{_capital(costs)}; "
        f"{costs['utilisation']:.0%} in use at the mean demand of {number_text(costs['requests_per_s'])} requests/s."
    )
    per_token = [
        f"${number_text(costs[key])} per million {words}"
        for key, words in (
            ("usd_per_million_input_tokens", "prompt tokens"),
            ("usd_per_million_output_tokens", "generated tokens"),
            ("usd_per_million_tokens", "tokens of either kind"),
        )
        if costs.get(key) is not None
    ]
    power = ""
    if costs.get("power_kw") is not None:
        power = (
            f"; {number_text(costs['power_kw'])} kW on average, {number_text(costs['power_kw_limit'])} kW at most, "
            f"{number_text(costs['output_tokens_per_joule'])} generated tokens per joule"
        )
    yield f"{', '.join(per_token)}{power}."
    yield _solved(answer)


def _solved(answer: Plain) -> str:
    """How the program ended, and what is certain of the answer."""
    better = f"none serves more than {answer['bound']:,.3g} requests/s"
    if answer["objective"] == "cost":
        better = f"none is cheaper than ${answer['bound']:,.2f}/h"
    if answer["status"] == "optimal":
        return f"Optimal to {answer['gap']:.2%}: of the fleets from these deployments {better}."
    return f"The time limit struck first: {better}, this one may be {answer['gap']:.2%} off."


def _capital(costs: Plain) -> str:
    return f", ${costs['capital_usd']:,.0f} to buy" if costs["capital_usd"] else ""


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
        "more": f"{entry['difference_usd_per_hour']:+,.2f}",
        "%": f"{entry['difference_pct']:+.1f}",
        "served": f"{entry['served']:.0%}",
        "kW": number_text(entry["power_kw"]),
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


def fleet_text(instances: Mapping[str, int]) -> str:
    """`4 x mi300x + 1 x h100-sxm`."""
    return " + ".join(f"{count} x {name}" for name, count in instances.items()) or "none"


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


def sentences(answer: Plain) -> Iterator[str]:
    """Everything that is said of an answer, a sentence each."""
    yield from _verified(answer.get("verification"))
    yield from binding_sentences(answer)
    yield from growth_sentences(answer)
    yield from _today(answer.get("current"))
    yield from error_sentences(answer)
    yield from _bought(answer.get("rent_or_buy") or ())


def _bought(rows: Iterable[Plain]) -> Iterator[str]:
    """When buying what is rented pays."""
    for row in rows:
        if row["months_to_break_even"] is not None:
            yield (
                f"{row['hardware']}: ${row['purchase_usd']:,.0f} to buy has paid for itself after "
                f"{row['months_to_break_even']:.0f} months of ${row['rent_usd_per_hour']:,.2f}/h, power paid."
            )


def _verified(found: Plain | None) -> Iterator[str]:
    """What the simulator said."""
    if not found:
        return
    if found["holds"] is None:
        yield f"Not simulated, because {found['because']}: what is said of latencies rests on the cost model alone."
        return
    last = found["tried"][-1]
    measured = "; ".join(
        f"{model}: {', '.join(_measured(name, value) for name, value in values.items())}"
        for model, values in last["measured"].items()
    )
    held = "keeps its latencies" if found["holds"] else "MISSES its latencies"
    yield f"Simulated with {last['requests']:,} requests at the peak, the answer {held}: {measured}."
    yield from _replayed(last)
    for each in found["tried"][:-1]:
        late = ", ".join(name for names in each["missed"].values() for name in names)
        cost = f"${each['usd_per_hour']:,.2f}/h"
        yield f"Demoted: {fleet_text(each['instances'])} for {cost}, which misses {late} in the simulator."


def _replayed(found: Plain) -> Iterator[str]:
    """Of what the simulator did not see all."""
    parts = [f"{each['replicas']} of {each['of']} replicas of {name}"
             for name, each in found["replayed"].items() if each["replicas"] < each["of"]]  # fmt: skip
    if parts:
        yield f"Replayed were, with their share of the arrivals, {'; '.join(parts)}."
    for name, why in found["not_replayed"].items():
        yield f"Not simulated: {name}, because {why}."
    if found["not_replayed"]:
        yield f"The requests simulated are {found['share_of_requests']:.0%} of all."


def _measured(name: str, value: float) -> str:
    metric, statistic = name.split(":")
    word, unit = metric.rsplit("_", 1)
    return f"{statistic} {word.upper()} {number_text(value)} {unit}"


def _today(found: Plain | None) -> Iterator[str]:
    """Today's fleet, and what staying with it costs."""
    if not found:
        return
    cost = "at no known price" if found["usd_per_hour"] is None else f"for ${found['usd_per_hour']:,.2f}/h"
    text = f"Today's {fleet_text(found['instances'])} {cost}"
    if not found["carries_the_demand"]:
        yield f"{text} does not carry the peak with its head-room: it serves {found['served']:.0%} of it."
        yield from (f"Of today's, what serves nothing: {reason}." for reason in found["cannot"])
    elif found["regret_usd_per_hour"] is None:
        yield f"{text} carries the demand."
    else:
        yield f"{text} carries the demand; staying costs ${found['regret_usd_per_hour']:,.2f}/h more than moving."


def binding_sentences(answer: Plain) -> Iterator[str]:
    """What the answer costs its limits, in words."""
    for entry in answer["binding"]:
        yield _binding(entry)


def _binding(entry: Plain) -> str:
    what, change, then = str(entry["what"]), entry["change"], fleet_text(entry["instances"])
    possible = change is not None and change == change
    if what == TRAFFIC:
        if not possible:
            return f"{TRAFFIC} would not fit the limits."
        return f"{TRAFFIC} costs ${change:,.2f}/h more ({then})."
    dual = f"; its last unit is worth ${entry['dual']:,.3g}/h" if entry.get("dual") else ""
    worth = f"{change:+.3g} requests/s served"
    if entry["unit"] == "usd_per_hour":
        worth = f"${-change:,.2f}/h less" if possible else "no fleet was found"
    if what.startswith("slo "):
        metric, statistic = what.removeprefix("slo ").split(":")
        return f"The {statistic} limit on {metric.split('_')[0].upper()} binds: a quarter looser, {worth} ({then})."
    name = _LIMITS.get(what) or _limit_name(what)
    return f"{name[0].upper()}{name[1:]} binds: without it, {worth} ({then}){dual}."


def _limit_name(what: str) -> str:
    name = what.removeprefix("limit ")
    return name.replace("stock:", "the stock of ").replace("watts@", "the power in ")


def growth_sentences(answer: Plain) -> Iterator[str]:
    """When growing demand outruns the answer."""
    growth = answer.get("growth")
    if not growth:
        return
    head, full = growth["years_until_headroom_is_used"], growth["years_until_saturated"]
    if head is None:
        yield "The growth stated never outruns it within twenty years."
    else:
        until = "never" if full is None else f"in {full:.1f} years"
        yield f"Growth uses up the head-room in {head:.1f} years and everything {until}."


def error_sentences(answer: Plain) -> Iterator[str]:
    """What a wrong price or throughput would do."""
    entries = [entry for entry in answer["sensitivity"] if entry["factor"] < 1 and "throughputs" in entry["what"]]
    for entry in entries:
        still = (
            "still carries the peak"
            if entry["recommended_still_carries_the_demand"]
            else "no longer does with its head-room"
        )
        again = (
            ""
            if entry["usd_per_hour"] is None or entry["usd_per_hour"] != entry["usd_per_hour"]
            else (f"; the answer would then be {fleet_text(entry['instances'])} for ${entry['usd_per_hour']:,.2f}/h")
        )
        yield f"With {entry['what']}, {1 - entry['factor']:.0%} lower, the fleet {still}{again}."


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
