"""The linear program of a plan: which shares make a block fastest.

    minimise    sum over phases of repeats x T_phase
    subject to  accelerator + host + disk share = 1                         per tensor
                T_phase >= seconds of the streams of a group                per phase and group
                bytes of a tier <= its capacity                             per tier and phase
                repeats . T <= the latency limit, where there is one

Disk shares are eliminated (1 - accelerator - host), so the columns are two shares per tensor and the two T. Costs are
not negative: `dse.cost.simplex` starts at the all-slack basis. FlexGen's LP (2303.06865 appendix A.3) is the case of
three tensors without latency limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.cost.placement.affine import TIERS, Affine, Shares, Tensor, Tier
from dse.cost.placement.plan import PHASES, Plan
from dse.cost.simplex import Programs
from dse.cost.work import Array

PREFERENCE: dict[Tensor, float] = {"weights": 1.0, "experts": 0.31, "cache": 0.097, "hidden": 0.029}
"""Among placements equally fast the one that keeps most near the accelerator, weights first: cost of a step down.
The values have no common measure, so that no two placements cost the same."""

STEPS: dict[Tier, float] = {"accelerator": 0.0, "host": 1.0, "disk": 2.1}

Flat = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Where each share and each T stands among the columns."""

    tensors: tuple[Tensor, ...]

    def share(self, tensor: Tensor, tier: Tier) -> int:
        """The column of a share; disk has none."""
        return 2 * self.tensors.index(tensor) + TIERS.index(tier)

    @property
    def seconds(self) -> dict[str, int]:
        """The columns of T by phase."""
        return {phase: 2 * len(self.tensors) + index for index, phase in enumerate(PHASES)}

    @property
    def count(self) -> int:
        """All columns."""
        return 2 * len(self.tensors) + len(PHASES)


def build(plan: Plan, shape: tuple[int, ...], latency_limit: Array | None = None) -> Programs:
    """The programs of all points of a mesh, instances in C order.

    Args:
        plan: what the placement decides on.
        shape: of the mesh.
        latency_limit: seconds a block may take from prompt to last token.
    """
    columns = Columns(plan.tensors)
    rows = list(_rows(plan, latency_limit))
    size = int(np.prod(shape))
    matrix = np.zeros((len(rows), columns.count, *shape))
    bound = np.empty((len(rows), *shape))
    for row, (affine, seconds, limit) in enumerate(rows):
        constant = affine.constant
        for (tensor, tier), slope in affine.slopes.items():
            if tier == "disk":  # slope x (1 - accelerator - host)
                constant = constant + slope
                matrix[row, columns.share(tensor, "accelerator")] -= slope
                matrix[row, columns.share(tensor, "host")] -= slope
            else:
                matrix[row, columns.share(tensor, tier)] += slope
        for phase, factor in seconds.items():
            matrix[row, columns.seconds[phase]] = factor
        bound[row] = limit - constant
    cost = np.zeros((columns.count, *shape))
    for phase, column in columns.seconds.items():
        cost[column] = plan.repeats[phase]  # type: ignore[index]
    prefer = np.zeros(columns.count)
    for tensor in plan.tensors:
        for tier in TIERS[:-1]:
            prefer[columns.share(tensor, tier)] = PREFERENCE[tensor] * (STEPS[tier] - STEPS["disk"])
    return Programs(
        matrix.reshape(len(rows), columns.count, size),
        bound.reshape(len(rows), size),
        cost.reshape(columns.count, size),
        prefer,
    )


def _rows(plan: Plan, latency_limit: Array | None) -> Iterator[tuple[Affine, dict[str, Array], Array]]:
    """Rows `affine(shares) + factor . T <= limit`."""
    for tensor in plan.tensors:
        yield Affine(0.0, {(tensor, "accelerator"): 1.0, (tensor, "host"): 1.0}), {}, 1.0
    for (tier, _), held in plan.bytes.items():
        yield held, {}, plan.capacity[tier]
    for phase in PHASES:
        for group in plan.groups[phase]:
            together = Affine()
            for stream in group:
                together.plus(plan.seconds[phase][stream])
            yield together, {phase: -1.0}, 0.0
    if latency_limit is not None:
        yield Affine(), dict(plan.repeats), latency_limit


def shares_of(plan: Plan, x: Flat, shape: tuple[int, ...]) -> Shares:
    """The shares in a solution's columns, arrays of the mesh's shape."""
    columns = Columns(plan.tensors)
    found: dict[Tensor, dict[Tier, Array]] = {}
    for tensor in plan.tensors:
        near, host = (x[columns.share(tensor, tier)].reshape(shape) for tier in TIERS[:-1])
        host = np.minimum(host, 1.0 - near)  # a rounding beyond one would leave a negative share on disk
        found[tensor] = {"accelerator": near, "host": host, "disk": 1.0 - near - host}
    return found
