"""Exact Pareto fronts: of one table, and running per comparison group over a stream of slices.

Costs are minimised, so callers negate what is to be maximised. Point a dominates b when a <= b in every
objective and a < b in at least one. Points that tie in every objective do not dominate each other: all
stay. A point with a NaN cost is never on a front.

A running front stays fast because most points fall to a few known good points, the pivots, before any sort:
a point is dropped only when a known feasible point of its group dominates it on the raw float64 columns, so
the choice of pivots changes the speed and never the result.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cache, reduce
from operator import and_
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.search.rows import Bools, Floats, Ints, Numbers, Rows, Slice
from dse.search.top import TopArchive

__all__ = ["FrontArchive", "TopArchive", "non_dominated"]

SMALL = 512
"""Rows up to which comparing all pairs costs less than importing the sweep algorithm (0.1 s)."""

PIVOTS = 8
"""Pivots per group: more drop few points more (measured on grids and on random points)."""

MESH_PIVOTS = 5
"""Pivots tried on the open mesh, before the survivors are gathered into flat rows."""

CANDIDATES = 256
"""Points of a front among which its pivots are chosen."""

ELSEWHERE = -1
"""Number of points that another archive sees."""

PENDING = 1 << 17
"""Survivors collected before they are reduced: a cache-sized table."""


def non_dominated(costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows of `costs` that no other row dominates; duplicates are all kept, rows with NaN never.

    The mathematics is Kung, Luccio & Preparata, "On finding the maxima of a set of vectors" (JACM 1975),
    in moocore's implementation for large tables; all pairs for small ones. Both are exact.

    Args:
        costs: shape (n, k), minimised; infinities are ordinary values.

    Returns:
        Shape (n,), True on the front.

    Raises:
        ValueError: `costs` is not a table with at least one column.
    """
    costs = np.asarray(costs, dtype=np.float64)
    if costs.ndim != 2 or costs.shape[1] == 0:
        raise ValueError(f"costs must have shape (n, k) with k >= 1, got {costs.shape}")
    missing: Bools = np.logical_or.reduce(np.isnan(costs), axis=1)
    front = ~missing
    if missing.any():
        front[front] = non_dominated(costs[front])
    elif costs.shape[1] == 1:
        front = costs[:, 0] == costs.min(initial=np.inf)
    # Once the import is paid for, its sweep wins from a few dozen rows on.
    elif len(costs) <= (SMALL // 8 if "moocore" in sys.modules else SMALL):
        front = _all_pairs(costs)
    else:
        front = _sweep(costs)
    return front


def _all_pairs(costs: Floats) -> Bools:
    """The front of a small NaN-free table, in O(k n^2) array operations."""
    weakly: Bools = reduce(and_, (column[:, None] <= column for column in costs.T))
    dominated: Bools = np.logical_or.reduce(weakly & ~weakly.T, axis=0)
    return ~dominated


def _sweep(costs: Floats) -> Bools:
    """The front of a large NaN-free table by moocore."""
    import moocore

    if not np.isfinite(costs).all():
        # moocore uses infinities as sentinels: given them as values it errs, or crashes (0.3.2). Dominance
        # depends on the order within each column alone, so ranks say the same.
        ranks = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in costs.T]
        costs = np.column_stack(ranks).astype(np.float64)
    front: Bools = moocore.is_nondominated(costs, keep_weakly=True)
    return front


