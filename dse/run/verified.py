"""The first answer of a plan that the simulator confirms; those before it are demoted, and the plan says so."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dse.run.fleet_facts import Facts
from dse.run.problem import Problem, balanced
from dse.run.replay import Replay, obstacle, replay
from dse.search.fleet import Answer

SEEDS_APART = 10_000
"""Between the seeds of two draws: each kind of replica takes one of its own from there on."""

DERATED = 0.85
"""Factor on the throughput of a deployment whose requests came too late, before the next answer is looked for."""


@dataclass(frozen=True)
class Solved:
    """An answer, and what the simulator said of it and of those before."""

    facts: Facts
    """With the throughputs that the answer was found at: those of demoted deployments are lower than predicted."""
    tried: tuple[Replay, ...] = ()
    """In the order tried; empty where nothing can be replayed."""
    because: str = ""
    """Why nothing was replayed."""

    @property
    def problem(self) -> Problem:
        """What was solved."""
        return self.facts.problem

    @property
    def answer(self) -> Answer:
        """The fleet."""
        return self.facts.answer

    @property
    def verified(self) -> bool | None:
        """Whether the answer held in the simulator; None where nothing was replayed."""
        return self.tried[-1].holds if self.tried else None


def solve(problem: Problem) -> Solved:
    """The best answer that keeps its latencies in the simulator.

    After each that does not, the deployments whose own requests came too late count for less, and the problem is
    solved again: with more replicas of them, or others. Where none of the answers tried holds, the last is given.
    """
    answer = balanced(problem.fleet, problem.best())
    because = obstacle(problem)
    if not answer.found or not answer.devices or because:
        return Solved(Facts(problem, answer), because=because)
    tried: list[Replay] = []
    while True:
        facts = Facts(problem, answer)
        tried.append(_replayed(facts))
        if tried[-1].holds is None:
            return Solved(facts, because="; ".join(dict.fromkeys(tried[-1].left_out.values())))
        if tried[-1].holds or len(tried) >= problem.plan.file.verify.answers:
            return Solved(facts, tuple(tried))
        again = derated(problem, tried[-1])
        next_answer = balanced(again.fleet, again.best())
        if not next_answer.found or not next_answer.devices:
            return Solved(facts, tuple(tried))
        problem, answer = again, next_answer


def _replayed(facts: Facts) -> Replay:
    """The first draw of arrivals that an answer misses its latencies in, or the last."""
    verify = facts.problem.plan.file.verify
    found = replay(facts, verify.seed)
    for draw in range(1, verify.draws):
        if not found.holds:
            break
        found = replay(facts, verify.seed + draw * SEEDS_APART)
    return found


def derated(problem: Problem, missed: Replay) -> Problem:
    """The problem with lower throughputs of the deployments whose requests came too late."""
    late = {name for name, excess in missed.excess.items() if excess > 1}
    options = [
        replace(option, rates=option.rates * DERATED) if option.name in late else option
        for option in problem.fleet.options
    ]
    return replace(problem, fleet=problem.fleet.of(options))
