"""Disaggregated serving where requests arrive at a rate: both pools, the link between them, the queues in front.

Workers: `dse.cost.workers`. Latencies: `dse.cost.pools_under_load`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dse.cost.at_a_rate import AtARate
from dse.cost.choices import PREFILL
from dse.cost.disaggregated import Disaggregated
from dse.cost.handover import Handover, Link
from dse.cost.matching import Matched
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.serving import Pool, Spell, Spells
from dse.cost.work import Array

if TYPE_CHECKING:  # queues are for those who ask: most sweeps have no arrivals
    from dse.cost.pools_under_load import PoolsUnderLoad
    from dse.cost.workers import DecodeWorker, PrefillWorker, Prompting


class Pooled(AtARate, Disaggregated):
    """Requests arrive at `rate`; a prefill pass takes at most its `batch`, a decode worker runs at most its own."""

    # -- workers, whatever the rate -------------------------------------------------------------------

    @cached_property
    def prefiller(self) -> PrefillWorker:
        """A prefill worker."""
        from dse.cost.workers import PrefillWorker

        point = Point(self.point.model, self.chosen.prefill, self.point.mesh.renamed(PREFILL))
        return PrefillWorker(point, self.runtime)

    @cached_property
    def decoder(self) -> DecodeWorker:
        """A decode worker."""
        from dse.cost.workers import DecodeWorker

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
        decoded = 1.0 / self.decoder.finished
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

    @property
    def slots(self) -> Array:
        """Most sequences that a decode worker runs at once."""
        return self.decoder.slots

    @cached_property
    def queue(self) -> PoolsUnderLoad:
        """Latencies at the rate of the axis."""
        return self.at(self.point.rate)

    def at(self, rate: Array) -> PoolsUnderLoad:
        """Latencies at a rate."""
        from dse.cost.pools_under_load import PoolsUnderLoad

        return PoolsUnderLoad(self, rate)

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
