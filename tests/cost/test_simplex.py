"""Small linear programs in lockstep: the optimum HiGHS finds, the same point of it every time, and proofs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from dse.cost import tableau
from dse.cost.simplex import Programs, Solutions, solve

ROUNDED = 1e-9


def random_programs(count: int, seed: int, rows: int = 12, columns: int = 6, spread: float = 0.0) -> Programs:
    """Half the entries zero, half the costs zero, bounds of any sign.

    Rows are scaled by up to 10**spread either way, columns by 10**(spread / 8).
    """
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns, count)) * (rng.random((rows, columns, count)) < 0.5)
    matrix[0] = np.abs(matrix[0]) + 0.1  # bounded, so that preferences are
    bound = rng.normal(rows / 20, 1.0, size=(rows, count))
    bound[0] = rng.uniform(1.0, 10.0, count)
    cost = rng.random((columns, count)) * (rng.random((columns, count)) < 0.5)
    by_row, by_column = (
        10 ** rng.uniform(-spread, spread, (rows, count)),
        10 ** rng.uniform(-spread / 8, spread / 8, (columns, count)),
    )
    return Programs(
        matrix * by_row[:, None] * by_column,
        bound * by_row,
        cost * by_column,
        rng.normal(size=columns)[:, None] * by_column,
    )


def small_integers(count: int, seed: int) -> Programs:
    """Entries of -2 to 2: ties and degenerate corners everywhere."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-2, 3, (8, 5, count)).astype(float)
    matrix[0] = 1.0
    bound = rng.integers(-2, 4, (8, count)).astype(float)
    return Programs(matrix, bound, rng.integers(0, 3, (5, count)).astype(float), np.array([-3.1, 1.7, -0.9, 0.4, 2.3]))


def shares(count: int, seed: int) -> Programs:
    """Placement in miniature: shares of two things on three tiers, capacities, two phases, a forced share."""
    rng = np.random.default_rng(seed)
    size = 10 ** rng.uniform(9, 12, (2, count))
    matrix, bound = np.zeros((12, 8, count)), np.zeros((12, count))
    for thing in range(2):
        tiers = slice(3 * thing, 3 * thing + 3)
        matrix[2 * thing, tiers], bound[2 * thing] = 1.0, 1.0
        matrix[2 * thing + 1, tiers], bound[2 * thing + 1] = -1.0, -1.0
        matrix[4:7, tiers] += np.eye(3)[..., None] * size[thing]
        matrix[7:10, tiers] += rng.random((3, 3, count)) * size[thing] / 10 ** rng.uniform(9, 11, (3, 3, count))
    bound[4:7] = 10 ** rng.uniform(10, 12, (3, count))
    matrix[7:9, 6], matrix[9, 7] = -1.0, -1.0
    matrix[10, 0], bound[10] = 1.0, 0.2
    matrix[11, 0], bound[11] = -1.0, -0.2
    cost = np.zeros((8, count))
    cost[6:] = rng.integers(1, 500, (2, count))
    return Programs(matrix, bound, cost, np.array([-5.1, -2.3, 0.0, -3.7, -1.1, 0.0, 0.0, 0.0]))


def by_highs(programs: Programs, k: int):
    """The optimum of one program on rescaled rows and columns, None where infeasible."""
    matrix, bound = programs.matrix[..., k], programs.bound[:, k]
    row = np.abs(matrix).max(axis=1)
    row[row == 0] = 1.0
    matrix = matrix / row[:, None]
    column = np.abs(matrix).max(axis=0)
    column[column == 0] = 1.0
    cost = programs.cost[:, k] / column
    unit = cost.max() or 1.0
    found = linprog(cost / unit, matrix / column, bound / row, method="highs")
    assert found.status in (0, 2), found.message
    return found.fun * unit if found.status == 0 else None


def assert_as_highs(programs: Programs, found: Solutions) -> None:
    for k in range(len(found.feasible)):
        expected = by_highs(programs, k)
        assert found.feasible[k] == (expected is not None), k
        if expected is not None:
            size = np.abs(programs.cost[:, k] * found.x[:, k]).max(initial=0.0)
            assert abs(found.objective[k] - expected) <= ROUNDED * abs(expected) + 1e-12 * max(size, 1e-300), k


def same(left: Solutions, right: Solutions) -> bool:
    return all(
        np.array_equal(getattr(left, f), getattr(right, f), equal_nan=True) for f in ("x", "objective", "feasible")
    )


FAMILIES = {
    "random": lambda count: random_programs(count, 1),
    "wide": lambda count: random_programs(count, 2, rows=24, columns=10),
    "badly scaled": lambda count: random_programs(count, 3, spread=12.0),  # bytes beside seconds
    "ties": lambda count: small_integers(count, 4),
    "shares": lambda count: shares(count, 5),
}
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "badly scaled"])
def test_the_optimum_is_that_of_highs(family):
    programs = FAMILIES[family](400)
    found = solve(programs)
    assert_as_highs(programs, found)
    assert 0.1 < found.feasible.mean() < 1.0
    assert found.finished.mean() > 0.99


