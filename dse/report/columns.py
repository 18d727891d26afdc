"""How a column of results is named, measured and judged when people read it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Sense = Literal["min", "max"]

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column as it is shown: what it is called, in what unit, which way is better, what it means."""

    name: str
    label: str
    unit: str = ""
    sense: Sense | None = None
    meaning: str = ""


_LABELS = {
    "number": "Point",
    "tp": "tp",
    "pp": "pp",
    "dp": "dp",
    "ep": "ep",
    "ttft_ms": "TTFT",
    "tpot_ms": "TPOT",
    "output_tokens_per_s": "Throughput",
    "output_tokens_per_s_per_device": "Throughput per device",
    "requests_per_s": "Request rate",
    "memory_gb_per_device": "Memory per device",
    "usd_per_million_output_tokens": "Cost per token",
    "usd_per_hour": "Cost per hour",
    "joules_per_output_token": "Energy",
    "accuracy_drop_pct": "Accuracy drop",
    **{
        f"{name}_p{share}_{unit}": f"{label} p{share}"
        for name, label, unit in (("ttft", "TTFT", "ms"), ("tpot", "TPOT", "ms"), ("latency", "Latency", "s"))
        for share in (50, 90, 99)
    },
    "goodput_requests_per_s": "Goodput",
    "slo_attainment": "SLO attainment",
    "max_rate": "Highest rate in SLO",
    "rate": "Arrivals",
    "max_context": "Longest context",
    "max_batch": "Largest batch",
    "ttft_error_pct": "TTFT error",
    "tpot_error_pct": "TPOT error",
    "throughput_error_pct": "Throughput error",
    "price_usd_per_device_hour": "Price",
    "front_probability": "p front",
    "prefill_tp": "Prefill tp",
    "prefill_pp": "Prefill pp",
    "prefill_dp": "Prefill dp",
    "prefill_ep": "Prefill ep",
}
"""Names that read better than the column's own words."""

_MEANINGS = {
    "front_probability": "probability of being on the front of its group, given how far predictions were off elsewhere",
}

_UNITS = {"price_usd_per_device_hour": "$/h", "rate": "requests/s"}

_UNIT_SUFFIXES = {
    "_gb_per_s": "GB/s", "_gb": "GB", "_mb": "MB", "_tflops": "TFLOP/s",
    "_ms": "ms", "_s": "s", "_w": "W", "_pct": "%",
}  # fmt: skip

CONFIGURATION = (
    "model", "hardware", "precision", "workload", "input", "output", "tp", "pp", "dp", "ep", "rate", "batch",
    "serving", "offload", "runtime", "fidelity",
)  # fmt: skip
"""The columns every row has that say what was configured; a sweep adds its own axes to them."""

DEGREES = ("tp", "pp", "dp", "ep")


def describe(name: str, objectives: Iterable[Mapping[str, Any]] = ()) -> Column:
    """How to show a column; a manifest's objectives overrule what this version knows of a metric."""
    found = _describe(name)
    for objective in objectives:
        if objective.get("name") == name:
            unit = objective.get("unit") or found.unit
            return replace(found, unit="" if unit == found.label.lower() else unit, sense=objective["sense"])
    return found


def _describe(name: str) -> Column:
    from dse.cost.metrics import METRICS

    metric = METRICS.get(name)
    words, suffix_unit = _split_unit(name)
    label = _LABELS.get(name, words)
    if metric is None:
        if name in _MEANINGS:
            return Column(name, label, "", "max", _MEANINGS[name])
        error: Sense | None = "min" if name.endswith("_error_pct") else None
        return Column(name, label, "±%" if error else _UNITS.get(name, suffix_unit), error)
    unit = "" if metric.unit == label.lower() else metric.unit
    return Column(name, label, unit, "max" if metric.sense == "max" else "min", metric.meaning)


def _split_unit(name: str) -> tuple[str, str]:
    for suffix, unit in _UNIT_SUFFIXES.items():
        if name.endswith(suffix):
            return _words(name.removesuffix(suffix)), unit
    return _words(name), ""


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def layout(row: Mapping[str, Any]) -> str:
    """How a point is spread: `tp 8 pp 2`, without degrees of one but tp; of two pools `2 x tp 1 + 1 x tp 4`."""
    own = _degrees(row, "")
    if row.get("prefill_tp") is None:
        return own
    counts = [number_text(row.get(name)) for name in ("prefill_workers", "decode_workers")]
    return f"{counts[0]} × {_degrees(row, 'prefill_')} + {counts[1]} × {own}"


def _degrees(row: Mapping[str, Any], pool: str) -> str:
    held = [(name, row.get(f"{pool}{name}")) for name in DEGREES]
    return " ".join(f"{name} {degree}" for name, degree in held if degree is not None and (name == "tp" or degree != 1))


def where(row: Mapping[str, Any]) -> str:
    """Which point a row is, in one line."""
    names = [str(row[name]) for name in ("model", "hardware", "precision", "workload") if row.get(name) is not None]
    return ", ".join([*names, layout(row), f"batch {row.get('batch', MISSING)}"])


def number_text(value: object, digits: int = 3) -> str:
    """A value with as many digits as a reader can use; missing values and NaN become a dash."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{value:,.0f}"
    size = abs(value)
    if math.isinf(value) or size >= 1e15 or size < 1e-4:
        return f"{value:.{digits - 1}e}"
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(size)))}f}"
