"""Who competes for a place on a front: its points, and the runners-up that an error of prediction could lift onto it.

The runners-up of a group are the points on the front of one accelerator, taken alone, that are not on the front of
the group: what each chip would be bought for if it were better than predicted. The mesh pass keeps the front of every
accelerator in every group, which is exact, and does not depend on slices or executors, as the front of a group is
(which is the front of these). A point that another of its own accelerator beats is no runner-up: the error of the chip
is common to both, and what is left could seldom turn them round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dse.cost.mesh import Mesh
from dse.run.groups import MAX_GROUPS
from dse.search.pareto import non_dominated
from dse.spec.hardware import HardwareSpec

if TYPE_CHECKING:
    from dse.run.groups import Groups
    from dse.run.resolve import Sweep


def accelerator(chip: HardwareSpec) -> str:
    """What a chip is called without the brackets that tell variants of one mapping apart (`dse.spec.derive`)."""
    return chip.name.partition("[")[0]


class Divisions:
    """Comparison groups, each divided by accelerator; variants of one accelerator are one, and so is a pair of two."""

    def __init__(self, sweep: Sweep, groups: Groups) -> None:
        names = [accelerator(chip) for chip in sweep.axes.hardware]
        others = [accelerator(chip) for chip in sweep.axes.pools.hardware] if sweep.axes.pools is not None else []
        pairs = [[(name,) if name == other else (name, other) for name in names] for other in others]
        every = dict.fromkeys([*((name,) for name in names), *chain.from_iterable(pairs)])
        place = {pair: index for index, pair in enumerate(every)}
        self._chips = np.array([place[name,] for name in names], dtype=np.int64)
        self._pairs = np.array([[place[pair] for pair in of_other] for of_other in pairs], dtype=np.int64)
        self.count = len(place)
        """Divisions per group."""
        # Grouped by hardware, a group has one chip; of too many, keeping a front of each would cost too much memory.
        if "hardware" in sweep.group_by or self.count * groups.count > MAX_GROUPS:
            self.count = 1

    def numbers(self, group: NDArray[np.int64], mesh: Mesh) -> NDArray[np.int64]:
        """Division of each point of a mesh, broadcastable.

        Args:
            group: comparison group of each point, broadcastable.
            mesh: the points.
        """
        if self.count == 1:
            return group
        if "prefill_hardware" in mesh.index:
            return group * self.count + self._pairs[mesh.index["prefill_hardware"], mesh.index["hardware"]]
        return group * self.count + self._chips[mesh.index["hardware"]]

    def group(self, division: int) -> int:
        """The comparison group of a division."""
        return division // self.count


@dataclass(frozen=True)
class Contest:
    """The contenders of one group, by number."""

    numbers: NDArray[np.int64]
    """Ascending, shape (m,)."""
    costs: NDArray[np.float64]
    """Minimised, shape (m, k)."""
    leads: NDArray[np.bool_]
    """Who is on the group's front, shape (m,)."""

    @property
    def front(self) -> NDArray[np.int64]:
        """Numbers of the group's front, ascending."""
        return self.numbers[self.leads]


def contests(
    divisions: Divisions, fronts: Mapping[int, tuple[NDArray[np.int64], NDArray[np.float64]]]
) -> dict[int, Contest]:
    """The contenders of every group.

    Args:
        divisions: how groups are divided.
        fronts: numbers and costs of the front of every division.
    """
    members: dict[int, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
    for division, front in fronts.items():
        members.setdefault(divisions.group(division), []).append(front)
    return {group: _contest(held) for group, held in sorted(members.items())}


def _contest(fronts: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]) -> Contest:
    numbers = np.concatenate([number for number, _ in fronts])
    order = np.argsort(numbers, kind="stable")
    costs = np.concatenate([cost for _, cost in fronts])[order]
    leads = non_dominated(costs) if len(fronts) > 1 else np.ones(len(costs), dtype=bool)
    return Contest(numbers[order], costs, leads)
