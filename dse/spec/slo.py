"""Service level objectives: what a request may take, on average and in 99 of 100 cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from dse.errors import InputError
from dse.spec.composer import Steps
from dse.spec.reading import Document, build, library_file, read, show, suggest
from dse.spec.shape import Strict

FILE = "configs/slos.yaml"

METRICS = ("ttft_ms", "tpot_ms", "latency_s")
STATISTICS = ("mean", "p99")

Positive = Annotated[float, Field(gt=0)]


class Target(Strict):
    """Limits of one latency."""

    mean: Positive | None = None
    """Over requests."""
    p99: Positive | None = None
    """Of 99 in 100 requests."""


class Limit(NamedTuple):
    """One limit."""

    metric: str
    statistic: str
    most: float

    @property
    def name(self) -> str:
        """`ttft_ms:p99`."""
        return f"{self.metric}:{self.statistic}"


class Slo(Strict):
    """Limits of latencies; without any, only throughput counts."""

    ttft_ms: Target = Target()
    """Time to first token, the queue included."""
    tpot_ms: Target = Target()
    """A request's mean time per output token after the first."""
    latency_s: Target = Target()
    """From sending a request to its last token."""
    source: str = ""
    """Who holds services to this."""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """All limits there are, in a fixed order."""
        return tuple(self._limits())

    def _limits(self) -> Iterator[Limit]:
        for metric in METRICS:
            for statistic in STATISTICS:
                if (most := getattr(getattr(self, metric), statistic)) is not None:
                    yield Limit(metric, statistic, most)

    def scaled(self, factor: float) -> Slo:
        """The same limits, all looser (or below 1: tighter) by a factor."""
        scaled: dict[str, dict[str, float]] = {}
        for metric, statistic, most in self.limits:
            scaled.setdefault(metric, {})[statistic] = most * factor
        return Slo.model_validate(scaled)


def load_slo(entry: Any, document: Document, at: Steps) -> Slo:
    """The objectives a user means: a name in `configs/slos.yaml`, or a mapping, with `base` to start from a name.

    Raises:
        InputError: unknown name, or all faults of the mapping.
    """
    if isinstance(entry, str):
        with document.at(at):
            return _named(entry)
    if not isinstance(entry, Mapping):
        raise InputError(
            document.fault(at, f"expected a name or limits such as ttft_ms: {{p99: 2000}}, got {show(entry)}")
        )
    own = dict(entry)
    base: dict[str, Any] = {}
    if "base" in own:
        with document.at((*at, "base")):
            base = _named(own.pop("base")).model_dump(exclude_none=True)
    return build(Slo, document, base | own, at)


def slo_names() -> list[str]:
    """Every class of objectives that has a name."""
    return list(library_slos())


@cache
def library_slos() -> dict[str, Slo]:
    """The classes of the library, by name."""
    document = read(library_file(FILE))
    return {name: build(Slo, document, entry, (name,)) for name, entry in document.value.items()}


def _named(text: Any) -> Slo:
    library = library_slos()
    if not isinstance(text, str) or text not in library:
        hint = suggest(text, library) if isinstance(text, str) else ""
        raise InputError(f"unknown class {show(text)}{hint or '; expected one of ' + ', '.join(library)}")
    return library[text]
