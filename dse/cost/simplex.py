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
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dse.cost.highs import solve_one
from dse.cost.tableau import BELOW, Floats, Mask, Places, Tableau, dual, primal, run

T = TypeVar("T", bound=np.generic)

LIMIT = 200
"""Pivots after which a program goes to HiGHS."""
TOLERANCE = 1e-9
"""Relative violation of a row, and gap to the dual objective, that pass for round-off."""
NEGATIVE = -1e-12
"""A reduced cost below this, in terms of the largest multiplier, is no round-off of zero."""
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


def solve(programs: Programs, chunk: int = 2000, limit: int = LIMIT, room: Tableau | None = None) -> Solutions:
    """Solve every program; neither `chunk` nor the order of programs changes a bit of any x.

    Args:
        programs: k of them, k may be 0, with at least one row.
        chunk: programs worked on at once; at 1,000 to 4,000 the cost of NumPy's calls has faded.
        limit: most pivots of a program and phase in lockstep.
        room: tables to work in, `Tableau(rows, columns, chunk)`, for a caller that solves chunk by chunk: fresh memory
            is slow to touch.

    Raises:
        ValueError: a cost is negative, or a number is not finite.
    """
    columns, count = programs.cost.shape
    x = np.full((columns, count), np.nan)
    objective = np.full(count, np.inf)
    feasible, finished = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    pivots = 0
    rows = len(programs.bound)
    with np.errstate(all="ignore"):
        for first in range(0, count, chunk):
            lanes = slice(first, min(first + chunk, count))
            part = programs.part(lanes)
            size = (rows, columns, lanes.stop - first)
            room = room if room is not None and room.size == size else Tableau(*size)
            x[:, lanes], feasible[lanes], finished[lanes], more = _solve_chunk(part, room, limit)
            objective[lanes] = np.where(feasible[lanes], _dot(part.cost, x[:, lanes]), np.inf)
            pivots += more
    return Solutions(x, objective, feasible, finished, pivots)


def _solve_chunk(programs: Programs, tableau: Tableau, limit: int) -> tuple[Floats, Mask, Mask, int]:
    """x, which are feasible, which were certified, pivots."""
    tableau.reset()
    scaling = Scaling.fill(tableau, programs)
    _, dual_pivots = run(tableau, dual, limit)
    worst = tableau.bound.argmin(axis=0)
    possible = tableau.bound[worst, tableau.front] >= BELOW
    feasible, multipliers = _in_order(tableau, possible), _in_order(tableau, _multipliers(tableau, possible, worst))
    tableau.cost[tableau.cost <= -BELOW] = 0.0
    tableau.prefer[:, ~possible] = 0.0
    unsettled, primal_pivots = run(tableau, primal, limit)
    x = scaling.restore(_in_order(tableau, _values(tableau)))
    finished = scaling.certified(programs, x, multipliers, feasible) & ~_in_order(tableau, unsettled)
    for lane in np.flatnonzero(~finished).tolist():
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

    @classmethod
    def fill(cls, tableau: Tableau, programs: Programs) -> Scaling:
        """Write the scaled programs into a tableau, and say how they were scaled.

        Rows first, then columns: a column of seconds ends up as large as the shares in the row that sets it.
        """
        limited = programs.bound < np.inf
        largest = _largest(programs.matrix, axis=1)
        if not (np.isfinite(largest).all() and (programs.bound > -np.inf).all()):
            raise ValueError("coefficients must be finite, and bounds finite or inf")
        if not (programs.cost >= 0).all():
            raise ValueError("costs must not be negative: the slack basis is then not dual feasible")
        own = np.where(largest > 0.0, largest, np.abs(programs.bound))  # a row of zeros has only its bound
        row = np.where(limited, _inverse(own), 0.0)
        matrix = np.multiply(programs.matrix, row[:, None], out=tableau.entries[:-2, :-1])
        column = _inverse(_largest(matrix, axis=0))
        matrix *= column
        bound = np.where(limited, programs.bound, 0.0) * row
        size = _inverse(-bound.min(axis=0, initial=0.0))
        tableau.bound[...] = bound * size
        cost, prefer = programs.cost * column, programs.prefer * column
        scaling = cls(row, column, size, _inverse(_largest(cost, axis=0)), _inverse(_largest(prefer, axis=0)))
        tableau.cost[...] = cost * scaling.cost
        tableau.prefer[...] = prefer * scaling.prefer
        tableau.entries[-2:, -1] = 0.0
        return scaling

    def restore(self, x: Floats, lanes: int | slice = slice(None)) -> Floats:
        """X of some programs as asked for, round-off around zero removed."""
        return np.where(x <= DUST, 0.0, x) * self.column[:, lanes] / self.size[lanes]

    def bound(self, programs: Programs) -> Floats:
        """(rows, k) the scaled bounds; 0 for a row without limit, which is all zero."""
        return np.where(self.row > 0.0, programs.bound, 0.0) * (self.row * self.size)

    def program(self, programs: Programs, lane: int) -> tuple[Floats, Floats, Floats, Floats]:
        """Matrix, bound, cost and preference of one program, scaled."""
        row, column = self.row[:, lane], self.column[:, lane]
        return (
            programs.matrix[..., lane] * row[:, None] * column,
            self.bound(programs)[:, lane],
            programs.cost[:, lane] * column * self.cost[lane],
            programs.prefer[:, lane] * column * self.prefer[lane],
        )

    def certified(self, programs: Programs, x: Floats, multipliers: Floats, feasible: Mask) -> Mask:
        """Which answers are proved, from the programs as given.

        For multipliers y >= 0 with matrix^T y + cost >= 0, every feasible x has cost.x >= -bound.y: an x that reaches
        it is optimal. The same with cost 0 and bound.y < 0: no x is feasible (Farkas).
        """
        bound = self.bound(programs)
        used = _accumulate(np.zeros_like(bound), programs.matrix.swapaxes(0, 1), x) * (self.row * self.size)
        kept = (used - bound <= TOLERANCE * (1.0 + np.abs(bound))).all(axis=0)
        reduced = _accumulate(programs.cost * (self.cost * feasible), programs.matrix, multipliers * self.row)
        least = NEGATIVE * (1.0 + multipliers.max(axis=0))
        dual_feasible = (reduced * self.column >= least).all(axis=0)
        objective = _dot(programs.cost, x) * (self.cost * self.size)
        reached = -_dot(bound, multipliers)
        rounding = DUST * _dot(np.abs(bound), multipliers)
        optimal = kept & (np.abs(objective - reached) <= TOLERANCE * objective + rounding)
        proved: Mask = dual_feasible & np.where(feasible, optimal, reached > INFEASIBLE)
        return proved


