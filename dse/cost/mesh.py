"""Points as index arrays, one per axis: an open mesh or a flat list, the same code for both.

On an open mesh the index of an axis has its length there and length 1 elsewhere, so that a table looked
up along one axis stays small and NumPy broadcasting does the rest (10x over flat columns). For a list of
single points every index has the shape of the list. Element-wise arithmetic gives the same bits on both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dse.cost.work import Array

Index = NDArray[np.intp]


class Mesh:
    """Index arrays by axis name, mutually broadcastable."""

    def __init__(self, index: Mapping[str, Index]) -> None:
        self.index = dict(index)
        self.shape: tuple[int, ...] = np.broadcast_shapes(*(i.shape for i in self.index.values()))

    @classmethod
    def open(cls, axes: Sequence[str], block: Sequence[slice]) -> Mesh:
        """The rectangular block of points `block`, one slice per axis."""
        index = {}
        for position, (axis, part) in enumerate(zip(axes, block, strict=True)):
            shape = [1] * len(axes)
            shape[position] = part.stop - part.start
            index[axis] = np.arange(part.start, part.stop).reshape(shape)
        return cls(index)

    @classmethod
    def points(cls, axes: Sequence[str], coordinates: Sequence[Index]) -> Mesh:
        """A list of single points: one coordinate array of shape (p,) per axis."""
        return cls(dict(zip(axes, coordinates, strict=True)))

    def collapsed(self, axis: str, table: NDArray[np.float64]) -> tuple[Mesh, Callable[[Array], Array]]:
        """The mesh with one index per distinct value of `table` along an axis, and the way back.

        What depends on the axis through that value alone (a prompt pass through the prompt's length) is computed
        on the smaller mesh and repeated by the function returned, bit for bit.
        """
        index = self.index[axis]
        if index.ndim == 1 or index.size == 1:  # single points, or nothing to collapse
            return self, lambda values: values
        distinct, first, where = np.unique(table[index.ravel()], return_index=True, return_inverse=True)
        if len(distinct) == index.size:
            return self, lambda values: values
        position = index.shape.index(index.size)
        shape = [1] * index.ndim
        shape[position] = len(distinct)
        smaller = Mesh(self.index | {axis: index.ravel()[first].reshape(shape)})

        def back(values: Array) -> Array:
            wide = np.ndim(values) == index.ndim and np.shape(values)[position] > 1
            return np.take(values, where.ravel(), axis=position) if wide else values

        return smaller, back

    def joined(self, axis: str, later: str, key: NDArray[np.int64]) -> tuple[Mesh, Callable[[Array], Array]]:
        """The mesh with one index per distinct `key` of two axes, along the later of them, and the way back.

        Many layouts and batches put the same number of sequences on a rank: what depends on that alone is computed
        once, bit for bit. `key` has the joint shape of the two index arrays.
        """
        a, b = self.index[axis], self.index[later]
        if a.ndim == 1 or a.size * b.size == 1:
            return self, lambda values: values
        distinct, first, where = np.unique(key.ravel(), return_index=True, return_inverse=True)
        if 2 * len(distinct) > key.size:  # little to gain
            return self, lambda values: values
        places = where.reshape(a.size, b.size)
        of_a, of_b = np.unravel_index(first, places.shape)
        at, outer = (list(self.index).index(name) for name in (later, axis))
        shape = [1] * a.ndim
        shape[at] = len(distinct)
        index = {axis: a.ravel()[of_a].reshape(shape), later: b.ravel()[of_b].reshape(shape)}

        def back(values: Array) -> Array:
            if np.ndim(values) != a.ndim or np.shape(values)[at] == 1:
                return values
            return np.concatenate([np.take(values, row, axis=at) for row in places], axis=outer)

        return Mesh(self.index | index), back

    def renamed(self, names: Mapping[str, str]) -> Mesh:
        """The mesh on which the axes `names.values()` go by the keys, in the place of those that have these names."""
        goes_by = {axis: name for name, axis in names.items()} | {name: f"other_{name}" for name in names}
        return Mesh({goes_by.get(axis, axis): index for axis, index in self.index.items()})

    def take(self, table: NDArray[np.float64], *axes: str) -> NDArray[np.float64]:
        """Values of `table` (one dimension per axis named) at the mesh's indices."""
        values: NDArray[np.float64] = table[tuple(self.index[axis] for axis in axes)]
        return values
