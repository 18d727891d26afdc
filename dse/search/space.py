"""The numbered space of points: boxes of axes, slices of a box, parts of the work, layouts of devices.

A point is a number: its mixed-radix index within its box, the box's offset added. Everything here follows
from the sizes of the axes alone, so that a number, a slice or a part means the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product, repeat
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dse.errors import InputError
from dse.spec.layout import Layout

__all__ = [
    "Axis",
    "Block",
    "Box",
    "Layout",
    "Part",
    "Space",
    "cut",
    "layouts",
    "layouts_of",
    "slices",
    "tasks",
]

LIMIT = 2**62
"""Largest space: numbers and their sums stay within int64."""

CELLS = 200_000
"""Points of a slice: an array of all of them is as large as a core's second cache (1 to 2 MB), a dozen live at once."""

LEAST_CELLS = 8_000
"""Points of a slice however heavy they are: fewer would leave NumPy calls half empty."""

Block = tuple[slice, ...]
"""A rectangular block of a box: one slice per axis, in axis order."""


@dataclass(frozen=True)
class Axis:
    """One dimension of a box."""

    name: str
    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"axis {self.name!r} must have at least one value, got {self.size}")


@dataclass(frozen=True)
class Box:
    """A dense product of axes, in C order: the last axis runs fastest.

    A point has a local number, 0 ... size - 1, and in the space the number `offset` + local.
    """

    axes: tuple[Axis, ...]
    offset: int = 0
    weight: int = 1
    """Work of one of its points, in plain points: what a slice and a part hold of them follows from it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Axis sizes."""
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of points, a Python integer of any magnitude."""
        return prod(self.shape)

    def encode(self, coordinates: Sequence[ArrayLike]) -> NDArray[np.int64]:
        """Local numbers of coordinates: one integer array per axis, broadcastable.

        Raises:
            ValueError: a coordinate lies outside its axis, or their count is not that of the axes.
        """
        if len(coordinates) != len(self.axes):
            raise ValueError(f"expected {len(self.axes)} coordinates, got {len(coordinates)}")
        local = np.zeros((), dtype=np.int64)
        for axis, coordinate in zip(self.axes, map(np.asarray, coordinates), strict=True):
            if np.any((coordinate < 0) | (coordinate >= axis.size)):
                raise ValueError(f"a coordinate of axis {axis.name!r} lies outside 0 ... {axis.size - 1}")
            local = local * axis.size + coordinate.astype(np.int64)
        return np.asarray(local)

    def decode(self, local: ArrayLike) -> tuple[NDArray[np.int64], ...]:
        """Coordinates of local numbers: one array of their shape per axis.

        Raises:
            ValueError: a number lies outside the box.
        """
        rest = np.asarray(local, dtype=np.int64)
        if np.any((rest < 0) | (rest >= self.size)):
            raise ValueError(f"a local number lies outside 0 ... {self.size - 1}")
        coordinates: list[NDArray[np.int64]] = []
        for axis in reversed(self.axes):
            rest, coordinate = np.divmod(rest, axis.size)
            coordinates.append(np.asarray(coordinate))
        return tuple(reversed(coordinates))

    def numbers(self, block: Block) -> range:
        """The point numbers (the offset included) of a block made by `slices`, in C order of its points."""
        local = 0
        for axis, part in zip(self.axes, block, strict=True):
            local = local * axis.size + part.start
        first = self.offset + local
        return range(first, first + prod(part.stop - part.start for part in block))


@dataclass(frozen=True)
class Space:
    """Boxes one after the other: the numbers 0 ... size - 1.

    Raises:
        InputError: more than 2**62 points.
        ValueError: the offset of a box is not the number of points before it.
    """

    boxes: tuple[Box, ...]

    def __post_init__(self) -> None:
        if self.size > LIMIT:
            raise InputError(f"the sweep has {self.size} points; the limit is 2**62")
        start = 0
        for box in self.boxes:
            if box.offset != start:
                raise ValueError(f"expected a box at offset {start}, got {box.offset}")
            start += box.size

    @classmethod
    def of(cls, boxes: Iterable[Iterable[Axis]], weights: Iterable[int] | None = None) -> Space:
        """The space of these boxes, given by their axes, in order, and what a point of each weighs (1)."""
        placed: list[Box] = []
        offset = 0
        each = repeat(1) if weights is None else weights
        for axes, weight in zip(boxes, each, strict=False):
            placed.append(Box(tuple(axes), offset, weight))
            offset += placed[-1].size
        return cls(tuple(placed))

    @property
    def size(self) -> int:
        """Number of points, a Python integer of any magnitude."""
        return sum(box.size for box in self.boxes)

    @property
    def effort(self) -> int:
        """Work of all points, in plain points."""
        return sum(box.size * box.weight for box in self.boxes)

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        return np.array([box.offset for box in self.boxes], dtype=np.int64)

    def locate(self, numbers: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """The index of the box each point number lies in, and its local number there.

        Raises:
            ValueError: a number lies outside the space.
        """
        numbers = np.asarray(numbers, dtype=np.int64)
        if np.any((numbers < 0) | (numbers >= self.size)):
            raise ValueError(f"a number lies outside 0 ... {self.size - 1}")
        index = np.asarray(np.searchsorted(self._offsets, numbers, side="right") - 1)
        return index, numbers - self._offsets[index]


def slices(box: Box, cells: int = CELLS) -> Iterator[Block]:
    """Cut a box into blocks of at most `cells` points, each one range of numbers, in their order.

    Leading axes go one index at a time, one axis in ranges of nearly equal length, trailing axes whole. The
    first axis (the model: structure, not numbers) always goes one index at a time. Depends on the box's
    shape alone.
    """
    if cells < 1:
        raise ValueError(f"a block needs at least one cell, got {cells}")
    shape = box.shape
    cut = 1
    while cut < len(shape) and prod(shape[cut + 1 :]) > cells:
        cut += 1
    leading = [_ranges(size, size) for size in shape[:cut]]
    ranged = [_ranges(size, -(-size // (cells // prod(shape[cut + 1 :])))) for size in shape[cut : cut + 1]]
    trailing = [[slice(0, size)] for size in shape[cut + 1 :]]
    return product(*leading, *ranged, *trailing)


def cut(block: Block, cells: int) -> Iterator[Block]:
    """Cut a block made by `slices` into such of at most `cells` points, in their order."""
    inner = Box(tuple(Axis("", part.stop - part.start) for part in block))
    for small in slices(inner, cells):
        yield tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(block, small, strict=True))


def _ranges(size: int, count: int) -> list[slice]:
    """`size` indices in `count` consecutive ranges whose lengths differ by at most one."""
    return [slice(a, b) for a, b in pairwise(size * i // count for i in range(count + 1))]


@dataclass(frozen=True)
class Part:
    """Consecutive slices that one task evaluates and stores as a whole."""

    number: int
    """Position in the sequence of parts."""
    points: range
    """The point numbers it covers."""
    blocks: tuple[tuple[int, Block], ...]
    """Index of the box in the space, and the block in that box."""


def tasks(
    space: Space, points: int = 2_000_000, cells: int = CELLS, beside: Sequence[int] | None = None
) -> Iterator[Part]:
    """Group the slices of all boxes into parts of at most `points` points' work (at least one slice each).

    Depends on the space alone, so that a resumed run finds the parts of the run before.

    Args:
        space: all points.
        points: most work of a part, in plain points.
        cells: most points of a slice.
        beside: work on a point of each box beside scoring it, in plain points; none by default.
    """
    number = start = stop = effort = 0
    blocks: list[tuple[int, Block]] = []
    for index, box in enumerate(space.boxes):
        work, most = box.weight, cells // box.weight
        if beside and beside[index]:
            work += beside[index]
            most = min(most, points // work)  # no slice is more work than a part
        for block in slices(box, max(most, min(cells, LEAST_CELLS))):
            size = len(box.numbers(block))
            if blocks and effort + size * work > points:
                yield Part(number, range(start, stop), tuple(blocks))
                number, start, blocks, effort = number + 1, stop, [], 0
            blocks.append((index, block))
            stop += size
            effort += size * work
    if blocks:
        yield Part(number, range(start, stop), tuple(blocks))


def layouts(devices: Iterable[int]) -> list[Layout]:
    """Every layout of one replica on each number of devices: tp x pp x dp = N, and ep divides tp x dp.

    Ordered by N, then tp, pp, dp, ep.

    Raises:
        ValueError: a number of devices below one.
    """
    found: list[Layout] = []
    for count in sorted(set(devices)):
        for tp in _divisors(count):
            for pp in _divisors(count // tp):
                dp = count // tp // pp
                found += [Layout(tp, pp, dp, ep) for ep in _divisors(tp * dp)]
    return found


def layouts_of(
    tp: Iterable[int], pp: Iterable[int], dp: Iterable[int], ep: Iterable[int] | Literal["auto"]
) -> list[Layout]:
    """The product of the given degrees, each layout once, in the order given.

    A degree that cannot be (ep that does not divide tp x dp) stays: it becomes a status. With `ep` "auto"
    it is 0, which each model resolves: 1 for a dense model or dp = 1, else tp x dp.
    """
    degrees = [0] if ep == "auto" else list(ep)
    return list(dict.fromkeys(Layout(*point) for point in product(tp, pp, dp, degrees)))


def _divisors(n: int) -> list[int]:
    if n < 1:
        raise ValueError(f"the number of devices must be at least 1, got {n}")
    small = [d for d in range(1, int(n**0.5) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})
