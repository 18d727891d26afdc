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
with its own pivot row and column. One that is done stays, pivoting on nothing, until those at work are few: then they
move to the front, and only the front is worked on. All arithmetic is elementwise, so that neighbours never change a
bit of a program's result.

Rules: largest infeasibility and ratio test with ties to the largest pivot (Koberstein 2005, sections 3.1 and 6.2);
Bland's smallest label (1977) when that takes long, because it cannot cycle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Mask = NDArray[np.bool_]
Choice = tuple[Mask, Places, Places]
"""Which programs go on, and the row and column each pivots on."""

BELOW = -1e-11
"""A bound, cost or preference below this is negative. Tables are scaled to 1: 1e5 roundings of it, 1e4 below HiGHS."""
PIVOT = 2e-8
"""Smaller entries are taken for round-off of zero: tables grow to some 1e6, and a pivot on what is left of a true zero
ruins one. Of 157,000 placement programs 50 then go to HiGHS; with 1e-9 it was 266, with 1e-7 140."""
LAST = 2**31
"""More than any label or scaled entry."""
TIED = 1e-13
"""Ratios this close are equal."""
CAREFUL = 50
"""Pivots after which Bland's rule takes over; placement problems need 5 to 15."""
SPARSE = 0.75
"""Share of the front still at work below which it is narrowed, for about half a pivot's time."""
FEW = 100
"""Programs at the front that cost no more than one: the time is that of the calls."""
BLOCK = 1 << 16
"""Entries updated at once: enough that NumPy's cost per call fades, few enough (512 KiB) to stay in the cache."""


