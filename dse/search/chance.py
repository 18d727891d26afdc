"""The probability that a point is on the front, when its costs are known but for errors that points partly share.

A fixed Latin hypercube: every error is a standard normal variable whose quantiles are all drawn, in an order that
follows from its name alone. So an error is the same whoever asks for it, in whatever order, on any machine, and two
points that share one move together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from dse.search.pareto import non_dominated
from dse.search.rows import Bools, Floats, Ints

SAMPLES = 128
"""Draws: a probability is known to within 0.04 or better (standard error)."""

PAIRS = 64
"""Points up to which comparing all pairs of all draws at once is faster than a sweep per draw."""

CELLS = 1 << 18
"""Costs drawn at once: what stays in cache."""


def normals(names: Sequence[str]) -> Floats:
    """Draws of standard normal variables, shape (names, SAMPLES), each following from its name."""
    seeds = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") for name in names]
    steps = np.arange(1, SAMPLES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = np.array(seeds, dtype=np.uint64)[:, None] + steps
    # The finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014): whole numbers, so equal on any machine.
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return _quantiles()[np.argsort(mixed, axis=1, kind="stable")]


@cache
def _quantiles() -> Floats:
    """The middle of each of SAMPLES equally likely intervals of a standard normal variable."""
    from statistics import NormalDist

    return np.array([NormalDist().inv_cdf((draw + 0.5) / SAMPLES) for draw in range(SAMPLES)])


def front_chances(costs: Floats, errors: Callable[[slice], Floats], chains: Sequence[Ints] = ()) -> Floats:
    """How often each point is on the front.

    Args:
        costs: shape (n, k), minimised, on the scale on which errors add.
        errors: of some draws, shape (draws, n, k).
        chains: tables of points, shape (chains, length): those of one row keep their order in every cost, so that
            errors move them together (monotone rearrangement, Chernozhukov, Fernandez-Val & Galichon, 2009).

    Returns:
        Shape (n,), 0 to 1; a point with a NaN cost is never on a front.
    """
    found = np.zeros(len(costs), dtype=np.int64)
    ordered = [(chain, np.argsort(costs[chain], axis=1, kind="stable")) for chain in chains]
    step = max(1, CELLS // max(costs.size, 1))
    for start in range(0, SAMPLES, step):
        drawn = costs + errors(slice(start, min(start + step, SAMPLES)))
        for chain, order in ordered:
            for objective in range(costs.shape[1]):
                placed = np.take_along_axis(chain, order[:, :, objective], axis=1)
                drawn[:, placed, objective] = np.sort(drawn[:, chain, objective], axis=2)
        found += _fronts(drawn).sum(axis=0)
    return found / SAMPLES


def _fronts(drawn: Floats) -> Bools:
    """Who is on the front of each draw: shape (draws, n) from (draws, n, k)."""
    if drawn.shape[1] > PAIRS:
        return np.array([non_dominated(costs) for costs in drawn])
    weakly = np.ones((len(drawn), drawn.shape[1], drawn.shape[1]), dtype=bool)
    for objective in range(drawn.shape[2]):
        column = drawn[:, :, objective]
        weakly &= column[:, :, None] <= column[:, None, :]
    dominated: Bools = np.logical_or.reduce(weakly & ~weakly.transpose(0, 2, 1), axis=1)
    missing: Bools = np.logical_or.reduce(np.isnan(drawn), axis=2)
    return ~(missing | dominated)
