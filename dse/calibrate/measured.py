"""Measured files: CSV in the schema of the measurement collection, read into rows that keep their own text."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dse.errors import Fault, InputError
from dse.spec.reading import suggest

REQUIRED = ("source", "model", "hardware", "framework", "scenario", "metric", "value")
"""Columns without which no row means anything."""

OPTIONAL = (
    "row_id", "provenance", "date", "version", "n_gpus", "tp", "pp", "dp", "ep", "weight_dtype", "act_dtype",
    "kv_dtype", "input_len", "output_len", "batch_or_concurrency", "notes", "file", "quality", "split",
    "request_rate", "burstiness",
)  # fmt: skip
"""The last two are of the scenario `online_open_loop`: requests that arrive per second, and the coefficient of
variation of the times between them (blank: 1, a Poisson process)."""

ADDED = ("predicted", "evidence", "status", "reason")
"""Columns that predictions add."""

ANOMALY = "X"
"""Grade of rows that whoever collected them holds to be wrong."""

MAX_FIELD = 1_000_000
"""Characters of one field; a longer one is no measurement."""


class UnknownError(Exception):
    """A row that cannot be predicted; the text says why."""


@dataclass(frozen=True)
class Measured:
    """One row, as text."""

    fields: Mapping[str, str]
    line: int

    def text(self, name: str) -> str:
        """A field without surrounding space; empty where it is blank or absent."""
        value = (self.fields.get(name) or "").strip()
        return "" if value.lower() in ("nan", "none", "null") else value

    def number(self, name: str) -> float | None:
        """A number of zero or more; None where it is blank.

        Raises:
            UnknownError: it is no such number.
        """
        text = self.text(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise UnknownError(f"{name} is not a number of zero or more: {text[:40]!r}")
        return value

    def count(self, name: str) -> int | None:
        """A whole number; None where it is blank.

        Raises:
            UnknownError: it is no whole number.
        """
        value = self.number(name)
        if value is not None and value != int(value):
            raise UnknownError(f"{name} is not a whole number: {self.text(name)[:40]!r}")
        return None if value is None else int(value)

    @cached_property
    def value(self) -> float | None:
        """What was measured, where predictions are scored by it; None where `unscored` says why they are not."""
        return None if self.unscored else float(self.text("value"))

    @cached_property
    def unscored(self) -> str:
        """Why a prediction of the row is compared with nothing: no number above zero, or an anomaly; empty: it is."""
        if self.text("quality").upper() == ANOMALY:
            return f"quality {ANOMALY}: an anomaly, not to be scored"
        text = (self.fields.get("value") or "").strip()
        if not text:
            return "value is blank: nothing to score by"
        try:
            good = 0 < float(text) < math.inf
        except ValueError:
            good = False
        return "" if good else f"value is not a number above zero: {text[:40]!r}"


def read_measured(path: str | Path) -> tuple[list[str], list[Measured]]:
    """Columns and rows of a measured file.

    Raises:
        InputError: no such file, not CSV, a required column is absent, or there are no rows.
    """
    name = str(path)
    usual = csv.field_size_limit(MAX_FIELD)  # of all readers of this process
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            columns = list(reader.fieldnames or [])
            _check(columns, name)
            rows = [
                Measured({key: value for key, value in row.items() if key in columns}, reader.line_num)
                for row in reader
            ]
    except UnicodeDecodeError as error:
        raise InputError(Fault(f"not UTF-8 text (byte {error.start})", file=name)) from None
    except csv.Error as error:
        raise InputError(Fault(f"not a CSV file: {error}", file=name)) from None
    except FileNotFoundError:
        raise InputError(Fault("no such file", file=name)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(Fault(f"cannot be read: {reason}", file=name)) from None
    finally:
        csv.field_size_limit(usual)
    if not rows:
        raise InputError(Fault("has no rows", file=name))
    return columns, rows


def _check(columns: list[str], name: str) -> None:
    wrong = {
        **{c: f"missing column{suggest(c, columns)}" for c in REQUIRED if c not in columns},
        **{c: "stands twice in the header" for c in columns if columns.count(c) > 1},
        **{c: "predictions add this column; rename or drop it" for c in ADDED if c in columns},
    }
    if wrong:
        raise InputError([Fault(message, column, name, 1, 1) for column, message in wrong.items()])
