"""The values of the axis `serving`: the steady state each asks for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dse.cost.disaggregated import Disaggregated
from dse.cost.open_loop import OpenLoop
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.cost.serving import ClosedLoop, Static, Steady

SERVING: Mapping[str, type[Static]] = {
    "static": Static,
    "offline": Steady,
    "closed-loop": ClosedLoop,
    "open-loop": OpenLoop,
}
"""Those of one engine."""

MODES: Mapping[str, type[Static]] = {**SERVING, "disaggregated": Disaggregated}
"""Those of one engine, and those of several."""


def served(point: Point) -> Static:
    """The steady state a point asks for."""
    choices = point.choices
    if choices.pools is not None and not np.all(np.isnan(choices.rates)):
        return Pooled(point, choices.runtime)
    return MODES[choices.serving](point, choices.runtime)
