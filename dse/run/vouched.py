"""What the simulator says of the fleets beside the recommended one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dse.run.fleet_facts import Facts
from dse.run.problem import Problem, balanced
from dse.run.replay import Replay, obstacle, replay
from dse.search.fleet import Answer

Plain = dict[str, Any]

MOST_REQUESTS = 5_000
"""Of one deployment: an alternative is looked at, not recommended, and there are several."""

UNKNOWN: Plain = {"verified": None, "missed": []}


def known(answer: Answer, tried: Sequence[Replay]) -> Plain:
    """What was found when the same replicas were replayed before; unknown where they were not."""
    for each in tried:
        if _same(answer, each.answer) and each.holds is not None:
            return _said(each)
    return UNKNOWN


def vouched(problem: Problem, answer: Answer, tried: Sequence[Replay] = ()) -> Plain:
    """Whether a fleet keeps the latencies of a problem in the simulator, and the limits it misses, by one draw.

    Args:
        problem: what the fleet is an answer to.
        answer: the fleet.
        tried: replays of the same problem so far, which are not run again.
    """
    if obstacle(problem) or not answer.found or not answer.devices:
        return UNKNOWN
    before = known(answer, tried)
    if before is not UNKNOWN:
        return before
    facts = Facts(problem, balanced(problem.fleet, answer))
    return _said(replay(facts, problem.plan.file.verify.seed, MOST_REQUESTS))


def _same(one: Answer, other: Answer) -> bool:
    """Equal replicas: how many of which deployments."""
    return [o.name for o in one.options] == [o.name for o in other.options] and np.array_equal(one.counts, other.counts)


def _said(found: Replay) -> Plain:
    missed = sorted({limit.name for limits in found.missed.values() for limit in limits})
    return {"verified": found.holds, "missed": missed}
