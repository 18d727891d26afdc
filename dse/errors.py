"""Every way `dse` can refuse, by cause; the exit code says whose fault it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing wrong in what the user gave: where, which field, what, and what would be right."""

    message: str
    field: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = self.file
        if self.line is not None:
            place = f"{place}:{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.field, self.message) if part)


class DseError(Exception):
    """Base of all errors meant for the user; the command line prints it without a traceback."""

    exit_code = 1


class InputError(DseError):
    """The user's input is wrong for every model and chip: all faults of one layer at once."""

    exit_code = 2

    def __init__(self, faults: Iterable[Fault] | Fault | str) -> None:
        if isinstance(faults, str):
            faults = Fault(faults)
        self.faults: tuple[Fault, ...] = (
            (faults,) if isinstance(faults, Fault) else tuple(dict.fromkeys(faults))
        )
        super().__init__("\n".join(map(str, self.faults)))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)


class CannotRun(DseError):
    """The input is right but this machine, or this version, cannot do it."""


class Interrupted(DseError):
    """The user stopped it; the message says what is left."""

    exit_code = 130
