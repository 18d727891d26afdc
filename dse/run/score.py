"""One part of a sweep: its slices scored in turn, reduced at once to fronts, counts and nearest misses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices
from dse.cost.evaluate import Scores, score
from dse.cost.mesh import Mesh
from dse.run.allocator import keep_freed_memory
from dse.run.axes import ARRIVING
from dse.run.contests import Divisions
from dse.run.groups import Groups
from dse.run.resolve import Sweep
from dse.search.pareto import FrontArchive
from dse.search.rows import GOLDEN, distinct
from dse.search.space import Axis, Block, Part, Space
from dse.search.top import TopArchive

TOP = 20
"""Best points kept per objective and group, beside the front."""


PLACED_WEIGHT = 1_000
"""Work of a point whose placement is a choice of some ten linear programs, in plain points (3 M against 3 k per s)."""

LOADED_WEIGHT = 40
"""Work of a point with arrivals at a rate, in plain points; it also bounds the memory of its chains of states."""

SCOUTS = 32_768
"""Points looked at first (see `Engine.scouts`)."""


@dataclass
class Tally:
    """What is left of many points."""

    front: FrontArchive = field(default_factory=FrontArchive)
    """Of every division of every group (`dse.run.contests`): the front of a group is that of its divisions' fronts."""
    top: TopArchive = field(default_factory=lambda: TopArchive(TOP))
    statuses: dict[int, int] = field(default_factory=dict)
    """Status code -> points."""
    feasible: dict[int, int] = field(default_factory=dict)
    """Group -> feasible points."""
    nearest: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Status code -> (smallest excess, number of the point): the nearest miss."""
    programs: dict[str, int] = field(default_factory=dict)
    """Linear programs of placements: solved in all, and of those by HiGHS."""

    def merge(self, other: Tally) -> None:
        """Take in what another part found; the order of merges does not matter."""
        self.front.merge(other.front)
        self.top.merge(other.top)
        pairs: list[tuple[dict[Any, int], dict[Any, int]]] = [
            (self.statuses, other.statuses),
            (self.feasible, other.feasible),
            (self.programs, other.programs),
        ]
        for mine, theirs in pairs:
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count
        for code, miss in other.nearest.items():
            self.nearest[code] = min(miss, self.nearest.get(code, miss))

    @property
    def points(self) -> int:
        """Points tallied."""
        return sum(self.statuses.values())


@dataclass
class Engine:
    """A resolved sweep with its space and groups; what a worker process holds."""

    sweep: Sweep

    @cached_property
    def space(self) -> Space:
        """All points, numbered."""
        models = Axis("model", len(self.sweep.models))
        boxes = [choices for choices, *_ in self.sweep.boxes]
        return Space.of(
            (
                [models, *(Axis(name, size) for name, size in zip(choices.axes, choices.shape, strict=True))]
                for choices in boxes
            ),
            [_weight(choices) for choices in boxes],
        )

    @cached_property
    def groups(self) -> Groups:
        """Comparison groups."""
        return Groups(self.sweep)

    @cached_property
    def divisions(self) -> Divisions:
        """Comparison groups by accelerator."""
        return Divisions(self.sweep, self.groups)

    @cached_property
    def scouts(self) -> dict[int, NDArray[np.float64]]:
        """Costs of the undominated among points spread evenly over the space, by division of a group.

        Any feasible point may rule out others, wherever it lies: what scouts dominate is dropped at first sight in
        every part. They change the speed only. None for a space so small that it is scored as soon as scouted.
        """
        if self.space.size < 20 * SCOUTS:
            return {}
        # Multiples of the golden ratio follow no period of the axes.
        spread = np.sort(np.modf(np.arange(SCOUTS) * GOLDEN)[0])
        return self._scouted((spread * self.space.size).astype(np.int64))

    def _scouted(self, numbers: NDArray[np.int64]) -> dict[int, NDArray[np.float64]]:
        found = FrontArchive()
        boxes, local = self.space.locate(numbers)
        plain = [box for box in distinct(boxes).tolist() if self.space.boxes[box].weight == 1]
        for box in plain:  # looking at heavier ones would cost more than it saves
            model, *coordinates = self.space.boxes[box].decode(local[boxes == box])
            for index in distinct(model).tolist():
                choices = self.sweep.choices_of(box, index)
                mesh = Mesh.points(choices.axes, [coordinate[model == index] for coordinate in coordinates])
                scores = score(self.sweep.models[index], choices, mesh, self.sweep.question)
                costs = [np.broadcast_to(cost, mesh.shape) for cost in scores.costs]
                group = self.divisions.numbers(self.groups.numbers(box, index, mesh), mesh)
                group = np.broadcast_to(group, mesh.shape)
                found.update(costs, group, scores.status == 0, range(len(group)))
        return {group: costs for group, (_, costs) in found.fronts().items()}

    def __getstate__(self) -> dict[str, object]:
        # Scouts travel along: a worker would pay for them again with every task.
        return {"sweep": self.sweep, "scouts": self.scouts}

    def tally(self, part: Part, on_points: Callable[[int], None] | None = None) -> Tally:
        """Score the slices of a part.

        Args:
            part: as `dse.search.space.tasks` cuts them.
            on_points: told after each slice how many points it had.
        """
        keep_freed_memory()
        tally = Tally(FrontArchive(self.scouts))
        for box, block in part.blocks:
            points = self.space.boxes[box].numbers(block)
            self._take(tally, box, block, points)
            if on_points is not None:
                on_points(len(points))
        return tally

    def _take(self, tally: Tally, box: int, block: Block, points: range) -> None:
        model, *rest = block
        choices = self.sweep.choices_of(box, model.start)
        mesh = Mesh.open(choices.axes, rest)
        scores = score(self.sweep.models[model.start], choices, mesh, self.sweep.question)
        feasible = scores.status == 0
        group = self.groups.numbers(box, model.start, mesh)
        _count(tally, scores.status, feasible, group)
        for key, count in scores.programs.items():
            tally.programs[key] = tally.programs.get(key, 0) + count
        _nearest(tally, scores, points.start)
        costs = [np.asarray(cost, dtype=float) for cost in scores.costs]
        tally.front.update(costs, self.divisions.numbers(group, mesh), feasible, points)
        tally.top.update(costs, group, feasible, points)


def _weight(choices: Choices) -> int:
    """Work of a point of a box, in plain points."""
    if choices.offload == "lp" and choices.pools is None:
        return PLACED_WEIGHT
    return LOADED_WEIGHT if choices.serving in ARRIVING and not np.all(np.isnan(choices.rates)) else 1


def _count(tally: Tally, status: NDArray[np.int8], feasible: NDArray[np.bool_], group: NDArray[np.int64]) -> None:
    """Points per status, and feasible points per group."""
    for code, count in enumerate(np.bincount(status.ravel())):
        if count:
            tally.statuses[code] = tally.statuses.get(code, 0) + int(count)
    # Groups vary along few axes: sum over the others first.
    others = tuple(axis for axis, length in enumerate(group.shape) if length == 1)
    per_cell = np.add.reduce(feasible, axis=others, keepdims=True, dtype=np.int64)
    for number, count in zip(
        np.broadcast_to(group, per_cell.shape).ravel().tolist(), per_cell.ravel().tolist(), strict=True
    ):
        if count:
            tally.feasible[number] = tally.feasible.get(number, 0) + count


def _nearest(tally: Tally, scores: Scores, first: int) -> None:
    """The point that misses each limit by least."""
    for code, excess in scores.excess.items():
        if not tally.statuses.get(code):
            continue
        missed = np.where(scores.status == code, excess, np.inf)
        at = int(np.nanargmin(missed)) if not np.all(np.isnan(missed)) else 0
        miss = (float(missed.flat[at]), first + at)
        if np.isfinite(miss[0]):
            tally.nearest[code] = min(miss, tally.nearest.get(code, miss))
