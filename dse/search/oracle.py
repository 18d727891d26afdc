"""The placement problem written out: one linear program with named variables and constraints, in PuLP, by HiGHS.

The same problem that `dse.cost.placement.program` builds as arrays, stated apart from it (with the disk shares, one
constraint after the other) so that either checks the other; and the one to read, and to ask what binds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dse.cost.placement.affine import TIERS, Affine, Tensor, Tier
from dse.cost.placement.plan import Plan
from dse.cost.setting import PHASES
from dse.search.milp import quiet

if TYPE_CHECKING:
    from pulp import LpAffineExpression, LpProblem

TIGHT = 1e-6
"""Slack over the size of a constraint's terms below which it binds."""


@dataclass(frozen=True)
class Answer:
    """An optimal placement of one block."""

    seconds: float
    """Prompt to last token."""
    shares: Mapping[Tensor, Mapping[Tier, float]]
    duals: Mapping[str, float]
    """By constraint: seconds saved per unit more of its right-hand side (GB of a tier, seconds of a limit)."""
    binding: tuple[str, ...]
    """Constraints without slack, the memory of tiers and the slowest streams, by name."""


def solve(plan: Plan, latency_limit: float | None = None) -> Answer | None:
    """The optimal placement of a plan of a single point; None where nothing fits.

    Args:
        plan: of one point: all arrays have one element.
        latency_limit: seconds the block may take.

    Raises:
        RuntimeError: HiGHS neither solved the program nor proved it infeasible.
    """
    import pulp

    problem, shares = _problem(plan, latency_limit)
    with quiet():
        status = pulp.LpStatus[problem.solve(pulp.HiGHS(msg=False))]
    if status == "Infeasible":
        return None
    if status != "Optimal":
        raise RuntimeError(f"HiGHS ended with status {status!r} on {problem.name!r}")
    values = {tensor: {tier: _share(on[tier].value()) for tier in TIERS} for tensor, on in shares.items()}
    # `pi` is the derivative of the objective by the right-hand side: negative where more is faster.
    duals = {row.name: -float(row.pi or 0.0) for row in problem.constraints()}
    return Answer(float(pulp.value(problem.objective)), values, duals, _binding(problem))


def _problem(plan: Plan, latency_limit: float | None) -> tuple[LpProblem, Any]:
    """The program and its shares."""
    import pulp

    problem = pulp.LpProblem("placement", pulp.LpMinimize)
    shares = {
        tensor: {tier: problem.add_variable(f"{tensor}_on_{tier}", 0) for tier in TIERS} for tensor in plan.tensors
    }
    seconds = {phase: problem.add_variable(f"{phase}_seconds", 0) for phase in PHASES}
    total = pulp.lpSum(_number(plan.repeats[phase]) * seconds[phase] for phase in PHASES)
    problem += total, "seconds_of_block"

    def worth(affine: Affine, unit: float = 1.0) -> LpAffineExpression:
        """An affine quantity as an expression of the shares."""
        slopes = affine.slopes.items()
        terms = [_number(slope) / unit * shares[tensor][tier] for (tensor, tier), slope in slopes]
        return pulp.lpSum(terms) + _number(affine.constant) / unit

    for tensor in plan.tensors:
        problem += pulp.lpSum(shares[tensor].values()) == 1, f"all_of_{tensor}"
    for (tier, phase), held in plan.bytes.items():
        problem += worth(held, 1e9) <= _number(plan.capacity[tier]) / 1e9, f"{tier}_memory_in_{phase}"
    for phase in PHASES:
        for group in plan.groups[phase]:
            together = pulp.lpSum(worth(plan.seconds[phase][stream]) for stream in group)
            problem += seconds[phase] >= together, f"{phase}_by_{'_and_'.join(group)}"
    if latency_limit is not None:
        problem += total <= latency_limit, "latency_limit"
    return problem, shares


def _binding(problem: LpProblem) -> tuple[str, ...]:
    found = []
    for row in problem.constraints():
        size = max([abs(row.constant), *(abs(factor * column.value()) for column, factor in row.items())])
        if not row.name.startswith("all_of") and abs(row.slack or 0.0) <= TIGHT * max(size, 1e-12):
            found.append(row.name)
    return tuple(found)


def _number(value: Any) -> float:
    """The one element of an array, or the number itself."""
    return float(np.asarray(value, dtype=float).reshape(-1)[0])


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)
