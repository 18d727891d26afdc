"""An axis of a sweep as the user writes it: one value, a list, or a range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from dse.errors import InputError
from dse.spec.reading import Document, show
from dse.spec.shape import Strict, build

Path = tuple[str | int, ...]

MAX_VALUES = 100_000
"""More values on one axis are surely a slip."""


class Range(Strict):
    """`{from: 1, to: 512, scale: log2}` or `{from: 64, to: 1024, step: 64}`; both ends belong to it."""

    # `from` is a word of Python; the file says `from`.
    start: int
    to: int
    step: int | None = None
    scale: Literal["log2", "linear"] | None = None


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


def integers(document: Document, path: Path, raw: Any, *, least: int = 1) -> list[int]:
    """The whole numbers of an axis: a number, a list of numbers and ranges, or a range.

    Raises:
        InputError: something is not a whole number of at least `least`, stands twice, or a range is empty.
    """
    faults, found = [], []
    for place, entry in values(document, path, raw):
        if isinstance(entry, dict):
            found += [(place, number) for number in _range(document, place, entry)]
        elif isinstance(entry, bool) or not isinstance(entry, int):
            faults.append(document.fault(place, f"expected a whole number, got {show(entry)}"))
        else:
            found.append((place, entry))
    seen: set[int] = set()
    for place, number in found:
        if number < least:
            faults.append(document.fault(place, f"must be at least {least}, got {show(number)}"))
        elif number in seen:
            faults.append(document.fault(place, f"{number} stands twice on this axis; keep one"))
        seen.add(number)
    if faults:
        raise InputError(faults)
    return [number for _, number in found]


def _range(document: Document, path: Path, raw: dict[str, Any]) -> Sequence[int]:
    renamed = {("start" if key == "from" else key): value for key, value in raw.items()}
    try:
        spec = build(Range, Document("", renamed))
    except InputError as error:
        raise InputError(
            document.fault(
                (*path, *(["from"] if fault.field == "start" else [fault.field] if fault.field else [])),
                fault.message.replace("'start'", "'from'"),
            )
            for fault in error.faults
        ) from None
    if spec.to < spec.start:
        raise InputError(document.fault(path, f"the range is empty: from {spec.start} to {spec.to}"))
    if spec.start < 1:
        raise InputError(document.fault((*path, "from"), f"must be at least 1, got {spec.start}"))
    if spec.scale == "log2":
        if spec.step is not None:
            raise InputError(document.fault((*path, "step"), "a log2 range doubles; leave out 'step'"))
        doubled = [spec.start]
        while doubled[-1] * 2 <= spec.to:
            doubled.append(doubled[-1] * 2)
        return doubled
    step = 1 if spec.step is None else spec.step
    if step < 1:
        raise InputError(document.fault((*path, "step"), f"must be at least 1, got {step}"))
    result = range(spec.start, spec.to + 1, step)
    if len(result) > MAX_VALUES:
        raise InputError(document.fault(path, f"the range has {len(result)} values; at most {MAX_VALUES}"))
    return result
