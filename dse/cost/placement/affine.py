"""Quantities that are affine in the shares of tensors on tiers: a constant, and a slope per (tensor, tier)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from dse.cost.work import Array

Tier = Literal["accelerator", "host", "disk"]
TIERS: tuple[Tier, ...] = ("accelerator", "host", "disk")

Tensor = Literal["weights", "experts", "cache", "hidden"]
TENSORS: tuple[Tensor, ...] = ("weights", "experts", "cache", "hidden")
"""Routed experts are a tensor of their own, since a machine may keep them on the host and all else on the
accelerator; a model without them has three."""

Shares = Mapping[Tensor, Mapping[Tier, Array]]
"""How much of each tensor lies on each tier, 0 to 1; the tiers of a tensor sum to one."""

BELOW: tuple[Tier, ...] = ("host", "disk")
"""Tiers from which a tensor crosses the host link to be used."""

Stream = Literal["accelerator", "host", "to_device", "to_host", "disk_read", "disk_write", "host_memory"]
STREAMS: tuple[Stream, ...] = (
    "accelerator", "host", "to_device", "to_host", "disk_read", "disk_write", "host_memory",
)  # fmt: skip
"""What works beside each other: two processors, two directions of a link, of a disk, and the host's memory."""


@dataclass
class Affine:
    """`constant` + the sum over tensors and tiers of share x slope; arrays that broadcast over the mesh."""

    constant: Array = 0.0
    slopes: dict[tuple[Tensor, Tier], Array] = field(default_factory=dict)

    def add(self, value: Array) -> None:
        """Add to the constant."""
        self.constant = self.constant + value

    def grow(self, tensor: Tensor, value: Array, *tiers: Tier) -> None:
        """Add `value` times the share of the tensor on these tiers."""
        for tier in tiers:
            self.slopes[tensor, tier] = self.slopes.get((tensor, tier), 0.0) + value

    def plus(self, other: Affine, factor: Array = 1.0) -> None:
        """Add another affine quantity times a factor."""
        self.add(other.constant * factor)
        for (tensor, tier), value in other.slopes.items():
            self.grow(tensor, value * factor, tier)

    def take(self, at: Callable[[Array], Array]) -> Affine:
        """The same with every array replaced by what `at` makes of it."""
        return Affine(at(self.constant), {key: at(slope) for key, slope in self.slopes.items()})

    def least(self) -> Array:
        """The least value over all shares: each tensor where it costs least."""
        total = self.constant
        for tensor in dict.fromkeys(tensor for tensor, _ in self.slopes):
            least: Array = np.inf
            for tier in TIERS:
                least = np.minimum(least, self.slopes.get((tensor, tier), 0.0))
            total = total + least
        return total

    def at(self, shares: Shares) -> Array:
        """The value at given shares."""
        total = self.constant
        for (tensor, tier), slope in self.slopes.items():
            total = total + slope * shares[tensor][tier]
        return total
