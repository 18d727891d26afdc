"""Rows of timings that are not fitted: each by its file, its line and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import Fault, InputError

FAR = 300.0
"""A kernel whose median is this far from 10 us + its roofline time is in another unit."""

BAD: Mapping[str, str] = {
    "no positive latency_ms": "expected milliseconds above zero",
    "a shape without": "expected whole numbers above zero",
    "in another unit": f"latency_ms is {FAR:.0f} times off the roofline or its kernel's other rows",
    "faster than": "expected the milliseconds of one call on one device",
}
"""How a reason begins for which a row cannot be true -> what is known of it; other rows are only of no use here."""

NAMED = 20
"""Bad rows that are named one by one, on the terminal and in an error."""


@dataclass(frozen=True)
class Lines:
    """Where some rows stand: lines of a CSV file, rows of a Parquet file from 1 on."""

    file: str
    lines: NDArray[np.int64]

    def of(self, chosen: NDArray[Any]) -> Lines:
        """Some of the rows."""
        return Lines(self.file, self.lines[chosen])


def lines_of(path: Path, rows: int) -> Lines:
    """Where each row of a table stands; blank lines are passed over, as pandas does."""
    if path.suffix != ".csv":
        return Lines(str(path), np.arange(1, rows + 1))
    with path.open(encoding="utf-8", errors="replace") as file:
        full = np.array([number for number, line in enumerate(file, 1) if line.strip()], dtype=np.int64)
    # A quoted field may hold line breaks; then rows are counted.
    return Lines(str(path), full[1:] if len(full) == rows + 1 else np.arange(2, rows + 2))


@dataclass
class LeftOut:
    """Rows that are not fitted, in parts of one file and reason."""

    parts: list[tuple[Lines, str]] = field(default_factory=list)

    def add(self, where: Lines, reason: str, rows: NDArray[np.bool_]) -> None:
        """Leave out some rows of a table."""
        if rows.any():
            self.parts.append((where.of(rows), reason))

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> rows."""
        found: dict[str, int] = {}
        for where, reason in self.parts:
            found[reason] = found.get(reason, 0) + len(where.lines)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Every row: file, line, reason, in the order of the files."""
        files = {file: place for place, file in enumerate(dict.fromkeys(where.file for where, _ in self.parts))}
        found = [(where.file, int(line), reason) for where, reason in self.parts for line in where.lines]
        found.sort(key=lambda row: (files[row[0]], row[1]))
        return [{"file": file, "line": line, "reason": reason} for file, line, reason in found]

    def bad(self) -> tuple[list[Fault], int]:
        """The first rows that cannot be true, and how many more there are."""
        bad = [(row, right) for row in self.rows() if (right := _right(row["reason"])) is not None]
        told = [Fault(f"{row['reason']}; {right}", "", row["file"], row["line"], 1) for row, right in bad[:NAMED]]
        return told, len(bad) - len(told)

    def refusal(self, what: str) -> InputError:
        """An error that there is not enough to fit, with the rows that cannot be true."""
        told, more = self.bad()
        return InputError([Fault(what), *told, *([Fault(f"and {more:,} more such rows")] if more else [])])


def _right(reason: str) -> str | None:
    """What is known of a row that cannot be true; None of one that can."""
    return next((right for beginning, right in BAD.items() if reason.startswith(beginning)), None)
