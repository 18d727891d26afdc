"""Seconds of an operator: max(FLOPs / reached peak, bytes / reached bandwidth) or the time of its message.

2402.16363 section 2.2 with efficiencies: T = max(F / (eta_c P), B / (eta_m W)); where efficiencies are fitted, with a
rest that is linear in further quantities of the work (`dse.cost.forms`). Launches are charged per kernel. For work that
grows with the context the mean over the steps of a decode phase is exact: each step's time is the maximum of two affine
functions of the context, which cross at most once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from dse.cost import collectives
from dse.cost.rates import LawArrays, Rates
from dse.cost.work import Amount, Array, Quantity, Span, Work, is_zero


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of a decode phase: every whole number from `first` to `last` (arrays over the workload)."""

    first: Array
    last: Array


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one operator."""

    compute: Array
    """Its FLOPs at the reached peak."""
    memory: Array
    """Its bytes at the reached bandwidth."""
    network: Array
    seconds: Array
    """What it takes: the largest of the three, and where efficiencies are fitted the rest."""


def times(work: Work, rates: Rates, contexts: Contexts) -> Times:
    """Time of one operator, without the launch of its kernel.

    Args:
        work: the operator.
        rates: seconds per unit of work.
        contexts: of the decode steps. Where `work.span` is set, times are means per step, and `seconds` is
            the mean of the maximum, not the maximum of the means.
    """
    if work.message is not None:
        network = collectives.seconds(work.message.routes, work.message.bytes * work.times)
        return Times(0.0, 0.0, network, network)
    found = rates.of(work)
    compute, memory = (
        _at(_line(*_quantity(work, name), _add(inside, found.rest.get(name, 0.0))), work, contexts)
        for name, inside in _inside(found)
    )
    seconds = _add(_roof(work, found, contexts), _at(_rest(work, found), work, contexts))
    return Times(compute, memory, 0.0, seconds)


def total_seconds(works: Iterable[Work], rates: Rates, contexts: Contexts) -> Array:
    """Time of some operators, without launches of kernels.

    Rests of operators that count in one variable are added up before it multiplies them: on the open mesh their
    coefficients are small and the variable is not.
    """
    total: Array = 0.0
    rests: dict[object, tuple[Work, Line]] = {}
    for work in works:
        if work.message is not None:
            total = total + times(work, rates, contexts).seconds
            continue
        found = rates.of(work)
        total = _add(total, _roof(work, found, contexts))
        if found.rest:
            key = id(work.times) if work.span is None else work.span
            line = _rest(work, found)
            before = rests[key][1] if key in rests else (0.0, 0.0)
            rests[key] = work, (_add(before[0], line[0]), _add(before[1], line[1]))
    for work, line in rests.values():
        total = _add(total, _at(line, work, contexts))
    return total


def launch_seconds(works: Sequence[Work], rates: Rates) -> Array:
    """Launches: one per distinct kernel, of the class and shape of its first operator."""
    first: dict[str, Work] = {}
    for work in works:
        first.setdefault(work.kernel, work)
    total: Array = 0.0
    for work in first.values():
        total = total + rates.launch(work)
    return total


def _inside(found: LawArrays) -> tuple[tuple[Quantity, Array], tuple[Quantity, Array]]:
    return ("flops", found.flops), ("bytes", found.bytes)


def _roof(work: Work, found: LawArrays, contexts: Contexts) -> Array:
    """The maximum of compute and memory, as far as it is one: 0 where all is in the rest."""
    if is_zero(found.flops) and is_zero(found.bytes):
        return 0.0
    compute, memory = (_line(*_quantity(work, name), rate) for name, rate in _inside(found))
    if work.span is not None:
        return mean_of_maximum(compute, memory, work.span, contexts)
    c, m = (_add(line[0], _scale(line[1], work.times)) for line in (compute, memory))
    return np.maximum(c, m)


def _rest(work: Work, found: LawArrays) -> Line:
    """What is added to the maximum, as a line in the work's variable."""
    fixed, each = cast(Array, 0.0), cast(Array, 0.0)
    for name, rate in found.rest.items():
        line = _line(*_quantity(work, name), rate)
        fixed, each = _add(fixed, line[0]), _add(each, line[1])
    return fixed, each


def _quantity(work: Work, name: Quantity) -> Line:
    if name == "flops":
        return work.fixed.flops, work.each.flops
    if name == "bytes":
        return work.fixed.bytes, work.each.bytes
    return work.extra.get(name, (0.0, 0.0))