def test_scales_do_not_matter():
    """The same programs with rows from 1e-12 to 1e12 and columns of other units. (HiGHS, allowing 1e-7, errs here.)"""
    plain, scaled = solve(random_programs(4000, 3)), solve(random_programs(4000, 3, spread=12.0))
    assert scaled.finished.mean() > 0.999
    assert np.array_equal(scaled.feasible, plain.feasible)
    np.testing.assert_allclose(scaled.objective, plain.objective, rtol=1e-12, atol=1e-15)


@each_family
def test_x_keeps_its_rows_and_pays_its_objective(family):
    programs = FAMILIES[family](2000)
    found = solve(programs)
    x = found.x[:, found.feasible]
    used = np.einsum("ijk,jk->ik", programs.matrix[..., found.feasible], x)
    terms = np.einsum("ijk,jk->ik", np.abs(programs.matrix[..., found.feasible]), x)
    bound = programs.bound[:, found.feasible]
    assert (used - bound <= 1e-9 * (terms + np.abs(bound))).all()
    assert (x >= 0).all()
    np.testing.assert_allclose(
        found.objective[found.feasible], (programs.cost[:, found.feasible] * x).sum(0), rtol=1e-14
    )
    assert np.isnan(found.x[:, ~found.feasible]).all()
    assert np.isinf(found.objective[~found.feasible]).all()


@each_family
def test_batches_and_order_change_no_bit(family):
    programs = FAMILIES[family](2048)
    whole = solve(programs, chunk=2048)
    for chunk in (7, 200, 2000):
        assert same(solve(programs, chunk=chunk), whole), chunk
    order = np.random.default_rng(0).permutation(2048)
    mixed = solve(
        Programs(*(getattr(programs, f)[..., order] for f in ("matrix", "bound", "cost", "prefer"))), chunk=300
    )
    assert same(mixed, Solutions(whole.x[:, order], whole.objective[order], whole.feasible[order], whole.finished, 0))
    alone = [solve(programs.part(slice(k, k + 1))) for k in range(60)]
    assert np.array_equal(np.concatenate([one.x for one in alone], axis=1), whole.x[:, :60], equal_nan=True)


@each_family
def test_highs_takes_over_and_finds_the_same_point(family):
    """With no pivots allowed, only programs solved by x = 0 finish in lockstep."""
    programs = FAMILIES[family](150)
    usual, handed_over = solve(programs), solve(programs, limit=0)
    assert not handed_over.finished.all()
    assert np.array_equal(handed_over.feasible, usual.feasible)
    np.testing.assert_allclose(handed_over.objective, usual.objective, rtol=1e-9, atol=1e-12)
    x, theirs = usual.x[:, usual.feasible], handed_over.x[:, usual.feasible]
    assert (np.abs(theirs - x) <= 1e-7 * x.max(axis=0)).all()


@each_family
def test_blands_rule_ends_at_the_same_optimum(family, monkeypatch):
    monkeypatch.setattr(tableau, "CAREFUL", 0)
    programs = FAMILIES[family](300)
    careful = solve(programs)
    monkeypatch.undo()
    usual = solve(programs)
    assert careful.pivots != usual.pivots
    assert np.array_equal(careful.feasible, usual.feasible)
    np.testing.assert_allclose(careful.objective, usual.objective, rtol=1e-9, atol=1e-12)


def test_a_scale_of_two_changes_no_bit():
    """Rows in bytes or in GiB, costs in seconds or in ticks of 2**-20 s: x stays as it is."""
    programs = random_programs(500, 6)
    scale = np.ldexp(1.0, np.random.default_rng(6).integers(-40, 40, (12, 500)))
    scaled = Programs(
        programs.matrix * scale[:, None], programs.bound * scale, programs.cost * 2.0**20, programs.prefer * 8
    )
    assert np.array_equal(solve(scaled).x, solve(programs).x, equal_nan=True)


def program(matrix, bound, cost, prefer=None) -> Programs:
    """One program."""
    return Programs(
        np.array(matrix, dtype=float)[..., None],
        np.array(bound, dtype=float)[:, None],
        np.array(cost, dtype=float)[:, None],
        np.zeros(len(cost)) if prefer is None else np.array(prefer, dtype=float),
    )


def test_among_optima_the_preferred_is_taken():
    """Any split of x0 + x1 + x2 = 1 costs nothing; at most 0.25 fits in the first tier and 0.5 in the second."""
    rows, bound = [[1, 1, 1], [-1, -1, -1], [1, 0, 0], [0, 1, 0]], [1, -1, 0.25, 0.5]
    assert solve(program(rows, bound, [0, 0, 0], [-3, -2, -1])).x[:, 0].tolist() == [0.25, 0.5, 0.25]
    assert solve(program(rows, bound, [0, 0, 0], [3, 2, 1])).x[:, 0].tolist() == [0, 0, 1]


