"""One linear program by HiGHS, with the same choice among optima as the lockstep method makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OPTIMAL, INFEASIBLE = 0, 2
"""Statuses of `scipy.optimize.linprog`."""
WAYS = (("highs-ds", True), ("highs-ds", False), ("highs-ipm", True))
"""Programs at the very edge of what is feasible end as `unknown` after presolve; without it they are decided."""
PRICED = 1e-9
"""A multiplier above this is positive: in every optimum its row is tight, or its variable zero."""


def solve_one(matrix: Floats, bound: Floats, cost: Floats, prefer: Floats) -> tuple[bool, Floats]:
    """Min cost.x, then min prefer.x among the optima, subject to matrix x <= bound, x >= 0.

    The optima are what is complementary to one optimal set of multipliers: rows of positive price are tight,
    variables of positive reduced cost are zero. That needs no tolerance on the objective.

    Args:
        matrix: (rows, columns), scaled to about 1.
        bound: (rows,).
        cost: (columns,), >= 0.
        prefer: (columns,).

    Returns:
        Whether it is feasible, and x.

    Raises:
        ArithmeticError: HiGHS fails.
    """
    from scipy.optimize import linprog

    for method, presolve in WAYS:
        first = linprog(cost, matrix, bound, method=method, options={"presolve": presolve})
        if first.status in (OPTIMAL, INFEASIBLE):
            break
    if first.status == INFEASIBLE:
        return False, np.full(len(cost), np.nan)
    if first.status != OPTIMAL:
        raise ArithmeticError(f"HiGHS cannot solve a linear program: {first.message}")
    tight = -first.ineqlin.marginals > PRICED
    most = np.where(first.lower.marginals > PRICED, 0.0, np.inf)
    second = linprog(
        prefer,
        matrix[~tight],
        bound[~tight],
        matrix[tight],
        bound[tight],
        np.column_stack([np.zeros(len(cost)), most]),
        method="highs",
    )
    return True, second.x if second.status == 0 else first.x