class Tableau:
    """Tables of many programs, the first `width` of which are worked on.

    Attributes:
        entries: (rows + 2, columns + 1, programs), see above; scaled so that entries are about 1.
        basic: (rows, programs) which quantity a row is: x_j is j, slack_i is columns + i.
        nonbasic: (columns, programs) likewise.
        order: (programs,) which program stands where.
        rows, columns: of the programs' matrix.
        width: programs at the front.
        front: (width,) their places.
    """

    def __init__(self, rows: int, columns: int, programs: int) -> None:
        """Room for tables, to be filled and used again: fresh memory costs more than the arithmetic in it."""
        self.rows, self.columns = rows, columns
        self.entries = np.empty((rows + 2, columns + 1, programs))
        self._flat = self.entries.reshape(-1)
        self._down = (columns + 1) * programs  # from one row to the next
        self.basic = np.empty((rows, programs), dtype=np.intp)
        self.nonbasic = np.empty((columns, programs), dtype=np.intp)
        self.order = np.empty(programs, dtype=np.intp)
        self._product = np.empty(max(BLOCK, (columns + 1) * programs))
        self.reset()

    def reset(self) -> None:
        """Every slack is basic, every program at the front in the order given."""
        self.nonbasic[...] = np.arange(self.columns)[:, None]
        self.basic[...] = np.arange(self.columns, self.columns + self.rows)[:, None]
        self.order[...] = np.arange(len(self.order))
        self.work_on(len(self.order))

    def work_on(self, width: int) -> None:
        """Set how many programs are at the front."""
        self.width = width
        self.front = np.arange(width)
        self._row_places = np.arange(self.columns + 1)[:, None] * len(self.order) + self.front

    @property
    def size(self) -> tuple[int, int, int]:
        """Rows, columns and programs there is room for."""
        return self.rows, self.columns, len(self.order)

    @property
    def bound(self) -> Floats:
        """(rows, width)."""
        return self.entries[:-2, -1, : self.width]

    @property
    def cost(self) -> Floats:
        """(columns, width)."""
        return self.entries[-2, :-1, : self.width]

    @property
    def prefer(self) -> Floats:
        """(columns, width)."""
        return self.entries[-1, :-1, : self.width]

    def row(self, which: Places) -> Floats:
        """(columns + 1, width): a row of each program."""
        return self._flat.take(self._row_places + which * self._down, mode="clip")

    def column(self, which: Places) -> Floats:
        """(rows + 2, width): a column of each program."""
        found: Floats = self.entries[:, which, self.front]
        return found

    def pivot(self, active: Mask, row: Places, column: Places) -> None:
        """Swap the basic of a row with the nonbasic of a column in every active program at the front.

        With p where they cross, entries become entry - column row / p, but the row becomes row / p, the column
        -column / p and p itself 1 / p. Programs that are done get back what they had.
        """
        lanes = self.front
        along, down = self.row(row), self.column(column)
        crossing = down[row, lanes]
        pivot = np.where(active, crossing, 1.0)
        along /= pivot
        self._subtract_outer(down * active, along)
        self._flat[self._row_places + row * self._down] = along
        down /= np.where(active, -pivot, 1.0)
        down[row, lanes] = np.where(active, 1.0 / pivot, crossing)
        self.entries[:, column, lanes] = down
        leaves, enters = self.basic[row, lanes], self.nonbasic[column, lanes]
        self.basic[row, lanes] = np.where(active, enters, leaves)
        self.nonbasic[column, lanes] = np.where(active, leaves, enters)

    def narrow(self, active: Mask) -> None:
        """Move the active programs of the front before the others, and work on those."""
        places = np.concatenate([np.flatnonzero(active), np.flatnonzero(~active)])
        for array in (*self.entries, self.basic, self.nonbasic, self.order):
            front = array[..., : self.width]
            front[...] = front.take(places, axis=-1)
        self.work_on(int(np.count_nonzero(active)))

    def _subtract_outer(self, column: Floats, row: Floats) -> None:
        step = max(1, BLOCK // row.size)
        product = self._product[: step * row.size].reshape(step, *row.shape)
        for first in range(0, self.rows + 2, step):
            rows = self.entries[first : first + step, :, : self.width]
            rows -= np.multiply(column[first : first + step, None], row, out=product[: len(rows)])


def run(tableau: Tableau, rule: Callable[[Tableau, bool], Choice], limit: int) -> tuple[Mask, int]:
    """Pivot by a rule until no program has anything left to do.

    Args:
        tableau: changed in place, its order too.
        rule: says where to pivot; its second argument asks for Bland's rule.
        limit: most pivots of a program.

    Returns:
        (programs,) which reached the limit, and the pivots of all programs together.
    """
    pivots = done = 0
    tableau.work_on(len(tableau.order))
    while True:
        active, row, column = rule(tableau, done >= CAREFUL)
        working = int(np.count_nonzero(active))
        if working == 0 or done == limit:
            break
        if working < SPARSE * tableau.width and tableau.width > FEW:
            row, column = row[active], column[active]
            tableau.narrow(active)
            active = np.ones(working, dtype=bool)
        tableau.pivot(active, row, column)
        pivots += working
        done += 1
    tableau.work_on(len(tableau.order))
    return np.pad(active, (0, tableau.width - active.size)), pivots


def dual(tableau: Tableau, careful: bool) -> Choice:
    """Mend the most negative bound with the column that keeps every cost >= 0.

    A program stops when no bound is negative (optimal), or a negative one has no negative entry: then its basic is
    negative whatever the nonbasics are, and nothing is feasible.
    """
    row = _least(tableau.bound, tableau.basic[:, : tableau.width]) if careful else tableau.bound.argmin(axis=0)
    found = tableau.row(row)
    entry, bound = found[:-1], found[-1]
    ratio = np.where(entry < -PIVOT, tableau.cost / entry, -np.inf)
    best = ratio.max(axis=0)
    tied = ratio >= best - TIED
    column = _first(tied, tableau.nonbasic[:, : tableau.width] if careful else entry)
    return (bound < BELOW) & (best > -np.inf), row, column


def primal(tableau: Tableau, careful: bool) -> Choice:
    """Improve `prefer` along the columns of cost zero, as far as the first bound that reaches zero.

    Such a pivot leaves every cost as it is. A program stops when nothing improves, or nothing limits the improvement.
    """
    gain = np.where(tableau.cost == 0.0, tableau.prefer, 0.0)
    column = _least(gain, tableau.nonbasic[:, : tableau.width]) if careful else gain.argmin(axis=0)
    entry = tableau.column(column)[:-2]
    ratio = np.where(entry > PIVOT, np.maximum(tableau.bound, 0.0) / entry, np.inf)
    best = ratio.min(axis=0)
    tied = ratio <= best + TIED
    row = _first(tied, tableau.basic[:, : tableau.width] if careful else -entry)
    return (gain[column, tableau.front] < BELOW) & (best < np.inf), row, column


def _first(among: Mask, by: NDArray[Any]) -> Places:
    """Where the least of `by` stands among some."""
    return cast(Places, np.where(among, by, LAST).argmin(axis=0))


def _least(value: Floats, label: Places) -> Places:
    """Where the smallest label of a negative value stands (Bland)."""
    return _first(value < BELOW, label)