def _at(line: Line, work: Work, contexts: Contexts) -> Array:
    """A line at the work's variable, or its mean over the decode steps."""
    variable = work.times if work.span is None else mean_seen(work.span, contexts)
    return _add(line[0], _scale(line[1], variable))


Line = tuple[Array, Array]
"""Intercept and slope."""


def _line(fixed: Array, each: Array, rate: Array) -> Line:
    return _scale(fixed, rate), _scale(each, rate)


def _add(a: Array, b: Array) -> Array:
    """A + b, skipping plain zeros."""
    if type(a) is float and a == 0.0:
        return b
    return a if type(b) is float and b == 0.0 else a + b


def _scale(a: Array, b: Array) -> Array:
    """A * b, keeping plain zeros."""
    return 0.0 if type(a) is float and a == 0.0 else a * b


def mean_seen(span: Span, contexts: Contexts) -> Array:
    """Mean number of tokens a query sees over the steps of a decode phase (exact)."""
    return mean_of_maximum((0.0, 1.0), (0.0, 0.0), span, contexts)


def mean_of_maximum(a: Line, b: Line, span: Span, contexts: Contexts) -> Array:
    """Mean over the steps of max(a, b) at the context each step sees. Exact, in closed form.

    Args:
        a: a line in the context.
        b: another.
        span: how the seen context follows from the whole one: min(n, window), or the place in its chunk.
        contexts: first and last whole context.
    """
    first, last = contexts.first, contexts.last
    steps = last - first + 1
    if span.window is not None:
        edge = np.minimum(last, span.window)
        total = _sum_of_maximum(a, b, first, edge)
        beyond = last - np.maximum(edge, first - 1)
        total = total + beyond * np.maximum(a[0] + a[1] * span.window, b[0] + b[1] * span.window)
    elif span.chunk is not None:
        total = _sum_over_chunks(a, b, span.chunk, first, last)
    else:
        total = _sum_of_maximum(a, b, first, last)
    return total / steps


def _sum_over_chunks(a: Line, b: Line, chunk: int, first: Array, last: Array) -> Array:
    """Sum over contexts n of max(a, b) at ((n - 1) mod chunk) + 1."""
    begin, end = np.floor((first - 1) / chunk), np.floor((last - 1) / chunk)
    at_first, at_last = first - begin * chunk, last - end * chunk
    same = begin == end
    head = _sum_of_maximum(a, b, at_first, np.where(same, at_last, chunk))
    whole = np.maximum(end - begin - 1, 0.0) * _sum_of_maximum(a, b, np.ones_like(first), np.full_like(first, chunk))
    tail = _sum_of_maximum(a, b, np.ones_like(first), np.where(same, 0.0, at_last))
    return cast(Array, head + whole + tail)


def _sum_of_maximum(a: Line, b: Line, first: Array, last: Array) -> Array:
    """Sum of max(a, b) over the whole numbers first..last; 0 where there are none.

    sum max(a, b) = sum b + sum max(a - b, 0), and a - b changes sign at most once.
    """
    count = np.maximum(last - first + 1, 0.0)
    middle = (first + last) / 2
    total = count * (b[0] + b[1] * middle)
    if np.size(count) == 0:  # a list of no points
        return cast(Array, total)
    d0, d1 = a[0] - b[0], a[1] - b[1]
    # Rounded d0 + d1 n is monotone in n: no lead at the extreme contexts of the mesh means none anywhere, and
    # that test does not need the axis of the contexts.
    if all(np.all(d0 + d1 * extreme <= 0) for extreme in (np.min(first), np.max(last))):
        return cast(Array, total)
    at_first, at_last = d0 + d1 * first, d0 + d1 * last
    positive = ((at_first > 0) | (at_last > 0)) & (count > 0)
    if not np.any(positive):
        return cast(Array, total)
    # a leads from `start` to `stop`: everywhere, or on one side of the crossing.
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -d0 / d1
    start = np.where(at_first > 0, first, np.clip(np.floor(crossing) + 1, first, last))
    stop = np.where(at_last > 0, last, np.clip(np.ceil(crossing) - 1, first, last))
    lead = (stop - start + 1) * (d0 + d1 * ((start + stop) / 2))
    return cast(Array, total + np.where(positive, np.maximum(lead, 0.0), 0.0))


def mean_amount(work: Work, contexts: Contexts) -> Amount:
    """FLOPs and bytes of the work itself: `fixed + each * times`, or the mean over decode contexts."""
    variable = work.times if work.span is None else mean_seen(work.span, contexts)
    return Amount(
        *(
            _add(getattr(work.fixed, name), _scale(getattr(work.each, name), variable))
            for name in Amount.__dataclass_fields__
        )
    )
