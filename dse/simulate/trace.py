"""Requests with their arrivals and lengths: read from files, or drawn by seed."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import Fault, InputError
from dse.spec.reading import show
from dse.spec.workload import MAX_TOKENS, Workload, load_workload

COLUMNS = {
    "arrival": ("arrival", "arrival_s", "arrived_at", "timestamp", "time", "time_s"),
    "input": ("input", "input_length", "input_tokens", "contexttokens", "num_prefill_tokens", "prompt_tokens"),
    "output": ("output", "output_length", "output_tokens", "generatedtokens", "num_decode_tokens"),
    "weight": ("weight", "count", "frac"),
}
"""Spellings of public traces in lower case: Azure's TIMESTAMP, ContextTokens, GeneratedTokens; Mooncake's timestamp,
input_length, output_length; Vidur's arrived_at, num_prefill_tokens, num_decode_tokens."""

SHOWN = 20
"""Faults of a file that are told; the rest are counted."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival."""

    arrival: NDArray[np.float64]
    """Seconds since the trace began."""
    input: NDArray[np.int64]
    output: NDArray[np.int64]
    file: str = ""
    lines: NDArray[np.int64] | None = None
    """Where each stands in the file."""

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def rate(self) -> float:
        """Requests per second from the first arrival to the last; NaN where all arrive at once."""
        span = float(self.arrival[-1] - self.arrival[0])
        return (len(self) - 1) / span if span > 0 else math.nan

    def at_rate(self, rate: float) -> Trace:
        """The same requests, closer together or further apart.

        Raises:
            InputError: the rate is not above zero, or all requests arrive at once.
        """
        check_rate(rate)
        if math.isnan(self.rate):
            raise InputError(
                Fault("all requests arrive at once: no rate to scale; leave --rate out", "rate", self.file)
            )
        return replace(self, arrival=(self.arrival - self.arrival[0]) * (self.rate / rate))

    def fault(self, index: int, field: str, message: str) -> Fault:
        """A fault of one request."""
        line = None if self.lines is None else int(self.lines[index])
        return Fault(message, field, self.file, line, None if line is None else 1)


MAX_RATE = 1e9
"""Requests/s, as on the axis of a sweep."""


def check_rate(rate: float) -> None:
    """Raises InputError unless a rate is above zero and at most `MAX_RATE`."""
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(Fault(f"expected requests per second above 0, got {show(rate)}", "rate"))
    if rate > MAX_RATE:
        raise InputError(Fault(f"must be at most {MAX_RATE:g}, got {show(rate)}", "rate"))


# -- drawn ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lengths:
    """Request shapes and how often each occurs."""

    shapes: tuple[Workload, ...]
    weights: tuple[float, ...]

    @property
    def text(self) -> str:
        """Such as `1024x256`, or how many shapes and their means."""
        if len(self.shapes) == 1:
            return self.shapes[0].name
        total = sum(self.weights)
        inputs, outputs = (
            sum(getattr(shape, name) * weight for shape, weight in zip(self.shapes, self.weights, strict=True)) / total
            for name in ("input", "output")
        )
        return f"{len(self.shapes)} shapes, {inputs:.0f}x{outputs:.0f} on average"

    @classmethod
    def of(cls, entry: Any) -> Lengths:
        """Those a user means: `1024x256`, the name of a workload or trace, a CSV (input, output, weight), or pairs.

        Raises:
            InputError: what is wrong with it.
        """
        if isinstance(entry, Lengths):
            return entry
        if isinstance(entry, str) and entry.lower().endswith(".csv"):
            return _lengths(entry)
        if isinstance(entry, str | Mapping | Workload):
            pairs = [pair for workload in load_workload(entry) for pair in workload.requests]
            shapes = tuple(Workload(max(round(pair.input), 1), max(round(pair.output), 1)) for pair in pairs)
            return cls(shapes, tuple(pair.weight for pair in pairs))
        wanted = Fault("expected pairs (input, output), or triples with a weight", "lengths")
        try:
            rows = [(*pair, 1.0)[:3] for pair in entry]
            shapes = tuple(Workload(int(tokens), int(output)) for tokens, output, _ in rows)
            weights = tuple(float(weight) for *_, weight in rows)
        except (TypeError, ValueError):
            raise InputError(wanted) from None
        if not rows:
            raise InputError(wanted)
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
            raise InputError(Fault("weights must not be negative, and not all zero", "lengths"))
        return cls(shapes, weights)


