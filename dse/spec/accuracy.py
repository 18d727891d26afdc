"""How much quality a precision scheme costs a model: looked up in published measurements, never guessed.

The facts stand in `configs/accuracy.yaml` in order of preference: the first that fits counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypeVar

from pydantic import Field

from dse.errors import Fault, InputError
from dse.spec.formats import Format
from dse.spec.precision import Precision, parse_precision
from dse.spec.reading import Document, Strict, build, library_file, read

Evidence = Literal["measured", "family", "unknown"]
Value = TypeVar("Value")

NEAR = 4.0
"""A relative's figure counts up to this ratio of parameters: 7B speaks for 13B, not for 70B."""

_TENSORS = ("weights", "activations", "kv_cache", "embeddings", "attention")
_SCALES_LEFT_OPEN = ("activations", "kv_cache")
"""Tensors quantised while serving: a plain type leaves the layout of their scales to the method."""


class Model(Protocol):
    """What the lookup asks of a model."""

    @property
    def name(self) -> str:
        """Its library name; families are told by its beginning."""

    def parameters(self) -> int:
        """All weights."""


@dataclass(frozen=True, slots=True)
class AccuracyDrop:
    """Loss in quality against 16 bit, with what it rests on."""

    pct: float
    """Percent of the 16-bit figure, positive is worse: a score's fall, perplexity's rise. NaN: unknown."""
    evidence: Evidence
    """measured: this model and scheme; family: a relative, or the same bits in coarser groups."""
    source: str
    """The measurement in words: metric, both figures, method, who published it."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One published pair: a model's score in 16 bit and under a scheme."""

    model: str
    precision: Precision
    metric: str
    higher_is_better: bool
    baseline: float
    value: float
    method: str
    source: str

    @property
    def loss_pct(self) -> float:
        """Change in percent of the 16-bit figure, positive is worse; negative where quality rose."""
        change = 100 * (self.value - self.baseline) / self.baseline
        return -change if self.higher_is_better else change


def accuracy_drop(model: Model, precision: Precision) -> AccuracyDrop:
    """Quality that `model` loses under `precision`, from the nearest published measurement.

    16 bit loses nothing by definition, nor does the precision a model was trained for and is only
    published in. Otherwise a measurement must agree in element type and bits of every tensor, and in
    the groups of the weights (of activations and KV cache where the scheme states groups). Preferred,
    in this order: the same model; the same groups over coarser ones, which lose no less by the same
    method; the nearest size of the family, within `NEAR`; the order of the file, which puts broad task
    averages before perplexity and best-practice methods first. Measured gains are noise, counted as 0.

    Task scores and perplexity are different units: 1 % of perplexity is a smaller loss than 1 % of a
    task score, so a limit meant for scores is strict where only perplexity is known. The source says
    which it is.
    """
    if _is_wide(precision):
        return AccuracyDrop(0.0, "measured", "16 bit throughout: the baseline, by definition")
    native = _longest(_library().native, model.name)
    if native and any(_fit(scheme, precision) == 0 for scheme in native.schemes):
        return AccuracyDrop(
            0.0, "measured", f"published in this precision only, by definition; {native.source}"
        )
    candidates = list(_candidates(model, precision))
    if not candidates:
        family = _family(model.name)
        of = f"{family} models within {NEAR:g} times the size" if family else f"{model.name} or a relative"
        return AccuracyDrop(math.nan, "unknown", f"no measurement of {precision.name} on {of}")
    rank, fact = min(candidates, key=lambda candidate: candidate[0])
    others = [other for key, other in candidates if key[:2] == rank[:2] and other.model == fact.model]
    evidence: Evidence = "measured" if rank[:2] == (0, 0) else "family"
    return AccuracyDrop(max(fact.loss_pct, 0.0), evidence, _words(fact, rank, others))


def accuracy_facts() -> tuple[Fact, ...]:
    """All measurements of `configs/accuracy.yaml`, most preferred first."""
    return _library().facts


_Rank = tuple[int, float, float]
"""Another model?, coarser groups (0: the same), distance in log parameters."""


def _candidates(model: Model, precision: Precision) -> Iterator[tuple[_Rank, Fact]]:
    """Facts that may speak for the model and scheme, in the order of the file."""
    library, family = _library(), _family(model.name)
    for fact in library.facts:
        other = fact.model != model.name
        if other and (family is None or _family(fact.model) != family):
            continue
        distance = abs(math.log(model.parameters() / library.parameters[fact.model])) if other else 0.0
        coarser = _fit(fact.precision, precision)
        if coarser is not None and distance <= math.log(NEAR):
            yield (int(other), coarser, round(distance, 2)), fact


def _is_wide(precision: Precision) -> bool:
    forms: list[Format] = [getattr(precision, tensor) for tensor in _TENSORS]
    return all(form.wide for form in forms)


