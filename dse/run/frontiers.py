"""A plan's frontiers: cost against served demand, and against the latencies allowed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dse.run.answered import Answered
from dse.search.fleet import Answer, Fleet
from dse.search.fleet_program import cheapest

Plain = dict[str, Any]

DEMANDS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Points of the frontier of cost against demand, in demands of the plan."""
BUDGETS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""The same where as much as possible is to be served, in budgets of the plan."""
TIGHTNESS = (0.25, 0.5, 1.0, 2.0)
"""Points of the frontier of cost against latency, in latencies of the plan."""


def frontier_served(asked: Answered) -> list[Plain]:
    """Cost against served demand.

    The cheapest fleet for each multiple of the demand, without regard to limits on dollars; or the most that each
    budget serves within the other limits (an epsilon constraint on the cost).
    """
    if asked.serving:
        return list(_by_budget(asked))
    free = replace(asked.fleet, usd_per_hour=None)
    rows = ((factor, _cheapest(asked, free.scaled(factor))) for factor in DEMANDS)
    return [{"demand_factor": factor, **_cost(answer)} for factor, answer in rows if answer.found]


def _by_budget(asked: Answered) -> Iterator[Plain]:
    """Budgets up to three times the plan's; up to what the recommended fleet costs where that is not what stops it."""
    budget = asked.fleet.usd_per_hour
    stops = budget is not None and asked.problem.served_share(asked.answer) < 1
    base = budget if budget is not None and stops else asked.answer.usd_per_hour
    for factor in BUDGETS:
        if factor > 1 and not stops:
            return  # within the other limits nothing serves more than the recommended fleet
        usd = factor * base
        answer = asked.answer if factor == 1 else asked.problem.best(replace(asked.fleet, usd_per_hour=usd))
        if not answer.found:
            continue
        found = _served(asked, answer, asked.fleet)
        yield {"demand_factor": found["served"], "budget_usd_per_hour": usd, **found}
        if found["served"] >= 1:
            return


def frontier_latency(asked: Answered) -> list[Plain]:
    """The cheapest fleet for each multiple of the latencies allowed, or the one that serves most within the limits."""
    if not asked.limited:
        return []
    found = []
    for scale in TIGHTNESS:
        fleet = asked.fleet if scale == 1.0 else asked.at(scale).fleet
        if asked.serving:
            answer = asked.answer if scale == 1.0 else asked.problem.best(fleet)
        else:
            answer = _cheapest(asked, replace(fleet, usd_per_hour=None))
        if answer.found:
            found.append({"slo_scale": scale, **(_served(asked, answer, fleet) if asked.serving else _cost(answer))})
    return found


def _cheapest(asked: Answered, fleet: Fleet) -> Answer:
    return cheapest(fleet, time_limit=asked.time_limit, rough=True)


def _cost(answer: Answer) -> Plain:
    return {
        "usd_per_hour": answer.usd_per_hour, "lower_bound": answer.bound, "instances": dict(answer.devices),
    }  # fmt: skip


def _served(asked: Answered, answer: Answer, fleet: Fleet) -> Plain:
    """`served_bound`: no fleet serves a larger share, by worth."""
    return {
        "served": asked.problem.served_share(answer), "usd_per_hour": answer.usd_per_hour,
        "served_bound": min(answer.bound / float(fleet.worths.sum()), 1.0), "instances": dict(answer.devices),
    }  # fmt: skip
