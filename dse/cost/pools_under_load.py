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

from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

from dse.cost.latency import UnderLoad
from dse.cost.lengths import expected
from dse.cost.percentiles import Percentiles
from dse.cost.queueing import Cases, Chain, Spread
from dse.cost.work import Array

if TYPE_CHECKING:
    from dse.cost.pooled import Pooled


class Queue(UnderLoad):
    """Prompts in front of a prefill worker, of which nobody decodes."""

    @cached_property
    def flight(self) -> Chain:
        """Sequences that decode: none."""
        none = np.zeros(1)
        return Chain([none], [np.ones(1)], full=none, empty=np.ones(1))

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


class PoolsUnderLoad(Percentiles):
    """Both pools with arrivals at a rate; NaN where one of them is overloaded."""

    def __init__(self, pools: Pooled, rate: Array) -> None:
        self.pools, self.point = pools, pools.point
        self.stable = rate < pools.capacity
        # What is overloaded is computed at a rate that is not, and hidden.
        self.rate = np.where(self.stable, rate, 0.5 * pools.capacity)
        x, y = pools.matched.prefill, pools.matched.decode
        prompts, decoder = pools.prompting, pools.decoder
        most = pools.prefiller.most
        self.prompts = Queue(prompts, most, prompts.finished(most), self.rate / x)
        self.decodes = UnderLoad(decoder.engine, decoder.slots, decoder.finished, self.rate / y, decoder.sizes)
        self.flight = self.decodes.flight

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
    def place(self) -> tuple[Array, Array, Array]:
        """Chance that a request finds no place to decode in; mean and variance of the seconds until one is free."""
        some = self.point.steps > 0
        chance, delay, variance = (np.where(some, value, 0.0) for value in self.decodes.place)
        return chance, delay, variance

    @cached_property
    def ttft(self) -> Array:
        """Mean seconds to the first token."""
        chance, delay, _ = self.place
        return self.shown(expected(self.point.lengths, self.own) + self.waits[0] + chance * delay)

    @cached_property
    def first_tokens(self) -> Cases:
        """Seconds to the first token: each length twice, with a place to decode in at once and without."""
        chance, delay, unlike = self.place
        mean, variance = self.waits
        cases: list[tuple[Array, Spread]] = []
        for (_, _, weight), own in zip(self.point.lengths, self.own, strict=True):
            cases.append((weight * (1.0 - chance), Spread(own, own + mean, variance)))
            cases.append((weight * chance, Spread(own, own + mean + delay, variance + unlike)))
        return cases

    # -- after it -----------------------------------------------------------------------------------

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first."""
        return self.shown(self.decodes.tpot)

    @cached_property
    def latency(self) -> Array:
        """Mean seconds from arrival to the last token."""
        return self.ttft + expected(self.point.lengths, [each.mean for each in self.decoding])

    @property
    def decoding(self) -> list[Spread]:
        """Seconds from the first token to the last, of each length."""
        return self.decodes.decoding

    @property
    def gaps(self) -> Cases:
        """Seconds per token after the first, over the requests that have such."""
        return self.decodes.gaps
