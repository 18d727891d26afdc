"""Collectives inside a scale-up domain as they were timed.

    t = alpha0 + alpha1 N + inverse(N) wire + ramp sqrt(wire x 1 us),   wire = factor(N) bytes / link

`factor` is 2 (N-1)/N for an all-reduce and (N-1)/N for all-gather, reduce-scatter and all-to-all. `inverse` is linear
between 2, 4 and 8 ranks and constant beyond; the root is how protocols and channels ramp up with the size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices, Table
from dse.cost.forms import US
from dse.cost.mesh import Mesh
from dse.cost.rates import STANDINGS
from dse.cost.work import Array, Routes
from dse.spec.calibration import Collective

Way = tuple[Array, Array, Array]
"""Seconds to start, per byte, and per root of a byte."""
Direct = Literal["all_gather", "all_to_all"]

_AXES = ("hardware", "fidelity")


@dataclass(frozen=True)
class FittedLinks:
    """Fitted collectives of the mesh's accelerators."""

    mesh: Mesh
    choices: Choices

    @classmethod
    def on(cls, mesh: Mesh, choices: Choices) -> FittedLinks:
        """Those of the mesh."""
        return cls(mesh, choices)

    def all_reduce(self, routes: Routes, ranks: Array, domains: Array) -> Routes:
        """The library's all-reduce and the engine's own (one or two shots), in place of the default routes."""
        library = self._way("all_reduce", ranks, 2.0)
        if library is None:
            return routes
        standing = self._standing("all_reduce", ranks, domains)
        ways = [_chosen(standing > 0, library, way) for way in routes.ways]
        own = self._way("all_reduce_custom", ranks, 2.0)
        if own is not None:
            ways[0] = _chosen(self._standing("all_reduce_custom", ranks, domains) > 0, own, ways[0])
        return Routes(tuple(ways), standing)

    def direct(self, name: Direct, routes: Routes, ranks: Array, domains: Array) -> Routes:
        """All-gather, reduce-scatter or all-to-all."""
        found = self._way(name, ranks, 1.0)
        if found is None:
            return routes
        standing = self._standing(name, ranks, domains)
        return Routes(tuple(_chosen(standing > 0, found, way) for way in routes.ways), standing)

    def _way(self, name: str, ranks: Array, passes: float) -> Way | None:
        """Start, per byte and per root of a byte; None where no chip of the sweep has it."""
        columns = self._columns(name)
        if columns is None:
            return None
        alpha0, alpha1, ramp, *inverses, link, _ = columns
        inverse = sum(share * value for share, value in zip(shares(ranks), inverses, strict=True))
        per_byte = passes * (ranks - 1.0) / ranks / link
        return (alpha0 + alpha1 * ranks) * US, inverse * per_byte, ramp * np.sqrt(per_byte * US)

    def _standing(self, name: str, ranks: Array, domains: Array) -> NDArray[np.int8]:
        """Where a group keeps to one domain of a chip that has it: on what it rests, else 0."""
        columns = self._columns(name)
        assert columns is not None, "asked only where there are some"
        inside = (ranks > 1) & (domains == 1)
        standing: NDArray[np.int8] = np.where(inside, columns[-1], 0.0).astype(np.int8)
        return standing

    def _columns(self, name: str) -> list[Table] | None:
        """The table on the mesh, column by column; every message of a pass asks for it."""
        if name not in self._taken:
            table = self.choices.cached(("collective", name), lambda: _collective_table(self.choices, name))
            self._taken[name] = None if table is None else [self.mesh.take(column, *_AXES) for column in table]
        return self._taken[name]

    @cached_property
    def _taken(self) -> dict[str, list[Table] | None]:
        return {}


def _collective_table(choices: Choices, name: str) -> Table | None:
    """Parameters, the link and the standing: shape (8, hardware, fidelity); the link alone where nothing was fitted."""
    table = np.zeros((8, len(choices.hardware), len(choices.fidelity)))
    table[6] = 1.0
    for h, chip in enumerate(choices.hardware):
        found = chip.calibration.find("collective", name) if chip.calibration is not None else None
        for f, fidelity in enumerate(choices.fidelities):
            if isinstance(found, Collective) and fidelity.fitted:
                standing = STANDINGS.index("transferred" if found.inherited else "calibrated")
                table[:, h, f] = [*found.values().values(), chip.domain_bandwidth, standing]
    return table if np.any(table[-1]) else None


def _chosen(where: NDArray[np.bool_], new: Way, old: Way) -> Way:
    start, per_byte, root = (np.where(where, a, b) for a, b in zip(new, old, strict=True))
    return start, per_byte, root


def shares(ranks: Array) -> tuple[Array, Array, Array]:
    """How near a group is to 2, 4 and 8 ranks."""
    two, eight = np.clip((4.0 - ranks) / 2.0, 0.0, 1.0), np.clip((ranks - 4.0) / 4.0, 0.0, 1.0)
    return two, 1.0 - two - eight, eight
