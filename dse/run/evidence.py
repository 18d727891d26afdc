"""What a row's timing rests on, and how far it may be off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.breakdown import Timed, timed_operators
from dse.cost.phases import Point
from dse.cost.placement.placed import Placed
from dse.cost.rates import STANDINGS, standing
from dse.cost.setting import PHASES, Phase
from dse.spec.bands import error_models

ERRORS = ("ttft_error_pct", "tpot_error_pct", "throughput_error_pct")

COUNTS = 0.10
"""Share of a metric's time from which a class of operators counts: the weakest of those names the evidence."""

TIMING_FIELDS = ("peak_tflops", "memory.bandwidth_gb_per_s", "memory.capacity_gb")
"""Numbers of an accelerator that every row rests on."""

LINK_FIELDS = ("scale_up", "scale_out", "host_link")
"""Those that rows of several devices rest on as well."""


class ByRest:
    """Seconds of the operators of a phase by class and by what they rest on (index into `STANDINGS`).

    Arrays of the mesh's shape.
    """

    def __init__(self, point: Point) -> None:
        self.seconds: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._shape = point.mesh.shape
        self._rates = (point.kernels if isinstance(point, Placed) else point).rates

    def add(self, timed: Timed) -> None:
        """Count an operator."""
        rests = standing(timed.work, self._rates)
        seconds = timed.count * (timed.times.seconds + timed.overhead)
        for index in sorted(set(np.ravel(rests).tolist())):
            key = (timed.work.group, index)
            held = self.seconds.get(key, np.zeros(self._shape))
            self.seconds[key] = held + np.where(rests == index, seconds, 0.0)


def rests_of(point: Point) -> dict[Phase, ByRest]:
    """What the time of both phases rests on."""
    found = {phase: ByRest(point) for phase in PHASES}
    for phase, rests in found.items():
        for timed in timed_operators(point, phase):
            rests.add(timed)
    return found


def evidence(point: Point, rests: Mapping[Phase, ByRest] | None = None) -> dict[str, list[Any]]:
    """Evidence class and error columns of a list of points.

    `ideal` is the pure roofline, `datasheet` default efficiencies, `calibrated` those fitted on the accelerator,
    `transferred` on a relative; `+recalled` is appended where a number of the accelerator that the timing uses was
    recalled and not read in a document. Each error column has the band of its own metric's weakest class, `evidence`
    the weakest of TTFT and TPOT.

    Args:
        point: the points.
        rests: what their time rests on, where that is at hand.
    """
    rests = rests or rests_of(point)
    choices, mesh = point.choices, point.mesh
    alone = [_recalled(chip.recalled, TIMING_FIELDS) for chip in choices.hardware]
    linked = [_recalled(chip.recalled, (*TIMING_FIELDS, *LINK_FIELDS)) for chip in choices.hardware]
    devices = np.broadcast_to(point.degrees.devices, mesh.shape).tolist()
    steps = np.broadcast_to(point.steps, mesh.shape)
    prefill, decode = rests["prefill"].seconds, {key: steps * held for key, held in rests["decode"].seconds.items()}
    none = np.zeros(mesh.shape)
    whole = {key: prefill.get(key, none) + decode.get(key, none) for key in (*prefill, *decode)}
    classes = [_weakest(held, mesh.shape) for held in (prefill, decode, whole)]
    marks = [
        "+recalled" if (linked[chip] if count > 1 else alone[chip]) else ""
        for chip, count in zip(mesh.index["hardware"].tolist(), devices, strict=True)
    ]
    # A request of one token has no decode step for its row to rest on.
    row = np.where(steps > 0, np.minimum(classes[0], classes[1]), classes[0]).tolist()
    names = [STANDINGS[index] + mark for index, mark in zip(row, marks, strict=True)]
    models = error_models()
    errors = {
        name: [float(models[STANDINGS[index]].bands[i]) for index in found.tolist()]
        for i, (name, found) in enumerate(zip(ERRORS, classes, strict=True))
    }
    return {"evidence": names, **errors}


def _weakest(seconds: Mapping[tuple[str, int], NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """The weakest standing among the classes that hold their share of the time."""
    total = sum(seconds.values(), np.zeros(shape))
    weakest = np.full(shape, len(STANDINGS) - 1)
    for (_, index), held in seconds.items():
        counts = (held >= COUNTS * total) & (held > 0)
        weakest = np.where(counts, np.minimum(weakest, index), weakest)
    return weakest


def _recalled(paths: tuple[str, ...], fields: tuple[str, ...]) -> bool:
    return any(path == field or path.startswith(f"{field}.") for path in paths for field in fields)
