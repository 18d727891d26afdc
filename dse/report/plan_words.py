"""A plan's answer in sentences: what it costs, how sure it is, what binds it, when it no longer does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dse.report.columns import number_text

Plain = Mapping[str, Any]

_LIMITS = {
    "limit usd_per_hour": "the budget",
    "limit capital_usd": "the capital",
    "limit watts": "the power",
    "headroom": "the head-room",
    "redundancy": "the redundancy",
    "whole boxes": "whole boxes",
}
NAMED = 3
"""Sizes nothing serves, up to which each has a sentence."""
TRAFFIC = "10 % more traffic"


def fleet_text(instances: Mapping[str, int]) -> str:
    """`4 x mi300x + 1 x h100-sxm`."""
    return " + ".join(f"{count} x {name}" for name, count in instances.items()) or "none"


def signed(value: float | None, digits: int) -> str:
    """A difference with its sign; what rounds to nothing is no less than nothing."""
    return number_text(value) if value is None or value != value else f"{round(value, digits) + 0.0:+,.{digits}f}"


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
    better, limit = f"none serves more than {answer['bound']:,.3g} requests/s", f"{answer['time_limit_s']:g} s"
    if answer["objective"] == "cost":
        better = f"none is cheaper than ${answer['bound']:,.2f}/h"
    if answer["status"] == "optimal":
        solved = f"Optimal to {answer['gap']:.2%} (time limit {limit} per program)"
        return f"{solved}: of the fleets from these deployments {better}."
    return f"The time limit of {limit} struck first: {better}, this one may be {answer['gap']:.2%} off."


def _capital(costs: Plain) -> str:
    return f", ${costs['capital_usd']:,.0f} to buy" if costs["capital_usd"] else ""


def sentences(answer: Plain) -> Iterator[str]:
    """Everything that is said of an answer, a sentence each."""
    yield from _unserved(answer)
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


def simulated_text(entry: Plain) -> str:
    """`holds`, `misses p99 TTFT`, or `no`: what the simulator says of a fleet."""
    if entry.get("verified") is None:
        return "no"
    if entry["verified"]:
        return "holds"
    late = [name.split(":") for name in entry["missed"]]
    return "misses " + ", ".join(f"{statistic} {metric.rsplit('_', 1)[0].upper()}" for metric, statistic in late)


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
    text, more = f"Today's {fleet_text(found['instances'])} {cost}", found["difference_usd_per_hour"]
    if not found["carries_the_demand"]:
        served = f"{text} does not carry the peak with its head-room: it serves {found['served']:.0%} of it"
        if more is None:
            yield f"{served}."
        else:
            costs = f"costs ${abs(more):,.2f}/h {'more' if more >= 0 else 'less'}"
            yield f"{served} and {costs} than the recommended fleet, which serves {_recommended(found):.0%}."
        yield from (f"Of today's, what serves nothing: {reason}." for reason in found["cannot"])
    elif more is None:
        yield f"{text} carries the demand."
    else:
        than = "more than moving" if more >= 0 else "less than moving"
        yield f"{text} carries the demand; staying costs ${abs(more):,.2f}/h {than}."


def _recommended(found: Plain) -> float:
    """Share of the demand that the recommended fleet serves."""
    return float(found["served"] + found["difference_served"])


def _unserved(answer: Plain) -> Iterator[str]:
    """Sizes the answer leaves out because nothing serves them."""
    rows = answer["unserved"]
    if len(rows) <= NAMED:
        yield from (f"Nothing serves {_size(row)} of {row['model']}: {row['reason']}." for row in rows)
    else:
        yield f"Nothing serves {len(rows)} sizes of request, {_size(rows[0])} to {_size(rows[-1])}; plan.json says why."


def _size(row: Plain) -> str:
    return f"{row['input']}x{row['output']}"


def binding_sentences(answer: Plain) -> Iterator[str]:
    """What the answer costs its limits, in words."""
    for entry in answer["binding"]:
        yield _binding(entry)


def _binding(entry: Plain) -> str:
    what, change, then = str(entry["what"]), entry["change"], fleet_text(entry["instances"])
    possible, serving = change is not None and change == change, entry["unit"] == "requests_per_s"
    if what == TRAFFIC and serving:
        return f"Of {TRAFFIC} this fleet would serve {entry['recommended_served']:.0%}, the best {_served(entry)}."
    if what == TRAFFIC:
        if not possible:
            return f"{TRAFFIC} would not fit the limits."
        return f"{TRAFFIC} costs ${change:,.2f}/h more ({then})."
    dual = ""
    if entry.get("dual"):
        worth = f"{entry['dual']:,.3g} requests/s" if serving else f"${entry['dual']:,.3g}/h"
        dual = f"; its last {_unit_of(what)} is worth {worth}"
    worth = "no fleet was found"
    if possible:
        worth = f"{change:+.3g} requests/s served" if serving else f"${-change:,.2f}/h less"
    if what.startswith("slo "):
        metric, statistic = what.removeprefix("slo ").split(":")
        return f"The {statistic} limit on {metric.split('_')[0].upper()} binds: a quarter looser, {worth} ({then})."
    name = _LIMITS.get(what) or _limit_name(what)
    return f"{name[0].upper()}{name[1:]} binds: without it, {worth} ({then}){dual}."


def _served(entry: Plain) -> str:
    return f"{entry['served']:.0%} ({fleet_text(entry['instances'])})"


def _unit_of(what: str) -> str:
    """What one unit of a limit is."""
    if "watts" in what:
        return "watt"
    return {"limit usd_per_hour": "dollar an hour", "limit capital_usd": "dollar"}.get(what, "accelerator")


def _limit_name(what: str) -> str:
    name = what.removeprefix("limit ")
    return name.replace("stock:", "the stock of ").replace("watts@", "the power in ")


def growth_sentences(answer: Plain) -> Iterator[str]:
    """When growing demand outruns the answer."""
    growth = answer.get("growth")
    if not growth:
        return
    head, full = growth["years_until_headroom_is_used"], growth["years_until_saturated"]
    if later := growth.get("served_after_years"):
        shares = [f"{share:.0%} after {year} year{'s' if year != '1' else ''}" for year, share in later.items()]
        yield f"As the demand grows, this fleet serves {', '.join(shares)}."
    elif head is None:
        yield "The growth stated never outruns it within twenty years."
    else:
        until = "never" if full is None else f"in {full:.1f} years"
        yield f"Growth uses up the head-room in {head:.1f} years and everything {until}."


def error_sentences(answer: Plain) -> Iterator[str]:
    """What a wrong price or throughput would do."""
    entries = [entry for entry in answer["sensitivity"] if entry["factor"] < 1 and "throughputs" in entry["what"]]
    for entry in entries:
        served = f"{entry['recommended_served']:.0%}"
        if answer["objective"] != "cost":
            still = f"serves {served} of the demand instead of {answer['served']:.0%}"
        elif entry["recommended_still_carries_the_demand"]:
            still = "still carries the peak"
        else:
            still = f"no longer does with its head-room: {served} of the peak"
        yield f"With {entry['what']}, {1 - entry['factor']:.0%} lower, the fleet {still}{_again(answer, entry)}."


def _again(answer: Plain, entry: Plain) -> str:
    """The answer that would then be right."""
    if entry["usd_per_hour"] is None or entry["usd_per_hour"] != entry["usd_per_hour"]:
        return ""
    share = "" if answer["objective"] == "cost" else f", which serves {entry['served']:.0%}"
    return f"; the answer would then be {fleet_text(entry['instances'])} for ${entry['usd_per_hour']:,.2f}/h{share}"
