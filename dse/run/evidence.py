"""What a row's timing rests on, and how far it may be off."""

from __future__ import annotations

from typing import Any

import numpy as np

from dse.cost.phases import Point
from dse.spec.bands import error_models

ERRORS = ("ttft_error_pct", "tpot_error_pct", "throughput_error_pct")

TIMING_FIELDS = ("peak_tflops", "memory.bandwidth_gb_per_s", "memory.capacity_gb")
"""Numbers of an accelerator that every row rests on."""

LINK_FIELDS = ("scale_up", "scale_out", "host_link")
"""Those that rows of several devices rest on as well."""


def evidence(point: Point) -> dict[str, list[Any]]:
    """Evidence class and error columns of a list of points.

    `ideal` is the pure roofline, `datasheet` default efficiencies; `+recalled` is appended where a number of
    the accelerator that the timing uses was recalled and not read in a document.
    """
    choices, mesh = point.choices, point.mesh
    names = {"ideal": "ideal", "datasheet": "datasheet", "calibrated": "datasheet"}
    alone = [_recalled(chip.recalled, TIMING_FIELDS) for chip in choices.hardware]
    linked = [_recalled(chip.recalled, (*TIMING_FIELDS, *LINK_FIELDS)) for chip in choices.hardware]
    devices = np.broadcast_to(point.degrees.devices, mesh.shape).tolist()
    found, bands, models = [], [], error_models()
    chosen = zip(mesh.index["hardware"].tolist(), mesh.index["fidelity"].tolist(), devices, strict=True)
    for chip, fidelity, count in chosen:
        weak = linked[chip] if count > 1 else alone[chip]
        name = names[choices.fidelity[fidelity]]
        found.append(name + ("+recalled" if weak else ""))
        bands.append(models[name].bands)
    errors = {name: [float(band[i]) for band in bands] for i, name in enumerate(ERRORS)}
    return {"evidence": found, **errors}


def _recalled(paths: tuple[str, ...], fields: tuple[str, ...]) -> bool:
    return any(path == field or path.startswith(f"{field}.") for path in paths for field in fields)
