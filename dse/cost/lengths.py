"""What passes need to know of a distribution of lengths: means over requests, over steps and over running sequences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from dse.cost.roofline import Contexts
from dse.cost.techniques import Chosen, Found, found_in_cache
from dse.cost.work import Array, is_zero

Lengths = Sequence[tuple[Array, Array, Array]]
"""Prompt tokens, generated tokens, and share of the requests of each length (arrays over the workload)."""


def expected(lengths: Lengths, values: Sequence[Any]) -> Array:
    """Mean over requests of something of each length."""
    total: Array = 0.0
    for (_, _, share), value in zip(lengths, values, strict=True):
        total = total + share * value
    return total


def moments(lengths: Lengths, values: Sequence[Any]) -> tuple[Array, Array, Array]:
    """Mean, variance and third central moment over requests."""
    mean = expected(lengths, values)
    variance, third = (expected(lengths, [(value - mean) ** power for value in values]) for power in (2, 3))
    return mean, variance, third


def contexts(lengths: Lengths) -> Contexts:
    """Contexts of the decode steps: input + 1 ... input + output - 1 (one step at least, for the shape).

    Of several lengths, the even range of contexts that has the mean and the variance of all their steps: what is a line
    in the context is exact.
    """
    tokens, output, _ = lengths[0]
    if len(lengths) == 1:
        return Contexts(tokens + 1, np.maximum(tokens + output - 1, tokens + 1))
    counts = [np.maximum(output - 1, 0.0) for _, output, _ in lengths]
    middles = [tokens + output / 2 for tokens, output, _ in lengths]
    steps = np.maximum(expected(lengths, counts), 1e-9)
    mean = expected(lengths, [count * middle for count, middle in zip(counts, middles, strict=True)]) / steps
    squares = [
        count * (middle**2 + (np.maximum(count, 1.0) ** 2 - 1) / 12)
        for count, middle in zip(counts, middles, strict=True)
    ]
    half = np.sqrt(np.maximum(3 * (expected(lengths, squares) / steps - mean**2), 0.0))
    first = np.maximum(np.round(mean - half), 1.0)
    return Contexts(first, np.maximum(2 * mean - first, first))


def held(lengths: Lengths, occupancy: float) -> Array:
    """Tokens of a running sequence, mean over time, when each holds so much of its output.

    A request of twice the output runs twice as long, and counts twice.
    """
    if len(lengths) == 1:
        tokens, output, _ = lengths[0]
        return tokens + occupancy * output
    weighted = expected(lengths, [output * (tokens + occupancy * output) for tokens, output, _ in lengths])
    return weighted / expected(lengths, [output for _, output, _ in lengths])


def found(lengths: Lengths, chosen: Chosen) -> Found:
    """What the cache holds of prompts: of each length no more than it has.

    A sequence of twice the output runs twice as long, and counts twice among those that run.
    """
    each = [found_in_cache(tokens, chosen) for tokens, _, _ in lengths]
    if len(each) == 1 or is_zero(each[0].tokens):
        return each[0]
    shared: Array = 0.0
    if not is_zero(each[0].shared):
        weighted = expected(lengths, [output * one.shared for (_, output, _), one in zip(lengths, each, strict=True)])
        shared = weighted / expected(lengths, [output for _, output, _ in lengths])
    once = reduce(np.maximum, [one.once for one in each])
    return Found(expected(lengths, [one.tokens for one in each]), shared, once)


def overlap(lengths: Lengths) -> Array:
    """E[min(D1, D2)] / E[D] of two outputs: 1 where all are alike, 1/2 where they are exponential."""
    shared = [expected(lengths, [np.minimum(one, other) for _, other, _ in lengths]) for _, one, _ in lengths]
    return expected(lengths, shared) / expected(lengths, [output for _, output, _ in lengths])


def variability(lengths: Lengths) -> Array:
    """Squared coefficient of variation of the outputs."""
    mean, variance, _ = moments(lengths, [output for _, output, _ in lengths])
    return variance / mean**2
