"""The largest batch, or context, that fits in memory: found on an estimate, held against the account itself.

The cache of a number of sequences or tokens is cheap to say, the activations are not: they follow from all operators of
both passes. But these hold in proportion to the tokens of a pass, so activations that are known for one number tell
those of all others. What is found with them is checked by one account of itself and of its next one; where that
disagrees (scores that are written out grow with the context as well), the activations of this account are the next that
are scaled, and what is left after a few rounds is bisected.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dse.cost.work import Array

if TYPE_CHECKING:
    from dse.cost.memory import Memory

ROUNDS = 3
"""Estimates that are checked."""

PROBES = 2_000
"""Values tried at once in a search, over all points."""


def largest(known: Memory, of: Callable[[Array], Memory], cap: float) -> Array:
    """Largest whole number in 0..cap whose memory is within the limit, at each point of a mesh.

    Args:
        known: a memory of the mesh, whose activations are scaled first; the limit is its own.
        of: the memory of numbers, which stand along an axis before those of the mesh.
        cap: largest number that is looked at.

    Returns:
        The number, whatever the mesh: memory must not shrink with it.
    """
    limit, shape = known.limit, known.point.mesh.shape
    narrow = (1,) * len(shape)  # what does not vary along an axis is not repeated along it
    low: Array = np.zeros(narrow)
    high: Array = np.full(narrow, cap + 1)
    scaled = _Scaled(known.peaks, known.passes)
    for _ in range(ROUNDS):
        at = _bisected(scaled.fits(of, limit), low, high, shape)
        both = np.stack((np.maximum(at, 1.0), np.minimum(at + 1.0, cap)))
        memory = of(both)
        low, high = _between(both, memory.total <= limit, low, high)
        if not np.any(high - low > 1):
            return low
        scaled = _Scaled(
            {phase: _first(peak, len(shape)) for phase, peak in memory.peaks.items()},
            {phase: _first(tokens, len(shape)) for phase, tokens in memory.passes.items()},
        )
    return _bisected(lambda tried: of(tried).total <= limit, low, high, shape)


class _Scaled:
    """Memory whose activations are those of one number, in proportion to the tokens of a pass."""

    def __init__(self, peaks: dict[Any, Array], passes: dict[Any, Array]) -> None:
        self._per_token = {phase: peak / passes[phase] for phase, peak in peaks.items()}

    def fits(self, of: Callable[[Array], Memory], limit: Array) -> Callable[[Array], Any]:
        """Where numbers are within the limit."""
        return lambda numbers: self._total(of(numbers)) <= limit

    def _total(self, memory: Memory) -> Array:
        activations: Array = 0.0
        passes = memory.passes
        for phase, each in self._per_token.items():
            activations = np.maximum(activations, each * passes[phase])
        return memory.total_with(activations)


def _first(values: Array, axes: int) -> Array:
    """The first along the axis before those of the mesh, which is not there where nothing varies along it."""
    return np.asarray(values)[0] if np.ndim(values) > axes else values


def _between(tried: Array, good: Any, low: Array, high: Array) -> tuple[Array, Array]:
    """The largest number that fits, and the smallest above it that does not, of those known and those tried."""
    low = np.max(np.where(good & (tried < high), tried, low), axis=0)
    return low, np.min(np.where(~good & (tried > low), tried, high), axis=0)


def _bisected(fits: Callable[[Array], Any], low: Array, high: Array, shape: tuple[int, ...]) -> Array:
    """A number that fits and whose next one does not, between one that does and one that does not.

    In ratios, or on few points by many values at once: a round costs the same whatever their number.
    """
    values = max(1, PROBES // max(math.prod(shape), 1))
    shares = np.arange(1, values + 1).reshape(-1, *(1,) * len(shape)) / (values + 1)
    while np.any(high - low > 1):
        least = np.maximum(low, 1.0)
        tried = np.clip(np.floor(least * (high / least) ** shares), low + 1, np.maximum(high - 1, low))
        # `low` is known to fit, even where nothing can be computed for 0.
        low, high = _between(tried, fits(tried) | (tried == low), low, high)
    return low
