"""Latencies of an engine at a rate of arrivals: means, percentiles, and the share of requests that meet SLOs.

    ttft      server + wait for a place in the batch + wait for the pass + the pass of the own prompt
    decode    tokens at the pace of the number running, which births and deaths of requests make fluctuate
    latency   ttft + decode

Each is known by its least value, mean and variance, of each length of the workload; percentiles are those of gamma laws
with these, mixed over the lengths. Waits: `dse.cost.waiting`, `dse.cost.places`.
"""

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np

from dse.cost.batching import Chunking
from dse.cost.lengths import expected
from dse.cost.percentiles import Percentiles
from dse.cost.places import Places
from dse.cost.queueing import Cases, Spread
from dse.cost.waiting import carried_steps, placed
from dse.cost.work import Array


class UnderLoad(Percentiles, Places):
    """Its latencies; NaN where arrivals are at or above what it finishes."""

    # -- means --------------------------------------------------------------------------------------

    @cached_property
    def ttft(self) -> Array:
        """Mean seconds to the first token."""
        chance, delay, _ = self.place
        waits = (1.0 - chance) * self.admitted[0] + chance * (delay + self.released)
        return self.shown(expected(self.lengths, self.own) + waits)

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first, over the requests that have such."""
        total = share = cast(Array, 0.0)
        for (_, output, weight), (decode, _) in zip(self.lengths, self._decodes, strict=True):
            some = np.where(output > 1, weight, 0.0)
            total, share = total + some * decode / np.maximum(output - 1.0, 1.0), share + some
        return self.shown(total / np.where(share > 0.0, share, 1.0))

    @cached_property
    def latency(self) -> Array:
        """Mean seconds from arrival to the last token."""
        return self.ttft + expected(self.lengths, [mean for mean, _ in self._decodes])

    @cached_property
    def _decodes(self) -> list[tuple[Array, Array]]:
        """Mean and variance of the seconds from the first token to the last, of each length."""
        # Little's law.
        pace = self.flight.mean / (self.rate * np.maximum(self.point.steps, 1e-6))
        of_engine = self._beside_chunks if self.chunked else self._between_prompts
        # The number running drifts: over a long residence it averages out.
        memory = np.maximum(self.flight.variance, 1e-9) / (self.rate * self.clumps)
        paces = self.flight.spread(self.per_token)
        found = []
        for (_, output, _), alone in zip(self.lengths, self.passing, strict=True):
            steps = np.maximum(output - 1.0, 0.0)
            mean, variance = of_engine(steps, pace, alone)
            drift = steps**2 * paces / (1.0 + mean / memory / 2.0)
            found.append((mean, variance + drift))
        return found

    def _between_prompts(self, steps: Array, pace: Array, alone: Array) -> tuple[Array, Array]:
        """Mean and variance of so many steps that stop while prompts run."""
        cycle, passes = self.cycle, self.passes
        free = 1.0 - self.rate * cycle.each
        # Between two steps run the prompts of who came during the one; after one's own pass, those who came during it
        # and found a place.
        gap = passes.step * cycle.prompting / (1.0 - cycle.prompting)
        own = alone + cycle.each * self.rate * cycle.met
        room = np.maximum(self.slots - self.flight.mean - self.waiting - 1.0, 0.0)
        behind = placed(room, own * self.rate / np.maximum(free, 1e-9))
        mean = np.maximum(steps * pace + (own / passes.step * behind - 1.0) * gap, steps * passes.step)
        stall = passes.spread + self.bursts**2 * (cycle.each + cycle.setup) ** 2
        # Prompts that lead to others, as far as there are places: E[N^2] / E[N] of a busy period.
        others = 1.0 / free**2 - 1.0
        clumped = 1.0 + others * placed(room, others)
        variance = self.rate * stall * (steps * passes.step + own) / free * clumped
        some = steps > 0
        return np.where(some, mean, 0.0), np.where(some, variance, 0.0)

    def _beside_chunks(self, steps: Array, pace: Array, alone: Array) -> tuple[Array, Array]:
        """Mean and variance of so many steps that take longer while prompts run beside them."""
        cycle, passes = self.cycle, self.passes
        carried = carried_steps(passes, cycle)
        mixed = np.maximum(cycle.prompting / (self.rate * carried), passes.step)
        slower, busy = 1.0 - passes.step / mixed, cycle.prompting
        # Work in front when a prompt is done, against that at the end of an average step: what is more is yet to run.
        wait = self.admitted[0]
        more = slower * (busy * (wait + cycle.each) - wait * np.minimum(pace / mixed, 1.0))
        free = 1.0 - self.rate * np.maximum(cycle.each - passes.carried * passes.step, 0.0)
        first = busy * mixed + (1.0 - busy) * passes.step
        late = np.maximum(more / free, 0.0)
        soon = np.maximum(steps * (first - pace), 0.0)
        mean = steps * pace + late * soon / np.maximum(late + soon, 1e-30)
        stall = np.maximum(cycle.each + cycle.setup - (passes.carried + passes.partial) * passes.step, 0.0)
        long = self.rate * (passes.spread * slower**2 + self.bursts**2 * stall**2) * mean / free**2
        # No step is longer than a mixed one.
        short = busy * (1.0 - busy) * (steps * (mixed - passes.step)) ** 2
        return mean, long * short / np.maximum(long + short, 1e-300)

    # -- distributions ------------------------------------------------------------------------------

    @cached_property
    def first_tokens(self) -> Cases:
        """Seconds to the first token: each length twice, with a place in the batch at once and without."""
        chance, delay, spread = self.place
        mean, variance = self.admitted
        released = self.released
        cases: list[tuple[Array, Spread]] = []
        for (_, _, weight), own in zip(self.lengths, self.own, strict=True):
            cases.append((weight * (1.0 - chance), Spread(own, own + mean, variance)))
            cases.append((weight * chance, Spread(own, own + delay + released, spread + released**2)))
        return cases

    @cached_property
    def decoding(self) -> list[Spread]:
        """Seconds from the first token to the last, of each length."""
        steps = [np.maximum(output - 1.0, 0.0) for _, output, _ in self.lengths]
        return [
            Spread(count * self.engine.steps[0], mean, variance, np.maximum(count * self._slowest, mean))
            for count, (mean, variance) in zip(steps, self._decodes, strict=True)
        ]

    @cached_property
    def _slowest(self) -> Array:
        """Seconds of the longest decode step there is in the long run, without bound where prompts come between."""
        if not isinstance(self.engine, Chunking):
            return np.full(1, np.inf)
        return self.engine.longest(self.running + 2.0 * np.sqrt(self.flight.variance))

    @cached_property
    def gaps(self) -> Cases:
        """Seconds per token after the first, over the requests that have such."""
        cases: list[tuple[Array, Spread]] = []
        some = [np.where(output > 1, weight, 0.0) for _, output, weight in self.lengths]
        total = np.maximum(sum(some), 1e-300)
        for (_, output, _), weight, whole in zip(self.lengths, some, self.decoding, strict=True):
            steps = np.maximum(output - 1.0, 1.0)
            each = Spread(whole.least / steps, whole.mean / steps, whole.variance / steps**2, whole.most / steps)
            cases.append((weight / total, each))
        return cases