def test_a_preference_never_costs_anything():
    """x1 is preferred but costs more."""
    found = solve(program([[-1, -1], [1, 1]], [-1, 5], [1, 1.0001], [1, -1e6]))
    assert found.x[:, 0].tolist() == [1, 0]
    assert found.objective[0] == 1.0


def test_an_endless_improvement_is_not_taken():
    found = solve(program([[-1, 0]], [-1], [1, 0], [0, -1]))
    assert found.x[:, 0].tolist() == [1, 0]
    assert found.finished[0]


@pytest.mark.parametrize(
    ("matrix", "bound"),
    [
        ([[1, 1], [-1, -1]], [1, -2]),
        ([[0, 0]], [-1]),
        ([[1, 1]], [-1e-3]),
        ([[1, -1], [-1, 1], [1, 0], [0, 1]], [-1, -1, 5, 5]),
    ],
    ids=["between two rows", "zero row", "negative capacity", "a cycle of two"],
)
def test_infeasible_is_proved(matrix, bound):
    found = solve(program(matrix, bound, [1, 1]))
    assert not found.feasible[0]
    assert found.finished[0]
    assert np.isnan(found.x).all()
    assert found.objective[0] == np.inf


def test_infeasible_by_a_hair_is_decided_by_highs():
    """HiGHS allows violations of 1e-7; so does a proof have to exceed that."""
    found = solve(program([[1], [-1]], [1, -1 - 1e-8], [1]))
    assert found.feasible[0]
    assert not found.finished[0]
    assert solve(program([[1], [-1]], [1, -1 - 1e-6], [1])).finished[0]


def test_zero_rows_and_columns_are_harmless():
    found = solve(program([[0, 0, 0], [-2, 0, 0], [0, 0, 0]], [0, -3, 4], [2, 5, 0], [0, 0, 1]))
    assert found.x[:, 0].tolist() == [1.5, 0, 0]
    assert found.objective[0] == 3.0


def test_an_infinite_bound_is_no_limit():
    rows = [[-1, -1], [1, 0]]
    assert solve(program(rows, [-3, np.inf], [1, 2])).x[:, 0].tolist() == [3, 0]
    assert solve(program(rows, [-3, 1], [1, 2])).x[:, 0].tolist() == [1, 2]


def test_room_can_be_used_again():
    """Whatever was solved in it before, and of whatever size."""
    room = tableau.Tableau(12, 6, 200)
    for seed in range(3):
        programs = random_programs(200, seed)
        assert same(solve(programs, room=room), solve(programs))
    smaller = random_programs(100, 7)
    assert same(solve(smaller, room=room), solve(smaller))


def test_nothing_to_do_is_done():
    none = solve(random_programs(0, 0))
    assert none.x.shape == (6, 0)
    assert none.objective.shape == none.feasible.shape == none.finished.shape == (0,)
    assert none.pivots == 0


@pytest.mark.parametrize(
    ("matrix", "bound", "cost", "message"),
    [
        ([[1]], [1], [-1], "costs must not be negative: the slack basis is then not dual feasible"),
        ([[1]], [1], [np.nan], "costs must not be negative: the slack basis is then not dual feasible"),
        ([[np.nan]], [1], [1], "coefficients must be finite, and bounds finite or inf"),
        ([[np.inf]], [1], [1], "coefficients must be finite, and bounds finite or inf"),
        ([[1]], [np.nan], [1], "coefficients must be finite, and bounds finite or inf"),
        ([[1]], [-np.inf], [1], "coefficients must be finite, and bounds finite or inf"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(matrix, bound, cost, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        solve(program(matrix, bound, cost))


def test_nothing_is_warned_of():
    with warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("error")
        for family in FAMILIES.values():
            solve(family(100))


def whole_numbers(least: int, most: int, *shape: int) -> st.SearchStrategy[np.ndarray]:
    size = int(np.prod(shape))
    return st.lists(st.integers(least, most), min_size=size, max_size=size).map(lambda v: np.reshape(v, shape) * 1.0)


ANY = st.builds(
    lambda matrix, bound, cost: Programs(matrix[..., None], bound[:, None], cost[:, None], np.array([-1.3, 0.7, -2.9])),
    whole_numbers(-3, 3, 6, 3),
    whole_numbers(-3, 3, 6),
    whole_numbers(0, 3, 3),
)


@settings(max_examples=200, deadline=None)
@given(ANY)
def test_any_small_program_is_solved(programs):
    assert_as_highs(programs, solve(programs))


@settings(max_examples=200, deadline=None)
@given(ANY, st.integers(0, 5), st.integers(1, 3))
def test_a_looser_row_never_hurts(programs, row, more):
    bound = programs.bound.copy()
    bound[row] += more
    looser = solve(Programs(programs.matrix, bound, programs.cost, programs.prefer)).objective[0]
    tight = solve(programs).objective[0]
    assert looser <= tight + 1e-9 * (1.0 if np.isinf(tight) else abs(tight))
