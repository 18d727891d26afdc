"""How a column of results is named, measured and judged when people read it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Sense = Literal["min", "max"]

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column as it is shown: what it is called, in what unit, and which way is better."""

    name: str
    label: str
    unit: str = ""
    sense: Sense | None = None


_KNOWN = {
    column.name: column
    for column in (
        Column("number", "Point"),
        Column("dp", "dp"),
        Column("ep", "ep"),
        Column("pp", "pp"),
        Column("tp", "tp"),
        Column("ttft_ms", "TTFT", "ms", "min"),
        Column("tpot_ms", "TPOT", "ms", "min"),
        Column("latency_s", "Latency", "s", "min"),
        Column("output_tokens_per_s", "Throughput", "tokens/s", "max"),
        Column("output_tokens_per_s_per_device", "Throughput per device", "tokens/s/device", "max"),
        Column("requests_per_s", "Requests", "1/s", "max"),
        Column("devices", "Devices", "", "min"),
        Column("memory_gb_per_device", "Memory per device", "GB", "min"),
        Column("host_memory_gb", "Host memory", "GB", "min"),
        Column("disk_gb", "Disk", "GB", "min"),
        Column("usd_per_million_output_tokens", "Cost", "USD/M tokens", "min"),
        Column("joules_per_output_token", "Energy", "J/token", "min"),
        Column("accuracy_drop_pct", "Accuracy drop", "%", "min"),
        Column("max_context", "Longest context", "tokens", "max"),
        Column("max_batch", "Largest batch", "", "max"),
        Column("ttft_error_pct", "TTFT error", "±%", "min"),
        Column("tpot_error_pct", "TPOT error", "±%", "min"),
        Column("throughput_error_pct", "Throughput error", "±%", "min"),
        Column("price_usd_per_device_hour", "Price", "USD/device/h", "min"),
    )
}

_UNIT_SUFFIXES = {
    "_gb_per_s": "GB/s", "_gb": "GB", "_mb": "MB", "_tflops": "TFLOP/s",
    "_ms": "ms", "_s": "s", "_w": "W", "_pct": "%",
}  # fmt: skip

CONFIGURATION = (
    "model", "hardware", "precision", "workload", "input", "output", "tp", "pp", "dp", "ep", "batch",
    "serving", "offload", "runtime", "fidelity",
)  # fmt: skip
"""The columns every row has that say what was configured; a sweep adds its own axes to them."""

EVIDENCE = {
    "calibrated": "efficiencies fitted on measurements of this accelerator",
    "transferred": "efficiencies fitted on a related accelerator",
    "datasheet": "datasheet peaks with default efficiencies",
    "ideal": "pure roofline: no efficiency losses at all",
}
"""What a row's timing rests on, strongest first (contract 6 of the design)."""


def describe(name: str, objectives: Iterable[Mapping[str, Any]] = ()) -> Column:
    """The column's label, unit and sense; a manifest's objectives overrule what is known here."""
    known = _KNOWN.get(name) or _from_name(name)
    for objective in objectives:
        if objective.get("name") == name:
            return Column(name, known.label, objective.get("unit") or known.unit, objective["sense"])
    return known


def _from_name(name: str) -> Column:
    for suffix, unit in _UNIT_SUFFIXES.items():
        if name.endswith(suffix):
            return Column(name, _words(name.removesuffix(suffix)), unit)
    return Column(name, _words(name))


def _words(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


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
