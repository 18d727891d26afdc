"""Measured rows -> the error bands every result carries, and the parts of an error that points have in common.

Kernels alone (`runtime: ideal`) against static batches and single streams of grade A, per evidence class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.validate import Validation, validate
from dse.cost import COST_MODEL
from dse.errors import CannotRun
from dse.spec.bands import METRICS
from dse.spec.runtime import IDEAL

CLASSES_OF = {"ideal": ("ideal",), "datasheet": ("datasheet",), "calibrated": ("transferred", "calibrated")}
"""Fidelity -> the evidence classes measured by it; what it falls back to is measured by its own fidelity."""

METRIC_OF = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_s": "throughput", "output_tok_s": "throughput"}

SCENARIOS = ("static_batch", "latency")
"""Where the batch is known and nothing waits: what is off there is off by the cost model."""

GRADES = ("A", "")
"""Lengths, batch and formats known; a file of one's own need not be graded."""

FACTORS: Mapping[str, tuple[str, ...]] = {
    "model": ("model",),
    "chip": ("hardware",),
    "scheme": ("weight_dtype", "act_dtype", "kv_dtype"),
    "engine": ("framework", "version"),
    "layout": ("tp", "pp", "dp", "ep", "n_gpus"),
}
"""Part of the error -> the columns it follows from; `octave`, the batch, is the sixth."""

NINE_IN_TEN = 1.6449
"""90 % of a normal distribution lies within so many standard deviations."""

CLIPPED = 2 * NINE_IN_TEN
"""Log errors beyond so many standard deviations (by the 90 % band) count as that: a single row has no say."""

ROWS = 400
"""Rows of one request shape that are compared pair by pair, evenly chosen where there are more."""

PAIRS = 30
"""Pairs from which a source says something of the shares."""

OCTAVES = 6.0
"""Batches further apart count as so many doublings."""

HEADER = """\
# How far predictions were off where somebody measured, by evidence class (contract 6 of the design).
# Written by `dse validate MEASURED.csv --bands FILE` (dse/calibrate/bands.py); read by dse/spec/bands.py.
#   error_pct  90th percentile of |predicted / measured - 1|, averaged over the sources, whose own follow
#   shares     of the variance of the log error: the part two points do not share where they differ in that
"""


@dataclass(frozen=True)
class Row:
    """One prediction of a known error."""

    metric: str
    source: str
    fields: Mapping[str, str]
    ratio: float
    """Predicted over measured; of throughputs where the time of the whole request was measured."""


def measure_bands(path: str | Path) -> dict[str, list[Row]]:
    """The rows that tell how far each evidence class is off, by class.

    Raises:
        InputError: the file cannot be read, or is not of the schema.
        CannotRun: none of its rows tells anything.
    """
    found: dict[str, list[Row]] = {}
    for fidelity, classes in CLASSES_OF.items():
        for name, row in _rows(validate(path, fidelity, IDEAL)):
            if name in classes:
                found.setdefault(name, []).append(row)
    if not found:
        raise CannotRun(f"{path}: no row of a static batch or a single stream could be predicted")
    return found


def _rows(validation: Validation) -> Iterator[tuple[str, Row]]:
    for row, scored, prediction in zip(validation.rows, validation.scored, validation.predictions, strict=True):
        told = row.text("quality") in GRADES and row.text("scenario") in SCENARIOS
        metric = row.text("metric")
        if told and metric in METRIC_OF and scored.ratio is not None:
            ratio = 1 / scored.ratio if metric == "e2e_s" else scored.ratio
            name = prediction.evidence.partition("+")[0]
            yield name, Row(METRIC_OF[metric], row.text("source"), row.fields, ratio)


def band(rows: Sequence[Row]) -> dict[str, Any]:
    """The band of one metric: the sources count alike, however many rows they have."""
    sources = {
        source: float(np.percentile([100 * abs(row.ratio - 1) for row in rows if row.source == source], 90))
        for source in sorted({row.source for row in rows})
    }
    return {
        "error_pct": round(sum(sources.values()) / len(sources)),
        "rows": len(rows),
        "sources": {source: round(value) for source, value in sources.items()},
    }


