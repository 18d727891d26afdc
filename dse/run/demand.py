"""What a plan is asked to serve: buckets of requests of one size, from lists, histograms and jobs with a deadline."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dse.errors import InputError
from dse.run.faults import Faults
from dse.spec.composer import Steps
from dse.spec.lengths import grouped, longest_of, read_histogram, trace
from dse.spec.plan import Demand
from dse.spec.reading import Document, beside
from dse.spec.workload import Workload

SECONDS_PER_HOUR = 3600.0

MAX_RATE = 1e9
"""Most requests/s of a plan. All of the world's search engines together answer some 1e5; above 1e15 replicas a solver
counts wrongly."""


@dataclass(frozen=True)
class Bucket:
    """Requests of one size of one model."""

    model: int
    input: int
    output: int
    rate: float
    """Mean requests/s."""
    peak: float
    """What the fleet must carry."""
    longest: int = 0
    """Tokens of the longest request that it stands for, prompt and answer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "longest", max(self.longest, self.input + self.output))

    @property
    def size(self) -> str:
        """`1024x256`."""
        return f"{self.input}x{self.output}"


def buckets_of(index: int, demand: Demand, document: Document, faults: Faults) -> list[Bucket]:
    """The buckets of one model, those of equal size joined, by size."""
    rates: dict[Workload, float] = {}
    longest: dict[Workload, int] = {}
    at = ("models", index, "demand")
    with faults.collected():
        for size, rate, most in _sized(demand, document, at):
            rates[size] = rates.get(size, 0.0) + rate
            longest[size] = max(longest.get(size, 0), most)
        if not sum(rates.values()) > 0:
            raise InputError(document.fault(at, "asks for nothing: every rate is 0"))
        peak = sum(rates.values()) * demand.peak_factor
        if not peak <= MAX_RATE:
            raise InputError(document.fault(at, f"at most {MAX_RATE:g} requests/s at the peak, got {peak:.4g}"))
    return [
        Bucket(index, size.input, size.output, rate, rate * demand.peak_factor, longest[size])
        for size, rate in sorted(rates.items())
        if rate > 0
    ]


def _sized(demand: Demand, document: Document, at: Steps) -> list[tuple[Workload, float, int]]:
    """Sizes, requests/s of each, and tokens of the longest request it stands for."""
    if demand.buckets is not None:
        if not demand.buckets:
            raise InputError(document.fault((*at, "buckets"), "needs at least one bucket"))
        found = []
        for place, entry in enumerate(demand.buckets):
            with document.at((*at, "buckets", place)):
                found.append((Workload(entry.input, entry.output), entry.requests_per_s, entry.input + entry.output))
        return found
    total = demand.requests_per_s
    if total is None:
        assert demand.requests is not None
        assert demand.deadline_hours is not None
        total = demand.requests / (demand.deadline_hours * SECONDS_PER_HOUR)
    least = 0
    if demand.trace is not None:
        with document.at((*at, "trace")):
            _, cells = trace(demand.trace)
            least = longest_of(demand.trace)
    else:
        assert demand.lengths is not None
        with document.at((*at, "lengths")):
            cells = read_histogram(beside(document, demand.lengths))
    return [
        (
            Workload(max(round(node.input), 1), max(round(node.output), 1)),
            node.weight * total,
            max(least, math.ceil(max(cell.input + cell.output for cell in group))),
        )
        for node, group in grouped(cells)
    ]
