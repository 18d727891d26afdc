"""The shape of a request: tokens in, tokens out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dse.errors import Fault, InputError
from dse.spec.axis import MAX_VALUES, integers
from dse.spec.composer import Steps
from dse.spec.reading import Document, from_value, library_file, read, show, suggest

MAX_TOKENS = 10_000_000
_PAIR = re.compile(r"(\d{1,9})\s*[xX×]\s*(\d{1,9})")
_FIELDS = ("input", "output")


@dataclass(frozen=True, slots=True, order=True)
class Workload:
    """One request: `input` prompt tokens, `output` generated tokens, both 1 ... 10,000,000."""

    input: int
    output: int

    def __post_init__(self) -> None:
        for field in _FIELDS:
            if not 1 <= getattr(self, field) <= MAX_TOKENS:
                raise InputError(Fault(_range_message(getattr(self, field)), field))

    @property
    def name(self) -> str:
        """Text such as `1024x256`."""
        return f"{self.input}x{self.output}"


def load_workload(entry: Any, document: Document | None = None, at: Steps = ()) -> list[Workload]:
    """The request shapes a user means.

    Args:
        entry: `{input: 1024, output: 256}`, the text `1024x256`, a name in `configs/workloads.yaml`,
            `{input: [...], output: [...]}` for their product (ranges too), or a `Workload`.
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
    if not isinstance(entry, Mapping):
        wanted = "{input, output}, '1024x256' or a name"
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
    if name not in library:
        hint = suggest(text, library) or f"; expected INPUTxOUTPUT or one of {', '.join(library)}"
        raise InputError(f"unknown workload {show(text)}{hint}")
    return library[name]


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
