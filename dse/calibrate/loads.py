"""What is known of the load generators behind collections of measurements: `configs/loads.yaml`."""

from __future__ import annotations

from functools import cache

from dse.spec.reading import Document, build, library_file, read
from dse.spec.shape import Strict

FILE = "configs/loads.yaml"


class Load(Strict):
    """How one collection sent its requests."""

    equal_lengths: bool = False
    """All requests have the same lengths, so each ends one iteration after the one that began before it."""
    source: str


def equal_lengths(collection: str) -> bool:
    """Whether a collection's requests are known to be of equal lengths."""
    return collection in _loads() and _loads()[collection].equal_lengths


@cache
def _loads() -> dict[str, Load]:
    document: Document = read(library_file(FILE))
    return {name: build(Load, document, entry, (name,)) for name, entry in document.value.items()}
