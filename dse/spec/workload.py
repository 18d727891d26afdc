"""The shape of requests: tokens in, tokens out; one pair, or a distribution of pairs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any

from dse.errors import Fault, InputError
from dse.spec.axis import MAX_VALUES, integers
from dse.spec.composer import Steps
from dse.spec.lengths import LONGEST, Length, read_histogram, reduced, trace, trace_names
from dse.spec.reading import Document, beside, from_value, library_file, read, show, suggest

MAX_TOKENS = LONGEST
_PAIR = re.compile(r"(\d{1,9})\s*[xX×]\s*(\d{1,9})")
_FIELDS = ("input", "output")
_SOURCES = ("lengths", "trace")
"""Of a distribution."""


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """Requests of `input` prompt tokens and `output` generated tokens, both 1 ... 10,000,000.

    Of a distribution these are the rounded means, and `lengths` holds the pairs.
    """

    input: int
    output: int
    lengths: tuple[Length, ...] = ()
    label: str = ""
    """What a distribution is called."""

    def __post_init__(self) -> None:
        for field in _FIELDS:
            if not 1 <= getattr(self, field) <= MAX_TOKENS:
                raise InputError(Fault(_range_message(getattr(self, field)), field))

    @property
    def name(self) -> str:
        """Text such as `1024x256`, or what the distribution is called."""
        return self.label or f"{self.input}x{self.output}"

    @property
    def requests(self) -> tuple[Length, ...]:
        """All pairs of lengths with their shares: one for a plain pair."""
        return self.lengths or (Length(float(self.input), float(self.output), 1.0),)

    @property
    def mean(self) -> tuple[float, float]:
        """Mean input and output, not rounded."""
        return _means(self.requests)

    @property
    def decodes_nothing(self) -> bool:
        """True where every request is answered with one token, which the prompt pass emits: there is no TPOT."""
        return self.mean[1] <= 1

    @property
    def longest(self) -> float:
        """Most tokens of a request, prompt and generated."""
        return max(length.input + length.output for length in self.requests)

    @classmethod
    def of(cls, lengths: Sequence[Length], label: str) -> Workload:
        """A distribution, in at most 16 pairs.

        Raises:
            InputError: its mean lengths are no lengths of a request.
        """
        nodes = reduced(lengths)
        means = _means(nodes)
        return cls(max(round(means[0]), 1), max(round(means[1]), 1), nodes, label)


def _means(lengths: Sequence[Length]) -> tuple[float, float]:
    inputs, outputs = (math.fsum(node[axis] * node.weight for node in lengths) for axis in (0, 1))
    return inputs, outputs


def load_workload(entry: Any, document: Document | None = None, at: Steps = ()) -> list[Workload]:
    """The request shapes a user means.

    Args:
        entry: `{input: 1024, output: 256}`, the text `1024x256`, a name in `configs/workloads.yaml`,
            `{input: [...], output: [...]}` for their product (ranges too), `{lengths: FILE.csv}`, `{trace: NAME}` or
            the name of a trace that no pair has, or a `Workload`.
        document: the file the entry stands in, for positions in messages.
        at: where in the document it stands.

    Raises:
        InputError: all faults of the entry.
    """
    if isinstance(entry, Workload):
        return [entry]
    if document is None:
        document, at = from_value(entry), ()
        entry = document.value
    if isinstance(entry, str):
        with document.at(at):
            return [_named(entry)]
    if isinstance(entry, Mapping) and (kind := next((key for key in _SOURCES if key in entry), None)):
        return [_distribution(kind, entry, document, tuple(at))]
    if not isinstance(entry, Mapping):
        wanted = "{input, output}, {trace}, {lengths}, '1024x256' or a name"
        raise InputError(document.fault(at, f"expected {wanted}, got {show(entry)}"))
    return _product(entry, document, tuple(at))


def workload_names() -> list[str]:
    """Every request shape that has a name."""
    return list(_library())


@cache
def _library() -> dict[str, Workload]:
    document = read(library_file("configs/workloads.yaml"))
    return {name: _product(entry, document, (name,))[0] for name, entry in document.value.items()}


def _named(text: str) -> Workload:
    if match := _PAIR.fullmatch(text.strip()):
        return Workload(int(match[1]), int(match[2]))
    library = _library()
    name = text.strip().lower().replace("_", "-").replace(" ", "-")
    if name not in library and name in trace_names():
        label, lengths = trace(name)
        return Workload.of(lengths, label)
    if name not in library:
        known = [*library, *(name for name in trace_names() if name not in library)]
        hint = suggest(text, known) or f"; expected INPUTxOUTPUT or one of {', '.join(known)}"
        raise InputError(f"unknown workload {show(text)}{hint}")
    return library[name]


def _distribution(kind: str, entry: Mapping[str, Any], document: Document, at: tuple[str | int, ...]) -> Workload:
    """The requests of a trace, or of a histogram file."""
    faults = [
        document.fault((*at, key), f"unknown field; {{{kind}: ...}} stands alone", key=True)
        for key in entry.keys() - {kind}
    ]
    if faults:
        raise InputError(faults)
    value = entry[kind]
    if not isinstance(value, str):
        wanted = "the path of a CSV" if kind == "lengths" else "the name of a trace"
        raise InputError(document.fault((*at, kind), f"expected {wanted}, got {show(value)}"))
    with document.at((*at, kind)):
        if kind == "trace":
            label, lengths = trace(value)
            return Workload.of(lengths, label)
        return Workload.of(read_histogram(beside(document, value)), PurePath(value).stem)


def _product(entry: Mapping[str, Any], document: Document, at: tuple[str | int, ...]) -> list[Workload]:
    faults = []
    for key in entry.keys() - set(_FIELDS):
        hint = suggest(key, _FIELDS) or "; expected input and output"
        faults.append(document.fault((*at, key), f"unknown field{hint}", key=True))
    lengths: dict[str, list[int]] = {}
    for field in _FIELDS:
        if field in entry:
            try:
                lengths[field] = _lengths(document, (*at, field), entry[field])
            except InputError as error:
                faults += error.faults
        elif not any(suggest(key, [field]) for key in entry):
            faults.append(document.fault(at, f"missing field '{field}'"))
    if faults:
        raise InputError(sorted(faults, key=lambda fault: (fault.line or 0, fault.column or 0, fault.field)))
    count = len(lengths["input"]) * len(lengths["output"])
    if count > MAX_VALUES:
        raise InputError(document.fault(at, f"makes {count:,} request shapes; at most {MAX_VALUES:,}"))
    return [Workload(i, o) for i in lengths["input"] for o in lengths["output"]]


def _lengths(document: Document, path: tuple[str | int, ...], raw: Any) -> list[int]:
    found = integers(document, path, raw)
    if max(found) > MAX_TOKENS:
        raise InputError(document.fault(path, _range_message(max(found))))
    return found


def _range_message(tokens: int) -> str:
    return f"must be 1 to {MAX_TOKENS:,} tokens, got {show(tokens)}"
