"""A model on the accelerators, layouts and number formats of a mesh: what holds whatever is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices
from dse.cost.collectives import Links
from dse.cost.mesh import Mesh
from dse.cost.parts import Part, parts_of, stage_counts
from dse.cost.rates import Rates
from dse.cost.setting import Degrees, Widths
from dse.cost.work import Array
from dse.spec.model import ModelSpec


@dataclass
class Stack:
    """The parts of a model, and how they lie on pipeline stages."""

    model: ModelSpec
    choices: Choices
    mesh: Mesh

    @cached_property
    def degrees(self) -> Degrees:
        """Parallel degrees, expert parallelism resolved."""
        return Degrees.on(self.mesh, self.choices, self.model)

    @cached_property
    def widths(self) -> Widths:
        """Bytes per element."""
        return Widths.on(self.mesh, self.choices)

    @cached_property
    def links(self) -> Links:
        """The network."""
        return Links.on(self.mesh, self.choices)

    @cached_property
    def rates(self) -> Rates:
        """The roofs."""
        return Rates(self.mesh, self.choices)

    @cached_property
    def _parts(self) -> dict[Part, list[int]]:
        return parts_of(self.model)

    @property
    def parts(self) -> list[Part]:
        """Distinct parts of the model."""
        return list(self._parts)

    @property
    def where(self) -> list[list[int]]:
        """For each part, the layers that contain it."""
        return list(self._parts.values())

    @property
    def counts(self) -> list[int]:
        """How often the model holds each part; the last two are the embedding and the head."""
        return [*map(len, self.where), 1, 1]

    @cached_property
    def stages(self) -> list[list[NDArray[np.float64]]]:
        """For each stage that can be the slowest, how many of each part it holds (arrays over the layout).

        The last two entries of a stage are 1 where it holds the embedding and the head.
        """
        table = self.choices.cached(("stages", self.model), self._stage_table)
        return [[self.mesh.take(column, "layout") for column in stage] for stage in table]

    def _stage_table(self) -> NDArray[np.float64]:
        """Counts of each part: shape (stages, parts + 2, layout); layouts with fewer stages repeat some."""
        degrees = [layout.pp for layout in self.choices.layout]
        rows = {pp: stage_counts(self.model, pp) for pp in set(degrees)}
        most = max(len(row) for row in rows.values())
        table = np.stack([np.resize(rows[pp], (most, rows[pp].shape[1])) for pp in degrees])
        return np.ascontiguousarray(np.moveaxis(table, 0, 2))

    @property
    def hops(self) -> Array:
        """How often activations pass from one stage to the next on their way through the model."""
        return self.degrees.pp - 1