def draw(requests: int, rate: float, lengths: Any, *, burstiness: float = 1.0, seed: int = 0) -> Trace:
    """Requests of a renewal process.

    Gaps and lengths come of streams of their own: another rate spaces the same requests differently.

    Args:
        requests: how many.
        rate: requests per second, on average.
        lengths: see `Lengths.of`.
        burstiness: coefficient of variation of the gaps, which are gamma distributed; 1: Poisson, 0: evenly spaced.
        seed: any whole number from 0.

    Raises:
        InputError: a number is out of range.
    """
    faults = []
    if requests < 1:
        faults.append(Fault(f"expected at least 1, got {requests}", "requests"))
    if not (math.isfinite(burstiness) and 0 <= burstiness <= 100):
        faults.append(Fault(f"expected a coefficient of variation of 0 to 100, got {show(burstiness)}", "burstiness"))
    if seed < 0:
        faults.append(Fault(f"expected a whole number from 0, got {seed}", "seed"))
    try:
        check_rate(rate)
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(faults)
    found = Lengths.of(lengths)
    of_gaps, of_lengths = (np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(2))
    spread = burstiness * burstiness
    gaps = of_gaps.gamma(1 / spread, spread, requests) if spread else np.ones(requests)
    shares = np.array(found.weights) / sum(found.weights)
    chosen = of_lengths.choice(len(shares), requests, p=shares)
    inputs, outputs = (np.array([getattr(shape, name) for shape in found.shapes]) for name in ("input", "output"))
    return Trace(np.cumsum(gaps) / rate, inputs[chosen], outputs[chosen])


# -- read -------------------------------------------------------------------------------------------


def read_trace(path: str | Path) -> Trace:
    """The trace in a file: JSON lines where the name ends in `.jsonl` (timestamps in ms), CSV otherwise.

    Arrivals are seconds, or dates with times; columns are found by `COLUMNS`, others are left alone.

    Raises:
        InputError: all that is wrong in the file, with lines.
    """
    file = str(path)
    rows = _json_rows(file) if file.lower().endswith(".jsonl") else _csv_rows(file, ("arrival", "input", "output"))
    faults = _Faults(file)
    lines, arrivals, shapes = [], [], []
    before = -math.inf
    for line, row in rows:
        arrival = faults.value(line, "arrival", row, _seconds)
        shape = tuple(faults.value(line, name, row, _tokens) for name in ("input", "output"))
        if arrival is not None and arrival < before:
            faults.add(
                line, "arrival", f"arrives before the request above it ({before:g} s); sort the trace by arrival"
            )
        before = before if arrival is None else arrival
        if arrival is not None and None not in shape:
            lines.append(line)
            arrivals.append(arrival)
            shapes.append(shape)
    faults.check()
    if not arrivals:
        raise InputError(Fault("the trace has no requests", file=file))
    found = np.array(shapes, dtype=np.int64)
    times = np.array(arrivals)
    return Trace(times - times[0], found[:, 0], found[:, 1], file, np.array(lines))


def _lengths(file: str) -> Lengths:
    """Request shapes in a CSV: input, output and, if they differ, weight."""
    faults = _Faults(file)
    shapes, weights = [], []
    for line, row in _csv_rows(file, ("input", "output")):
        shape = tuple(faults.value(line, name, row, _tokens) for name in ("input", "output"))
        weight = faults.value(line, "weight", row, _weight) if "weight" in row else 1.0
        if weight is not None and None not in shape:
            shapes.append(Workload(*shape))
            weights.append(weight)
    faults.check()
    if not sum(weights) > 0:
        raise InputError(Fault("no request shape has a weight above 0", file=file))
    return Lengths(tuple(shapes), tuple(weights))


