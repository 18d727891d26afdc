"""What speculation buys: against the same sequences decoded without it, and up to which batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices
from dse.cost.engine import step_seconds
from dse.cost.memory import largest_whole
from dse.cost.phases import Point
from dse.cost.techniques import active
from dse.cost.work import Array
from dse.spec.runtime import RuntimeSpec

MOST = 2**16
"""Largest batch that is looked at."""


def speedup(point: Point, runtime: RuntimeSpec) -> Array:
    """TPOT without speculation over TPOT with it, the sequences being the same; 1 where there is none."""
    if not _speculates(point):
        return 1.0
    return step_seconds(_plain(point), runtime) / step_seconds(point, runtime)


def break_even_batch(point: Point, runtime: RuntimeSpec) -> Array:
    """Largest batch up to 65,536 at which speculation makes decode steps faster; 0 for none, and without speculation.

    Whatever memory says. Beyond it verification is bound by compute. Below it there may be batches that lose: few
    tokens touch few experts, so that verifying several reads several times the weights. Hence the last doubling of the
    batch that gains is looked for first, then the edge within it.
    """
    if not _speculates(point):
        return 0.0
    every = (1,) * len(point.mesh.shape)
    doublings = np.logspace(0, MOST.bit_length() - 1, MOST.bit_length(), base=2.0).reshape(-1, *every)

    def pays(batch: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.greater(speedup(point.with_batch(batch), runtime), 1.0)

    last = np.max(np.where(pays(doublings), doublings, 0.0), axis=0)
    return largest_whole(
        lambda batch: (batch <= last) | ((batch < 2 * last) & pays(np.maximum(batch, 1.0))), MOST, point.mesh.shape
    )


def _speculates(point: Point) -> bool:
    return any(technique.name == "speculation" for technique, _ in active(point.choices.techniques))


def _plain(point: Point) -> Point:
    """The same sequences, decoded one token at a time."""

    def make() -> Choices:
        techniques = {name: value for name, value in point.choices.techniques.items() if name != "speculation"}
        return replace(point.choices, techniques=techniques)

    choices = point.choices.cached("without speculation", make)
    return Point(point.model, choices, point.mesh).with_batch(point.batch)
