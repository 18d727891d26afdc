"""The KV cache of a request on its way from a prefill worker to a decode worker.

    t = K / gamma + alpha,   exposed = max(0, t - T (L - 1)/L) + t/L

K is what the busiest device sends or receives, T the prompt pass over L layers: the cache of a layer leaves as soon as
the layer is done, so that all but the last can hide behind the pass (Splitwise, 2311.18677 section 4.3). Where pools
have different degrees, the devices of the smaller worker set the pace; heads and latents that every rank of the
receiver holds are sent to each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from dse.cost.memory import Memory
from dse.cost.phases import Point, weighted
from dse.cost.work import Array


@dataclass(frozen=True)
class Link:
    """What the caches travel over, per device and direction."""

    alpha: Array
    """Seconds to start."""
    beta: Array
    """Seconds per byte."""


@dataclass
class Handover:
    """Caches between two workers."""

    sender: Point
    """The requests of a prompt pass; all go to one decode rank."""
    receiver: Point

    @cached_property
    def near(self) -> Link:
        """Within one scale-up domain of like chips."""
        links = self.receiver.links
        return Link(links.alpha, links.beta)

    @cached_property
    def far(self) -> Link:
        """Between domains, or between chips of different kinds: the slower of the two networks."""
        out, into = self.sender.links, self.receiver.links
        return Link(np.maximum(out.alpha_out, into.alpha_out), np.maximum(out.beta_out, into.beta_out))

    @cached_property
    def received(self) -> Array:
        """Bytes of one request that arrive at the device with most of them."""
        return Memory(self.receiver.with_batch(self.receiver.degrees.dp)).cache_at(self.sender.input)

    @cached_property
    def sent(self) -> Array:
        """Bytes of one request that leave each device of the sender."""
        memory = Memory(self.receiver)
        of_parts = [memory.cache_of(part.component, self.sender.input) for part in self.receiver.parts]
        of_rank = weighted(self.receiver.counts, list(enumerate(of_parts)))
        ranks = self.sender.degrees.tp * self.sender.degrees.pp
        return of_rank * self.receiver.degrees.tp / ranks

    def seconds(self, link: Link) -> Array:
        """The caches of the requests of a prompt pass."""
        bytes_ = self.sender.rank_batch * np.maximum(self.sent, self.received)
        return link.alpha + bytes_ * link.beta

    def arriving(self, link: Link) -> Array:
        """Seconds that the receiver's links are busy per request, its ranks taking turns."""
        return self.received * link.beta / self.receiver.degrees.dp

    def exposed(self, seconds: Array, prompt: Array) -> Array:
        """What of a transfer is not hidden by the prompt pass.

        Args:
            seconds: of the transfer.
            prompt: seconds of the pass.
        """
        layers = len(self.sender.model.layers)
        hidden = prompt * ((layers - 1) / layers)
        return cast(Array, np.maximum(0.0, seconds - hidden) + seconds / layers)
