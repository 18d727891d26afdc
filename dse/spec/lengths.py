"""Length histograms as files: many sizes of request, reduced to few that ask for the same work."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dse.errors import Fault, InputError
from dse.spec.reading import suggest, text_of

MOST_NODES = 16
"""Sizes a histogram is reduced to: each is a bucket of the plan."""

_INPUT, _OUTPUT, _WEIGHT = ("input", "mean_in"), ("output", "mean_out"), ("count", "weight", "frac")


@dataclass(frozen=True, slots=True)
class Node:
    """Requests of one size."""

    input: int
    output: int
    weight: float
    """Share of all requests."""


def read_lengths(file: str, trace: str | None = None) -> list[Node]:
    """The sizes in a CSV histogram (`input, output, count`, or `mean_in, mean_out, frac`), at most `MOST_NODES`.

    Args:
        file: the path.
        trace: which rows count, where the file has a column `trace`.

    Raises:
        InputError: a column is missing, a value is no positive number, or no row counts.
    """
    rows = list(_rows(file))
    if rows and "trace" in rows[0][1]:
        rows = _of_trace(file, rows, trace)
    found, faults = [], []
    for line, row in rows:
        try:
            found.append((_number(row, _INPUT, 1), _number(row, _OUTPUT, 1), _number(row, _WEIGHT, 0)))
        except ValueError as error:
            faults.append(Fault(str(error), file=file, line=line, column=1))
    if faults:
        raise InputError(faults)
    if not sum(weight for *_, weight in found):
        raise InputError(Fault("holds no requests", file=file))
    return reduced(found)


def reduced(cells: Sequence[tuple[float, float, float]], most: int = MOST_NODES) -> list[Node]:
    """Cells of (input, output, weight) gathered into at most `most` nodes, whose mean lengths they keep.

    Prompts are cut into groups that hold equal shares of all prompt tokens, each group by its outputs likewise: the
    tail holds few requests and much of the work, so that it keeps nodes of its own.
    """
    ways = max(math.isqrt(most), 1)
    table = np.array(cells, dtype=float)
    table = table[table[:, 2] > 0]
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    nodes = []
    for group in _cut(table, 0, ways):
        nodes += [
            _node(part, table[:, 2].sum()) for part in _cut(group[np.argsort(group[:, 1], kind="stable")], 1, ways)
        ]
    return nodes


def _cut(table: np.ndarray, column: int, ways: int) -> Iterator[np.ndarray]:
    """Parts of rows, sorted by a column of tokens, that hold about equal shares of its tokens."""
    tokens = np.cumsum(table[:, column] * table[:, 2])
    part = np.minimum((tokens - table[:, column] * table[:, 2] / 2) / tokens[-1] * ways, ways - 1).astype(int)
    for index in range(ways):
        if np.any(part == index):
            yield table[part == index]


def _node(part: np.ndarray, total: float) -> Node:
    weight = part[:, 2].sum()
    mean_in, mean_out = (part[:, :2] * part[:, 2:]).sum(axis=0) / weight
    return Node(max(round(mean_in), 1), max(round(mean_out), 1), float(weight / total))


def _rows(file: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    reader = csv.DictReader(io.StringIO(text_of(file)))
    names = reader.fieldnames or []
    missing = [options[0] for options in (_INPUT, _OUTPUT, _WEIGHT) if not set(options) & set(names)]
    if missing:
        hint = f"; it has {', '.join(map(str, names))}"
        raise InputError([Fault(f"missing column '{name}'{hint}", file=file, line=1, column=1) for name in missing])
    for row in reader:
        yield reader.line_num, row


def _of_trace(
    file: str, rows: Sequence[tuple[int, Mapping[str, str]]], trace: str | None
) -> list[tuple[int, Mapping[str, str]]]:
    names = list(dict.fromkeys(row["trace"] for _, row in rows))
    if trace is None and len(names) > 1:
        raise InputError(Fault(f"holds several traces; name one with 'trace': {', '.join(names)}", file=file))
    wanted = trace or names[0]
    if wanted not in names:
        hint = suggest(wanted, names) or f"; it has {', '.join(names)}"
        raise InputError(Fault(f"no trace {wanted!r}{hint}", "trace", file))
    return [(line, row) for line, row in rows if row["trace"] == wanted]


def _number(row: Mapping[str, str], names: Sequence[str], least: float) -> float:
    name = next(name for name in names if name in row)
    text = row[name]
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{name} must be a number of at least {least:g}, got {text!r}")
    return value
