"""Requests that arrive at a rate: what an engine takes per iteration, and the queues in front of it.

The engine (SERVING of `dse.simulate` and here): at the start of an iteration the waiting requests that fit into the
batch enter a prompt pass, first come first served, of at most `max_prefill_tokens`; with nobody waiting, all running
sequences take a decode step. At most `batch` sequences run, fewer where memory or the engine allow fewer. Formulas of
the queues: `dse.cost.queueing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.engine import prompt_seconds, step_seconds
from dse.cost.phases import Point
from dse.cost.queueing import (
    Flight,
    Iterations,
    Passes,
    Spread,
    at_most,
    in_flight,
    interpolate,
    iterations,
    quantile,
    slot_wait,
)
from dse.cost.serving import Steady
from dse.cost.work import Array

Cases = list[tuple[Array, Spread]]

GROUPS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Requests of a prompt pass, per attention-dp rank, at which it is timed."""

BACKLOGGED = 0.85
"""Load from which queues are called backlogged: beyond it they are several times as long as the work in front."""

SATURATION = ("stable", "backlogged", "overloaded")

SECTIONS = 24
"""Bisections of the highest rate within the SLOs: to 1e-7 of the capacity."""


@dataclass(frozen=True)
class Engine:
    """What passes take, on the axes they depend on: neither the rate nor the most that may run."""

    counts: tuple[float, ...]
    """Running sequences per rank at which decode steps are timed."""
    steps: NDArray[np.float64]
    """Seconds of a decode step, shape (counts, ...)."""
    groups: NDArray[np.float64]
    """Seconds of a prompt pass of `GROUPS` requests of mean length, shape (GROUPS, ...)."""
    prompts: list[Array]
    """Seconds of the prompt pass of one request of each length."""


class OpenLoop(Steady):
    """Requests arrive at `rate`; at most `batch` run."""

    @cached_property
    def slots(self) -> Array:
        """Most sequences that run at once."""
        return np.minimum(self.point.batch, self.fits)

    @cached_property
    def engine(self) -> Engine:
        """Passes, timed."""
        point, dp = self.point, self.point.degrees.dp
        widest = float(np.max(self.slots / dp, initial=1.0))
        counts = [2.0**i for i in range(int(np.ceil(np.log2(max(widest, 1.0)))) + 1)]
        steps = [step_seconds(point.with_batch(count * dp), self.runtime) for count in counts]
        groups = [prompt_seconds(point.with_batch(count * dp), self.runtime) for count in GROUPS]
        one = point.with_batch(1.0 * dp)
        prompts = [prompt_seconds(one.with_input(tokens), self.runtime) for tokens, _, _ in point.requests]
        return Engine(tuple(counts), _stacked(steps), _stacked(groups), prompts)

    @cached_property
    def queue(self) -> Queue:
        """The queues at the rate of the axis."""
        return Queue(self, self.point.rate)

    @cached_property
    def capacity(self) -> Array:
        """Requests per second that a batch which is always full finishes."""
        point, dp = self.point, self.point.degrees.dp
        step = interpolate(self.engine.counts, self.engine.steps, self.slots / dp)
        left = np.where(point.steps > 0, self.slots / np.maximum(point.steps, 1.0), self.slots)
        # Places that come free during a decode step are filled together: Poisson many, at least one.
        group = np.minimum(left / -np.expm1(-left), self.slots)
        each = interpolate(GROUPS, self.engine.groups, group / dp) / np.maximum(group, dp) * np.minimum(group, 1.0)
        return self.slots / (point.steps * step + self.slots * each)

    @cached_property
    def load(self) -> Array:
        """Arrivals over capacity."""
        return self.point.rate / self.capacity

    @cached_property
    def saturation(self) -> Array:
        """Index into `SATURATION`."""
        return (self.load >= BACKLOGGED) * 1.0 + (self.load >= 1.0) * 1.0

    @cached_property
    def batch(self) -> Array:
        """Sequences in the batch, mean over time; all places where arrivals overload it."""
        return np.maximum(np.where(self.load < 1.0, self.queue.flight.mean, self.slots), 1e-9)

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
        """Finished requests per second: those that arrive, or as many as an overloaded replica finishes."""
        return np.minimum(self.point.rate, self.capacity)

    @cached_property
    def concurrency(self) -> Array:
        """Requests in flight, waiting ones included (Little's law)."""
        return self.requests_per_s * self.latency

    @cached_property
    def max_rate(self) -> Array:
        """Highest rate at which 99 % of the requests meet the SLOs; 0 where none does."""
        low: Array = np.zeros(1)
        high = self.capacity
        for _ in range(SECTIONS):
            middle = (low + high) / 2.0
            good = Queue(self, middle).attainment >= 0.99
            low, high = np.where(good, middle, low), np.where(good, high, middle)
        return low


