"""Disaggregated serving where requests arrive at a rate: a queue for prompts, then places to decode in.

    ttft      server + wait for a pass + pass of the own prompt + exposed transfer + admission where it is decoded
    decode    tokens at the pace of the number running: no prompt comes between

A prefill worker is the engine of `dse.cost.batching` without decode steps, a decode worker the same without prompts;
each takes its part of the arrivals (rate / x, rate / y). With x prefill workers a request goes to the one with the
fewest: the chance to wait is rho^(sqrt(2 (x + 1)) - 1) instead of rho, and who waits, waits 1/x as long (Sakasegawa
1977), and for what the dispatcher does not see. That the y decode workers gain from each other as well is left out:
their latencies err on the slow side. A link slower than the passes sets the pace of a prefill worker, and has a queue
where the caches arrive.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import PREFILL
from dse.cost.disaggregated import Disaggregated
from dse.cost.handover import Handover, Link
from dse.cost.latency import UnderLoad
from dse.cost.lengths import expected
from dse.cost.matching import Matched
from dse.cost.mesh import Mesh
from dse.cost.open_loop import ATTAINED, BACKLOGGED, SECTIONS
from dse.cost.phases import Point
from dse.cost.queueing import Cases, Flight, Spread, at_most, quantile
from dse.cost.serving import Pool, Spell, Spells
from dse.cost.work import Array
from dse.cost.workers import DecodeWorker, PrefillWorker, Prompting


class Queue(UnderLoad):
    """Prompts in front of a prefill worker, of which nobody decodes."""

    @cached_property
    def flight(self) -> Flight:
        """Sequences that decode: none."""
        none = np.zeros(1)
        return Flight(none, none, none, np.ones(1), none)

    def wait(self, workers: Array) -> tuple[Array, Array]:
        """Mean and variance of the seconds that a request waits, with so many workers as full as this one."""
        mean, variance = self.queued
        busy = np.clip(self.cycle.prompting, 1e-12, 1.0)
        chance = busy ** (np.sqrt(2.0 * (workers + 1.0)) - 1.0)
        shared, square = mean / busy / workers, (variance + mean**2) / busy / workers**2
        # Among workers with equally many requests the one sent to is not the next to be free: half of its pass is left,
        # of the other's one part in x + 1.
        blind = (self.cycle.each + self.cycle.setup) * (0.5 - 1.0 / (workers + 1.0))
        of_all = chance * (shared + blind)
        square = chance * (square + 2.0 * shared * blind + 4.0 / 3.0 * blind**2)
        return of_all, np.maximum(square - of_all**2, 0.0)


class PoolsUnderLoad:
    """Both pools with arrivals at a rate; NaN where one of them is overloaded."""

    def __init__(self, pools: Pooled, rate: Array) -> None:
        self.pools, self.point = pools, pools.point
        self.stable = rate < pools.capacity
        # What is overloaded is computed at a rate that is not, and hidden.
        self.rate = np.where(self.stable, rate, 0.5 * pools.capacity)
        x, y = pools.matched.prefill, pools.matched.decode
        prompts, decodes, slots = pools.prompting, pools.decoder.engine, pools.decoder.slots
        most = pools.prefiller.most
        self.prompts = Queue(prompts, most, prompts.finished(most), self.rate / x)
        self.decodes = UnderLoad(decodes, slots, decodes.finished(slots), self.rate / y)
        self.flight = self.decodes.flight

    def _shown(self, values: Array) -> Array:
        return np.where(self.stable, values, np.nan)

    # -- to the first token -------------------------------------------------------------------------

    @cached_property
    def own(self) -> list[Array]:
        """Seconds of the server, the own pass and what of the transfer it does not hide, of each length."""
        return [own + self.exposed for own in self.prompts.own]

    @cached_property
    def exposed(self) -> Array:
        """Seconds of the transfer that the pass of as many as pass together does not hide."""
        group, pools = np.maximum(self.prompts.cycle.group, 1.0), self.pools
        return pools.handover.exposed(pools.sending(pools.link)(group), pools.prompting.computing(group))

    @cached_property
    def arriving(self) -> tuple[Array, Array]:
        """Mean and variance of the wait for the link of the receiver: constant service, Poisson arrivals."""
        each = self.pools.handover.arriving(self.pools.link)
        busy = np.minimum(self.rate / self.pools.matched.decode * each, 1.0 - 1e-9)
        wait = busy * each / (2.0 * (1.0 - busy))
        return wait, wait**2 + busy * each**2 / (3.0 * (1.0 - busy))

    @cached_property
    def waits(self) -> tuple[Array, Array]:
        """Mean and variance of the seconds that a request waits for a prefill worker, the link and a decode step."""
        parts = (self.prompts.wait(self.pools.matched.prefill), self.arriving, self._joining)
        mean, variance = (sum((part[place] for part in parts), start=cast(Array, 0.0)) for place in (0, 1))
        return mean, variance

    @cached_property
    def _joining(self) -> tuple[Array, Array]:
        mean, variance = self.decodes.queued
        some = self.point.steps > 0
        return np.where(some, mean, 0.0), np.where(some, variance, 0.0)

    @cached_property
    def place(self) -> tuple[Array, Array]:
        """Chance that a request finds no place to decode in, and the mean seconds until one is free."""
        chance, delay = self.decodes.place
        some = self.point.steps > 0
        return np.where(some, chance, 0.0), np.where(some, delay, 0.0)

    @cached_property
    def ttft(self) -> Array:
        """Mean seconds to the first token."""
        chance, delay = self.place
        return self._shown(expected(self.point.lengths, self.own) + self.waits[0] + chance * delay)

    @cached_property
    def first_tokens(self) -> Cases:
        """Seconds to the first token: each length twice, with a place to decode in at once and without."""
        chance, delay = self.place
        mean, variance = self.waits
        cases: list[tuple[Array, Spread]] = []
        for (_, _, weight), own in zip(self.point.lengths, self.own, strict=True):
            spread = Spread(own, own + mean, variance)
            cases += [(weight * share, each) for share, each in spread.delayed(chance, delay)]
        return cases

    # -- after it -----------------------------------------------------------------------------------

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first."""
        return self._shown(self.decodes.tpot)

    @cached_property
    def latency(self) -> Array:
        """Mean seconds from arrival to the last token."""
        return self.ttft + expected(self.point.lengths, [each.mean for each in self.decodes.decodes])

    @property
    def gaps(self) -> Cases:
        """Seconds per token after the first, over the requests that have such."""
        return self.decodes.gaps

    @cached_property
    def latencies(self) -> Cases:
        """Seconds from arrival to the last token: cases as of the first tokens."""
        cases: list[tuple[Array, Spread]] = []
        for index, decode in enumerate(self.decodes.decodes):
            for weight, first in self.first_tokens[2 * index : 2 * index + 2]:
                whole = (getattr(first, name) + getattr(decode, name) for name in ("least", "mean", "variance"))
                cases.append((weight, Spread(*whole)))
        return cases

    def quantile(self, cases: str, share: float) -> Array:
        """A quantile of `first_tokens`, `gaps` or `latencies`."""
        return self._shown(quantile(getattr(self, cases), share))

    @cached_property
    def attainment(self) -> Array:
        """Share of requests that meet every SLO; time to the first token and time per token as independent."""
        slo = self.point.choices.slo
        total: Array = 0.0
        for index, (_, output, weight) in enumerate(self.point.lengths):
            pair, some = slice(2 * index, 2 * index + 2), np.where(weight > 0, weight, 1.0)
            met: Any = np.ones(1)
            if "ttft_ms" in slo:
                met = at_most(self.first_tokens[pair], slo["ttft_ms"] * 1e-3) / some
            if "tpot_ms" in slo:
                met = met * np.where(output > 1, self.gaps[index][1].below(slo["tpot_ms"] * 1e-3), 1.0)
            if "latency_s" in slo:
                met = np.minimum(met, at_most(self.latencies[pair], slo["latency_s"]) / some)
            total = total + weight * met
        return self._shown(total)


