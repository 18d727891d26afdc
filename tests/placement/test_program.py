"""The batched programs against the same problem written out in PuLP and solved by HiGHS."""

from __future__ import annotations

import numpy as np
import pytest
from placements import instance, random_plans

from dse.cost.placement.affine import TIERS
from dse.cost.placement.program import build, shares_of
from dse.cost.simplex import solve
from dse.search import oracle

POINTS = 50


def agree(seed: int, draws: int) -> tuple[int, int]:
    """Solve random plans both ways; how many were feasible, and how many there were."""
    feasible = total = 0
    for plan, size in random_plans(seed, POINTS, draws):
        with np.errstate(all="ignore"):
            found = solve(build(plan, (size,)))
            shares = shares_of(plan, found.x, (size,))
            seconds = np.broadcast_to(plan.seconds_of(shares), (size,))
        for index in range(size):
            answer = oracle.solve(instance(plan, index, size))
            assert bool(found.feasible[index]) == (answer is not None), (seed, total + index)
            if answer is not None:
                assert seconds[index] == pytest.approx(answer.seconds, rel=1e-9), (seed, total + index)
                feasible += 1
        total += size
        kept = found.feasible
        for on in shares.values():
            assert np.all(sum(on[tier][kept] for tier in TIERS) == pytest.approx(1, abs=1e-12))
            assert all(np.all((on[tier][kept] >= 0) & (on[tier][kept] <= 1)) for tier in TIERS)
        for tier in TIERS:
            peak, capacity = (np.broadcast_to(v, (size,))[kept] for v in (plan.peak(tier, shares), plan.capacity[tier]))
            assert np.all(peak <= capacity * (1 + 1e-9) + 1e-3)
    return feasible, total


@pytest.mark.parametrize("seed", range(4))
def test_seconds_and_feasibility_equal_those_of_the_readable_program(seed):
    feasible, total = agree(seed, draws=2)
    assert 0 < feasible <= total


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_they_do_on_ten_thousand_random_blocks(seed):
    _, total = agree(seed, draws=10)
    assert total == 500


def test_a_latency_limit_is_one_more_row():
    (plan, size), = random_plans(7, POINTS, 1)
    with np.errstate(all="ignore"):
        free = solve(build(plan, (size,)))
        seconds = np.nan_to_num(np.broadcast_to(plan.seconds_of(shares_of(plan, free.x, (size,))), (size,)))
        within = solve(build(plan, (size,), seconds * 1.001))
        beyond = solve(build(plan, (size,), seconds * 0.999))
    assert np.array_equal(within.feasible, free.feasible)
    assert not beyond.feasible.any()
