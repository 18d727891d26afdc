"""What of a plan may turn out otherwise: prices, throughputs, growth; and the price from which another is as good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dse.run.answered import Answered
from dse.search.fleet import Fleet
from dse.search.fleet_program import cheapest_serving, growth_left

Plain = dict[str, Any]

OFF = 0.1
"""Error of prices and throughputs that the answer is tried against."""
PRICED = 3
"""Kinds of accelerator whose prices are changed: those most is spent on."""
HORIZON_YEARS = 20.0
YEARS = (1, 2, 3, 5)
"""After which it is told what is still served."""


def sensitivity(asked: Answered, error_pct: float | None) -> list[Plain]:
    """The answer again with other prices and throughputs, and whether the recommended fleet would still do.

    Args:
        asked: the plan and its answer.
        error_pct: what the throughputs of the recommended deployments may be off by, where that was measured.
    """
    fleet, either = asked.fleet, (1 - OFF, 1 + OFF)
    spent = {name: count * fleet.devices[name].usd_per_hour for name, count in asked.answer.devices.items()}
    found = [
        _tried(asked, f"price of {name}", factor, fleet.priced({name: factor}))
        for name in sorted(spent, key=lambda name: (-spent[name], name))[:PRICED]
        for factor in either
    ]
    found += [_tried(asked, "all throughputs", factor, fleet.slower(factor)) for factor in either]
    if error_pct is not None and error_pct > 0:
        factor = 1 / (1 + error_pct / 100)
        what = f"all throughputs at the edge of their error ({error_pct:g} %)"
        found.append(_tried(asked, what, factor, fleet.slower(factor)))
    return found


def _tried(asked: Answered, what: str, factor: float, fleet: Fleet) -> Plain:
    """The best answer of a changed problem beside the recommended fleet under the same change."""
    again, mine = asked.problem.best(fleet), asked.answer
    cost = sum(fleet.devices[name].usd_per_hour * held for name, held in mine.devices.items())
    within = None if fleet.usd_per_hour is None else cost <= fleet.usd_per_hour * (1 + 1e-9)
    found: Plain = {
        "what": what, "factor": factor, "usd_per_hour": again.usd_per_hour, "instances": dict(again.devices),
        "served": asked.problem.served_share(again, fleet),
        "same_hardware": set(again.devices) == set(mine.devices),
        "recommended_usd_per_hour": cost, "recommended_within_budget": within,
    }  # fmt: skip
    if asked.serving:  # it never carried all of the demand: what it serves then, and what better fleets would
        served = asked.still_served(fleet)
        regret = max(found["served"] - served, 0.0) if again.found and within is not False else None
        told = {"recommended_served": served, "recommended_still_carries_the_demand": None, "regret_served": regret}
        return {**found, **told, "regret_usd_per_hour": None}
    rates = {option.name: option.rates for option in fleet.options}
    kept = replace(mine, options=tuple(replace(each, rates=rates.get(each.name, each.rates)) for each in mine.options))
    holds = growth_left(fleet, kept) >= 1 - 1e-9
    return {
        **found,
        "recommended_served": 1.0 if holds else asked.still_served(fleet),
        "recommended_still_carries_the_demand": holds,
        "regret_usd_per_hour": cost - again.usd_per_hour if again.found and holds else None,
    }


def growth(asked: Answered) -> Plain | None:
    """When growing demand outruns the answer: the head-room first, then everything; None where nothing grows."""
    fleet, answer = asked.fleet, asked.answer
    growths = np.array([asked.problem.plan.models[m].growth for m in asked.problem.model_of])
    if not np.any(growths > 0) or not answer.found:
        return None

    def grown(fleet: Fleet, after: float) -> Fleet:
        return replace(fleet, demand=fleet.demand * (1 + growths) ** after)

    def years(fleet: Fleet) -> float | None:
        def carried(after: float) -> bool:
            return growth_left(grown(fleet, after), answer) >= 1 - 1e-9

        low, high = 0.0, HORIZON_YEARS
        if carried(high):
            return None
        for _ in range(24):  # to a minute of the horizon
            middle = (low + high) / 2
            low, high = (middle, high) if carried(middle) else (low, middle)
        return low

    found: Plain = {
        "demand_factor_left": growth_left(fleet, answer),
        "years_until_headroom_is_used": years(fleet),
        "years_until_saturated": years(replace(fleet, headroom=0.0)),
    }
    if asked.serving:
        found["served_after_years"] = {str(year): asked.still_served(grown(fleet, year)) for year in YEARS}
    return found


def break_even(asked: Answered) -> list[Plain]:
    """The price at which each kind of device alone would be as good as the recommendation, nearest first.

    As cheap for all of the demand; where as much as possible is to be served, as cheap for as much of it.
    """
    found, mine = [], asked.answer
    for kind, single in asked.singles.items():
        if asked.fleet.kinds_of(mine.devices) == {kind}:
            continue
        if asked.serving:
            free = replace(asked.alone(kind), usd_per_hour=None, capital_usd=None)
            single = cheapest_serving(free, mine.worth(asked.fleet), time_limit=asked.time_limit)
        if not single.found or not single.usd_per_hour:
            continue
        held = [asked.fleet.devices[name].usd_per_hour for name in single.devices]
        price = held[0] if len(held) == 1 else single.usd_per_hour / sum(single.devices.values())
        at = price * mine.usd_per_hour / single.usd_per_hour
        found.append({"hardware": kind, "usd_per_device_hour": price, "break_even_usd_per_device_hour": at,
                      "change_pct": (at / price - 1) * 100})  # fmt: skip
    return sorted(found, key=lambda entry: (-entry["change_pct"], str(entry["hardware"])))
