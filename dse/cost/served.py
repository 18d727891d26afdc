"""The values of the axis `serving`, and the steady state a point asks for."""

from __future__ import annotations

from collections.abc import Mapping

from dse.cost.open_loop import OpenLoop
from dse.cost.phases import Point
from dse.cost.serving import ClosedLoop, Static, Steady

SERVING: Mapping[str, type[Static]] = {
    "static": Static,
    "offline": Steady,
    "closed-loop": ClosedLoop,
    "open-loop": OpenLoop,
}
"""The values of the axis `serving`."""


def served(point: Point) -> Static:
    """The steady state a point asks for."""
    return SERVING[point.choices.serving](point, point.choices.runtime)
