"""Seconds of an operator: max(FLOPs / reached peak, bytes / reached bandwidth) or the time of its message.

2402.16363 section 2.2 with efficiencies: T = max(F / (eta_c P), B / (eta_m W)). Fixed costs are charged per
kernel, not here. For work that grows with the context the mean over the steps of a decode phase is exact:
each step's time is the maximum of two affine functions of the context, which cross at most once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from dse.cost import collectives
from dse.cost.choices import Choices
from dse.cost.mesh import Mesh
from dse.cost.work import Amount, Array, Group, Operands, Span, Work

RATE_AXES = ("hardware", "precision", "fidelity")


@dataclass
class Rates:
    """Reciprocal peaks and bandwidths of the mesh's accelerators, looked up once per kind of work."""

    mesh: Mesh
    choices: Choices

    @cached_property
    def _found(self) -> dict[tuple[str, str, str], Array]:
        return {}

    def per_flop(self, group: Group, operands: Operands) -> Array:
        """Seconds per FLOP, shape over (hardware, precision, fidelity)."""
        key = ("flop", group, operands)
        if key not in self._found:
            self._found[key] = self.mesh.take(self.choices.seconds_per_flop(group, operands), *RATE_AXES)
        return self._found[key]

    def per_byte(self, group: Group, operands: Operands) -> Array:
        """Seconds per byte, shape over (hardware, precision, fidelity)."""
        key = ("byte", group, operands)
        if key not in self._found:
            self._found[key] = self.mesh.take(self.choices.seconds_per_byte(group, operands), *RATE_AXES)
        return self._found[key]

    def fixed(self, group: Group) -> Array:
        """Seconds per kernel, shape over (fidelity,)."""
        key = ("fixed", group, "")
        if key not in self._found:
            self._found[key] = self.mesh.take(self.choices.fixed_seconds(group), "fidelity")
        return self._found[key]


@dataclass(frozen=True, slots=True)
class Contexts:
    """The contexts of a decode phase: every whole number from `first` to `last` (arrays over the workload)."""

    first: Array
    last: Array


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one operator by what it waits for; its time is the largest of the three."""

    compute: Array
    memory: Array
    network: Array
    seconds: Array


def times(work: Work, rates: Rates, contexts: Contexts) -> Times:
    """Time of one operator, without the fixed cost of its kernel.

    Args:
        work: the operator.
        rates: peaks and bandwidths.
        contexts: of the decode steps. Where `work.span` is set, times are means per step, and `seconds` is
            the mean of the maximum, not the maximum of the means.
    """
    if work.message is not None:
        network = collectives.seconds(work.message.routes, work.message.bytes * work.times)
        return Times(0.0, 0.0, network, network)
    per_flop = rates.per_flop(work.group, work.operands)
    per_byte = rates.per_byte(work.group, work.operands)
    compute = _line(work.fixed.flops, work.each.flops, per_flop)
    memory = _line(work.fixed.bytes, work.each.bytes, per_byte)
    if work.span is None:
        c, m = (_add(line[0], _scale(line[1], work.times)) for line in (compute, memory))
        return Times(c, m, 0.0, np.maximum(c, m))
    seen = mean_seen(work.span, contexts)
    return Times(
        _add(compute[0], _scale(compute[1], seen)),
        _add(memory[0], _scale(memory[1], seen)),
        0.0,
        mean_of_maximum(compute, memory, work.span, contexts),
    )


Line = tuple[Array, Array]
"""Intercept and slope."""


def _line(fixed: Array, each: Array, rate: Array) -> Line:
    return _scale(fixed, rate), _scale(each, rate)


def _is_zero(value: Array) -> bool:
    return isinstance(value, float) and value == 0.0


def _add(a: Array, b: Array) -> Array:
    """A + b, skipping plain zeros."""
    return b if _is_zero(a) else a if _is_zero(b) else a + b


def _scale(a: Array, b: Array) -> Array:
    """A * b, keeping plain zeros."""
    return 0.0 if _is_zero(a) else a * b


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
