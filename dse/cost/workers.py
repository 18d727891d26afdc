"""Engines that do one half of the work: a prefill worker runs passes of prompts, a decode worker steps.

Both are the engine of `dse.cost.batching` without its other half.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from dse.cost import full_cache
from dse.cost.batching import Prefilling
from dse.cost.disaggregated import DecodeMemory, PrefillMemory
from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.queueing import Passes
from dse.cost.serving import fits
from dse.cost.work import Array
from dse.spec.runtime import RuntimeSpec

AT_ONCE = 1e-6
"""Seconds of the decode step of an engine that never decodes."""

NOTHING = 1e-9
"""Seconds of the prompt of one that computes none, and the share of a pass that a request is of its fullest."""

HALVINGS = 10
"""Of a number of sequences: to 1/1000 of the most."""


@dataclass
class Prompting(Prefilling):
    """Passes of prompts, one after the other."""

    most: Array = 1.0
    """Requests of the fullest pass."""
    sending: Callable[[Array], Array] | None = None
    """Seconds that a worker's link is busy with the caches of so many requests."""

    def computing(self, count: Array) -> Array:
        """Seconds of the passes of so many requests."""
        return super().grouped(count)

    def grouped(self, count: Array) -> Array:
        """Seconds until the passes after those of so many requests can begin: a slower link holds them up."""
        seconds = self.computing(count)
        return seconds if self.sending is None else cast(Array, np.maximum(seconds, self.sending(count)))

    def over(self, sending: Callable[[Array], Array]) -> Prompting:
        """The same engine with a link."""
        self.computing(np.ones(1))  # tables do not depend on the link, and are made once
        other = Prompting(self.point, self.runtime, self.widest, self.most)
        other.__dict__ |= self.__dict__ | {"sending": sending}
        return other

    def passes(self, running: Array) -> Passes:
        """Its iterations."""
        _, spread, skew = self._moments
        return Passes(np.full(1, AT_ONCE), self.grouped, spread, skew, self.most, 1.0 / self.most)

    def finished(self, slots: Array) -> Array:
        """Requests per second of full passes."""
        return self.most / self.grouped(self.most)


@dataclass
class Decoding(Prefilling):
    """Steps of all running sequences."""

    def alone(self, running: Array) -> list[Array]:
        """Seconds of a request's prompt, of each length: none here."""
        return [np.zeros(1) for _ in self.point.lengths]

    def grouped(self, count: Array) -> Array:
        """The same of so many requests."""
        return NOTHING * count

    def passes(self, running: Array) -> Passes:
        """Its iterations."""
        none = np.zeros(1)
        return Passes(self.step(running), self.grouped, none, none, np.full(1, 1.0 / NOTHING), np.full(1, NOTHING))

    def finished(self, slots: Array) -> Array:
        """Requests per second of a batch that is always full; without bound where requests have no decode steps."""
        steps = self.point.steps
        return np.where(steps > 0, slots / (np.maximum(steps, 1.0) * self.step(slots)), np.inf)


@dataclass
class PrefillWorker:
    """A worker whose passes take at most `batch` requests."""

    point: Point
    runtime: RuntimeSpec

    @cached_property
    def most(self) -> Array:
        """Requests of the fullest pass: as many as are allowed, as its tokens hold, and memory holds twice."""
        point, dp = self.point, self.point.degrees.dp
        twice = np.maximum(np.floor(fits(point, 0.0) / (2.0 * dp)), 1.0) * dp
        return np.maximum(np.minimum(np.minimum(point.batch, point.sequences_per_pass * dp), twice), dp)

    @cached_property
    def engine(self) -> Prompting:
        """Its passes, where no link is in their way."""
        widest = float(np.max(self.most / self.point.degrees.dp, initial=1.0))
        return Prompting(self.point, self.runtime, widest, self.most)

    @cached_property
    def memory(self) -> Memory:
        """Memory of one device, with the fullest pass running and the one before on its way."""
        return PrefillMemory(self.point.with_batch(self.most))

    @cached_property
    def alone(self) -> list[Array]:
        """Seconds of the server and of the pass of one request, of each length."""
        runtime, lengths = self.runtime, self.point.lengths
        return [
            runtime.request_ms * 1e-3 + runtime.prompt_token_us * 1e-6 * tokens + seconds
            for (tokens, _, _), seconds in zip(lengths, self.engine.alone(np.ones(1)), strict=True)
        ]


@dataclass
class DecodeWorker:
    """A worker that runs at most `batch` sequences."""

    point: Point
    runtime: RuntimeSpec

    @cached_property
    def slots(self) -> Array:
        """Most sequences that run at once."""
        most = np.minimum(self.point.batch, self._held)
        if self.runtime.max_batch is not None:
            requests = max(self.runtime.max_batch // self.point.iteration.branches, 1)
            most = np.minimum(most, requests * self.point.degrees.dp)
        return np.maximum(most, self.point.degrees.dp)

    @cached_property
    def _held(self) -> Array:
        """Sequences that memory holds at once."""
        return fits(self.point, self.runtime.occupancy)

    @cached_property
    def sizes(self) -> list[Array]:
        """What requests of each length take of the cache, in mean requests, where it is short before places are."""
        return full_cache.sizes(self.point, self.runtime.occupancy, full_cache.short(self.slots, self._held))

    @cached_property
    def finished(self) -> Array:
        """Requests per second of a batch that is always full."""
        return full_cache.finished(self.engine, self.slots, self.sizes)

    @cached_property
    def engine(self) -> Decoding:
        """Its steps."""
        return Decoding(self.point, self.runtime, float(np.max(self.slots / self.point.degrees.dp, initial=1.0)))

    @cached_property
    def memory(self) -> Memory:
        """Memory of one device, with all places taken by sequences of all ages."""
        return DecodeMemory(self.point.with_batch(self.slots), self.runtime.occupancy)

    def paced(self, most: Array) -> Array:
        """Requests per second of as many sequences as have a step of at most so many seconds; 0 where one has not."""
        low, high = np.zeros(1), self.slots
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            fast = self.engine.step(middle) <= most
            low, high = np.where(fast, middle, low), np.where(fast, high, middle)
        running = np.where(self.engine.step(self.slots) <= most, self.slots, low)
        found = running / (np.maximum(self.point.steps, 1.0) * self.engine.step(running))
        alone = self.engine.step(np.ones(1)) <= most
        return np.where(self.point.steps > 0, np.where(alone, found, 0.0), np.inf)