class _Faults:
    """What is wrong in a file, line by line; counted when it is too much to tell."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._found: list[Fault] = []
        self._more = 0

    def add(self, line: int, field: str, message: str) -> None:
        if len(self._found) < SHOWN:
            self._found.append(Fault(message, field, self._file, line, 1))
        else:
            self._more += 1

    def value(self, line: int, field: str, row: Mapping[str, Any], parse: Callable[[Any], Any]) -> Any:
        """A field's value; None, with a fault, where it has none."""
        try:
            return parse(row.get(field))
        except ValueError as error:
            self.add(line, field, str(error))
            return None

    def check(self) -> None:
        """Raises InputError if anything was wrong."""
        if self._more:
            self._found.append(Fault(f"and {self._more:,} more faults like these", file=self._file))
        if self._found:
            raise InputError(self._found)


def _number(raw: Any) -> float:
    try:
        value = float(raw)
    except (TypeError, ValueError):
        value = math.nan
    return value if not isinstance(raw, bool) else math.nan


def _seconds(raw: Any) -> float:
    value = _number(raw)
    if math.isfinite(value):
        return value
    try:
        return datetime.fromisoformat(str(raw).strip()).timestamp()
    except ValueError:
        raise ValueError(f"expected seconds, or a date and time, got {show(raw)}") from None


def _tokens(raw: Any) -> int:
    value = _number(raw)
    if not (value == math.floor(value) if math.isfinite(value) else False) or not 1 <= value <= MAX_TOKENS:
        raise ValueError(f"expected a whole number of tokens from 1 to {MAX_TOKENS:,}, got {show(raw)}")
    return int(value)


def _weight(raw: Any) -> float:
    value = _number(raw)
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"expected a number from 0, got {show(raw)}")
    return value


def _text(file: str) -> Iterator[str]:
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as lines:
            yield from lines
    except OSError as error:
        raise InputError(Fault(f"cannot be read: {error.strerror}", file=file)) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(Fault("is not a text file in UTF-8", file=file)) from None


def _csv_rows(file: str, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(_text(file))
    heads = next(reader, None)
    if heads is None:
        raise InputError(Fault("the file is empty", file=file))
    places = _places(file, heads, needed)
    for row in _csv_lines(reader, file):
        if any(row[len(heads) :]):
            message = "has more fields than the header; is a decimal comma in it?"
            raise InputError(Fault(message, file=file, line=reader.line_num, column=1))
        if row:
            yield reader.line_num, {name: row[at] if at < len(row) else "" for name, at in places.items()}


def _csv_lines(reader: Any, file: str) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise InputError(Fault(f"cannot be read as CSV: {error}", file=file, line=reader.line_num, column=1)) from None


def _places(file: str, heads: Iterable[str], needed: Sequence[str]) -> dict[str, int]:
    """Where the columns stand."""
    plain = [re.sub(r"[\s-]", "_", head.strip().lower()) for head in heads]
    found = {name: plain.index(word) for name, words in COLUMNS.items() for word in reversed(words) if word in plain}
    missing = [name for name in needed if name not in found]
    if missing:
        raise InputError(
            [Fault(f"no such column; expected one of {', '.join(COLUMNS[name])}", name, file, 1, 1) for name in missing]
        )
    return found


def _json_rows(file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(_text(file), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise InputError(Fault("expected a JSON object in each line", "", file, line, 1))
        named = {name: row[word] for name, words in COLUMNS.items() for word in words if word in row}
        if isinstance(named.get("arrival"), int | float):
            named["arrival"] = named["arrival"] / 1e3
        yield line, named
