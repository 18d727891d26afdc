"""Requests that arrive at a rate: how many run then, how long they wait, and what rate is too much.

The engine: waiting requests enter the batch first come first served, as long as it has places; at most `batch`
sequences run, fewer where memory or the engine allow fewer. Its iterations are those of `dse.cost.batching`, the
latencies those of `dse.cost.latency`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dse.cost.phases import Point
from dse.cost.serving import Steady
from dse.cost.work import Array

if TYPE_CHECKING:  # queues are for those who ask: most sweeps have no arrivals
    from dse.cost.batching import Prefilling
    from dse.cost.latency import UnderLoad

BACKLOGGED = 0.85
"""Load from which queues are called backlogged: beyond it they are several times as long as the work in front."""

SATURATION = ("stable", "backlogged", "overloaded")

ATTAINED = 0.99
"""Share of the requests that meet the SLOs at the highest rate that is said to."""

SECTIONS = 12
"""Bisections of that rate: to 1/4000 of the capacity."""


class OpenLoop(Steady):
    """Requests arrive at `rate`; at most `batch` run."""

    @cached_property
    def slots(self) -> Array:
        """Most sequences that run at once."""
        return np.minimum(self.point.batch, self.fits)

    @cached_property
    def engine(self) -> Prefilling:
        """Its iterations."""
        from dse.cost.batching import engine_of

        return engine_of(self.point, self.runtime, self.slots)

    @cached_property
    def queue(self) -> UnderLoad:
        """Latencies at the rate of the axis."""
        return self.at(self.point.rate)

    def at(self, rate: Array) -> UnderLoad:
        """Latencies at a rate."""
        from dse.cost.latency import UnderLoad

        return UnderLoad(self.engine, self.slots, self.capacity, rate)

    @cached_property
    def capacity(self) -> Array:
        """Requests per second that a batch which is always full finishes."""
        return self.engine.finished(self.slots)

    @cached_property
    def load(self) -> Array:
        """Arrivals over capacity."""
        return self.point.rate / self.capacity

    @cached_property
    def saturation(self) -> Array:
        """Index into `SATURATION`."""
        return np.where(self.load >= 1.0, 2.0, np.where(self.load >= BACKLOGGED, 1.0, 0.0))

    @cached_property
    def batch(self) -> Array:
        """Sequences that run, mean over time; all there may be where arrivals overload the replica."""
        return np.where(self.load < 1.0, self.queue.flight.mean, self.slots)

    @cached_property
    def running(self) -> Point:
        """The sequences of a decode step: whole ones, as memory and evidence count them."""
        return self.point.with_batch(np.maximum(np.ceil(self.batch), self.point.degrees.dp))

    @property
    def server(self) -> Array:
        """Every request is sent by itself."""
        return self.host

    @cached_property
    def ttft(self) -> Array:
        """Seconds from arrival to the first token, mean over requests."""
        return self.queue.ttft

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first, interruptions included."""
        return self.queue.tpot

    @cached_property
    def latency(self) -> Array:
        """Seconds from arrival to the last token."""
        return self.queue.latency

    @cached_property
    def requests_per_s(self) -> Array:
        """Finished requests per second: those that arrive, or as many as an overloaded replica finishes."""
        return np.minimum(self.point.rate, self.capacity)

    @property
    def spent(self) -> tuple[Array, Array, Array]:
        """Seconds of prompt passes, decode steps and neither, in the time that finishes one running batch."""
        whole = self.running.batch / self.requests_per_s
        prompts = whole * np.minimum(self.requests_per_s * self.prompt / self.arriving, 1.0)
        steps = np.where(self.load < 1.0, 1.0 - self.queue.flight.empty, 1.0) * (whole - prompts)
        return prompts, steps, whole - prompts - steps

    @cached_property
    def max_rate(self) -> Array:
        """Highest rate at which 99 % of the requests meet the SLOs; 0 where they never do."""
        low, high = np.zeros(1), self.capacity
        for _ in range(SECTIONS):
            middle = (low + high) / 2.0
            good = self.at(middle).attainment >= ATTAINED
            low, high = np.where(good, middle, low), np.where(good, high, middle)
        return low
