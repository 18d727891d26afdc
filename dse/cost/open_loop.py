"""Requests that arrive at a rate: how many run then, how long they wait, and what rate is too much.

The engine: waiting requests enter the batch first come first served, as long as it has places; at most `batch`
sequences run, fewer where memory or the engine allow fewer. Its iterations are those of `dse.cost.batching`, the
latencies those of `dse.cost.latency`.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dse.cost import full_cache
from dse.cost.at_a_rate import AtARate
from dse.cost.serving import Steady
from dse.cost.work import Array

if TYPE_CHECKING:  # queues are for those who ask: most sweeps have no arrivals
    from dse.cost.batching import Prefilling
    from dse.cost.latency import UnderLoad


class OpenLoop(AtARate, Steady):
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

        return UnderLoad(self.engine, self.slots, self.capacity, rate, self.sizes)

    @cached_property
    def _short(self) -> NDArray[np.bool_]:
        """Where the cache is full before the places are."""
        return full_cache.short(self.slots, self.held)

    @cached_property
    def sizes(self) -> list[Array]:
        """What requests of each length take of the cache, in mean requests, where it is short before places are."""
        return full_cache.sizes(self.point, self.runtime.occupancy, self._short)

    @cached_property
    def capacity(self) -> Array:
        """Requests per second that a batch which is always full finishes."""
        return full_cache.finished(self.engine, self.slots, self.sizes, self._evicts)

    @property
    def _evicts(self) -> NDArray[np.bool_]:
        """Where `batch` lets more in than the cache holds at their average age."""
        return np.asarray(self._short & (self.point.batch > self.slots))

    @property
    def server(self) -> Array:
        """Every request is sent by itself."""
        return self.host

    @property
    def spent(self) -> tuple[Array, Array, Array]:
        """Seconds of prompt passes, decode steps and neither, in the time that finishes one running batch."""
        whole = self.running.batch / self.requests_per_s
        prompts = whole * np.minimum(self.requests_per_s * self.prompt / self.arriving, 1.0)
        steps = np.where(self.load < 1.0, 1.0 - self.queue.flight.empty, 1.0) * (whole - prompts)
        return prompts, steps, whole - prompts - steps


class Capped(OpenLoop):
    """An engine that is told to run no more than its cache holds, as plans launch it: it need not evict."""

    @property
    def _evicts(self) -> NDArray[np.bool_]:
        return np.zeros(1, dtype=bool)
