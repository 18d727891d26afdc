"""An answered plan: the same problem as it is asked again in other ways, and what several of these ways need."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from dse.run.problem import Problem
from dse.run.replay import Replay
from dse.search.fleet import Answer, Fleet
from dse.search.fleet_program import Multipliers, most_served_by, multipliers

Plain = dict[str, Any]

NEAR = 4
"""Kinds of accelerator, beside those of the answer, that are looked at under other latencies: the best alone."""


@dataclass
class Answered:
    """A problem and its answer."""

    problem: Problem
    answer: Answer
    tried: tuple[Replay, ...] = ()
    """What was replayed on the way to the answer."""

    @cached_property
    def fleet(self) -> Fleet:
        """The problem as solved."""
        return self.problem.fleet

    @property
    def serving(self) -> bool:
        """Whether as much as possible is to be served, rather than all for as little as possible."""
        return self.problem.maximising

    @property
    def unit(self) -> str:
        """Of what answers are judged by."""
        return "requests_per_s" if self.serving else "usd_per_hour"

    @property
    def time_limit(self) -> float:
        """Seconds of one program."""
        return self.problem.plan.file.time_limit_s

    @cached_property
    def margins(self) -> Multipliers | None:
        """Multipliers of the relaxed problem."""
        return multipliers(self.fleet, serving=self.serving)

    def worth(self, answer: Answer, fleet: Fleet | None = None) -> float:
        """What an answer is judged by: dollars per hour, or requests/s served by their worth.

        Args:
            answer: of the plan or of a changed problem.
            fleet: the changed problem.
        """
        if not answer.found:
            return math.nan
        return answer.worth(self.fleet if fleet is None else fleet) if self.serving else answer.usd_per_hour

    def still_served(self, fleet: Fleet) -> float:
        """Share of a changed problem's demand that the fleet of the answer serves, whatever it may then cost."""
        rates = {option.name: option.rates for option in fleet.options}
        options = [replace(each, rates=rates.get(each.name, each.rates)) for each in self.answer.options]
        kept = fleet.of(options)
        return self.problem.served_share(most_served_by(kept, self.answer.counts.tolist()), kept)

    @cached_property
    def singles(self) -> dict[str, Answer]:
        """The best fleet of each kind of device alone, best first; kinds that cannot do it alone are left out."""
        found = {}
        for kind in sorted(self.fleet.kinds_of(self.fleet.devices)):
            alone = self.alone(kind)
            if not alone.options or (len(alone.unservable) and not self.serving):
                continue
            answer = self.problem.best(alone)
            if answer.found and answer.devices:
                found[kind] = answer
        sign = -1 if self.serving else 1

        def place(item: tuple[str, Answer]) -> tuple[float, float, str]:
            """What serves equally much comes by its cost; solvers leave the sixth digit open."""
            return sign * float(f"{self.worth(item[1]):.5g}"), item[1].usd_per_hour, item[0]

        return dict(sorted(found.items(), key=place))

    def alone(self, kind: str) -> Fleet:
        """The problem with the deployments on one kind of device and nothing else."""
        return self.fleet.of([each for each in self.fleet.options if self.fleet.kinds_of(each.held) == {kind}])

    # -- other latencies ----------------------------------------------------------------------------

    @property
    def limited(self) -> bool:
        """Whether latencies play a part, and can be changed: measured throughputs rest on theirs."""
        return bool(self.problem.deployments) and any(model.slo.limits for model in self.problem.plan.models)

    @cached_property
    def near(self) -> frozenset[str]:
        """The accelerators that are looked at under other latencies."""
        devices = self.problem.plan.devices
        best = [name for single in list(self.singles.values())[:NEAR] for name in single.devices]
        return frozenset(devices[name].chip for name in (*self.answer.devices, *best))

    def at(self, scale: float) -> Problem:
        """The problem with all latencies times a factor."""
        if scale not in self._scaled:
            slos = [model.slo.scaled(scale) for model in self.problem.plan.models]
            self._scaled[scale] = self.problem.under(slos, self.near)
        return self._scaled[scale]

    @cached_property
    def _scaled(self) -> dict[float, Problem]:
        return {}
