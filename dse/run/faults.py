"""Faults of one layer, collected so that the user is told all of them at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dse.errors import Fault, InputError


class Faults:
    """Collects faults and raises them together."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the faults raised inside and go on."""
        try:
            yield
        except InputError as error:
            self.found += error.faults

    def check(self) -> None:
        """Raise what was collected, in the order of the file.

        Raises:
            InputError: there is any fault.
        """
        if self.found:
            raise InputError(sorted(self.found, key=lambda f: (f.file, f.line or 0, f.column or 0, f.field)))
