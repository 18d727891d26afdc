"""A point whose tensors are placed over the tiers: what phases, memory and metrics read of the best placement."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.placement.affine import STREAMS, Stream, Tier
from dse.cost.placement.ledger import TENSOR_OF, GpuBatch, kind_of
from dse.cost.setting import Phase
from dse.cost.work import Array, Work

if TYPE_CHECKING:
    from dse.cost.placement.schedules import Placement


def _same(values: Array) -> Array:
    return values


BOUNDS: dict[Stream, str] = {
    "accelerator": "accelerator", "host": "host", "to_device": "host_link", "to_host": "host_link",
    "disk_read": "disk", "disk_write": "disk", "host_memory": "host_memory",
}  # fmt: skip
"""Stream -> the bound of a phase whose time it sets."""


class Placed(Point):
    """A point of a sweep with `offload: lp`; `batch` is the block."""

    @cached_property
    def placement(self) -> Placement:
        """The best placement."""
        from dse.cost.placement.schedules import place  # the programs and their solver: most sweeps place nothing

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
    def step(self) -> Array:
        """Mean seconds of a decode step of the block."""
        return self.placement.seconds["decode"]

    @cached_property
    def kernels(self) -> GpuBatch:
        """One GPU batch of each point: whose operators the accelerator runs."""
        batch = GpuBatch(self.model, self.choices, self.mesh)
        batch.__dict__ |= {"batch": self.gpu_batch, "_prompts": (None, _same), "_shared": (None, _same)}
        return batch

    @property
    def micro_batches(self) -> Mapping[Phase, Array]:
        """Passes of the accelerator's kernels over the block."""
        return {"prefill": self.kernel_runs("prefill"), "decode": self.kernel_runs("decode")}

    def kernel_runs(self, phase: Phase) -> Array:
        """Passes of a GPU batch in one pass over the block."""
        passes: Array = self.placement.num_batches.astype(float)
        return passes * self.kernels.micro_batches[phase]

    def share_computed(self, component: object, phase: Phase, work: Work) -> Array:
        """How much of an operator the accelerator computes: all, or what of its tensor lies there."""
        kind, placed = kind_of(component, phase, work), self.placement
        on_host = np.array([schedule.devices.on_host(kind, phase) for schedule in placed.schedules])[placed.schedule]
        return np.where(on_host, placed.shares[TENSOR_OF[kind]]["accelerator"], 1.0) if np.any(on_host) else 1.0

    def busy_seconds(self, phase: Phase) -> Array:
        """Seconds of a phase that the accelerator computes."""
        return self.placement.streams[phase, "accelerator"]

    def bounds(self, phase: Phase) -> NDArray[np.str_]:
        """The stream that sets the time of a phase, as text."""
        place = np.nan_to_num(self.placement.bounds[phase]).astype(int)
        return cast(NDArray[np.str_], np.array([BOUNDS[stream] for stream in STREAMS])[place])

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


def memory_of(point: Point) -> Memory:
    """Memory of one device, wherever its tensors lie."""
    return PlacedMemory(point) if isinstance(point, Placed) else Memory(point)
