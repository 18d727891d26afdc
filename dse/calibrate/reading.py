"""What a measurement is: the best of several repeats, the words for it, and the steps that make it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Operation = Callable[[], object]
"""Something to be timed."""
Clock = Callable[[], float]
"""Does the work once and says how many seconds it took."""

WIDE = 0.10
"""Repeats that lie further apart than this are told: something else was using the machine."""
LEAST = 3
"""Repeats of anything, however slow."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One ceiling: the best of its repeats."""

    what: str
    """In the table: `memory read`."""
    value: float
    unit: str
    """`GB/s` (1e9 bytes), `TFLOP/s` (multiply and add are two) or `us`."""
    how: str
    """In the source: what was done, in how many threads, on how much."""
    repeats: int
    spread: float
    """How far the slowest repeat lies below the best, as a share of the best rate."""
    fields: tuple[str, ...] = ()
    """Dotted fields of the hardware file it may fill; the best reading of a field does."""

    def source(self, version: str, date: str) -> str:
        """The source that stands in the file."""
        apart = f"; repeats up to {self.spread:.0%} slower" if self.spread > WIDE else ""
        return f"measured by dse probe {version} on {date}: {self.how}, best of {self.repeats}{apart}"


@dataclass(frozen=True, slots=True)
class Result:
    """What one step found."""

    readings: tuple[Reading, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to measure, in about the seconds it is given."""

    what: str
    run: Callable[[float], Result]
    weight: float = 1.0
    """Its part of all seconds, relative to the other steps."""


def rate(
    what: str, how: str, unit: str, amount: float, taken: Sequence[float], fields: tuple[str, ...] = ()
) -> Reading:
    """A reading from the seconds that `amount` (in the unit's own: GB, TFLOP) took in each repeat."""
    best, worst = min(taken), max(taken)
    return Reading(what, amount / best, unit, how, len(taken), 1 - best / worst, fields)


def now() -> float:
    """The clock that measuring goes by, seconds."""
    return time.perf_counter()


def wall(operation: Operation) -> Clock:
    """An operation on the wall clock."""

    def clock() -> float:
        start = now()
        operation()
        return now() - start

    return clock


def repeat(clock: Clock, seconds: float, *, least: int = LEAST, most: float = math.inf) -> list[float]:
    """The seconds of every repeat: `least`, then as many as fit into `seconds`, `most` at the utmost."""
    end = now() + seconds
    taken: list[float] = []
    last = 0.0
    while len(taken) < most and (len(taken) < least or now() + last <= end):
        start = now()
        taken.append(clock())
        last = now() - start
    return taken
