"""A KV cache that is full before the places of a batch are.

First come first served, a long prompt that waits for blocks holds up all behind it. In a cache of c mean requests there
are now few long ones and now many short: N in the order of arrival, of mean c + (v - 1) / 2 and variance c v with v the
squared coefficient of variation of sizes (renewal theory; c where they are alike). A step of few takes hardly less than
one of many, so that what finishes goes by the harmonic mean of N: c / (1 + v / (2 c)).

Requests are admitted as soon as their prompts fit. What is free then is evenly distributed up to the size of a prompt,
and until the next request ends, all running ones grow together as much as one does in its life: where that is more than
is free, the youngest is evicted, and its prompt computed again. With growth exponential, a part g of a prompt on
average, that happens with probability g (1 - exp(-1 / g)) per request. Chunks are admitted with an eye on the growth of
the step, which nearly avoids it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.lengths import Lengths, expected
from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.work import Array

if TYPE_CHECKING:  # engines are for those who ask: most sweeps have no arrivals
    from dse.cost.batching import Prefilling

SHORT = 0.98
"""Share of what the cache holds from which places are no limit beside it."""


def short(slots: Array, held: Array) -> NDArray[np.bool_]:
    """Where the cache is full before the places are.

    Args:
        slots: sequences that may run at once.
        held: those that the cache holds.
    """
    return np.asarray(slots >= SHORT * held)


def sizes(point: Point, occupancy: float, bound: Any) -> list[Array]:
    """Cache of each length at its average age, in mean requests; 1 where places are short before the cache is.

    Args:
        point: whose requests.
        occupancy: share of its output that a running sequence has, on average.
        bound: where the cache is short.
    """
    if len(point.lengths) == 1:
        return [np.ones(1)]
    held = _held(point, occupancy)
    mean = np.maximum(expected(point.lengths, held), 1e-300)
    return [np.where(bound, one / mean, 1.0) for one in held]


def _held(point: Point, generated: float) -> list[Array]:
    """Bytes of a request of each length when so much of its output is generated, without what all share."""
    memory = Memory(point.with_batch(point.degrees.dp))
    return [
        np.maximum(memory.cache_at(tokens + generated * output + memory.ahead) - memory.common, 0.0)
        for tokens, output, _ in point.lengths
    ]


def variability(lengths: Lengths, sizes: Sequence[Array]) -> Array:
    """Squared coefficient of variation of sizes whose mean is 1."""
    return expected(lengths, [(size - 1.0) ** 2 for size in sizes])


def as_many(slots: Array, variability: Array) -> Array:
    """Like requests of which as many finish as of those of unlike sizes that a full cache holds: the harmonic mean."""
    found: Array = slots / (1.0 + variability / (2.0 * slots))
    return found


def evicted(point: Point) -> Array:
    """Chance that a request that ends was too late for all to grow: one of them is computed again."""
    begin, end = (expected(point.lengths, _held(point, generated)) for generated in (0.0, 1.0))
    growth = np.maximum(end / np.maximum(begin, 1e-300) - 1.0, 1e-12)
    found: Array = growth * -np.expm1(-1.0 / growth)
    return found


def finished(engine: Prefilling, slots: Array, sizes: Sequence[Array], evicts: Any = False) -> Array:
    """Requests per second of a batch that is always full.

    Args:
        engine: its iterations.
        slots: places, or like requests that the cache holds.
        sizes: as above.
        evicts: where more requests are let in than the cache holds at their average age.
    """
    point = engine.point
    found = engine.finished(as_many(slots, variability(point.lengths, sizes)))
    if not np.any(evicts):
        return found
    return found / (1.0 + found * np.where(evicts, evicted(point) * engine.again, 0.0))