class Pooled(Disaggregated):
    """Requests arrive at `rate`; a prefill pass takes at most its `batch`, a decode worker runs at most its own."""

    # -- workers, whatever the rate -------------------------------------------------------------------

    @cached_property
    def prefiller(self) -> PrefillWorker:
        """A prefill worker."""
        point = Point(self.point.model, self.chosen.prefill, self.point.mesh.renamed(PREFILL))
        return PrefillWorker(point, self.runtime)

    @cached_property
    def decoder(self) -> DecodeWorker:
        """A decode worker."""
        return DecodeWorker(self.point, self.runtime)

    @property
    def kinds(self) -> tuple[Point, Point]:
        """A prefill worker and a decode worker."""
        return self.prefiller.point, self.point

    @cached_property
    def handover(self) -> Handover:
        """The caches between the pools."""
        return Handover(*self.kinds)

    def sending(self, link: Link) -> Callable[[Array], Array]:
        """Seconds that a prefill worker's link is busy with the caches of so many requests."""
        bytes_ = np.maximum(self.handover.sent, self.handover.received)
        each = bytes_ * link.beta / self.prefiller.point.degrees.dp
        return lambda count: link.alpha + count * each

    @cached_property
    def prompting(self) -> Prompting:
        """The engine of a prefill worker, over the link it has."""
        return self.prefiller.engine.over(self.sending(self.link))

    def rates(self, link: Link) -> tuple[Array, Array]:
        """Requests/s of a full prefill worker and of a full decode worker; a link that is slower sets their pace."""
        most = self.prefiller.most
        decoded = 1.0 / self.decoder.engine.finished(self.decoder.slots)
        prompts = self.prefiller.engine.over(self.sending(link)).finished(most)
        return prompts, 1.0 / np.maximum(decoded, self.handover.arriving(link))

    def with_workers(self, prefill: Array, decode: Array) -> Pooled:
        """The same with so many workers of each pool, instead of those that keep pace."""
        other = Pooled(self.point, self.runtime)
        other.__dict__ |= {name: getattr(self, name) for name in ("prefiller", "decoder", "handover", "together")}
        of_prefill, of_decode = (worker.degrees.devices for worker in self.kinds)
        devices = prefill * of_prefill + decode * of_decode
        apart = np.greater(devices, self.together)
        near, far = self.rates(self.handover.near), self.rates(self.handover.far)
        of_prefill, of_decode = (np.where(apart, slow, fast) for fast, slow in zip(near, far, strict=True))
        rate = np.minimum(prefill * of_prefill, decode * of_decode)
        other.__dict__["_matched"] = (Matched(prefill, decode, rate, rate / devices), apart)
        return other

    def of(self, places: NDArray[np.intp]) -> Pooled:
        """Some of a list, with their workers."""
        point = self.point
        axes = list(point.mesh.index)
        mesh = Mesh.points(axes, [np.broadcast_to(point.mesh.index[axis], point.mesh.shape)[places] for axis in axes])
        prefill, decode = (
            np.broadcast_to(workers, point.mesh.shape)[places]
            for workers in (self.matched.prefill, self.matched.decode)
        )
        return Pooled(Point(point.model, point.choices, mesh), self.runtime).with_workers(prefill, decode)

    # -- at a rate ------------------------------------------------------------------------------------

    @property
    def capacity(self) -> Array:
        """Requests per second that both pools finish where they are always full."""
        return self.matched.requests_per_s

    @cached_property
    def load(self) -> Array:
        """Arrivals over capacity."""
        return self.point.rate / self.capacity

    @cached_property
    def saturation(self) -> Array:
        """Index into `SATURATION`."""
        return np.where(self.load >= 1.0, 2.0, np.where(self.load >= BACKLOGGED, 1.0, 0.0))

    @cached_property
    def queue(self) -> PoolsUnderLoad:
        """Latencies at the rate of the axis."""
        return self.at(self.point.rate)

    def at(self, rate: Array) -> PoolsUnderLoad:
        """Latencies at a rate."""
        return PoolsUnderLoad(self, rate)

    @cached_property
    def max_rate(self) -> Array:
        """Highest rate at which 99 % of the requests meet the SLOs; 0 where they never do."""
        low, high = np.zeros(1), self.capacity
        for _ in range(SECTIONS):
            middle = (low + high) / 2.0
            good = self.at(middle).attainment >= ATTAINED
            low, high = np.where(good, middle, low), np.where(good, high, middle)
        return low

    # -- what is reported -----------------------------------------------------------------------------

    @cached_property
    def batch(self) -> Array:
        """Sequences that a decode worker runs, mean over time; all there may be where arrivals overload it."""
        return np.where(self.load < 1.0, self.queue.flight.mean, self.decoder.slots)

    @cached_property
    def running(self) -> Point:
        """The sequences of a decode step: whole ones."""
        return self.point.with_batch(np.maximum(np.ceil(self.batch), self.point.degrees.dp))

    @cached_property
    def entering(self) -> Point:
        """The requests of a prompt pass: whole ones."""
        point = self.prefiller.point
        group = np.clip(np.ceil(self.queue.prompts.cycle.group), point.degrees.dp, self.prefiller.most)
        return point.with_batch(group)

    @cached_property
    def exposed(self) -> Array:
        """Seconds of the transfer that the prompt pass does not hide."""
        return self.queue.exposed

    @cached_property
    def gathering(self) -> Array:
        """Seconds that a request waits until its pass begins, mean."""
        return self.queue.prompts.wait(self.matched.prefill)[0]

    @cached_property
    def ttft(self) -> Array:
        """Seconds from arrival to the first token, mean over requests."""
        return self.queue.ttft

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first."""
        return self.queue.tpot

    @cached_property
    def latency(self) -> Array:
        """Seconds from arrival to the last token."""
        return self.queue.latency

    @cached_property
    def requests_per_s(self) -> Array:
        """Finished requests per second: those that arrive, or as many as overloaded pools finish."""
        return np.minimum(self.point.rate, self.capacity)

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """Prefill workers, then decode workers."""
        matched = self.matched
        return (
            Pool(self.entering, matched.prefill, self.prefiller.memory),
            Pool(self.running, matched.decode, self.memory),
        )

    @property
    def spells(self) -> tuple[Spells, ...]:
        """What a worker of each pool does in a second."""
        group = np.maximum(self.queue.prompts.cycle.group, 1.0)
        passes = self.requests_per_s / self.matched.prefill / group
        prefill = np.minimum(passes * self.prompting.computing(group), 1.0)
        decode = np.where(self.load < 1.0, 1.0 - self.queue.flight.empty, 1.0)
        return (
            ((Spell(self.entering, "prefill", self.prompt, prefill),), 1.0 - prefill),
            ((Spell(self.running, "decode", self.step, decode),), 1.0 - decode),
        )