class FrontArchive:
    """The exact front of every comparison group over all points seen so far.

    The result depends on the set of points alone: not on how they were sliced, nor on the order of updates
    and merges. Points are identified by (group, number); one seen twice counts once.
    """

    def __init__(self, known: Mapping[int, NDArray[np.float64]] | None = None) -> None:
        """Start with nothing seen.

        Args:
            known: group -> costs (m, k) of feasible points that are, or will be, seen by an archive this one is
                merged into. They dominate from the start and are never reported from here.
        """
        self._fronts: dict[int, Rows] = {}
        self._pending: list[Rows] = []
        self._pivots: Floats = np.empty((PIVOTS, 0, 0))
        self._seen: Bools = np.zeros(0, dtype=bool)
        for group, costs in (known or {}).items():
            self._check(costs.shape[1])
            size = len(costs)
            self._pending.append(Rows(np.full(size, group), np.full(size, ELSEWHERE), np.asarray(costs, dtype=float)))
        self._reduce()
        self._seen[list(self._fronts)] = True

    def update(
        self,
        costs: Sequence[NDArray[np.float64]],
        group: NDArray[np.integer[Any]],
        feasible: NDArray[np.bool_],
        number: Numbers,
    ) -> None:
        """Take in a slice of points of shape S.

        Args:
            costs: k arrays, minimised, each broadcastable to S.
            group: comparison group of each point, small non-negative integers, broadcastable to S.
            feasible: which points count, broadcastable to S.
            number: point numbers: an int64 array broadcastable to S, a `range` over the flat (C order)
                points of S, or a function from flat indices to numbers.

        Raises:
            ValueError: shapes do not broadcast, or the number of objectives changes between updates.
        """
        points = Slice(costs, group, feasible, number)
        self._check(len(points.costs))
        if points.is_empty:
            return
        if points.size > SMALL and self._is_new(points.groups):
            self._add(points.sample(points.feasible))
            self._reduce()
        self._add(self._survivors(points))

    def merge(self, other: FrontArchive) -> None:
        """Take in everything `other` has seen."""
        for rows in (*other._fronts.values(), *other._pending):
            self._check(rows.costs.shape[1])
            self._add(_own(rows))

    def fronts(self) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Point numbers, ascending, shape (m,), and costs, shape (m, k), of each group's front."""
        self._reduce()
        parts = {group: _own(rows).in_order() for group, rows in sorted(self._fronts.items())}
        return {group: (part.number, part.costs) for group, part in parts.items() if len(part)}

    def __getstate__(self) -> dict[str, object]:
        self._reduce()  # so that a worker sends its fronts, not what it has yet to sort
        return self.__dict__ | {"_fronts": {group: _own(rows) for group, rows in self._fronts.items()}}

    def _check(self, objectives: int) -> None:
        known = self._pivots.shape[1]
        if known not in (0, objectives):
            raise ValueError(f"this archive holds fronts of {known} objectives, got {objectives}")
        if known == 0:
            self._pivots = np.empty((PIVOTS, objectives, 0))

    def _is_new(self, groups: Ints) -> bool:
        """Whether any of these groups is met for the first time; from now on none is."""
        self._make_room(int(groups[-1]) + 1)
        new = not self._seen[groups].all()
        self._seen[groups] = True
        return new

    def _survivors(self, points: Slice) -> Rows:
        """The feasible points of a slice that no pivot of their group dominates."""
        if points.size <= SMALL:
            return points.where(points.feasible)
        alive = points.feasible
        columns = sorted(range(len(points.costs)), key=lambda column: points.costs[column].size)
        for pivot in self._pivots[:MESH_PIVOTS]:
            known = [(pivot[column].take(points.group), points.costs[column]) for column in columns]
            alive = alive & ~_dominated(known)
        rows = points.where(alive)
        for pivot in self._pivots[MESH_PIVOTS:]:
            if len(rows) < SMALL:
                break
            known = [(pivot[column].take(rows.group), rows.costs[:, column]) for column in columns]
            rows = rows.take(np.flatnonzero(~_dominated(known)))
        return rows

    def _add(self, rows: Rows) -> None:
        if len(rows):
            self._pending.append(rows)
        if sum(map(len, self._pending)) > PENDING:
            self._reduce()

    def _reduce(self) -> None:
        """Replace what is pending by the exact fronts, and choose new pivots for the groups it touched."""
        if not self._pending:
            return
        pending = Rows.concatenate(self._pending)
        self._pending = []
        self._make_room(int(pending.group.max()) + 1)
        for group, fresh in pending.take(np.argsort(pending.group, kind="stable")).by_group():
            rows = Rows.concatenate([self._fronts[group], fresh]) if group in self._fronts else fresh
            front = rows.take(np.flatnonzero(non_dominated(rows.costs)))
            self._fronts[group] = front
            self._pivots[:, :, group] = _spread(front.costs)

    def _make_room(self, groups: int) -> None:
        """Grow the pivot table, by doubling; NaN means no pivot, for every comparison with it is false."""
        missing = groups - self._pivots.shape[2]
        if missing > 0:
            room = np.full((*self._pivots.shape[:2], max(missing, self._pivots.shape[2])), np.nan)
            self._pivots = np.concatenate([self._pivots, room], axis=2)
            self._seen = np.concatenate([self._seen, np.zeros(room.shape[2], dtype=bool)])


def _own(rows: Rows) -> Rows:
    """The rows that were seen here."""
    return rows if rows.number.min(initial=0) >= 0 else rows.take(np.flatnonzero(rows.number >= 0))


def _dominated(known: Sequence[tuple[Floats, Floats]]) -> Bools:
    """Which points a pivot dominates: it is <= in all objectives, and they are not equal in all.

    Args:
        known: per objective the pivot's cost and the points' costs, cheapest shapes first, so that the
            conjunction grows to the full shape as late as possible.
    """
    dominated: Bools = reduce(and_, (pivot <= costs for pivot, costs in known))
    ties: Bools = np.True_  # type: ignore[assignment]
    for pivot, costs in known:
        ties = ties & (pivot == costs)
        if not ties.any():
            return dominated
    return dominated & ~ties


def _spread(front: Floats) -> Floats:
    """Up to PIVOTS well spread points of a front, shape (PIVOTS, k), padded with NaN.

    Each minimises the largest weighted rank (Chebyshev), so that scales and magnitudes do not matter.
    """
    pivots = np.full((PIVOTS, front.shape[1]), np.nan)
    if len(front) > PIVOTS:
        candidates = front[:: -(-len(front) // CANDIDATES)]
        ranks = candidates.argsort(axis=0).argsort(axis=0) + 1.0
        worst = (ranks[:, None, :] * _weights(front.shape[1])).max(axis=2)
        front = candidates[list(dict.fromkeys(worst.argmin(axis=0).tolist()))]
    pivots[: len(front)] = front
    return pivots


@cache
def _weights(objectives: int) -> Floats:
    """Weights of PIVOTS compromises: all objectives alike, then each one more, then each one less."""
    even, lean = np.ones((1, objectives)), np.eye(objectives)
    return np.concatenate([even, even + 3 * lean, even - 0.75 * lean, even + 15 * lean])[:PIVOTS]