def _largest(values: Floats, axis: int) -> Floats:
    """Largest absolute value along an axis."""
    largest: Floats = np.maximum(values.max(axis=axis, initial=0.0), -values.min(axis=axis, initial=0.0))
    return largest


def _accumulate(total: Floats, terms: Floats, weights: Floats) -> Floats:
    """Total + sum_i terms_i weight_i, (.., k), in the order of i: `sum` would pair them otherwise for one program."""
    product = np.empty_like(total)
    for term, weight in zip(terms, weights, strict=True):
        total += np.multiply(term, weight, out=product)
    return total


def _inverse(largest: Floats) -> Floats:
    """The power of two that brings values >= 0 to between 1/2 and 1; 1 for zero.

    By the exponent's bits, ten times faster than `frexp`: 2**e is stored as (e + 1023) << 52.
    """
    exponent = largest.view(np.int64) >> 52
    power: Floats = ((2045 - exponent) << 52).view(np.float64)
    return np.where(largest > 0.0, power, 1.0)


def _in_order(tableau: Tableau, values: NDArray[T]) -> NDArray[T]:
    """Values of the table's programs in the order in which these were given."""
    ordered = np.empty_like(values)
    ordered[..., tableau.order] = values
    return ordered


def _values(tableau: Tableau) -> Floats:
    """(columns, k): the variables; those that are not basic are zero."""
    everything = np.zeros((tableau.columns + tableau.rows, tableau.width))
    everything[tableau.basic, tableau.front] = tableau.bound
    return everything[: tableau.columns]


def _multipliers(tableau: Tableau, feasible: Mask, worst: Places) -> Floats:
    """(rows, k) of the rows: their costs in an optimal table, their entries in the row that proves infeasibility."""
    everything = np.zeros((tableau.columns + tableau.rows, tableau.width))
    everything[tableau.basic[worst, tableau.front], tableau.front] = ~feasible
    proof = tableau.row(np.where(feasible, tableau.rows, worst))[:-1]
    everything[tableau.nonbasic, tableau.front] = np.maximum(proof, 0.0)
    return everything[tableau.columns :]


def _dot(a: Floats, b: Floats) -> Floats:
    return _accumulate(np.zeros(a.shape[-1]), a, b)
