"""Condensed simplex tableaus of many programs side by side, pivoted in lockstep.

One program, min cost.x with matrix x + slack = bound, becomes a table that says how what is *basic* (may be positive)
depends on what is *nonbasic* (is zero); at the start the slacks are basic and the variables are not:

                    nonbasic columns | bound            basic_i   = bound_i - sum_j entry_ij nonbasic_j
        basic rows       entry_ij    | bound_i          objective = sum_j cost_j nonbasic_j - corner
        cost             cost_j      | corner
        prefer           prefer_j    | corner           the tie-break, carried along as a second cost

A pivot swaps one basic with one nonbasic. A bound below zero is a broken promise and a cost below zero an improvement
not yet made. The *dual* rule starts with every cost >= 0 and mends bounds; when none is negative the table is optimal.
The *primal* rule then walks among optima (columns of cost zero) to the one of least `prefer`.

Programs lie along the last axis: a pivot of all is a handful of NumPy calls on long contiguous rows, each program
with its own pivot row and column. One that is done stays, pivoting on nothing, until those at work are few enough to
be worth copying out. A program's arithmetic is elementwise, so its neighbours never change a bit of its result.

Rules: largest infeasibility and ratio test with ties to the largest pivot (Koberstein 2005, sections 3.1 and 6.2);
Bland's smallest label (1977) when that takes long, because it cannot cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.intp]
Mask = NDArray[np.bool_]
Choice = tuple[Mask, Labels, Labels]
"""Which programs go on, and the row and column each pivots on."""

BELOW = -1e-11
"""A bound, cost or preference below this is negative. Tables are scaled to 1: 1e5 roundings of it, 1e4 below HiGHS."""
PIVOT = 1e-9
"""Smaller entries are taken for round-off of zero: pivoting on one would multiply errors by 1e9."""
TIED = 1e-13
"""Ratios this close are equal."""
CAREFUL = 50
"""Pivots after which Bland's rule takes over; placement problems need 5 to 15."""
SPARSE = 0.4
"""Share of programs still at work below which they are copied out: about one pivot's time."""
BLOCK = 4
"""Rows updated at once: enough that NumPy's cost per call fades, little enough to stay in the L2 cache."""


@dataclass
class Tableau:
    """Tables of `width` programs."""

    entries: Floats
    """(rows + 2, columns + 1, width): see above; scaled so that entries are about 1."""
    basic: Labels
    """(rows, width) which quantity a row is: x_j is j, slack_i is columns + i."""
    nonbasic: Labels
    """(columns, width)."""

    def __post_init__(self) -> None:
        height, breadth, width = self.entries.shape
        self.rows, self.columns = height - 2, breadth - 1
        self.lanes = np.arange(width)
        self._along_row = np.arange(breadth)[:, None] * width + self.lanes
        self._along_column = np.arange(height)[:, None] * (breadth * width) + self.lanes
        self._product = np.empty((BLOCK, breadth, width))

    @property
    def bound(self) -> Floats:
        """(rows, width)."""
        return self.entries[: self.rows, -1]

    @property
    def cost(self) -> Floats:
        """(columns, width)."""
        return self.entries[-2, :-1]

    @property
    def prefer(self) -> Floats:
        """(columns, width)."""
        return self.entries[-1, :-1]

    def row(self, which: Labels) -> Floats:
        """(columns + 1, width): a row of each program."""
        return self.entries.reshape(-1).take(self._row_at(which), mode="clip")

    def column(self, which: Labels) -> Floats:
        """(rows + 2, width): a column of each program."""
        return self.entries.reshape(-1).take(self._column_at(which), mode="clip")

    def pivot(self, active: Mask, row: Labels, column: Labels) -> None:
        """Swap the basic of a row with the nonbasic of a column in every active program.

        The others are read and written back as they are: cheaper than telling them apart.
        """
        flat, lanes = self.entries.reshape(-1), self.lanes
        at_row, at_column = self._row_at(row), self._column_at(column)
        old_row, old_column = flat.take(at_row, mode="clip"), flat.take(at_column, mode="clip")
        corner = old_column[row, lanes]
        pivot = np.where(active, corner, 1.0)
        old_row /= pivot
        self._subtract_outer(old_column * active, old_row)
        flat[at_row] = old_row
        old_column /= np.where(active, -pivot, 1.0)
        old_column[row, lanes] = np.where(active, 1.0 / pivot, corner)
        flat[at_column] = old_column
        leaves, enters = self.basic[row, lanes], self.nonbasic[column, lanes]
        self.basic[row, lanes] = np.where(active, enters, leaves)
        self.nonbasic[column, lanes] = np.where(active, leaves, enters)

    def take(self, lanes: Labels) -> Tableau:
        """A copy of some programs."""
        return Tableau(*(array.take(lanes, axis=-1) for array in (self.entries, self.basic, self.nonbasic)))

    def put(self, lanes: Labels, part: Tableau) -> None:
        """Write some programs back."""
        self.entries[..., lanes] = part.entries
        self.basic[..., lanes] = part.basic
        self.nonbasic[..., lanes] = part.nonbasic

    def _subtract_outer(self, column: Floats, row: Floats) -> None:
        for first in range(0, self.rows + 2, BLOCK):
            rows = self.entries[first : first + BLOCK]
            product = self._product[: len(rows)]
            np.multiply(column[first : first + BLOCK, None], row, out=product)
            rows -= product

    def _row_at(self, which: Labels) -> Labels:
        return self._along_row + which * (self.columns + 1) * len(self.lanes)

    def _column_at(self, which: Labels) -> Labels:
        return self._along_column + which * len(self.lanes)


