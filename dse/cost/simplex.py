"""Thousands of small linear programs at once: min cost.x subject to matrix x <= bound, x >= 0.

Costs are not negative, so the table in which every slack is basic is optimal but for its negative bounds, and the
dual simplex method starts there without a first phase (`tableau.py` has the tables and their pivots). What follows
makes the answer one that can be relied on:

    scale      rows, columns, bounds and costs to about 1, by powers of two: nothing is rounded
    dual       to an optimum of `cost`, or to a row that proves that nothing is feasible
    primal     along the optima of `cost` to the least `prefer`: the same x however programs are batched or ordered
    certify    x and its multipliers against the numbers given, by weak duality; a proof of infeasibility likewise
    HiGHS      solves what did not finish or is not certified, one by one, and is counted (`highs.py`)
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from dse.cost.highs import solve_one
from dse.cost.tableau import BELOW, Floats, Labels, Mask, Tableau, dual, primal, run

LIMIT = 200
"""Pivots after which a program goes to HiGHS."""
TOLERANCE = 1e-9
"""Violation of a row, and relative gap to the dual objective, that pass for round-off (rows scaled to 1)."""
INFEASIBLE = 1e-7
"""A proof of infeasibility by less than HiGHS's own tolerance is left to HiGHS."""
DUST = 1e-14
"""Scaled values up to this are zero."""


@dataclass(frozen=True)
class Programs:
    """min cost.x subject to matrix x <= bound, x >= 0, for k instances at once; instances lie along the last axis."""

    matrix: Floats
    """(rows, columns, k), finite."""
    bound: Floats
    """(rows, k), any sign; inf: no limit."""
    cost: Floats
    """(columns, k), >= 0: so the table of slacks is dual feasible and needs no first phase."""
    prefer: Floats
    """(columns,) or (columns, k), any sign: among optima the x of least prefer.x is taken.

    Generic values make it the only one. It must be bounded there: a direction that improves for ever is not taken."""

    def __post_init__(self) -> None:
        if self.prefer.ndim == 1:
            object.__setattr__(self, "prefer", np.broadcast_to(self.prefer[:, None], self.cost.shape))

    def part(self, lanes: slice) -> Programs:
        """Some of them, not copied."""
        return Programs(*(getattr(self, field.name)[..., lanes] for field in fields(self)))


@dataclass(frozen=True)
class Solutions:
    """What `solve` found."""

    x: Floats
    """(columns, k); NaN where infeasible."""
    objective: Floats
    """(k,) cost.x; inf where infeasible."""
    feasible: Mask
    """(k,)"""
    finished: Mask
    """(k,) solved and certified in lockstep; the others HiGHS finished."""
    pivots: int
    """Of all programs together."""


def solve(programs: Programs, chunk: int = 1024, limit: int = LIMIT) -> Solutions:
    """Solve every program; neither `chunk` nor the order of programs changes a bit of any x.

    Args:
        programs: k of them, k may be 0.
        chunk: programs worked on at once. Their tables should fit the L2 cache: (rows + 2)(columns + 1) * 8 bytes each.
        limit: most pivots of a program and phase in lockstep.

    Raises:
        ValueError: a cost is negative, or a number is not finite.
    """
    columns, count = programs.cost.shape
    x = np.full((columns, count), np.nan)
    objective = np.full(count, np.inf)
    feasible, finished = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    pivots = 0
    with np.errstate(all="ignore"):
        for first in range(0, count, chunk):
            lanes = slice(first, min(first + chunk, count))
            part = programs.part(lanes)
            x[:, lanes], feasible[lanes], finished[lanes], more = _solve_chunk(part, limit)
            objective[lanes] = np.where(feasible[lanes], _dot(part.cost, x[:, lanes]), np.inf)
            pivots += more
    return Solutions(x, objective, feasible, finished, pivots)


def _solve_chunk(programs: Programs, limit: int) -> tuple[Floats, Mask, Mask, int]:
    """x, which are feasible, which were certified, pivots."""
    scaling = Scaling.of(programs)
    tableau = scaling.tableau(programs)
    _, dual_pivots = run(tableau, dual, limit)
    worst = tableau.bound.argmin(axis=0)
    feasible = tableau.bound[worst, tableau.lanes] >= BELOW
    multipliers = _multipliers(tableau, feasible, worst)
    tableau.cost[tableau.cost <= -BELOW] = 0.0
    tableau.prefer[:, ~feasible] = 0.0
    unsettled, primal_pivots = run(tableau, primal, limit)
    x = scaling.restore(_values(tableau))
    finished = scaling.certified(programs, x, multipliers, feasible) & ~unsettled
    for lane in np.flatnonzero(~finished):
        feasible[lane], scaled = solve_one(*scaling.program(programs, lane))
        x[:, lane] = scaling.restore(scaled, lane)
    x[:, ~feasible] = np.nan
    return x, feasible, finished, dual_pivots + primal_pivots


