"""Steady states that measurements know and sweeps do not: batches beyond the memory, requests sent all at once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from dse.cost.engine import prompt_seconds
from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.serving import ClosedLoop, Static, SteadyMemory, fits
from dse.cost.work import Array


class Queued(Static):
    """A static batch, of which as many run at once as memory holds to the end: one wave after the other."""

    @cached_property
    def running(self) -> Point:
        """The sequences of a decode step."""
        return self.point.with_batch(np.minimum(self.point.batch, fits(self.point, occupancy=1.0)))

    @property
    def entering(self) -> Point:
        """The requests of a prompt pass."""
        return self.running

    @cached_property
    def memory(self) -> Memory:
        """Memory of one device, with prompts that come a few at a time."""
        return SteadyMemory(self.running, self.point.with_batch(self.point.degrees.dp), occupancy=1.0)

    @cached_property
    def latency(self) -> Array:
        """Seconds until the last request has its last token."""
        return super().latency * (self.point.batch / self.running.batch)


class EqualLengths(ClosedLoop):
    """A closed loop of requests of one length: they end in the order they began, one per iteration.

    So the slot a request is sent for falls free together with the start of an iteration that computes the prompt sent
    before: it waits for that whole prompt as well.
    """

    @cached_property
    def admission(self) -> Array:
        """Seconds of the iterations before a request's own."""
        return self.runtime.admission_steps * self.step + self.prompt


class AtOnce(ClosedLoop):
    """n requests sent together and none after: B run, the others wait for their slots; all begin in lock-step."""

    @cached_property
    def _wait(self) -> Array:
        """Mean seconds until a request has a slot: those behind the first B come in at the rate slots fall free."""
        behind, asked = self.point.batch - self.batch, self.point.batch
        return behind * behind / (2 * asked) * self._slot

    @cached_property
    def _slot(self) -> Array:
        """Seconds from one slot falling free to the next."""
        return (self.point.output * self.step + self.interrupted) / self.batch

    @cached_property
    def ttft(self) -> Array:
        """Seconds from sending to the first token: behind half of the prompts of those that begin together."""
        return self.host + (prompt_seconds(self.running, self.runtime) + self.prompt) / 2 + self._wait

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token: the first B see half of each other's prompts, later ones all that enter meanwhile."""
        return self.step + (1 - self.batch / (2 * self.point.batch)) * self.interrupted / self.point.output

    @cached_property
    def requests_per_s(self) -> Array:
        """Requests over the time to the last answer."""
        last = self.host + prompt_seconds(self.running, self.runtime) + self.point.steps * self.step
        return self.point.batch / ((self.point.batch - self.batch) * self._slot + last)


STATES: Mapping[str, type[Static]] = {"static": Queued, "equal-lengths": EqualLengths, "at-once": AtOnce}
"""Instead of those of `dse.cost.serving`."""
