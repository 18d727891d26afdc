"""The probability that a point is on the front of its group, given how far predictions were off elsewhere.

Contenders are the points of the fronts and the runners-up (`dse.run.contests`), up to `CONTENDERS` of each; the
errors are those of `dse.run.sharing`. Of a run with more, each group is thinned to its best points and an even spread,
as its report is: points that are left out have no probability, and nobody competes with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dse.report.thinning import thin
from dse.run.contests import Contest
from dse.run.rows import Columns
from dse.run.score import Engine
from dse.run.sharing import Errors, logarithms, standing
from dse.search.chance import front_chances

FEW = 3
"""Objectives of which fronts are found in a time that grows with their points; beyond, with the square."""

CONTENDERS = {True: (20_000, 5000), False: (4000, 1000)}
"""For few objectives, and for more: frontier points of a run whose probability is computed, and runners-up that they
compete with. In all 0.6 to 1 s on one core of a machine of 2025, and 20 MB."""

DIGITS = 2
"""Of a probability: the draws give it to within 0.04."""


def front_probabilities(engine: Engine, contested: Mapping[int, Contest], rows: Columns) -> dict[int, float]:
    """Probability of being on its group's front by point number, of frontier points and runners-up.

    Args:
        engine: the sweep.
        contested: the contenders of every group.
        rows: complete rows; points that are not among them are computed.
    """
    found = {int(contest.numbers[0]): 1.0 for contest in contested.values() if len(contest.numbers) == 1}
    chosen = _limited([contest for contest in contested.values() if len(contest.numbers) > 1])
    if not chosen:
        return found
    objectives = engine.sweep.question.objectives
    points = standing(engine, np.concatenate([contest.numbers for contest in chosen]), rows)
    errors = Errors(points, objectives)
    ends = np.cumsum([len(contest.numbers) for contest in chosen]).tolist()
    for contest, start, end in zip(chosen, [0, *ends], ends, strict=False):
        members = slice(start, end)
        costs = logarithms(contest.costs, objectives)
        values = front_chances(costs, errors.of(members), chains(points.chain[members]))
        found |= dict(zip(contest.numbers.tolist(), (round(value, DIGITS) for value in values.tolist()), strict=True))
    return found


def chains(chain: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Places of the points of each chain of two or more, as one table per length, shape (chains, length)."""
    order = np.argsort(chain, kind="stable")
    _, first, lengths = np.unique(chain[order], return_index=True, return_counts=True)
    return [
        order[first[lengths == length][:, None] + np.arange(length)]
        for length in sorted(set(lengths.tolist()))
        if length > 1
    ]


def _limited(contested: Sequence[Contest]) -> list[Contest]:
    """The contests with so many frontier points, and so many runners-up, as there is time for."""
    if not contested:
        return []
    sizes = [len(contest.numbers) for contest in contested]
    group = np.repeat(np.arange(len(contested)), sizes)
    leads = np.concatenate([contest.leads for contest in contested])
    costs = np.concatenate([contest.costs for contest in contested])
    kept = np.zeros(len(group), dtype=bool)
    for part, limit in zip((leads, ~leads), CONTENDERS[costs.shape[1] <= FEW], strict=True):
        places = np.flatnonzero(part)
        if len(places) > limit:
            places = places[thin(group[places].tolist(), list(costs[places].T), limit)]
        kept[places] = True
    wanted = np.split(kept, np.cumsum(sizes)[:-1])
    limited = [
        Contest(contest.numbers[chosen], contest.costs[chosen], contest.leads[chosen])
        for contest, chosen in zip(contested, wanted, strict=True)
    ]
    return [contest for contest in limited if contest.leads.any()]
