"""Placement problems per second against PuLP with CBC, building included on both sides, within one run."""

from __future__ import annotations

import time

import numpy as np
import pytest
from published import flexgen
from published.flexgen import Case

from dse.cost.simplex import Programs, solve
from dse.cost.tableau import Tableau

pytestmark = pytest.mark.benchmark

COUNT, PIECE, ROUNDS = 20_000, 2_000, 5
ROWS = 15
BY_CBC = 20
"""Problems CBC solves per round."""


def part(case: Case, lanes: slice | int) -> Case:
    return Case(*(np.asarray(getattr(case, name))[lanes] for name in Case.__dataclass_fields__))


def in_lockstep(case: Case) -> tuple[float, np.ndarray, int]:
    """Seconds a problem takes, objectives, and how many HiGHS had to finish."""
    room = Tableau(ROWS, len(flexgen.FREE), PIECE)
    start = time.perf_counter()
    found = [solve(flexgen.programs(part(case, slice(at, at + PIECE))), room=room) for at in range(0, COUNT, PIECE)]
    seconds = (time.perf_counter() - start) / COUNT
    return seconds, np.concatenate([piece.objective for piece in found]), sum((~p.finished).sum() for p in found)


def solving(problems: Programs) -> float:
    """Seconds a problem takes once it is built."""
    room = Tableau(*problems.matrix.shape)
    start = time.perf_counter()
    solve(problems, room=room)
    return (time.perf_counter() - start) / PIECE


def by_cbc(case: Case, numbers: range) -> tuple[float, np.ndarray]:
    """Seconds a problem takes as PuLP users write it, and objectives."""
    import pulp

    ones = [Case(*(float(value) for value in vars(part(case, k)).values())) for k in numbers]
    start = time.perf_counter()
    objectives = []
    for one in ones:
        problem = flexgen.pulp_problem(one)
        solved = problem.solve(pulp.PULP_CBC_CMD(msg=False)) == pulp.LpStatusOptimal
        objectives.append(pulp.value(problem.objective) if solved else np.inf)
    return (time.perf_counter() - start) / len(ones), np.array(objectives)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:pulp")
def test_lockstep_is_150_times_as_fast_as_pulp_with_cbc():
    case = flexgen.population(COUNT)
    fast, slow = np.inf, np.inf
    for turn in range(ROUNDS):
        seconds, objective, by_highs = in_lockstep(case)
        fast = min(fast, seconds)
        numbers = range(turn * BY_CBC, (turn + 1) * BY_CBC)
        seconds, expected = by_cbc(case, numbers)
        slow = min(slow, seconds)
        np.testing.assert_allclose(objective[numbers], expected, rtol=1e-6)
    problems = flexgen.programs(part(case, slice(0, PIECE)))
    alone = min(solving(problems) for _ in range(ROUNDS))
    print(
        f"placement: {1 / fast:,.0f} LPs/s built and solved ({1 / alone:,.0f} solved), "
        f"{by_highs} of {COUNT:,} by HiGHS; PuLP with CBC {1 / slow:,.0f} LPs/s: {slow / fast:.0f}x"
    )
    assert slow / fast >= 150
    assert by_highs < COUNT / 1000
