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
from dse.cost.setting import Phase
from dse.run.cells import Coded, listed
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


def rests_of(workers: Mapping[Phase, Point]) -> dict[Phase, ByRest]:
    """What the time of both phases rests on."""
    found = {phase: ByRest(point) for phase, point in workers.items()}
    for phase, rests in found.items():
        for timed in timed_operators(workers[phase], phase):
            rests.add(timed)
    return found


def evidence(
    point: Point, rests: Mapping[Phase, ByRest] | None = None, prompts: Point | None = None
) -> dict[str, list[Any]]:
    """Evidence class and error columns of a list of points, as `evidence_cells` has them."""
    return listed(evidence_cells(point, rests, prompts))


def evidence_cells(
    point: Point, rests: Mapping[Phase, ByRest] | None = None, prompts: Point | None = None
) -> dict[str, Coded]:
    """Evidence class and error columns of the points of a mesh, in their order.

    `ideal` is the pure roofline, `datasheet` default efficiencies, `calibrated` those fitted on the accelerator,
    `transferred` on a relative; `+recalled` is appended where a number of the accelerator that the timing uses was
    recalled and not read in a document. Each error column has the band of its own metric's weakest class, `evidence`
    the weakest of TTFT and TPOT.

    Args:
        point: the points; of several pools, the workers that generate.
        rests: what their time rests on, where that is at hand.
        prompts: the workers that compute prompts, where those are others; same mesh.
    """
    workers: dict[Phase, Point] = {"prefill": prompts or point, "decode": point}
    rests = rests or rests_of(workers)
    shape = point.mesh.shape
    steps = np.broadcast_to(point.steps, shape)
    prefill, decode = rests["prefill"].seconds, {key: steps * held for key, held in rests["decode"].seconds.items()}
    none = np.zeros(shape)
    whole = {key: prefill.get(key, none) + decode.get(key, none) for key in (*prefill, *decode)}
    classes = [_weakest(held, shape) for held in (prefill, decode, whole)]
    marked = _recalled(workers["prefill"]) | _recalled(workers["decode"])
    # A request of one token has no decode step for its row to rest on.
    row = np.where(steps > 0, np.minimum(classes[0], classes[1]), classes[0])
    names = [f"{name}{mark}" for name in STANDINGS for mark in ("", "+recalled")]
    bands = [error_models()[name].bands for name in STANDINGS]
    return {
        "evidence": Coded(names, (2 * row + marked).ravel()),
        **{
            name: Coded([float(band[i]) for band in bands], found.ravel())
            for i, (name, found) in enumerate(zip(ERRORS, classes, strict=True))
        },
    }


def _recalled(point: Point) -> NDArray[np.bool_]:
    """Whether a number that the timing of each point uses was recalled."""
    chips = point.choices.hardware
    at = point.mesh.index["hardware"]
    alone = np.array([_any_recalled(chip.recalled, TIMING_FIELDS) for chip in chips])[at]
    linked = np.array([_any_recalled(chip.recalled, (*TIMING_FIELDS, *LINK_FIELDS)) for chip in chips])[at]
    pooled = point.choices.pools is not None
    return np.broadcast_to(np.where(pooled | (point.degrees.devices > 1), linked, alone), point.mesh.shape)


def _weakest(seconds: Mapping[tuple[str, int], NDArray[np.float64]], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """The weakest standing among the classes that hold their share of the time."""
    total = sum(seconds.values(), np.zeros(shape))
    weakest = np.full(shape, len(STANDINGS) - 1)
    for (_, index), held in seconds.items():
        counts = (held >= COUNTS * total) & (held > 0)
        weakest = np.where(counts, np.minimum(weakest, index), weakest)
    return weakest


def _any_recalled(paths: tuple[str, ...], fields: tuple[str, ...]) -> bool:
    return any(path == field or path.startswith(f"{field}.") for path in paths for field in fields)
