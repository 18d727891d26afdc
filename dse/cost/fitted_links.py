"""Collectives inside a scale-up domain as they were timed.

    t = alpha0 + alpha1 N + inverse(N) wire + ramp sqrt(wire x 1 us),   wire = factor(N) bytes / link

`factor` is 2 (N-1)/N for an all-reduce and (N-1)/N for all-gather, reduce-scatter and all-to-all. `inverse` is linear
in log2 N between 2, 4 and 8 ranks and constant beyond; the root is how protocols and channels ramp up with the size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices, Table
from dse.cost.forms import US
from dse.cost.mesh import Mesh
from dse.cost.work import Array
from dse.spec.calibration import Collective

Routes = tuple[tuple[Any, Any, Any], ...]
"""Ways to send: (seconds to start, seconds per byte, seconds per root of a byte), arrays."""

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
        ring = self._route("all_reduce", ranks, 2.0)
        if ring is None:
            return routes
        own = self._route("all_reduce_custom", ranks, 2.0)
        inside = np.asarray((ranks > 1) & (domains == 1))
        replaced = [self._replaced(route, ring, inside & self._known("all_reduce")) for route in routes]
        if own is not None:
            replaced[0] = self._replaced(replaced[0], own, inside & self._known("all_reduce_custom"))
        return tuple(replaced)

    def direct(self, name: Direct, routes: Routes, ranks: Array, domains: Array) -> Routes:
        """All-gather, reduce-scatter or all-to-all."""
        found = self._route(name, ranks, 1.0)
        if found is None:
            return routes
        inside = np.asarray((ranks > 1) & (domains == 1) & self._known(name))
        return tuple(self._replaced(route, found, inside) for route in routes)

    @staticmethod
    def _replaced(route: tuple[Any, Any, Any], by: tuple[Array, Array, Array], where: NDArray[np.bool_]) -> tuple[Any, Any, Any]:
        start, per_byte, ramp = (np.where(where, new, old) for new, old in zip(by, route, strict=True))
        return start, per_byte, ramp

    def _route(self, name: str, ranks: Array, passes: float) -> tuple[Array, Array, Array] | None:
        """Start, per byte and per root of a byte; None where no chip of the sweep has it."""
        table = self._table(name)
        if table is None:
            return None
        alpha0, alpha1, ramp, *inverses, link = (self.mesh.take(column, *_AXES) for column in table)
        inverse = sum(share * value for share, value in zip(shares(ranks), inverses, strict=True))
        per_byte = passes * (ranks - 1.0) / ranks / link
        return (alpha0 + alpha1 * ranks) * US, inverse * per_byte, ramp * np.sqrt(per_byte * US)

    def _known(self, name: str) -> NDArray[np.bool_]:
        table = self._table(name)
        assert table is not None, "asked only where there is one"
        known: NDArray[np.bool_] = self.mesh.take(table[0], *_AXES) > 0
        return known

    def _table(self, name: str) -> Table | None:
        return self.choices.cached(("collective", name), lambda: _collective_table(self.choices, name))


def _collective_table(choices: Choices, name: str) -> Table | None:
    """Parameters and the link: shape (7, hardware, fidelity); zeros where nothing was fitted."""
    table = np.zeros((7, len(choices.hardware), len(choices.fidelity)))
    table[6] = 1.0
    for h, chip in enumerate(choices.hardware):
        found = chip.calibration.find("collective", name) if chip.calibration is not None else None
        for f, fidelity in enumerate(choices.fidelities):
            if isinstance(found, Collective) and fidelity.fitted:
                table[:, h, f] = [*found.values().values(), chip.domain_bandwidth]
    return table if np.any(table[:6]) else None


def shares(ranks: Array) -> list[Array]:
    """How near a group is to 2, 4 and 8 ranks, linear in their logarithm.

    By `math` on the few degrees there are: NumPy's logarithm may differ in the last bit between CPU types.
    """
    logs = np.array([math.log2(max(value, 1.0)) for value in np.ravel(ranks).tolist()]).reshape(np.shape(ranks))
    return [np.clip(2.0 - logs, 0.0, 1.0), np.clip(1.0 - np.abs(logs - 2.0), 0.0, 1.0), np.clip(logs - 2.0, 0.0, 1.0)]
