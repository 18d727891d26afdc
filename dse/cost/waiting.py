"""Requests of an engine at a rate of arrivals: how many run, and how long they wait for their prompt pass.

Chains and queues: `dse.cost.queueing`, `dse.cost.servers`; what iterations take: `dse.cost.batching`; waits for a place
in the batch: `dse.cost.places`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.cost.batching import Chunking, Prefilling, halved
from dse.cost.busy_periods import beside
from dse.cost.lengths import expected, overlap
from dse.cost.queueing import (
    Chain,
    Iterations,
    Passes,
    birth_death,
    interpolate,
    iterations,
    renewals,
)
from dse.cost.servers import bursts
from dse.cost.work import Array


class Waiting:
    """An engine with arrivals at a rate; at half of what it finishes where they are more than that.

    Args:
        engine: its iterations.
        slots: most sequences that run at once.
        capacity: requests per second that finish while there are always so many.
        rate: of arrivals, per second.
        sizes: what requests of each length take of the slots, where these are room in a cache (`dse.cost.full_cache`).
    """

    def __init__(
        self, engine: Prefilling, slots: Array, capacity: Array, rate: Array, sizes: Sequence[Array] | None = None
    ) -> None:
        self.engine, self.point, self.slots, self.capacity = engine, engine.point, slots, capacity
        self.lengths = engine.point.lengths
        self.sizes = [np.ones(1)] * len(self.lengths) if sizes is None else sizes
        self.bursts = engine.point.choices.burstiness
        self.chunked = isinstance(engine, Chunking)
        decoding = engine.decoding(slots)
        self.most = np.ceil(decoding)
        self.stable = rate < capacity
        # What is overloaded is computed at a rate that is not, and hidden.
        self.rate = np.where(self.stable, rate, 0.5 * capacity)

    # -- sequences that run -------------------------------------------------------------------------

    @cached_property
    def _per_token(self) -> NDArray[np.float64]:
        """Seconds per token at each of the engine's counts, the passes of prompts between included."""
        counts = np.reshape(self.engine.counts, (-1, *[1] * len(self.point.mesh.shape)))
        passes = self.engine.passes(np.minimum(counts * self.point.degrees.dp, self.engine.sustained))
        cycle = iterations(self.rate, passes)
        # Decode steps per second: those that passes carry, and those of the time without prompts.
        carried = self.rate * carried_steps(passes, cycle)
        per_second = carried + np.maximum(1.0 - cycle.prompting, 1e-9) / passes.step
        found: NDArray[np.float64] = 1.0 / per_second
        return found

    @cached_property
    def _pace(self) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        return halved(self.engine.counts, self._per_token)

    def per_token(self, running: Array) -> Array:
        """Seconds per token of so many running sequences."""
        return interpolate(*self._pace, running / self.point.degrees.dp)

    def finished(self, running: Array) -> Array:
        """Requests per second that so many running sequences finish."""
        return running / (np.maximum(self.point.steps, 1e-6) * self.per_token(running))

    @cached_property
    def middle(self) -> Array:
        """Running sequences that finish as many requests as arrive."""
        low, high = np.zeros(1), np.minimum(self.most, self.engine.sustained)
        for _ in range(20):
            middle = (low + high) / 2.0
            enough = self.finished(middle) >= self.rate
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return (low + high) / 2.0

    @cached_property
    def elasticity(self) -> Array:
        """Relative growth of the rate of completions with the number running: 1 where none slows the others."""
        at = np.maximum(self.middle, 1.0)
        return np.clip((self.finished(at * 1.1) / self.finished(at) - 1.0) / 0.1, 0.05, 1.0)

    @cached_property
    def _clumped(self) -> tuple[Array, Array]:
        """E[X^2] / E[X] of the requests that join the batch together, without bursts and with them."""
        passes = self.engine.passes(np.maximum(self.middle, 1.0))
        cycle = iterations(self.rate, passes)
        # Only what a prompt takes beside the decode steps that its passes carry holds up the others.
        stall = np.maximum(cycle.each - passes.carried * passes.step, 0.0)
        free = 1.0 - self.rate * stall

        def size(spread: float) -> Array:
            offspring = spread * self.rate * stall + self.rate**2 * passes.spread
            return (spread + self.rate * passes.step) / free + offspring / free**2

        return size(1.0), size(self.bursts**2)

    @cached_property
    def joined(self) -> Array:
        """Others that join the batch together with a request, as far as they find a place."""
        others = np.maximum(self._clumped[1] - 1.0, 0.0)
        return others * placed(np.maximum(self.most - self.middle, 1.0), others)

    @cached_property
    def clumps(self) -> Array:
        """Variance over mean of the number that joins the batch within a time that decodes."""
        return 1.0 + overlap(self.lengths) * self.joined

    @cached_property
    def flight(self) -> Chain:
        """Sequences that decode."""
        tail = (self.bursts**2 + 1.0) / 2.0
        return birth_death(self.rate, self.most, self.capacity, self.finished, self.clumps, tail, self._span)

    @cached_property
    def _span(self) -> tuple[Array, Array]:
        """The least and the most that decode, but for one time in a million."""
        width = 5.0 * np.sqrt((self.middle + 1.0) * np.maximum(self.clumps, 1.0) / self.elasticity) + 2.0
        return self.middle - width, self.middle + width + 3.0 * self.clumps

    # -- iterations, at the mean number of them -----------------------------------------------------

    @cached_property
    def running(self) -> Array:
        """Sequences that decode, one at least."""
        return np.minimum(np.maximum(self.flight.mean, 1.0), self.engine.sustained)

    @cached_property
    def passes(self) -> Passes:
        """What iterations take: steps of the mean number that decodes, prompts beside as many as there are then."""
        engine = self.engine
        if isinstance(engine, Chunking):
            return replace(engine.passes(self._beside(engine)), step=engine.step(self.running))
        return engine.passes(self.running)

    def _beside(self, engine: Chunking) -> Array:
        """Sequences that decode beside chunks of prompts: more than at other times."""
        running, steps = self.running, np.maximum(self.point.steps, 1.0)
        mixed, step = engine.mixed(running, engine.room(running)), engine.step(running)
        found = beside(self.lengths, self.passing, self.rate, steps * mixed, self.rate * steps * step)
        most = np.minimum(engine.decoding(self.slots), engine.sustained)
        return np.clip(found, np.minimum(running, 1.0), most)

    @cached_property
    def cycle(self) -> Iterations:
        """Iterations as arrivals meet them."""
        return iterations(self.rate, self.passes, self.flight.empty)

    @cached_property
    def passing(self) -> list[Array]:
        """Seconds of a request's own passes, of each length."""
        return self.engine.alone(self.running)

    @cached_property
    def own(self) -> list[Array]:
        """Seconds of the server and of a request's own passes, of each length."""
        runtime = self.engine.runtime
        return [
            runtime.request_ms * 1e-3 + runtime.prompt_token_us * 1e-6 * tokens + alone
            for (tokens, _, _), alone in zip(self.lengths, self.passing, strict=True)
        ]

    # -- waits --------------------------------------------------------------------------------------

    @cached_property
    def queued(self) -> tuple[Array, Array]:
        """Mean and variance of the seconds that a request with a place in the batch waits, for its pass and in it."""
        cycle, passes = self.cycle, self.passes
        # As many come behind as before, but a pass has an end: geometric many, as far as places are left.
        others = renewals(self.rate * cycle.met / 2.0, self.bursts)
        ratio = others / (1.0 + others)
        first = 1.0 - ratio ** (passes.most - 1.0)
        anywhere = 1.0 - (1.0 - ratio**passes.most) / passes.most * (1.0 + others)
        behind = (1.0 - ratio) * first + ratio * anywhere
        work = self.rate * cycle.each
        mean = cycle.met * (1.0 + work) / 2.0 + cycle.each * others * behind + self._filled
        variance = (
            cycle.met_square * (1.0 - work * (1.0 - behind)) ** 2 / 12.0
            + others * (1.0 + behind) * (cycle.each**2 + passes.spread)
            + ((1.0 + work * (1.0 + behind)) / 2.0) ** 2 * np.maximum(cycle.met_square - cycle.met**2, 0.0)
        )
        if self.bursts == 1.0:
            return mean, variance
        # And what bursts add to the queue of a single server.
        more, wider = bursts(work, self.bursts)
        wider = wider * cycle.each**2 + more * passes.spread / np.maximum(1.0 - work, 1e-9)
        return np.maximum(mean + more * cycle.each, 0.0), np.maximum(variance + wider, 0.0)

    @property
    def _filled(self) -> Array:
        """Mean seconds that the last pass of a prompt is longer as others fill it."""
        return np.where(self.passes.opening > 0.0, (1.0 - self.cycle.lone) * self.passes.filled, 0.0)

    @cached_property
    def waiting(self) -> Array:
        """Requests with a place in the batch that wait for a pass or are in it, were there places for all."""
        return self.rate * (self.queued[0] + expected(self.lengths, self.passing))


def carried_steps(passes: Passes, cycle: Iterations) -> Array:
    """Decode steps that the passes of a request carry, on average."""
    return passes.carried + passes.partial * cycle.lone / cycle.group


def placed(room: Array, others: Array) -> Array:
    """Share of those who come together that find a place in so much room: their number is about exponential."""
    return -np.expm1(-room / np.maximum(others, 1e-9))
