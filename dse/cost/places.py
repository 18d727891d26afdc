"""Places in a batch: who finds none, and how long those wait; arrivals at a rate.

All who are in the engine, in prompt passes or decoding, are a chain whose death rates are the throughputs of an engine
that always holds so many. While all places are taken, requests are admitted one by one, each after what the one before
takes of a full batch, T = a prompt and its share of decodes side by side: a delay cycle of M/G/1, opened by D, the
seconds from when the last place is taken to when one is free. Who comes meanwhile waits on average (Conway, Maxwell and
Miller 1967, chapter 8)

    rate E[T^2] / (2 (1 - busy)) + E[D^2] / (2 E[D])

D is no T: prompts may be pending in front, which a batch often fills up behind, and who takes the last of a cache is
longer than others. Where chunks of prompts fill all passes before the places are taken, prompts set the pace: places
are short by chance only, where requests differ.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.cost import full_cache
from dse.cost.busy_periods import work_in_front
from dse.cost.lengths import alike, expected, moments, overlap, variability
from dse.cost.queueing import FULL, birth_death
from dse.cost.servers import of_constant_service, variability_of_gaps
from dse.cost.waiting import Waiting, carried_steps
from dse.cost.work import Array

MOST_EVEN = 0.1
"""Variance over mean of the most regular number of requests that join."""


class Places(Waiting):
    """Who waits for a place, and how long."""

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
        each = 1.0 + overlap(self.lengths) * np.maximum(alone - 1.0, 0.0)
        added = overlap(self.lengths) * (burst - alone) * (1.0 - stalled)
        joint = np.maximum(each * (1.0 - stalled), 1.0)
        single = (self.bursts**2 + passes.spread / cycle.each**2) / 2.0
        total = decode + prompt
        clumps = np.maximum((decode * (joint + added) + prompt * single) / total, MOST_EVEN)
        # Who comes during a pass that takes the last place waits; the prompts that such a pass would lead to, too.
        tail = np.maximum(clumps - decode / total * (joint - 1.0) * stalled, MOST_EVEN)
        tail = tail * self.capacity * self._last[0]
        clumps = clumps + full_cache.variability(self.lengths, self._taken)
        span = (self._span[0], self._span[1] + 10.0 * prompt)
        chain = birth_death(self.rate, self.slots, self.capacity, self.closed, clumps, tail, span)
        # Of bursts, requests see more than there are on average: (v - 1) / 2, as in heavy traffic.
        chance = chain.full * (1.0 + (self.bursts**2 - 1.0) / 2.0 * (1.0 - self.busy) / clumps)
        few, _, _ = of_constant_service(self.slots / clumps, self.busy)
        # At the pace of prompts, alike requests never decode in greater numbers than it sustains.
        differ = np.minimum(variability(self.lengths) + passes.spread / cycle.each**2, 1.0)
        chance = chance * np.where(self._paced, differ, 1.0)
        return np.clip(chance * (1.0 - np.maximum(1.0 - self.service, 0.0) * (1.0 - few)), 0.0, 1.0)

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
        """Squared coefficient of variation of T, what a request takes of a full batch.

        A prompt, behind the others, and its share of decodes side by side, unless passes of prompts carry them all. A
        long prompt in chunks lets nobody else begin, though others decode beside it.
        """
        each = self.cycle.each
        prompt = np.where(self._paced, each, self._stalled)
        decode = np.where(self._paced, 0.0, np.maximum(1.0 / self.capacity - prompt, 0.0))
        behind = 1.0 if self.chunked else prompt / each
        # Of unlike sizes, long prompts are large as well.
        mean = expected(self.lengths, self.passing)
        together = [
            (behind * (seconds - mean) + (size - 1.0) * decode) ** 2
            for seconds, size in zip(self.passing, self._taken, strict=True)
        ]
        sizes = 1.0 + full_cache.variability(self.lengths, self._taken)
        spread = expected(self.lengths, together) + self._lasting * sizes * decode**2
        found: Array = spread / (prompt + decode) ** 2
        return found

    @cached_property
    def _lasting(self) -> Array:
        """Squared coefficient of variation of outputs, of which no more counts than a queue lasts.

        Requests that stay for longer are like places fewer, for all who wait meanwhile. A queue lasts for the
        relaxation time of M/M/1, 1 / (capacity (1 - sqrt(busy))^2) (Cohen 1969, II.2).
        """
        lasts = 1.0 / (self.capacity * (1.0 - np.sqrt(self.busy)) ** 2 * self.per_token(self.slots))
        mean, variance, _ = moments(self.lengths, [np.minimum(output, lasts) for _, output, _ in self.lengths])
        found: Array = variance / mean**2
        return found

    @cached_property
    def _paced(self) -> NDArray[np.bool_]:
        """Where prompts set the pace: they fill all passes before as many decode as there are places for."""
        return np.asarray(self.engine.sustained <= self.engine.decoding(self.slots))

    @cached_property
    def _taken(self) -> list[Array]:
        """What requests of each length take of the places, in mean requests."""
        return [np.where(self._paced, 1.0, size) for size in self.sizes]

    @cached_property
    def _last(self) -> tuple[Array, Array]:
        """Mean and mean square of T of who takes the last of the places.

        A size of u is as likely to as u, and waits for between none and all of it.
        """
        decode = np.maximum(1.0 / self.capacity - self.cycle.each, 0.0)
        mean = square = np.zeros(1)
        for (_, _, share), seconds, size in zip(self.lengths, self.passing, self._taken, strict=True):
            one, two = (size + 1.0) / 2.0, (size + 1.0) * (2.0 * size + 1.0) / 6.0
            mean = mean + share * size * (seconds + decode * one)
            square = square + share * size * (seconds**2 + 2.0 * seconds * decode * one + decode**2 * two)
        # A pass takes what prompts share of it, too.
        mean = mean + self.cycle.each - expected(self.lengths, self.passing)
        return mean, square + self._lasting * decode**2

    @cached_property
    def _opening(self) -> Array:
        """E[D^2] / E[D] - E[T^2] / E[T], halved: seconds that who finds no place waits longer for those in front."""
        cycle, passes = self.cycle, self.passes
        mean, square = work_in_front(self.rate, cycle.each, passes.spread, passes.skew)
        # With one place, nothing is pending when it is taken.
        share = np.minimum((self.slots - 1.0) / (self.flight.mean + self.waiting), 1.0)
        if self.chunked:
            # Others finish meanwhile.
            stay = np.maximum(self.point.steps, 1e-6) * self.per_token(self.running)
            share = share * stay / (stay + mean)
        last, last_square = self._last
        first = share * mean + last
        first_square = share * square + 2.0 * share * mean * last + last_square
        usual = (1.0 + self.service) / self.capacity
        return np.where(self._paced, 0.0, np.maximum(first_square / first - usual, 0.0) / 2.0)

    @cached_property
    def place(self) -> tuple[Array, Array, Array]:
        """Chance that a request finds no place in the batch; mean and variance of the seconds until one is free."""
        spread = variability_of_gaps(self.bursts)
        _, constant, unlikeness = of_constant_service(self.slots / spread, self.busy)
        # In units of what it is with exponential service and a Poisson process.
        other, regular = self.service * (1.0 + spread) / 2.0, (1.0 - self.service) * spread * constant
        delay = np.maximum(other + regular, 0.0) / (self.capacity * (1.0 - self.busy))
        unlikeness = 1.0 - (1.0 - unlikeness) * np.clip(regular / np.maximum(other + regular, 1e-12), 0.0, 1.0)
        delay = delay + self._opening
        return self.engaged, delay, unlikeness * delay**2

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
