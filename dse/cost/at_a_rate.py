"""What every steady state with arrivals at a rate says of itself: its load, its latencies, what is too much."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dse.cost.phases import Point
from dse.cost.serving import Static
from dse.cost.work import Array

if TYPE_CHECKING:
    from dse.cost.queueing import Chain

BACKLOGGED = 0.85
"""Load from which queues are called backlogged: beyond it they are several times as long as the work in front."""

SATURATION = ("stable", "backlogged", "overloaded")

ATTAINED = 0.99
"""Share of the requests that meet the SLOs at the highest rate that is said to."""

SECTIONS = 12
"""Bisections of that rate: to 1/4000 of the capacity."""


class Queue(Protocol):
    """Latencies at a rate, in seconds."""

    @property
    def flight(self) -> Chain:
        """Sequences that decode."""

    @property
    def ttft(self) -> Array:
        """Mean to the first token."""

    @property
    def tpot(self) -> Array:
        """Mean per token after it."""

    @property
    def latency(self) -> Array:
        """Mean to the last token."""

    @property
    def attainment(self) -> Array:
        """Share of requests that meet every SLO."""


class AtARate(Static):
    """Requests arrive at `rate`; who serves them says how many it can, and how they wait."""

    @property
    @abstractmethod
    def capacity(self) -> Array:
        """Requests per second that finish while there is always work for all."""

    @property
    @abstractmethod
    def slots(self) -> Array:
        """Most sequences that run at once, on a worker."""

    @abstractmethod
    def at(self, rate: Array) -> Queue:
        """Latencies at a rate."""

    @property
    @abstractmethod
    def queue(self) -> Queue:
        """Latencies at the rate of the axis."""

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
        """Sequences that run, mean over time; all there may be where arrivals are too many."""
        return np.where(self.load < 1.0, self.queue.flight.mean, self.slots)

    @cached_property
    def running(self) -> Point:
        """The sequences of a decode step: whole ones, as memory and evidence count them."""
        return self.point.with_batch(np.maximum(np.ceil(self.batch), self.point.degrees.dp))

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
        """Finished requests per second: those that arrive, or as many as can be where they are too many."""
        return np.minimum(self.point.rate, self.capacity)

    @cached_property
    def max_rate(self) -> Array:
        """Highest rate at which 99 % of the requests meet the SLOs; 0 where they never do."""
        low, high = np.zeros(1), self.capacity
        for _ in range(SECTIONS):
            middle = (low + high) / 2.0
            good = self.at(middle).attainment >= ATTAINED
            low, high = np.where(good, middle, low), np.where(good, high, middle)
        return low
