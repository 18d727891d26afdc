"""The passes of a point at the peaks and bandwidths of its chips (fidelity `ideal`): no kernels take less.

An engine's factors stand for all its kernels, beside default efficiencies. Some lie below 1 (0.914 x 0.749 on decode
steps of vLLM with packed weights), which kernels that are near a roof already cannot follow.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dse.cost.phases import Point
from dse.cost.placement.placed import Placed
from dse.cost.work import Array

_GIVEN = ("batch", "rank_batch", "input", "iteration")
"""What `Point.with_batch` and its like set, rather than the choices."""


def at_roofs(point: Point) -> Point:
    """The same point at fidelity `ideal`, made once.

    Where tensors are placed, itself: copies and the host set its time, and an engine's kernels make neither faster.
    """
    held = point.__dict__
    if isinstance(point, Placed):
        return point
    if "_at_roofs" not in held:
        found = Point(point.model, point.choices.at_roofs, point.mesh)
        found.__dict__ |= {name: held[name] for name in _GIVEN if name in held}
        # None: nothing is shared along an axis; else what is shared is of the other fidelity.
        found.__dict__ |= {name: held[name] for name in ("_prompts", "_shared") if held.get(name, [found])[0] is None}
        if point.draft is not None:
            found.__dict__["draft"] = at_roofs(point.draft)
        held["_at_roofs"] = found
    roofs: Point = held["_at_roofs"]
    return roofs


def above_roofs(point: Point, factor: Array, kernels: Array, of: Callable[[Point], Array]) -> Array:
    """Seconds of an engine's kernels, at least those that the roofs allow.

    Args:
        point: whose kernels they are.
        factor: of the engine on them, the least if there are several.
        kernels: their seconds.
        of: the same of a point without an engine; asked of the roofs where the factor can bring kernels there.
    """
    most = point.mesh.take(np.array([fidelity.most for fidelity in point.choices.fidelities]), "fidelity")
    near = np.less(factor, most)
    return np.where(near, np.maximum(kernels, of(at_roofs(point))), kernels) if np.any(near) else kernels
