"""Lengths of requests as a distribution: a histogram file or a named trace, reduced to a few weighted pairs.

A histogram is a CSV with one row per cell: `input, output, weight`, or bins `in_lo, in_hi, out_lo, out_hi, count` with
`mean_in, mean_out` where they are known (the middle of the bin otherwise). Traces stand in `configs/traces.yaml`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dse.errors import Fault, InputError
from dse.spec.reading import library_file, read, show, suggest

NODES = 16
"""Most weighted pairs of a distribution."""

FILE = "configs/traces.yaml"

PAIRS = ("input", "output", "weight")
BINS = ("in_lo", "in_hi", "out_lo", "out_hi", "count")


class Length(NamedTuple):
    """A pair of lengths, and the share of the requests that have it."""

    input: float
    output: float
    weight: float


def reduced(cells: Sequence[Length], most: int = NODES) -> tuple[Length, ...]:
    """The distribution in at most `most` pairs, each the mean of a group of cells: means stay exact.

    The group with the largest squared error (of both lengths, each in units of its mean square) is split where that
    saves most, until there are enough: what variance is lost lies within the groups. In order of input, then output.
    """
    total = math.fsum(cell.weight for cell in cells)
    groups = [sorted(Length(i, o, w / total) for i, o, w in cells if w > 0)]
    scale = [math.fsum(cell.weight * cell[axis] ** 2 for cell in groups[0]) for axis in (0, 1)]
    while len(groups) < most:
        splits = [_best_split(group, scale) for group in groups]
        saved, at = max((split[0], -index) for index, split in enumerate(splits))
        if saved <= 0:
            break
        groups[-at : -at + 1] = splits[-at][1]
    return tuple(sorted(map(_mean, groups)))


def _best_split(group: Sequence[Length], scale: Sequence[float]) -> tuple[float, list[list[Length]]]:
    """What the best cut in two saves of the squared error, and the halves."""
    best: tuple[float, list[list[Length]]] = (0.0, [])
    whole = _error(group, scale)
    for axis in (0, 1):
        ordered = sorted(group, key=lambda cell: (cell[axis], cell[1 - axis]))
        for place in range(1, len(ordered)):
            if ordered[place][axis] > ordered[place - 1][axis]:
                halves = [ordered[:place], ordered[place:]]
                saved = whole - sum(_error(half, scale) for half in halves)
                if saved > best[0] * (1 + 1e-12):
                    best = saved, halves
    return best


def _error(group: Sequence[Length], scale: Sequence[float]) -> float:
    mean = _mean(group)
    return math.fsum(
        cell.weight * ((cell.input - mean.input) ** 2 / scale[0] + (cell.output - mean.output) ** 2 / scale[1])
        for cell in group
    )


def _mean(group: Sequence[Length]) -> Length:
    weight = math.fsum(cell.weight for cell in group)
    return Length(
        math.fsum(cell.weight * cell.input for cell in group) / weight,
        math.fsum(cell.weight * cell.output for cell in group) / weight,
        weight,
    )


def read_histogram(file: str) -> tuple[Length, ...]:
    """The cells of a histogram file.

    Raises:
        InputError: no such file, columns or numbers; no cells, or none with a weight.
    """
    path = Path(file)
    if not path.is_file():
        raise InputError(Fault("no such file; expected a CSV of lengths", file=file))
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
            names = [name.strip() for name in reader.fieldnames or ()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(Fault(f"cannot be read as CSV: {error}", file=file)) from None
    wanted = PAIRS if "input" in names else BINS
    if missing := [name for name in wanted if name not in names]:
        expected = f"expected {', '.join(PAIRS)}, or {', '.join(BINS)} and mean_in, mean_out where known"
        raise InputError(Fault(f"lacks the column {missing[0]!r}; {expected}", file=file, line=1, column=1))
    faults: list[Fault] = []
    cells = [
        cell for number, row in enumerate(rows, 2) if (cell := _cell(row, wanted, file, number, faults)) is not None
    ]
    if faults:
        raise InputError(faults)
    if not cells:
        raise InputError(Fault("has no rows of lengths", file=file))
    if not math.fsum(cell.weight for cell in cells) > 0:
        raise InputError(
            Fault(f"the column {wanted[-1]!r} sums to zero: no request has any of these lengths", file=file)
        )
    return tuple(cells)


def _cell(row: Mapping[str, Any], wanted: Sequence[str], file: str, line: int, faults: list[Fault]) -> Length | None:
    """One row; what is wrong with it goes to `faults`."""
    values: dict[str, float] = {}
    for name in (*wanted, *(("mean_in", "mean_out") if wanted is BINS and row.get("mean_in") else ())):
        text = str(row.get(name) or "").strip()
        try:
            values[name] = float(text)
        except ValueError:
            faults.append(Fault(f"expected a number, got {show(text)}", name, file, line, 1))
            continue
        if not 0 <= values[name] < math.inf:
            faults.append(Fault(f"must be 0 or more, got {text}", name, file, line, 1))
    if len(values) < len(wanted) or any(fault.line == line for fault in faults):
        return None
    if wanted is PAIRS:
        found = Length(values["input"], values["output"], values["weight"])
    else:
        means = [values.get(f"mean_{end}", (values[f"{end}_lo"] + values[f"{end}_hi"]) / 2) for end in ("in", "out")]
        found = Length(means[0], means[1], values["count"])
    if found.weight > 0 and min(found.input, found.output) < 1:
        which = "input" if found.input < 1 else "output"
        faults.append(Fault("a request has at least one token", which, file, line, 1))
    return found


@cache
def traces() -> dict[str, dict[str, Any]]:
    """The traces of the library by name: aliases, source, licence, requests and lengths."""
    found: dict[str, dict[str, Any]] = read(library_file(FILE)).value
    return found


def trace_names() -> dict[str, str]:
    """Every name of a trace, and the one it stands under."""
    own = {name: name for name in traces()}
    return {alias: name for name, entry in traces().items() for alias in entry.get("aliases", ())} | own


def trace(name: str) -> tuple[str, tuple[Length, ...]]:
    """A trace by one of its names: what it is called, and its lengths.

    Raises:
        InputError: no trace has this name.
    """
    names = trace_names()
    plain = name.strip().lower().replace("_", "-").replace(" ", "-")
    if plain not in names:
        hint = suggest(name, names) or f"; expected one of {', '.join(traces())}"
        raise InputError(f"unknown trace {show(name)}{hint}")
    lengths = traces()[names[plain]]["lengths"]
    return names[plain], tuple(Length(*map(float, node)) for node in lengths)
