"""Requests of an engine at a rate of arrivals: how many run, how long they wait for a place and for their prompt pass.

Chains and queues: `dse.cost.queueing`, `dse.cost.servers`; what iterations take: `dse.cost.batching`.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.cost.batching import Chunking, Prefilling, halved
from dse.cost.lengths import alike, expected, overlap, variability
from dse.cost.queueing import (
    FULL,
    Chain,
    Iterations,
    Passes,
    birth_death,
    interpolate,
    iterations,
    renewals,
)
from dse.cost.servers import bursts, of_constant_service, variability_of_gaps
from dse.cost.work import Array

MOST_EVEN = 0.1
"""Variance over mean of the most regular number of requests that join."""


class Waiting:
    """An engine with arrivals at a rate; at half of what it finishes where they are more than that."""

    def __init__(self, engine: Prefilling, slots: Array, capacity: Array, rate: Array) -> None:
        self.engine, self.point, self.slots, self.capacity = engine, engine.point, slots, capacity
        self.lengths = engine.point.lengths
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
        """Others that join the batch together with a request."""
        return self._bounded(self._clumped[1])

    def _bounded(self, clump: Array) -> Array:
        """Others of a clump, as far as they find a place."""
        others = np.maximum(clump - 1.0, 0.0)
        return others * self._fits(others)

    def _fits(self, others: Array) -> Array:
        """Of those who come together, what fits into the places that are free: their number is about exponential."""
        share = np.maximum(self.most - self.middle, 1.0) / np.maximum(others, 1e-9)
        return -np.expm1(-share)

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
        """What iterations take."""
        return self.engine.passes(self.running)

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

    @cached_property
    def engaged(self) -> Array:
        """Share of requests that find all places taken, by requests that wait for a pass, are in it, or decode.

        Of as many requests as always are in the engine, `closed` finish per second, whatever else they do there
        (Chandy, Herzog, Woo 1975: exact where the order of service is no matter); with a Poisson process of arrivals
        their number is a birth-death chain. As prompts have priority, it varies more than that: see `clumps`.
        """
        cycle, passes = self.cycle, self.passes
        stalled = np.minimum(self.rate * self._stalled, FULL)
        decode, prompt = self.flight.mean, self.waiting
        # The chain itself varies 1 / (1 - stalled) as much as a Poisson process. Of what varies more, bursts come
        # whatever places are free.
        alone, burst = self._clumped
        each = 1.0 + overlap(self.lengths) * np.minimum(self._bounded(alone), self.slots - 1.0)
        added = overlap(self.lengths) * (burst - alone) * (1.0 - stalled)
        joint = np.maximum(each * (1.0 - stalled), 1.0)
        single = (self.bursts**2 + passes.spread / cycle.each**2) / 2.0
        total = decode + prompt
        clumps = np.maximum((decode * (joint + added) + prompt * single) / total, MOST_EVEN)
        # Who comes during a pass that takes the last place waits; the prompts that such a pass would lead to, too.
        tail = np.maximum(clumps - decode / total * (joint - 1.0) * stalled, MOST_EVEN)
        span = (self._span[0], self._span[1] + 10.0 * prompt)
        chain = birth_death(self.rate, self.slots, self.capacity, self.closed, clumps, tail, span)
        # Of bursts, requests see more than there are on average: (v - 1) / 2, as in heavy traffic.
        chance = chain.full * (1.0 + (self.bursts**2 - 1.0) / 2.0 * (1.0 - self.busy) / clumps)
        few, _, _ = of_constant_service(self.slots / clumps, self.busy)
        return np.clip(chance * (self.service + (1.0 - self.service) * few), 0.0, 1.0)

    def closed(self, requests: Array) -> Array:
        """Requests per second that finish while always so many are in the engine, in prompt passes or decoding."""
        # Where passes of prompts carry all steps there are, these set the pace.
        return requests / np.maximum(self._decodes_and_stalls(requests), requests * self.cycle.each)

    def _decodes_and_stalls(self, requests: Array) -> Array:
        """Seconds of a request among so many: its steps, and the prompts of all that hold them up."""
        step = self.engine.step(np.maximum(requests, 1.0))
        return (np.maximum(self.point.steps, 1e-6) + self.passes.carried) * step + requests * self._stalled

    @cached_property
    def _stalled(self) -> Array:
        """Seconds that the prompt of a request holds up the others: beside the decode steps that its passes carry."""
        cycle, passes = self.cycle, self.passes
        return np.maximum(cycle.each + cycle.setup / cycle.group - carried_steps(passes, cycle) * passes.step, 0.0)

    @cached_property
    def busy(self) -> Array:
        """Load of a full batch, below 1."""
        return np.minimum(self.rate / self.capacity, 1.0 - 1e-9)

    @cached_property
    def service(self) -> Array:
        """Squared coefficient of variation of what a request takes of a full batch.

        A prompt, behind the others, and its share of decodes side by side, unless passes of prompts carry them all.
        """
        each = self.cycle.each
        carried = self._decodes_and_stalls(self.slots) <= self.slots * each
        prompt = np.where(carried, each, self._stalled)
        decode = np.where(carried, 0.0, np.maximum(1.0 / self.capacity - prompt, 0.0))
        spread = self.passes.spread * (prompt / each) ** 2 + variability(self.lengths) * decode**2
        found: Array = spread / (prompt + decode) ** 2
        return found

    @cached_property
    def place(self) -> tuple[Array, Array, Array]:
        """Chance that a request finds no place in the batch; mean and variance of the seconds until one is free."""
        spread = variability_of_gaps(self.bursts)
        _, constant, unlike = of_constant_service(self.slots / spread, self.busy)
        # In units of what it is with exponential service and a Poisson process.
        other, regular = self.service * (1.0 + spread) / 2.0, (1.0 - self.service) * spread * constant
        delay = np.maximum(other + regular, 0.0) / (self.capacity * (1.0 - self.busy))
        unlike = 1.0 - (1.0 - unlike) * np.clip(regular / np.maximum(other + regular, 1e-12), 0.0, 1.0)
        return self.engaged, delay, unlike * delay**2

    @cached_property
    def admitted(self) -> tuple[Array, Array]:
        """Mean and variance of the seconds that a request which finds a place waits for its pass and in it."""
        # Those in front of it have places too.
        fewer = self.flight.leaves(self.slots, self.waiting)
        mean, variance = self.queued
        return fewer * mean, fewer**2 * variance

    @cached_property
    def released(self) -> Array:
        """Mean seconds from a place that is free at last to the first token, beside the passes of a prompt alone."""
        own = expected(self.lengths, self.passing)
        if self.chunked:
            # As many prompts as a full batch always has, in order.
            decoding = np.minimum(self.engine.decoding(self.slots), self.engine.sustained)
            return np.maximum((self.slots - decoding) / self.capacity - own, 0.0)
        # Places that are free after the same decode step: by chance, and of those who joined together for as long.
        others = self.slots / np.maximum(self.point.steps, 1.0)
        others = others + alike(self.lengths) * self.joined * (1.0 - self.cycle.prompting)
        return np.minimum(others, self.slots - 1.0) * self.cycle.each


def carried_steps(passes: Passes, cycle: Iterations) -> Array:
    """Decode steps that the passes of a request carry, on average."""
    return passes.carried + passes.partial * cycle.lone / cycle.group
