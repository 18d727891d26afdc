"""Measured throughputs as a file: what one accelerator serves of each size, instead of the cost model's word."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dse.errors import Fault, InputError
from dse.spec.reading import text_of

MAX_RATE = 1e9
"""Requests/s; beyond, and below its inverse, a number is a slip."""

COLUMNS = ("input", "output", "hardware", "requests_per_s")


@dataclass(frozen=True, slots=True)
class Measured:
    """One row: a size, an accelerator, what it serves."""

    input: int
    output: int
    hardware: str
    requests_per_s: float
    """0 where it cannot meet the latencies."""
    model: str = ""
    """Empty: of the plan's only model."""


def read_throughput(file: str) -> list[Measured]:
    """The rows of a CSV file: `input, output, hardware, requests_per_s`, and `model` where there are several.

    Raises:
        InputError: a column is missing, a value is no number, or a row stands twice; all faults at once.
    """
    reader = csv.DictReader(io.StringIO(text_of(file)))
    names = [str(name).strip() for name in reader.fieldnames or []]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        hint = f"; it has {', '.join(names)}"
        raise InputError([Fault(f"missing column '{name}'{hint}", file=file, line=1, column=1) for name in missing])
    reader.fieldnames = names
    found: dict[tuple[str, str, int, int], Measured] = {}
    faults = []
    for row in _rows(reader, file):
        wrong = list(_faults(row))
        if not wrong:
            entry = _measured(row)
            key = entry.model, entry.hardware, entry.input, entry.output
            if key in found:
                wrong = [f"{entry.input}x{entry.output} on {entry.hardware} stands twice; keep one"]
            found[key] = entry
        faults += [Fault(message, file=file, line=reader.line_num, column=1) for message in wrong]
    if faults:
        raise InputError(faults)
    if not found:
        raise InputError(Fault("holds no rows", file=file))
    return list(found.values())


def _rows(reader: csv.DictReader[str], file: str) -> Iterator[dict[str | Any, str | Any]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(Fault(f"cannot be read as CSV: {error}", file=file, line=reader.line_num, column=1)) from None


def _faults(row: Mapping[Any, Any]) -> Iterator[str]:
    if any(row.get(None) or ()):  # where DictReader puts what has no column
        yield "has more fields than the header; is a decimal comma in it?"
        return
    for name in ("input", "output"):
        value = _number(row[name])
        if not (value >= 1 and value == int(value)):
            yield f"{name} must be a whole number of at least 1, got {row[name] or ''!r}"
    if not (row["hardware"] or "").strip():
        yield "hardware must not be empty"
    rate = _number(row["requests_per_s"])
    if not rate >= 0:
        yield f"requests_per_s must be a number of at least 0, got {row['requests_per_s'] or ''!r}"
    elif rate and not 1 / MAX_RATE <= rate <= MAX_RATE:
        yield f"requests_per_s must be 0, or from {1 / MAX_RATE:g} to {MAX_RATE:g}, got {row['requests_per_s']!r}"


def _number(text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _measured(row: Mapping[str, str]) -> Measured:
    return Measured(
        int(float(row["input"])),
        int(float(row["output"])),
        row["hardware"].strip(),
        float(row["requests_per_s"]),
        (row.get("model") or "").strip(),
    )