def _fit(measured: Precision, asked: Precision) -> float | None:
    """0 where the schemes agree, a larger number the coarser the measured groups, None where they differ."""
    fits = [
        _tensor_fit(getattr(measured, tensor), getattr(asked, tensor), tensor in _SCALES_LEFT_OPEN)
        for tensor in _TENSORS
    ]
    return None if None in fits else max(fit for fit in fits if fit is not None)


def _tensor_fit(measured: Format, asked: Format, open_scales: bool) -> float | None:
    if measured.wide or asked.wide:
        return 0.0 if measured.wide and asked.wide else None
    if (measured.kind, measured.element_bits) != (asked.kind, asked.element_bits):
        return None
    if measured.group_size == asked.group_size or (open_scales and not asked.group_size):
        return 0.0
    group = measured.group_size or math.inf
    return group if group > (asked.group_size or math.inf) else None


def _family(name: str) -> str | None:
    return _longest(_library().families, name)


def _longest(by_prefix: Mapping[str, Value], name: str) -> Value | None:
    """What belongs to the longest prefix that `name` begins with."""
    fitting = [prefix for prefix in by_prefix if name.startswith(prefix)]
    return by_prefix[max(fitting, key=len)] if fitting else None


def _words(fact: Fact, rank: _Rank, others: list[Fact]) -> str:
    other_model, coarser, _ = rank
    text = f"{fact.metric} {fact.baseline:g} -> {fact.value:g}, {fact.method}; {fact.source}"
    if coarser:
        text = f"with {'one scale per channel' if math.isinf(coarser) else f'groups of {coarser:g}'}: {text}"
    if other_model:
        text = f"on its relative {fact.model}: {text}"
    if fact.loss_pct < 0:
        text += f"; a gain of {-fact.loss_pct:.2g} %, counted as 0"
    also = {other.metric: other for other in reversed(others) if other.metric != fact.metric}
    for metric, other in reversed(also.items()):
        text += f"; also {metric} {other.baseline:g} -> {other.value:g}"
    return text


Positive = Annotated[float, Field(gt=0)]


class _Block(Strict):
    """Measurements of one scheme by one source."""

    precision: str | dict[str, Any]
    metric: str
    method: str
    source: str
    measured: dict[str, tuple[Positive, Positive]]
    """Per model: the figure in 16 bit, the figure under the scheme."""


class _Native(Strict):
    """Models, by prefix, that are published in one quantised precision only."""

    precisions: tuple[str | dict[str, Any], ...]
    models: tuple[str, ...]
    source: str


class _File(Strict):
    families: dict[str, tuple[str, ...]]
    native: tuple[_Native, ...]
    parameters_b: dict[str, Positive]
    metrics: dict[str, Literal["higher", "lower"]]
    facts: tuple[_Block, ...]


class _Baseline(NamedTuple):
    schemes: tuple[Precision, ...]
    source: str


@dataclass(frozen=True)
class _Library:
    families: dict[str, str]
    """Per prefix of model names."""
    native: dict[str, _Baseline]
    """Per prefix of model names."""
    parameters: dict[str, float]
    facts: tuple[Fact, ...]


@cache
def _library() -> _Library:
    document = read(library_file("configs/accuracy.yaml"))
    content = build(_File, document)
    native: dict[str, _Baseline] = {}
    for index, entry in enumerate(content.native):
        at = ("native", index, "precisions")
        schemes = tuple(parse_precision(one, document, (*at, i)) for i, one in enumerate(entry.precisions))
        native |= dict.fromkeys(entry.models, _Baseline(schemes, entry.source))
    return _Library(
        {prefix: family for family, prefixes in content.families.items() for prefix in prefixes},
        native,
        {model: billions * 1e9 for model, billions in content.parameters_b.items()},
        tuple(_facts(content, document)),
    )


def _facts(content: _File, document: Document) -> Iterator[Fact]:
    faults: list[Fault] = []
    schemes: dict[str, Precision] = {}  # a scheme stands in many facts
    for index, block in enumerate(content.facts):
        at = ("facts", index)
        if (key := repr(block.precision)) not in schemes:
            schemes[key] = parse_precision(block.precision, document, (*at, "precision"))
        scheme = schemes[key]
        if block.metric not in content.metrics:
            faults.append(document.fault((*at, "metric"), "is not among metrics; add it there"))
        unsized = sorted(block.measured.keys() - content.parameters_b)
        faults += [document.fault((*at, "measured", model), "is not in parameters_b") for model in unsized]
        higher = content.metrics.get(block.metric) == "higher"
        for model, (baseline, value) in block.measured.items():
            yield Fact(model, scheme, block.metric, higher, baseline, value, block.method, block.source)
    if faults:
        raise InputError(faults)