class Queue:
    """The queues of an open loop at some rate; NaN where the rate is at or above the capacity."""

    def __init__(self, loop: OpenLoop, rate: Array) -> None:
        self.loop, self.point = loop, loop.point
        self.stable = rate < loop.capacity
        # What is overloaded is computed at a rate that is not, and hidden.
        self.rate = np.where(self.stable, rate, 0.5 * loop.capacity)

    def _shown(self, values: Array) -> Array:
        return np.where(self.stable, values, np.nan)

    # -- the engine at a number of running sequences ------------------------------------------------

    def passes(self, step: Array) -> Passes:
        """Iterations when a decode step takes so long."""
        engine, dp, point = self.loop.engine, self.point.degrees.dp, self.point
        mean = _expected(point, engine.prompts)
        spread = _expected(point, [(seconds - mean) ** 2 for seconds in engine.prompts])
        skew = _expected(point, [(seconds - mean) ** 3 for seconds in engine.prompts])
        # Requests of mean length take less than the mean: attention grows with the square.
        excess = mean - engine.groups[0]

        def grouped(count: Array) -> Array:
            return interpolate(GROUPS, engine.groups, count / dp) + excess * count

        return Passes(step, grouped, spread, skew, point.sequences_per_pass * dp)

    def met(self, running: Array) -> Iterations:
        """Iterations with so many running sequences."""
        return iterations(self.rate, self.passes(self.step_at(running)), self._bursts)

    @cached_property
    def _cycles(self) -> list[Iterations]:
        """Iterations at each of the engine's counts."""
        return [iterations(self.rate, self.passes(step), self._bursts) for step in self.loop.engine.steps]

    @property
    def _bursts(self) -> float:
        return self.point.choices.burstiness

    @cached_property
    def _decoded(self) -> NDArray[np.float64]:
        """Seconds per token at each of the engine's counts, the passes of prompts between included."""
        pairs = zip(self.loop.engine.steps, self._cycles, strict=True)
        return _stacked([step / np.maximum(1.0 - cycle.prompting, 1e-9) for step, cycle in pairs])

    def decoded(self, running: Array) -> Array:
        """Seconds per token at a number of running sequences."""
        return interpolate(self.loop.engine.counts, self._decoded, running / self.point.degrees.dp)

    def finished(self, running: Array) -> Array:
        """Requests per second that so many running sequences finish."""
        return running / (np.maximum(self.point.steps, 1e-6) * self.decoded(running))

    # -- sequences in flight ------------------------------------------------------------------------

    @cached_property
    def middle(self) -> Array:
        """Sequences in the batch at which as many finish as arrive."""
        low, high = np.zeros(1), self.loop.slots
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
    def clumps(self) -> Array:
        """Variance over mean of the number that joins the batch within a time that decodes."""
        cycle = self.met(np.maximum(self.middle, 1.0))
        free = 1.0 - self.rate * cycle.each
        offspring = self.rate * cycle.each + self.rate**2 * self.passes(1.0).spread
        joined = (1.0 + self.rate * self.step_at(self.middle)) / free + offspring / free**2 - 1.0
        return 1.0 + np.maximum(self._alike * (joined + self._bursts**2 - 1.0), -0.9)

    def step_at(self, running: Array) -> Array:
        """Seconds of a decode step of so many sequences."""
        return interpolate(self.loop.engine.counts, self.loop.engine.steps, running / self.point.degrees.dp)

    @cached_property
    def _alike(self) -> Array:
        """How much of a clump still runs together: E[min(D1, D2)] / E[D] of two outputs, 1 where all are alike."""
        total: Array = 0.0
        for _, one, share in self._requests:
            for _, other, weight in self._requests:
                total = total + share * weight * np.minimum(one, other)
        return total / self.point.output

    @cached_property
    def flight(self) -> Flight:
        """Sequences in the batch."""
        width = 5.0 * np.sqrt((self.middle + 1.0) * np.maximum(self.clumps, 1.0) / self.elasticity) + 2.0
        tail = width + 3.0 * self.clumps
        span = (self.middle - width, self.middle + tail)
        loop = self.loop
        return in_flight(self.rate, loop.slots, loop.capacity, self.finished, self.clumps, span)

    # -- times --------------------------------------------------------------------------------------

    @cached_property
    def cycle(self) -> Iterations:
        """Iterations as arrivals meet them."""
        step = self.step_at(np.maximum(self.flight.mean, 1.0))
        return iterations(self.rate, self.passes(step), self._bursts, self.flight.empty)

    @cached_property
    def queued(self) -> tuple[Array, Array]:
        """Mean and variance of the seconds that a request with a place in the batch waits, for its pass and in it."""
        cycle, passes = self.cycle, self.passes(1.0)
        # As many come behind as before, but a pass has an end: geometric many, as far as places are left.
        others = self.rate * cycle.met / 2.0
        ratio = others / (1.0 + others)
        first, any_place = 1.0 - ratio ** (passes.most - 1.0), 1.0 - (1.0 - ratio**passes.most) / passes.most * (1.0 + others)
        behind = (1.0 - ratio) * first + ratio * any_place
        work = self.rate * cycle.each
        mean = cycle.met * (1.0 + work * (1.0 + behind)) / 2.0
        variance = (
            cycle.met_square * (1.0 - work * (1.0 - behind)) ** 2 / 12.0
            + others * (1.0 + behind) * (cycle.each**2 + passes.spread)
            + ((1.0 + work * (1.0 + behind)) / 2.0) ** 2 * np.maximum(cycle.met_square - cycle.met**2, 0.0)
        )
        return mean, variance

    @cached_property
    def place(self) -> tuple[Array, Array]:
        """Chance that a request finds no place in the batch, and the mean seconds until one is free."""
        loop, point = self.loop, self.point
        busy = np.minimum(self.rate / loop.capacity, 1.0 - 1e-9)
        outputs = [output for _, output, _ in point.requests]
        service = _expected(point, [(output - point.output) ** 2 for output in outputs]) / point.output**2
        return self.flight.waits, slot_wait(busy, loop.slots, loop.capacity, point.choices.burstiness**2, service)

    @cached_property
    def host(self) -> list[Array]:
        """Seconds of the server itself before the first token, of each length."""
        runtime = self.loop.runtime
        return [runtime.request_ms * 1e-3 + runtime.prompt_token_us * 1e-6 * tokens for tokens, _, _ in self._requests]

    @property
    def _requests(self) -> list[tuple[Array, Array, Array]]:
        return self.point.requests

    @cached_property
    def ttft(self) -> Array:
        """Mean seconds to the first token."""
        chance, delay = self.place
        own = _expected(self.point, [a + b for a, b in zip(self.loop.engine.prompts, self.host, strict=True)])
        return self._shown(own + self.queued[0] + chance * delay)

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first, over the requests that have such."""
        total = share = cast(Array, 0.0)
        for _, output, weight in self._requests:
            some = np.where(output > 1, weight, 0.0)
            total, share = total + some * self._decode_mean(output - 1.0) / np.maximum(output - 1.0, 1.0), share + some
        return self._shown(total / np.where(share > 0.0, share, 1.0))

    def _decode_mean(self, steps: Array) -> Array:
        """Mean seconds from the first token to the last, for so many steps."""
        cycle = self.cycle
        step = self.step_at(self.flight.mean)
        # After one's own pass come those who arrived during it: the first gap is of another length.
        gap = step * cycle.prompting / (1.0 - cycle.prompting)
        own = cycle.setup + cycle.each * (1.0 + self.rate * cycle.met)
        each = self.flight.mean / (self.rate * np.maximum(self.point.steps, 1e-6))
        return np.where(steps > 0, steps * each + (own / step - 1.0) * gap, 0.0)

    @cached_property
    def latency(self) -> Array:
        """Mean seconds from arrival to the last token."""
        return self.ttft + _expected(self.point, [self._decode_mean(output - 1.0) for _, output, _ in self._requests])

    @cached_property
    def first_tokens(self) -> Cases:
        """Seconds to the first token: lengths by whether a place is free."""
        chance, delay = self.place
        mean, variance = self.queued
        cases: Cases = []
        for (_, _, weight), own, host in zip(self._requests, self.loop.engine.prompts, self.host, strict=True):
            spread = Spread(own + host, own + host + mean, variance)
            cases += [(weight * share, each) for share, each in spread.delayed(chance, delay)]
        return cases

    def _decode_variance(self, steps: Array) -> Array:
        """Of the seconds from the first token to the last, for so many steps."""
        cycle, flight, passes = self.cycle, self.flight, self.passes(1.0)
        mean = self._decode_mean(steps)
        free = 1.0 - self.rate * cycle.each
        bursts = self.point.choices.burstiness**2
        interrupted = self.rate * (passes.spread + bursts * (cycle.each + cycle.setup) ** 2) * mean / free**2
        # The number running drifts: over a long residence it averages out.
        most = np.maximum(flight.mean, 1.0)
        slope = (self.decoded(most * 1.1) - self.decoded(most)) / (0.1 * most)
        memory = np.maximum(flight.variance, 1e-9) / (self.rate * self.clumps)
        drift = (slope * steps) ** 2 * flight.variance / (1.0 + mean / memory / 2.0)
        return interrupted + drift

    def _decode(self, steps: Array) -> Spread:
        """Seconds from the first token to the last."""
        return Spread(steps * self.loop.engine.steps[0], self._decode_mean(steps), self._decode_variance(steps))

    @cached_property
    def gaps(self) -> Cases:
        """Seconds per token after the first, over requests that have such."""
        cases: Cases = []
        total = _expected(self.point, [np.where(output > 1, 1.0, 0.0) for _, output, _ in self._requests])
        for _, output, weight in self._requests:
            steps = np.maximum(output - 1.0, 1.0)
            whole = self._decode(steps)
            share = np.where(output > 1, weight, 0.0) / total
            cases.append((share, Spread(whole.least / steps, whole.mean / steps, whole.variance / steps**2)))
        return cases

    @cached_property
    def latencies(self) -> Cases:
        """Seconds from arrival to the last token."""
        cases: Cases = []
        firsts = iter(self.first_tokens)
        for _, output, _ in self._requests:
            decode = self._decode(output - 1.0)
            for weight, first in (next(firsts), next(firsts)):
                whole = (getattr(first, name) + getattr(decode, name) for name in ("least", "mean", "variance"))
                cases.append((weight, Spread(*whole)))
        return cases

    def quantile(self, cases: str, share: float) -> Array:
        """A quantile of `first_tokens`, `gaps` or `latencies`."""
        return self._shown(quantile(getattr(self, cases), share))

    @cached_property
    def attainment(self) -> Array:
        """Share of requests that meet every SLO."""
        slo = self.point.choices.slo
        total: Array = 0.0
        for index, (_, output, weight) in enumerate(self._requests):
            met: Any = np.ones(1)
            if "ttft_ms" in slo:
                firsts = self.first_tokens[2 * index : 2 * index + 2]
                met = at_most(firsts, slo["ttft_ms"] * 1e-3) / np.where(weight > 0, weight, 1.0)
            if "tpot_ms" in slo:
                gap = self.gaps[index][1].below(slo["tpot_ms"] * 1e-3)
                met = met * np.where(output > 1, gap, 1.0)
            if "latency_s" in slo:
                whole = self.latencies[2 * index : 2 * index + 2]
                met = np.minimum(met, at_most(whole, slo["latency_s"]) / np.where(weight > 0, weight, 1.0))
            total = total + weight * met
        return self._shown(total)


def _expected(point: Point, values: list[Any]) -> Array:
    """Mean over requests of something of each length."""
    total: Array = 0.0
    for (_, _, weight), value in zip(point.requests, values, strict=True):
        total = total + weight * value
    return total


def _stacked(values: list[Array]) -> NDArray[np.float64]:
    return np.stack(cast("list[NDArray[np.float64]]", np.broadcast_arrays(*values)))
