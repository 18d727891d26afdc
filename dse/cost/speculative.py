"""What speculation buys: against the same sequences decoded without it, and up to which batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices
from dse.cost.engine import step_seconds
from dse.cost.phases import Point
from dse.cost.techniques import active
from dse.cost.work import Array
from dse.spec.runtime import RuntimeSpec

MOST = 2**16
"""Largest batch that is looked at."""

STEPS = 32
"""Batches that part of a doubling is divided into, three times over: 32^3 are as many as the last doubling has."""

PROBES = 2_000
"""Batches tried at once, over all points."""


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
    axes = (1,) * len(point.mesh.shape)
    doublings = np.array([2.0**power for power in range(MOST.bit_length())]).reshape(-1, *axes)
    low = np.max(np.where(_gains(point, runtime, doublings), doublings, 0.0), axis=0)
    high = np.minimum(2 * low, MOST + 1.0)
    shares = np.arange(1, STEPS).reshape(-1, *axes) / STEPS
    for _ in range(3):
        tried = np.floor(low + (high - low) * shares)
        good = _gains(point, runtime, np.maximum(tried, 1.0)) & (tried > low)
        best = np.max(np.where(good, tried, low), axis=0)
        high = np.min(np.where(tried > best, tried, high), axis=0)
        low = best
    return cast(Array, low)


def _gains(point: Point, runtime: RuntimeSpec, batches: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where speculation makes steps of these batches faster; they stand on an axis before those of the mesh."""
    at_once = max(1, PROBES // max(math.prod(point.mesh.shape), 1))
    found = [
        np.greater(speedup(point.with_batch(batches[start : start + at_once]), runtime), 1.0)
        for start in range(0, len(batches), at_once)
    ]
    return np.concatenate(found)


def _speculates(point: Point) -> bool:
    return any(technique.name == "speculation" for technique, _ in active(point.choices.techniques))


def _plain(point: Point) -> Point:
    """The same sequences, decoded one token at a time."""

    def make() -> Choices:
        techniques = {name: value for name, value in point.choices.techniques.items() if name != "speculation"}
        return replace(point.choices, techniques=techniques)

    choices = point.choices.cached("without speculation", make)
    return Point(point.model, choices, point.mesh).with_batch(point.batch)