def shares(rows: Sequence[Row]) -> dict[str, float] | None:
    """Shares of the variance by what two points differ in; None where too few rows can be compared.

    Half the squared difference of the log errors of two rows is regressed on what they differ in, without negative
    shares, within each source and metric (who measured, and how, is common to a comparison as well) and between
    requests of the same shape; the sources that tell a share count alike.
    """
    told: dict[str, list[float]] = {name: [] for name in (*FACTORS, "octave")}
    for key in sorted({(row.source, row.metric) for row in rows}):
        found = _shares([row for row in rows if (row.source, row.metric) == key])
        for name, value in found.items():
            told[name].append(value)
    if not any(told.values()):
        return None
    means = {name: sum(values) / len(values) if values else 0.0 for name, values in told.items()}
    # Two points that differ in everything share nothing, and each has no more than the whole variance.
    whole = max(1.0, sum(means[name] for name in FACTORS))
    return {name: round(value / whole, 2) for name, value in means.items()}


def _shares(rows: Sequence[Row]) -> dict[str, float]:
    """The shares that the rows of one source and metric tell."""
    from scipy.optimize import nnls

    errors = np.log([row.ratio for row in rows])
    limit = CLIPPED * float(np.percentile(np.abs(errors), 90)) / NINE_IN_TEN
    errors = np.clip(errors, -limit, limit)
    shapes: dict[tuple[str, str], list[int]] = {}
    for place, row in enumerate(rows):
        shapes.setdefault((row.fields.get("input_len", ""), row.fields.get("output_len", "")), []).append(place)
    differ, halves = [], []
    for places in shapes.values():
        chosen = places[:: -(-len(places) // ROWS)]
        a, b = np.triu_indices(len(chosen), 1)
        held = errors[chosen]
        differ.append(_differences([rows[place].fields for place in chosen])[:, a, b].T)
        halves.append((held[a] - held[b]) ** 2 / 2)
    pairs, half = np.concatenate(differ), np.concatenate(halves)
    if len(half) < PAIRS or not errors.any():
        return {}
    fitted = nnls(pairs, half / np.mean(errors**2))[0]
    varied = np.ptp(pairs, axis=0) > 0
    return {name: float(fitted[i]) for i, name in enumerate((*FACTORS, "octave")) if varied[i]}


def _differences(rows: Sequence[Mapping[str, str]]) -> NDArray[np.float64]:
    """What each pair of rows differs in, shape (factors, rows, rows): 0 or 1, and doublings of the batch."""
    found = []
    for columns in FACTORS.values():
        codes: dict[tuple[str, ...], int] = {}
        code = np.array([codes.setdefault(tuple(row.get(name, "") for name in columns), len(codes)) for row in rows])
        found.append((code[:, None] != code).astype(float))
    octave = np.log2([max(float(row.get("batch_or_concurrency") or 1), 1.0) for row in rows])
    found.append(np.minimum(np.abs(octave[:, None] - octave), OCTAVES))
    return np.stack(found)


def write_bands(path: Path, measured: str, found: Mapping[str, Sequence[Row]]) -> None:
    """Write the file that `dse.spec.bands` reads.

    Args:
        path: the file to write.
        measured: name of the file of measurements.
        found: the rows of each evidence class.
    """
    import yaml

    classes: dict[str, dict[str, Any]] = {}
    for name, rows in found.items():
        entry: dict[str, Any] = {}
        for metric in METRICS:
            held = [row for row in rows if row.metric == metric]
            if held:
                entry[metric] = band(held)
        divided = shares(rows)
        classes[name] = entry | ({"shares": divided} if divided else {})
    content = {
        "source": f"dse validate {measured} --bands, {date.today().isoformat()}; grade A, static batches and single "
        "streams, no engine's costs added",
        "cost_model": COST_MODEL,
        "classes": classes,
    }
    dumped = yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None)
    path.write_text(HEADER + "\n" + dumped, encoding="utf-8")