def run(tableau: Tableau, rule: Callable[[Tableau, bool], Choice], limit: int, done: int = 0) -> tuple[Mask, int]:
    """Pivot all programs by a rule until each has nothing left to do.

    Args:
        tableau: changed in place.
        rule: says where to pivot; its second argument asks for Bland's rule.
        limit: most pivots of a program.
        done: pivots it had so far.

    Returns:
        Which programs reached the limit, and the pivots of all programs together.
    """
    pivots = 0
    while True:
        active, row, column = rule(tableau, done >= CAREFUL)
        working = int(np.count_nonzero(active))
        if working == 0 or done >= limit:
            return active, pivots
        if working < SPARSE * active.size:
            lanes = np.flatnonzero(active)
            part = tableau.take(lanes)
            active[lanes], more = run(part, rule, limit, done)
            tableau.put(lanes, part)
            return active, pivots + more
        tableau.pivot(active, row, column)
        pivots += working
        done += 1


def dual(tableau: Tableau, careful: bool) -> Choice:
    """Mend the most negative bound with the column that keeps every cost >= 0.

    A program stops when no bound is negative (optimal), or a negative one has no negative entry: then its basic is
    negative whatever the nonbasics are, and nothing is feasible.
    """
    row = _least(tableau.bound, tableau.basic) if careful else tableau.bound.argmin(axis=0)
    *entries, bound = tableau.row(row)
    entry = np.asarray(entries)
    ratio = np.where(entry < -PIVOT, tableau.cost / entry, -np.inf)
    best = ratio.max(axis=0)
    tied = ratio >= best - TIED
    column = np.where(tied, tableau.nonbasic if careful else entry, tableau.rows + tableau.columns).argmin(axis=0)
    return (bound < BELOW) & (best > -np.inf), row, column


def primal(tableau: Tableau, careful: bool) -> Choice:
    """Improve `prefer` along the columns of cost zero, as far as the first bound that reaches zero.

    Such a pivot leaves every cost as it is. A program stops when nothing improves, or nothing limits the improvement.
    """
    gain = np.where(tableau.cost == 0.0, tableau.prefer, 0.0)
    column = _least(gain, tableau.nonbasic) if careful else gain.argmin(axis=0)
    entry = tableau.column(column)[:-2]
    ratio = np.where(entry > PIVOT, np.maximum(tableau.bound, 0.0) / entry, np.inf)
    best = ratio.min(axis=0)
    tied = ratio <= best + TIED
    row = np.where(tied, tableau.basic if careful else -entry, tableau.rows + tableau.columns).argmin(axis=0)
    return (gain[column, tableau.lanes] < BELOW) & (best < np.inf), row, column


def _least(value: Floats, label: Labels) -> Labels:
    """Where the smallest label of a negative value stands (Bland)."""
    return np.where(value < BELOW, label, np.iinfo(np.intp).max).argmin(axis=0)
