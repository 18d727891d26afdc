"""The linear program of a plan: which shares make a block fastest.

    minimise    sum over phases of repeats x T_phase
    subject to  accelerator + host + disk share = 1                         per tensor
                T_phase >= seconds of the streams of a group                per phase and group
                bytes of a tier <= its capacity                             per tier and phase
                repeats . T <= the latency limit, where there is one

FlexGen's LP (2303.06865 appendix A.3) is the case of three tensors without latency limit. Costs are not negative, so
`dse.cost.simplex` starts at the basis of all slacks; what that basis means is chosen to lie near the optimum, which
halves the pivots: host shares are eliminated (1 - accelerator - disk), so that it has everything on the host, and T
counts from the least any placement could take.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.cost.placement.affine import Affine, Shares, Tensor, Tier
from dse.cost.placement.plan import Plan
from dse.cost.setting import PHASES, Phase
from dse.cost.simplex import Programs
from dse.cost.work import Array

PREFERENCE: dict[Tensor, float] = {"weights": 1.0, "experts": 0.31, "cache": 0.097, "hidden": 0.029}
"""Among placements equally fast the one that keeps most near the accelerator, weights first: cost of a step down.
The values have no common measure, so that no two placements cost the same."""

STEPS: dict[Tier, float] = {"accelerator": 0.0, "host": 1.0, "disk": 2.1}
FREE: tuple[Tier, Tier] = ("accelerator", "disk")
"""Tiers whose shares are columns; the host has the rest."""

DUST = 1e-12
"""Shares of the host below this are rounding."""

Flat = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Where each share and each T stands among the columns."""

    tensors: tuple[Tensor, ...]

    def share(self, tensor: Tensor, tier: Tier) -> int:
        """The column of a share."""
        return 2 * self.tensors.index(tensor) + FREE.index(tier)

    @property
    def seconds(self) -> dict[Phase, int]:
        """The columns of T by phase."""
        return {phase: 2 * len(self.tensors) + index for index, phase in enumerate(PHASES)}

    @property
    def count(self) -> int:
        """All columns."""
        return 2 * len(self.tensors) + len(PHASES)


@dataclass(frozen=True)
class Row:
    """`affine(shares) + factors . T <= limit`."""

    affine: Affine
    factors: dict[Phase, Array]
    limit: Array


def build(plan: Plan, shape: tuple[int, ...], latency_limit: Array | None = None) -> Programs:
    """The programs of all points of a mesh, instances in C order.

    Args:
        plan: what the placement decides on.
        shape: of the mesh.
        latency_limit: seconds a block may take from prompt to last token.
    """
    columns, least = Columns(plan.tensors), {phase: plan.least(phase) for phase in PHASES}
    rows = list(_rows(plan, latency_limit))
    matrix = np.zeros((len(rows), columns.count, *shape))
    bound = np.empty((len(rows), *shape))
    for index, row in enumerate(rows):
        constant = row.affine.constant
        for (tensor, tier), slope in row.affine.slopes.items():
            if tier == "host":  # slope x (1 - accelerator - disk)
                constant = constant + slope
                for free in FREE:
                    matrix[index, columns.share(tensor, free)] -= slope
            else:
                matrix[index, columns.share(tensor, tier)] += slope
        for phase, factor in row.factors.items():
            matrix[index, columns.seconds[phase]] = factor
            constant = constant + factor * least[phase]
        bound[index] = row.limit - constant
    cost = np.zeros((columns.count, *shape))
    for phase, column in columns.seconds.items():
        cost[column] = plan.repeats[phase]
    prefer = np.zeros(columns.count)
    for tensor in plan.tensors:
        for tier in FREE:
            prefer[columns.share(tensor, tier)] = PREFERENCE[tensor] * (STEPS[tier] - STEPS["host"])
    size = math.prod(shape)
    return Programs(
        matrix.reshape(len(rows), columns.count, size),
        bound.reshape(len(rows), size),
        cost.reshape(columns.count, size),
        prefer,
    )


def _rows(plan: Plan, latency_limit: Array | None) -> Iterator[Row]:
    for tensor in plan.tensors:
        yield Row(Affine(0.0, {(tensor, tier): 1.0 for tier in FREE}), {}, 1.0)
    for (tier, phase), held in plan.bytes.items():
        if tier == "accelerator" or phase == "prefill":  # below it, prompts hold more hidden activations, and all else
            yield Row(held, {}, plan.capacity[tier])
    for phase in PHASES:
        for group in plan.groups[phase]:
            yield Row(plan.together(phase, group), {phase: -1.0}, 0.0)
    if latency_limit is not None:
        yield Row(Affine(), plan.repeats, latency_limit)


def shares_of(plan: Plan, x: Flat, shape: tuple[int, ...]) -> Shares:
    """The shares in a solution's columns, arrays of the mesh's shape."""
    columns = Columns(plan.tensors)
    found: dict[Tensor, dict[Tier, Array]] = {}
    for tensor in plan.tensors:
        near, disk = (x[columns.share(tensor, tier)].reshape(shape) for tier in FREE)
        near = np.minimum(near, 1.0)  # rounding may leave the last bit beyond
        disk = np.minimum(disk, 1.0 - near)
        host = 1.0 - near - disk
        found[tensor] = {"accelerator": near, "host": np.where(host < DUST, 0.0, host), "disk": disk}
    return found
