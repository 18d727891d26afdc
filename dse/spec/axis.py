"""An axis of a sweep as the user writes it: one value, a list, or a range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from dse.errors import Fault, InputError
from dse.spec.composer import MAX_INT
from dse.spec.reading import Document, show
from dse.spec.shape import Strict, build

Path = tuple[str | int, ...]

MAX_VALUES = 100_000
"""More values on one axis are surely a slip."""


class Range(Strict):
    """`{from: 1, to: 512, scale: log2}` or `{from: 64, to: 1024, step: 64}`; both ends belong to it."""

    start: int = Field(alias="from")
    to: int
    step: int | None = None
    scale: Literal["log2", "linear"] | None = None


class RealRange(Strict):
    """`{from: 0.5, to: 4, step: 0.5}` or `{from: 0.25, to: 8, scale: log2}`; both ends belong to it."""

    start: float = Field(alias="from")
    to: float
    step: float | None = None
    scale: Literal["log2"] | None = None


def values(document: Document, path: Path, raw: Any) -> list[tuple[Path, Any]]:
    """The entries of an axis, each with where it stands; one value is a list of one.

    Raises:
        InputError: the list is empty.
    """
    if not isinstance(raw, list):
        return [(path, raw)]
    if not raw:
        raise InputError(document.fault(path, "an axis needs at least one value; got an empty list"))
    return [((*path, index), entry) for index, entry in enumerate(raw)]


def integers(document: Document, path: Path, raw: Any, *, least: int = 1, most: int = MAX_INT) -> list[int]:
    """The whole numbers of an axis: a number, a list of numbers and ranges, or a range.

    Args:
        document: gives the places for faults.
        path: where the axis stands.
        raw: what stands there.
        least: smallest number that makes sense.
        most: largest number that makes sense.

    Raises:
        InputError: something is not a whole number within the limits, stands twice, or a range is empty.
    """
    faults: list[Fault] = []
    found: list[tuple[Path, int]] = []
    for place, entry in values(document, path, raw):
        try:
            found += [(place, number) for number in _numbers(document, place, entry)]
        except InputError as error:
            faults += error.faults
    seen: set[int] = set()
    for place, number in found:
        if number < least:
            faults.append(document.fault(place, f"must be at least {least}, got {show(number)}"))
        elif number > most:
            faults.append(document.fault(place, f"must be at most {most:,}, got {show(number)}"))
        elif number in seen:
            faults.append(document.fault(place, f"{number} stands twice on this axis; keep one"))
        seen.add(number)
    if faults:
        raise InputError(faults)
    return [number for _, number in found]


def reals(document: Document, path: Path, raw: Any, *, most: float) -> list[float]:
    """The numbers of an axis, all above zero: a number, a list of numbers and ranges, or a range.

    Args:
        document: gives the places for faults.
        path: where the axis stands.
        raw: what stands there.
        most: largest number that makes sense.

    Raises:
        InputError: something is not a number within the limits, stands twice, or a range is empty.
    """
    faults: list[Fault] = []
    found: dict[float, None] = {}
    for place, entry in values(document, path, raw):
        try:
            numbers = (
                _real_range(document, place, entry) if isinstance(entry, dict) else [_real(document, place, entry)]
            )
        except InputError as error:
            faults += error.faults
            continue
        for number in numbers:
            if not 0 < number <= most:
                limit = "above 0" if not number > 0 else f"at most {most:g}"
                faults.append(document.fault(place, f"must be {limit}, got {show(number)}"))
            elif number in found:
                faults.append(document.fault(place, f"{number:g} stands twice on this axis; keep one"))
            else:
                found[number] = None
    if faults:
        raise InputError(faults)
    return list(found)


def _real(document: Document, path: Path, entry: Any) -> float:
    if isinstance(entry, bool) or not isinstance(entry, int | float):
        raise InputError(document.fault(path, f"expected a number, got {show(entry)}"))
    return float(entry)


def _real_range(document: Document, path: Path, raw: dict[str, Any]) -> list[float]:
    spec = build(RealRange, document, raw, path)
    if not spec.start > 0:
        raise InputError(document.fault((*path, "from"), f"must be above 0, got {show(spec.start)}"))
    if spec.to < spec.start:
        raise InputError(document.fault(path, f"the range is empty: from {spec.start:g} to {spec.to:g}"))
    if (spec.step is None) == (spec.scale is None):
        raise InputError(document.fault(path, "give a range of numbers either 'step' or 'scale: log2'"))
    if spec.step is None:
        return [spec.start * 2**i for i in range(math.floor(math.log2(spec.to / spec.start) + 1e-9) + 1)]
    if not spec.step > 0:
        raise InputError(document.fault((*path, "step"), f"must be above 0, got {show(spec.step)}"))
    count = math.floor((spec.to - spec.start) / spec.step + 1e-9) + 1
    if count > MAX_VALUES:
        raise InputError(document.fault(path, f"the range has {count:,} values; at most {MAX_VALUES:,}"))
    # 0.1 + 2 * 0.1 is not 0.3: each value is rounded to what was meant.
    return [float(f"{spec.start + i * spec.step:.12g}") for i in range(count)]


def _numbers(document: Document, path: Path, entry: Any) -> Sequence[int]:
    if isinstance(entry, dict):
        return _range(document, path, entry)
    if isinstance(entry, bool) or not isinstance(entry, int):
        raise InputError(document.fault(path, f"expected a whole number, got {show(entry)}"))
    return [entry]


def _range(document: Document, path: Path, raw: dict[str, Any]) -> Sequence[int]:
    spec = build(Range, document, raw, path)
    if spec.start < 1:
        raise InputError(document.fault((*path, "from"), f"must be at least 1, got {show(spec.start)}"))
    if spec.to < spec.start:
        raise InputError(document.fault(path, f"the range is empty: from {spec.start} to {spec.to}"))
    if spec.scale == "log2":
        return _doubling(document, path, spec)
    if spec.step is not None and spec.step < 1:
        raise InputError(document.fault((*path, "step"), f"must be at least 1, got {show(spec.step)}"))
    count = (spec.to - spec.start) // (spec.step or 1) + 1
    if count > MAX_VALUES:
        raise InputError(document.fault(path, f"the range has {count:,} values; at most {MAX_VALUES:,}"))
    return range(spec.start, spec.to + 1, spec.step or 1)


def _doubling(document: Document, path: Path, spec: Range) -> list[int]:
    if spec.step is not None:
        raise InputError(document.fault((*path, "step"), "a log2 range doubles; leave out 'step'"))
    doublings = (spec.to // spec.start).bit_length()
    return [spec.start << i for i in range(doublings)]
