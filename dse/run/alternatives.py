"""What else a plan could have: the best single types, other mixes, the fastest, what all of the demand would take.

The best of them are replayed in the simulator, once each; `verified` is None of those that are not, and of all where
the plan is not replayed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dse.run.answered import Answered
from dse.run.binding import limitless
from dse.run.fleet_facts import Facts, mean_latency
from dse.run.frontiers import TIGHTNESS
from dse.run.problem import balanced
from dse.run.vouched import known, vouched
from dse.search.fleet import Answer
from dse.search.fleet_distinct import best_distinct
from dse.search.fleet_program import cheapest

Plain = dict[str, Any]

ALL_OF_IT = "cheapest for all of the demand"

CENTS = 9
"""Decimals of a difference in dollars: below, it is that of two sums in different order."""


def alternatives(asked: Answered) -> Iterator[Plain]:
    """The recommendation beside what else could be had, each with its cost over the recommended."""
    fleet = asked.fleet
    yield row(asked, "recommended", asked.answer) | known(asked.answer, asked.tried[-1:])
    for place, (kind, answer) in enumerate(asked.singles.items()):
        if place == 0:
            yield row(asked, "best single type", answer) | vouched(asked.problem, answer, asked.tried)
        else:
            yield row(asked, f"only {kind}", answer)
    seen = {fleet.kinds_of(answer.devices) for answer in (asked.answer, *asked.singles.values())}
    wanted = asked.problem.plan.file.alternatives
    for answer in best_distinct(fleet, asked.answer, wanted, time_limit=asked.time_limit, serving=asked.serving):
        if fleet.kinds_of(answer.devices) not in seen:
            yield row(asked, "next best mix", answer) | vouched(asked.problem, answer, asked.tried)
    if asked.serving:
        yield from _all_of_it(asked)


def _all_of_it(asked: Answered) -> Iterator[Plain]:
    """What serving everything would cost, where the recommended fleet does not: without the limits on money, or any."""
    if asked.problem.served_share(asked.answer) >= 1 or len(asked.fleet.unservable):
        return
    for fleet in (replace(asked.fleet, usd_per_hour=None, capital_usd=None), limitless(asked.fleet)):
        answer = cheapest(fleet, time_limit=asked.time_limit, rough=True)
        if answer.found:
            yield row(asked, ALL_OF_IT, answer)
            return


def fastest(asked: Answered) -> Iterator[Plain]:
    """The tightest latencies, in those of the plan, at which there is a fleet within the limits, and that fleet."""
    if not asked.limited:
        return
    for scale in (scale for scale in TIGHTNESS if scale < 1):
        under = asked.at(scale)
        if len(under.fleet.unservable) and not asked.serving:
            continue
        answer = under.best()
        if answer.found and answer.devices:
            facts = Facts(under, balanced(under.fleet, answer))
            said = vouched(under, answer)
            yield {**row(asked, "fastest", facts.answer), "slo_scale": scale, **dict(mean_latency(facts)), **said}
            return


def row(asked: Answered, title: str, answer: Answer) -> Plain:
    """A fleet beside the recommended one."""
    mine, its = asked.answer.usd_per_hour, answer.usd_per_hour
    more = round(its - mine, CENTS) + 0.0  # never a negative zero
    return {
        "title": title,
        "instances": dict(answer.devices),
        "usd_per_hour": its,
        "difference_usd_per_hour": more,
        "difference_pct": more / mine * 100 if mine else math.nan,
        "served": asked.problem.served_share(answer),
        "power_kw": asked.problem.power_kw(answer),
        "status": answer.status,
        "gap": answer.gap,
        **known(answer, asked.tried),
    }
