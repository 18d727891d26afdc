"""Integer programs in PuLP, solved by HiGHS in process: one aim after another, with a status that tells the truth."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pulp import LpAffineExpression, LpProblem

Status = Literal["optimal", "feasible", "infeasible", "unknown"]
"""`feasible`: the time limit struck with an answer but before its gap was closed; `unknown`: without any answer."""

GAP = 1e-6
"""Relative gap HiGHS closes; a plan states what is left, and 0.1 % is the most that counts as solved."""

OPTIONS = {
    "mip_heuristic_run_rens": False, "mip_heuristic_run_rins": False, "mip_heuristic_run_root_reduced_cost": False,
    "mip_heuristic_run_feasibility_jump": False,
}  # fmt: skip
"""Searches of HiGHS in programs within the program: fleets round well, and these take 60 % of the time (1.0 instead of
2.5 s for eight models, a hundred buckets and 286 deployments, to the same gap)."""

SOLVED_GAP = 1e-3
"""Largest gap of an answer called optimal."""

TIE_NODES = 2_000
"""Nodes of the search among equally good answers: a count, so that no clock decides which of them is given."""

SLACK = 1e-9
"""Relative room an earlier aim leaves the later ones: HiGHS meets rows to 1e-7 of their scale."""


@dataclass(frozen=True)
class Solved:
    """How a solve ended."""

    status: Status
    value: float
    """Of the first aim; NaN without an answer."""
    bound: float
    """No answer is better than this."""

    @property
    def gap(self) -> float:
        """Relative distance between the answer and the bound; 0 where the bound is met."""
        if math.isnan(self.value):
            return math.inf
        return max(abs(self.value - self.bound) / max(abs(self.value), 1e-12), 0.0)


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing on standard output: HiGHS greets there when it is made, before it can be told not to."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def minimise(
    problem: LpProblem,
    aims: Sequence[LpAffineExpression],
    time_limit: float | None = None,
    gap: float = GAP,
    tie_gap: float = 0.0,
    tie_nodes: int = TIE_NODES,
) -> Solved:
    """Minimise the aims one after the other, each among the answers that are best in those before it.

    The variables hold the answer. The later aims only choose among equals: where their search ends early, what is
    found so far stands.

    Args:
        problem: without an objective; rows that hold earlier aims are added to it.
        aims: at least one.
        time_limit: seconds for the first aim.
        gap: relative gap to close in it.
        tie_gap: the same in the later aims.
        tie_nodes: nodes of the search in each of these.
    """
    first, *others = aims
    solved = _run(problem, first, timeLimit=time_limit, gapRel=gap)
    if solved.status not in ("optimal", "feasible"):
        return solved
    values = [variable.varValue for variable in problem.variables()]
    held, best = first, solved.value
    for index, aim in enumerate(others):
        problem += held <= best + SLACK * max(abs(best), 1.0), f"as_good_in_aim_{index}"
        tie = _run(problem, aim, mip_max_nodes=tie_nodes, gapRel=tie_gap)
        if tie.status not in ("optimal", "feasible"):
            for variable, value in zip(problem.variables(), values, strict=True):
                variable.varValue = value
            break
        values = [variable.varValue for variable in problem.variables()]
        held, best = aim, tie.value
    return solved


def relax(problem: LpProblem, aim: LpAffineExpression) -> Solved:
    """Minimise an aim without the wholeness of the variables; the rows' `pi` hold their multipliers."""
    return _run(problem, aim, whole=False)


def _run(problem: LpProblem, aim: LpAffineExpression, *, whole: bool = True, **options: object) -> Solved:
    """One call of HiGHS. PuLP writes the model; the outcome is read here: PuLP knows fewer endings than HiGHS has."""
    import highspy
    import pulp

    problem.setObjective(aim)
    solver = pulp.HiGHS(mip=whole, msg=False, threads=1, **OPTIONS, **options)
    with quiet():
        # HiGHS has one pool of threads per process and refuses a number of them that differs from its first.
        highspy.Highs.resetGlobalScheduler(True)
        solver.createAndConfigureSolver(problem)
        solver.buildSolverModel(problem)
        solver.callSolver(problem)
    model, names = problem.solverModel, highspy.HighsModelStatus
    ended, info, solution = model.getModelStatus(), model.getInfo(), model.getSolution()
    if ended in (names.kInfeasible, names.kUnboundedOrInfeasible):
        return Solved("infeasible", math.nan, math.nan)
    if ended == names.kModelEmpty:
        return Solved("optimal", float(aim.constant), float(aim.constant))
    rows = problem.constraints()
    if len(solution.row_dual) < len(rows):  # refused: coefficients of 1e15 and more
        return Solved("unknown", math.nan, math.nan)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Solved("unknown", math.nan, math.nan)
    for variable, value in zip(problem.variables(), solution.col_value, strict=True):
        variable.varValue = value
    for row, dual in zip(rows, solution.row_dual, strict=True):
        row.pi = dual
    value = float(info.objective_function_value) + float(aim.constant)
    integers = whole and any(variable.cat == "Integer" for variable in problem.variables())
    bound = float(info.mip_dual_bound) + float(aim.constant) if integers else value
    solved = Solved("optimal", value, bound)
    return solved if ended == names.kOptimal or solved.gap <= SOLVED_GAP else Solved("feasible", value, bound)
