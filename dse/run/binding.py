"""What binds a plan's answer: its limits, latencies and rules, each left out in turn; and a tenth more traffic."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from dse.run.answered import Answered
from dse.search.fleet import Answer, Fleet
from dse.spec.slo import Slo

Plain = dict[str, Any]

MORE_TRAFFIC = 1.1
LOOSER = 1.25
"""Factor on one latency to see what it costs."""
NOISE = 2e-3
"""Relative difference of two answers that their gaps may explain."""


@dataclass(frozen=True)
class Limit:
    """One limit of a problem."""

    name: str
    used: float
    """By the answer."""
    most: float
    without: Fleet
    """The problem without it."""


def binding(asked: Answered) -> list[Plain]:
    """What the answer would be cheaper (or serve more) without, most valuable first."""
    found = [*_limits(asked), *_latencies(asked), *_rules(asked)]
    least = NOISE * abs(asked.worth(asked.answer))
    held = [entry for entry in found if abs(entry["change"]) > least or entry.get("dual")]
    held.sort(key=lambda entry: (-abs(entry["change"]), str(entry["what"])))
    return [*held, _traffic(asked)]


def _change(asked: Answered, what: str, fleet: Fleet, **more: Any) -> Plain:
    """The answer of a changed problem against the plan's; `change` in dollars per hour, or requests/s served."""
    changed = asked.problem.best(fleet)
    change = asked.worth(changed, fleet) - asked.worth(asked.answer) if changed.found else math.nan
    found = {"what": what, "change": change, "unit": asked.unit, "instances": dict(changed.devices), **more}
    if asked.serving:
        found["served"] = asked.problem.served_share(changed, fleet)
    return found


def _limits(asked: Answered) -> Iterator[Plain]:
    """Each limit left out: the answer then, and the multiplier of the relaxed problem.

    Whether a limit stops the answer cannot be told from what is left of it: 4 of 16 cards are free, and the next
    replica needs 8; $4.74 are free, and all that could be had for it is of no use. So the problem is solved without.
    """
    limits = [each for each in limits_of(asked.fleet, asked.answer) if asked.serving or each.name != "usd_per_hour"]
    if not limits:
        return
    duals = asked.margins.limits if asked.margins is not None else {}
    # The cheapest fleet is no cheaper for a larger budget. Without any limit it is as cheap as without some of them.
    best = asked.worth(asked.problem.best(limitless(asked.fleet)))
    matter = abs(best - asked.worth(asked.answer)) > NOISE * abs(asked.worth(asked.answer))
    for limit in limits:
        dual = duals.get(limit.name, 0.0)
        if matter or dual > 0:
            yield _change(asked, f"limit {limit.name}", limit.without, used=limit.used, limit=limit.most, dual=dual)


def limits_of(fleet: Fleet, answer: Answer) -> Iterator[Limit]:
    """The limits of a problem."""
    if fleet.usd_per_hour is not None:
        yield Limit("usd_per_hour", answer.usd_per_hour, fleet.usd_per_hour, replace(fleet, usd_per_hour=None))
    if fleet.capital_usd is not None:
        yield Limit("capital_usd", answer.capital_usd, fleet.capital_usd, replace(fleet, capital_usd=None))
    if fleet.watts is not None:
        yield Limit("watts", answer.watts, fleet.watts, replace(fleet, watts=None))
    for site, most in fleet.site_watts.items():
        there = [(fleet.devices[name], held) for name, held in answer.devices.items()]
        used = sum(device.watts * held for device, held in there if device.site == site)
        others = {name: limit for name, limit in fleet.site_watts.items() if name != site}
        yield Limit(f"watts@{site}", used, most, replace(fleet, site_watts=others))
    for kind, most in fleet.stocks.items():
        held_of_kind = sum(held for name, held in answer.devices.items() if fleet.devices[name].kind == kind)
        freed = {
            name: replace(device, stock=None) if device.kind == kind else device
            for name, device in fleet.devices.items()
        }
        yield Limit(f"stock:{kind}", held_of_kind, most, replace(fleet, devices=freed))


def limitless(fleet: Fleet) -> Fleet:
    """The same problem without any limit on money, power and stock."""
    devices = {name: replace(device, stock=None) for name, device in fleet.devices.items()}
    return replace(fleet, usd_per_hour=None, capital_usd=None, watts=None, site_watts={}, devices=devices)


def _latencies(asked: Answered) -> Iterator[Plain]:
    """Each latency a quarter looser."""
    if not asked.limited:
        return
    models = asked.problem.plan.models
    for name in dict.fromkeys(limit.name for model in models for limit in model.slo.limits):
        looser = asked.problem.under([_looser(model.slo, name) for model in models], asked.near)
        yield _change(asked, f"slo {name}", looser.fleet, factor=LOOSER)


def _looser(slo: Slo, name: str) -> Slo:
    """The objectives with one limit looser."""
    changed: dict[str, dict[str, float]] = {}
    for limit in slo.limits:
        most = limit.most * LOOSER if limit.name == name else limit.most
        changed.setdefault(limit.metric, {})[limit.statistic] = most
    return Slo.model_validate(changed)


def _rules(asked: Answered) -> Iterator[Plain]:
    fleet = asked.fleet
    if fleet.headroom:
        yield _change(asked, "headroom", replace(fleet, headroom=0.0), limit=fleet.headroom)
    if fleet.spares:
        yield _change(asked, "redundancy", replace(fleet, spares=0), limit=fleet.spares)
    if any(device.box > 1 for device in fleet.devices.values()):
        singly = {name: replace(device, box=1) for name, device in fleet.devices.items()}
        yield _change(asked, "whole boxes", replace(fleet, devices=singly))


def _traffic(asked: Answered) -> Plain:
    """A tenth more of everything: what it costs, or what is then served, by the same fleet and by the best."""
    more = asked.fleet.scaled(MORE_TRAFFIC)
    found = _change(asked, "10 % more traffic", more, factor=MORE_TRAFFIC)
    if asked.serving:
        found["recommended_served"] = asked.still_served(more)
    return found
