"""Mappings by accelerator (prices, stock): every spelling the hardware axis takes, as the names in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from dse.errors import InputError
from dse.run.faults import Faults
from dse.spec.catalog import hardware_name
from dse.spec.composer import Steps
from dse.spec.reading import Document, suggest

T = TypeVar("T")


def by_hardware(
    given: Mapping[str, T], known: Sequence[str], whose: str, document: Document, at: Steps, faults: Faults
) -> dict[str, T]:
    """A mapping under the names in use.

    Args:
        given: by name, alias or path.
        known: the names in use: chips of the axes, or what a table of throughputs calls them.
        whose: `plan` or `sweep`, for messages.
        document: the file the mapping stands in.
        at: where in it.
        faults: receives accelerators that are not in use, and those that stand twice.
    """
    found: dict[str, T] = {}
    spelled: dict[str, str] = {}
    for word, value in given.items():
        name = in_use(word, known, document)
        if name is None:
            message = f"{word!r} is not among this {whose}'s hardware{suggest(word, known)}"
            faults.found.append(document.fault((*at, word), message, key=True))
        elif name in found:
            message = f"{word!r} and {spelled[name]!r} are one accelerator ({name}); keep one"
            faults.found.append(document.fault((*at, word), message, key=True))
        else:
            found[name], spelled[name] = value, word
    return found


def in_use(word: str, known: Sequence[str], document: Document) -> str | None:
    """The name in use that a word means: itself, or one that is of the same file."""
    if word in known:
        return word
    meant = _file_name(word, document)
    if meant in known:
        return meant
    return next((name for name in known if meant == _file_name(name, document)), None)


def _file_name(word: str, document: Document) -> str:
    """What the library calls it; the word itself where that knows none."""
    try:
        return hardware_name(word, document)
    except InputError:
        return word