@dataclass(frozen=True)
class Scaling:
    """Powers of two between programs as given and as worked on: rows and columns of largest entry 1/2 to 1."""

    row: Floats
    """(rows, k); 0 for a row without limit."""
    column: Floats
    """(columns, k)"""
    size: Floats
    """(k,) makes the most negative bound about 1, and so x."""
    cost: Floats
    """(k,)"""
    prefer: Floats
    """(k,)"""
    bound: Floats
    """(rows, k) the scaled bounds."""

    @classmethod
    def of(cls, programs: Programs) -> Scaling:
        """Rows first, then columns: a seconds column ends up as large as the shares in the row that sets it."""
        entries, bound = programs.matrix, programs.bound
        largest = np.maximum(entries.max(axis=1, initial=0.0), -entries.min(axis=1, initial=0.0))
        if not (np.isfinite(largest).all() and (bound > -np.inf).all()):
            raise ValueError("coefficients must be finite, and bounds finite or inf")
        if not (programs.cost >= 0).all():
            raise ValueError("costs must not be negative: the slack basis is then not dual feasible")
        row = np.where(bound < np.inf, _inverse(largest), 0.0)
        column = np.zeros_like(programs.cost)
        for i in range(len(bound)):
            np.maximum(column, np.abs(entries[i]) * row[i], out=column)
        column = _inverse(column)
        scaled = np.where(bound < np.inf, bound, 0.0) * row
        size = _inverse(-scaled.min(axis=0, initial=0.0))
        cost = _inverse((programs.cost * column).max(axis=0, initial=0.0))
        prefer = _inverse(np.abs(programs.prefer * column).max(axis=0, initial=0.0))
        return cls(row, column, size, cost, prefer, scaled * size)

    def tableau(self, programs: Programs) -> Tableau:
        """All slacks basic."""
        rows, columns, width = programs.matrix.shape
        entries = np.empty((rows + 2, columns + 1, width))
        np.multiply(programs.matrix, self.row[:, None], out=entries[:-2, :-1])
        entries[:-2, :-1] *= self.column
        entries[:-2, -1] = self.bound
        entries[-2, :-1] = programs.cost * self.column * self.cost
        entries[-1, :-1] = programs.prefer * self.column * self.prefer
        entries[-2:, -1] = 0.0
        labels = np.repeat(np.arange(columns + rows)[:, None], width, axis=1)
        return Tableau(entries, labels[columns:].copy(), labels[:columns].copy())

    def restore(self, x: Floats, lanes: int | slice = slice(None)) -> Floats:
        """x of some programs as asked for, round-off around zero removed."""
        return np.where(x <= DUST, 0.0, x) * self.column[:, lanes] / self.size[lanes]

    def program(self, programs: Programs, lane: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Matrix, bound, cost and preference of one program, scaled."""
        row, column = self.row[:, lane], self.column[:, lane]
        return (
            programs.matrix[..., lane] * row[:, None] * column,
            self.bound[:, lane],
            programs.cost[:, lane] * column * self.cost[lane],
            programs.prefer[:, lane] * column * self.prefer[lane],
        )

    def certified(self, programs: Programs, x: Floats, multipliers: Floats, feasible: Mask) -> Mask:
        """Which answers are proved, from the programs as given.

        For multipliers y >= 0 with matrix^T y + cost >= 0, every feasible x has cost.x >= -bound.y: an x that reaches
        it is optimal. The same with cost 0 and bound.y < 0: no x is feasible (Farkas).
        """
        weights = multipliers * self.row
        slack, reduced = -programs.bound, programs.cost * self.cost * feasible
        slack = np.where(np.isinf(slack), 0.0, slack)
        for j in range(len(x)):
            slack += programs.matrix[:, j] * x[j]
        for i in range(len(weights)):
            reduced += programs.matrix[i] * weights[i]
        violation = (slack * self.row * self.size).max(axis=0, initial=0.0)
        dual_ok = (reduced * self.column).min(axis=0, initial=0.0) >= -TOLERANCE
        terms = self.bound * multipliers
        reached = -_dot(self.bound, multipliers)
        objective = _dot(programs.cost, x) * self.cost * self.size
        close = np.abs(objective - reached) <= TOLERANCE * objective + DUST * np.abs(terms).sum(axis=0)
        return dual_ok & np.where(feasible, (violation <= TOLERANCE) & close, reached > INFEASIBLE)


def _inverse(largest: Floats) -> Floats:
    """The power of two that brings values to between 1/2 and 1; 1 for zero."""
    return np.ldexp(1.0, -np.frexp(largest)[1])


def _values(tableau: Tableau) -> Floats:
    """(columns, k): the variables; those that are not basic are zero."""
    everything = np.zeros((tableau.columns + tableau.rows, len(tableau.lanes)))
    everything[tableau.basic, tableau.lanes] = tableau.bound
    return everything[: tableau.columns]


def _multipliers(tableau: Tableau, feasible: Mask, worst: Labels) -> Floats:
    """(rows, k) of the rows: their costs in an optimal table, their entries in the row that proves infeasibility."""
    everything = np.zeros((tableau.columns + tableau.rows, len(tableau.lanes)))
    everything[tableau.basic[worst, tableau.lanes], tableau.lanes] = ~feasible
    proof = tableau.row(np.where(feasible, tableau.rows, worst))[:-1]
    everything[tableau.nonbasic, tableau.lanes] = np.maximum(proof, 0.0)
    return everything[tableau.columns :]


def _dot(a: Floats, b: Floats) -> Floats:
    """sum_j a_j b_j in the order of j: `sum` would pair terms differently for a single program."""
    total = np.zeros(a.shape[-1])
    for j in range(len(a)):
        total += a[j] * b[j]
    return total
