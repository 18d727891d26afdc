"""Points on their way into an archive: slices of an open mesh, and the flat rows gathered from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Numbers = range | NDArray[np.integer[Any]] | Callable[[Ints], Ints]
"""Point numbers of a slice: a range over its flat points, an array, or a function of flat indices."""

SAMPLE = 2048
"""Points of a slice looked at first, where too little is known to drop any."""

GOLDEN = 0.6180339887498949
"""Multiples of the golden ratio, modulo one, fill an interval evenly and follow no period of the mesh."""


@dataclass(frozen=True)
class Rows:
    """Gathered points, one per row."""

    group: Ints
    """Comparison group, shape (m,)."""
    number: Ints
    """Point number, shape (m,)."""
    costs: Floats
    """Minimised, shape (m, k)."""

    def __len__(self) -> int:
        return len(self.number)

    def take(self, chosen: Ints) -> Rows:
        """The rows at positions `chosen`, in that order."""
        return Rows(self.group[chosen], self.number[chosen], self.costs[chosen])

    @classmethod
    def concatenate(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of at least one part, in order."""
        return cls(
            np.concatenate([part.group for part in parts]),
            np.concatenate([part.number for part in parts]),
            np.concatenate([part.costs for part in parts]),
        )

    def in_order(self, *keys: Floats) -> Rows:
        """Sorted by group, then `keys`, then number, each point once."""
        rows = self.take(np.lexsort((self.number, *reversed(keys), self.group)))
        again = (rows.group[1:] == rows.group[:-1]) & (rows.number[1:] == rows.number[:-1])
        return rows.take(np.flatnonzero(np.concatenate([[True], ~again]))) if again.any() else rows

    def by_group(self) -> Iterator[tuple[int, Rows]]:
        """Each group with its rows; the rows must be sorted by group."""
        groups, first = np.unique(self.group, return_index=True)
        bounds = [*first.tolist(), len(self)]
        for group, start, stop in zip(groups.tolist(), bounds, bounds[1:], strict=False):
            part = slice(start, stop)
            yield group, Rows(self.group[part], self.number[part], self.costs[part])


class Slice:
    """Points of shape S on an open mesh: arrays have length 1 on the axes they do not depend on."""

    def __init__(
        self,
        costs: Sequence[NDArray[np.float64]],
        group: NDArray[np.integer[Any]],
        feasible: Bools,
        number: Numbers,
    ) -> None:
        if not costs:
            raise ValueError("a slice needs at least one cost array")
        arrays = [
            np.asarray(group, dtype=np.int64),
            *(np.asarray(cost, dtype=np.float64) for cost in costs),
            np.asarray(feasible, dtype=bool),
        ]
        self.shape = np.broadcast_shapes(*(array.shape for array in arrays))
        self.size = math.prod(self.shape)
        self.group, *self.costs, self.feasible = (_thin(array, len(self.shape)) for array in arrays)
        self.number = number
        if isinstance(number, range) and len(number) != self.size:
            raise ValueError(f"{len(number)} numbers for {self.size} points")
        self.groups = distinct(self.group)
        """The groups that occur, ascending."""
        if self.groups.size and self.groups[0] < 0:
            raise ValueError(f"groups must be >= 0, got {self.groups[0]}")
        if self.groups.size == 1:  # then lookups by group are scalars, whatever the array's shape
            self.group = self.groups.reshape((1,) * len(self.shape))

    def only(self, objective: int) -> Slice:
        """The same points with one cost."""
        points = copy(self)
        points.costs = [self.costs[objective]]
        return points

    @property
    def is_empty(self) -> bool:
        """Whether no point is feasible."""
        return self.size == 0 or not self.feasible.any()

    def sample(self, chosen: Bools) -> Rows:
        """Up to SAMPLE of the points where `chosen` is true, evenly spread, always the same ones."""
        flat = self._flat(chosen)
        if len(flat) > SAMPLE:
            places = (np.arange(SAMPLE) * GOLDEN % 1.0 * len(flat)).astype(np.int64)
            flat = flat[distinct(places)]
        return self._gather(flat)

    def where(self, chosen: Bools) -> Rows:
        """The points where `chosen`, broadcastable to S, is true."""
        return self._gather(self._flat(chosen))

    def _flat(self, chosen: Bools) -> Ints:
        return np.flatnonzero(np.broadcast_to(chosen, self.shape))

    def _gather(self, flat: Ints) -> Rows:
        """The points at flat (C order) indices."""
        place = np.unravel_index(flat, self.shape)
        costs = np.column_stack([np.broadcast_to(cost, self.shape)[place] for cost in self.costs])
        group = np.broadcast_to(self.group, self.shape)[place]
        if isinstance(self.number, range):
            number = self.number.start + self.number.step * flat
        elif callable(self.number):
            number = np.asarray(self.number(flat), dtype=np.int64)
        else:
            number = np.broadcast_to(self.number, self.shape)[place].astype(np.int64)
        return Rows(group, number, costs)


def distinct(values: NDArray[np.integer[Any]]) -> Ints:
    """Each whole number once, ascending. `np.unique` without its import of `numpy.ma` (15 ms)."""
    ordered: Ints = np.sort(values, axis=None).astype(np.int64, copy=False)
    first: Bools = np.concatenate([np.ones(min(ordered.size, 1), dtype=bool), ordered[1:] != ordered[:-1]])
    found: Ints = ordered[first]
    return found


def _thin(array: NDArray[Any], dimensions: int) -> NDArray[Any]:
    """The array with `dimensions` axes, of length 1 where it is only repeated (stride 0)."""
    array = array[(None,) * (dimensions - array.ndim)]
    return array[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in array.strides)]
