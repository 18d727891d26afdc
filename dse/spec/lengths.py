"""Lengths of requests as a distribution: a histogram file or a named trace, reduced to a few weighted pairs.

A histogram is a CSV with one row per cell: `input, output, weight`, or bins `in_lo, in_hi, out_lo, out_hi, count` with
`mean_in, mean_out` where they are known (the middle of the bin otherwise). Traces stand in `configs/traces.yaml`.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from dse.errors import Fault, InputError
from dse.spec.reading import library_file, read, show, suggest, text_of

NODES = 16
"""Most weighted pairs of a distribution."""

FILE = "configs/traces.yaml"

MAX_BYTES = 100_000_000
"""Of a histogram: a million cells and more."""

LONGEST = 10_000_000
"""Tokens of a prompt or an answer."""

MOST = 1e12
"""Of a number in a histogram; sums of larger ones lose what is small."""

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
    return tuple(node for node, _ in grouped(cells, most))


def grouped(cells: Sequence[Length], most: int = NODES) -> list[tuple[Length, Sequence[Length]]]:
    """The pairs of `reduced`, each with the cells it is the mean of."""
    total = math.fsum(cell.weight for cell in cells)
    groups = [sorted(Length(i, o, w / total) for i, o, w in cells if w > 0)]
    scale = [math.fsum(cell.weight * cell[axis] ** 2 for cell in groups[0]) for axis in (0, 1)]
    while len(groups) < most:
        splits = [_best_split(group, scale) for group in groups]
        saved, at = max((split[0], -index) for index, split in enumerate(splits))
        if saved <= 0:
            break
        groups[-at : -at + 1] = splits[-at][1]
    return sorted((_mean(group), group) for group in groups)


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
    reader = csv.DictReader(io.StringIO(text_of(file, MAX_BYTES), newline=""))
    try:
        names = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(Fault(f"cannot be read as CSV: {error}", file=file, line=reader.line_num, column=1)) from None
    wanted = PAIRS if "input" in names else BINS
    if missing := [name for name in wanted if name not in names]:
        expected = f"expected {', '.join(PAIRS)}, or {', '.join(BINS)} and mean_in, mean_out where known"
        raise InputError(Fault(f"lacks the column {missing[0]!r}; {expected}", file=file, line=1, column=1))
    faults: list[Fault] = []
    cells = [cell for number, row in rows if (cell := _cell(row, wanted, file, number, faults)) is not None]
    if faults:
        raise InputError(faults)
    if not cells:
        raise InputError(Fault("has no rows of lengths", file=file))
    if not math.fsum(cell.weight for cell in cells) > 0:
        raise InputError(
            Fault(f"the column {wanted[-1]!r} sums to zero: no request has any of these lengths", file=file)
        )
    return tuple(cells)


def _cell(row: Mapping[Any, Any], wanted: Sequence[str], file: str, line: int, faults: list[Fault]) -> Length | None:
    """One row; what is wrong with it goes to `faults`."""
    if any(row.get(None) or ()):  # where DictReader puts what has no column
        faults.append(Fault("has more fields than the header; is a decimal comma in it?", "", file, line, 1))
        return None
    names = (*wanted, *(("mean_in", "mean_out") if wanted is BINS and row.get("mean_in") else ()))
    values: dict[str, float] = {}
    wrong = []
    for name in names:
        text = str(row.get(name) or "").strip()
        try:
            values[name] = _number(text)
        except ValueError as error:
            wrong.append(Fault(str(error), name, file, line, 1))
    if not wrong:
        wrong = [Fault(message, name, file, line, 1) for name, message in _no_lengths(values)]
    faults += wrong
    return None if wrong else _length(values)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {show(text)}") from None
    if not 0 <= value < math.inf:
        raise ValueError(f"must be 0 or more, got {text}")
    if value > MOST:
        raise ValueError(f"must be at most {MOST:g}, got {text}")
    return value


def _length(values: Mapping[str, float]) -> Length:
    if "weight" in values:
        return Length(values["input"], values["output"], values["weight"])
    means = [values.get(f"mean_{end}", (values[f"{end}_lo"] + values[f"{end}_hi"]) / 2) for end in ("in", "out")]
    return Length(means[0], means[1], values["count"])


def _no_lengths(values: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Fields of a row that are numbers, and no lengths of a request: their names and what is wrong."""
    for end in ("in", "out"):
        if values.get(f"{end}_lo", 0.0) > values.get(f"{end}_hi", math.inf):
            yield f"{end}_lo", f"{values[f'{end}_lo']:g} is above {end}_hi, {values[f'{end}_hi']:g}"
    found = _length(values)
    if found.weight > 0 and min(found.input, found.output) < 1:
        yield "input" if found.input < 1 else "output", "a request has at least one token"
    for which in ("input", "output"):
        if getattr(found, which) > LONGEST:
            yield which, f"must be at most {LONGEST:,} tokens, got {getattr(found, which):,.0f}"


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


def longest_of(name: str) -> int:
    """Tokens that no request of a trace exceeds: its longest prompt and its longest answer."""
    return sum(map(int, traces()[trace(name)[0]]["longest"]))
