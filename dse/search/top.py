"""The best few points per comparison group and objective, over a stream of slices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.search.rows import SAMPLE, Bools, Floats, Ints, Numbers, Rows, Slice


class TopArchive:
    """The `n` cheapest points of every group, for each objective on its own; ties go to the lower number.

    The result depends on the set of points alone: not on how they were sliced, nor on the order of updates
    and merges. A point competes in every objective in which its cost is not NaN.
    """

    def __init__(self, n: int = 20) -> None:
        if n < 1:
            raise ValueError(f"n must be >= 1, got {n}")
        self.n = n
        self._best: list[_Best] = []

    def update(
        self,
        costs: Sequence[NDArray[np.float64]],
        group: NDArray[np.integer[Any]],
        feasible: NDArray[np.bool_],
        number: Numbers,
    ) -> None:
        """Take in a slice of points; arguments and errors as for `FrontArchive.update`."""
        points = Slice(costs, group, feasible, number)
        self._check(len(points.costs))
        if points.is_empty:
            return
        for objective, best in enumerate(self._best):
            best.update(points.only(objective))

    def merge(self, other: TopArchive) -> None:
        """Take in everything `other` has seen.

        Raises:
            ValueError: the archives differ in `n` or in the number of objectives.
        """
        if other.n != self.n:
            raise ValueError(f"cannot merge the best {other.n} into the best {self.n}")
        if other._best:
            self._check(len(other._best))
        for mine, theirs in zip(self._best, other._best, strict=False):
            mine.add(theirs.rows)

    def tops(self) -> dict[int, list[tuple[NDArray[np.int64], NDArray[np.float64]]]]:
        """Per group and objective: point numbers and costs, each of shape (at most n,), best first."""
        empty = (np.empty(0, dtype=np.int64), np.empty(0))
        groups = sorted({group for best in self._best for group in best.rows.group.tolist()})
        tops = {group: [empty] * len(self._best) for group in groups}
        for objective, best in enumerate(self._best):
            for group, rows in best.rows.by_group():
                tops[group][objective] = (rows.number, rows.costs[:, 0])
        return tops

    def _check(self, objectives: int) -> None:
        if not self._best:
            self._best = [_Best(self.n) for _ in range(objectives)]
        if len(self._best) != objectives:
            raise ValueError(f"this archive ranks {len(self._best)} objectives, got {objectives}")


class _Best:
    """The `n` cheapest points of every group in one objective."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.rows = Rows(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty((0, 1)))
        self._worst: Floats = np.empty(0)
        """Cost of the n-th best point per group: a point above it is out. Infinite below n points."""
        self._last: Ints = np.empty(0, dtype=np.int64)
        """Its number: a point that ties in cost must come before it."""

    def update(self, points: Slice) -> None:
        """Take in a slice of points with one cost."""
        self._make_room(int(points.groups[-1]) + 1)
        near = self._near(points)
        if np.count_nonzero(near) > 2 * SAMPLE:
            self.add(points.sample(near))  # a tighter bound; what it adds is met again, and counts once
            near = self._near(points)
        rows = points.where(near)
        better = rows.costs[:, 0] < self._worst[rows.group]
        self.add(rows.take(np.flatnonzero(better | (rows.number < self._last[rows.group]))))

    def _near(self, points: Slice) -> Bools:
        """Which points are at least as good as the n-th best of their group."""
        near: Bools = points.feasible & (points.costs[0] <= self._worst.take(points.group))
        return near

    def add(self, rows: Rows) -> None:
        """Rank `rows` among what is known and forget what falls behind."""
        if not len(rows):
            return
        rows = Rows.concatenate([self.rows, rows])
        rows = rows.in_order(rows.costs[:, 0])
        first = np.searchsorted(rows.group, rows.group, side="left")
        rank = np.arange(len(rows)) - first
        last = np.flatnonzero(rank == self.n - 1)
        self._make_room(int(rows.group[-1]) + 1)
        self._worst[rows.group[last]] = rows.costs[last, 0]
        self._last[rows.group[last]] = rows.number[last]
        self.rows = rows.take(np.flatnonzero(rank < self.n))

    def _make_room(self, groups: int) -> None:
        missing = groups - len(self._worst)
        if missing > 0:
            self._worst = np.concatenate([self._worst, np.full(missing, np.inf)])
            self._last = np.concatenate([self._last, np.full(missing, np.iinfo(np.int64).max)])
