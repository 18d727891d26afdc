"""A point whose tensors are placed over the tiers: what phases, memory and metrics read of the best placement."""

from __future__ import annotations

from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.placement.affine import BELOW, Shares, Tier
from dse.cost.placement.plan import STREAMS, Stream
from dse.cost.placement.schedules import Placement, place
from dse.cost.setting import Phase
from dse.cost.work import Array

BOUNDS: dict[Stream, str] = {
    "accelerator": "accelerator", "host": "host", "to_device": "host_link", "to_host": "host_link",
    "disk_read": "disk", "disk_write": "disk", "host_memory": "host_memory",
}  # fmt: skip
"""Stream -> the bound of a phase whose longest stream it is."""


class Placed(Point):
    """A point of a sweep with `offload: lp`; `batch` is the block."""

    @cached_property
    def placement(self) -> Placement:
        """The best placement."""
        return place(self.model, self.choices, self.mesh)

    @property
    def gpu_batch(self) -> Array:
        """Sequences of one GPU batch."""
        return cast(Array, np.ceil(self.batch / self.placement.num_batches))

    @cached_property
    def ttft(self) -> Array:
        """Seconds of the prompt pass over the block."""
        return self.placement.seconds["prefill"]

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds of a decode step of the block."""
        return self.placement.seconds["decode"]

    def busy_seconds(self, phase: Phase) -> Array:
        """Seconds of a phase that the accelerator computes."""
        return self.placement.streams[phase, "accelerator"]

    def bounds(self, phase: Phase) -> NDArray[np.str_]:
        """The longest stream of a phase, as text."""
        streams = np.stack([self.placement.streams[phase, stream] for stream in STREAMS])
        longest = np.argmax(np.nan_to_num(streams), axis=0)
        return cast(NDArray[np.str_], np.array([BOUNDS[stream] for stream in STREAMS])[longest])

    def bytes_below(self, tier: Tier) -> Array:
        """Host memory or disk of a whole replica in use at the peak."""
        return self.placement.peaks[tier] * self.degrees.devices


class PlacedMemory(Memory):
    """Memory of one device where tensors are placed: what lies on the accelerator."""

    @property
    def placement(self) -> Placement:
        """The best placement."""
        return cast(Placed, self.point).placement

    @cached_property
    def total(self) -> Array:
        """The peak on the accelerator; where nothing fits, as much beyond the limit as the scarcest tier lacks."""
        placed = self.placement
        return np.where(placed.feasible, np.minimum(placed.peaks["accelerator"], self.limit), placed.over * self.limit)

    @cached_property
    def max_context(self) -> Array:
        """Not searched for under offloading."""
        return np.full(self.point.mesh.shape, np.nan)

    @cached_property
    def max_batch(self) -> Array:
        """Not searched for under offloading."""
        return np.full(self.point.mesh.shape, np.nan)


def share_columns(shares: Shares) -> dict[str, Array]:
    """Shares as columns of a table: `weights_on_host` ..."""
    tiers: tuple[Tier, ...] = ("accelerator", *BELOW)
    return {f"{tensor}_on_{tier}": on[tier] for tensor, on in shares.items() for tier in tiers}
