"""Fronts and tops are those of brute force, however points arrive."""

from __future__ import annotations

import pickle
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dse.search import pareto, rows, top
from dse.search.pareto import FrontArchive, TopArchive, non_dominated

ONE_UP, ONE_DOWN = np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0)
LARGEST = np.finfo(float).max
TINY, SMALLEST_NORMAL = 5e-324, np.finfo(float).tiny
VALUES = [0.0, -0.0, 1.0, ONE_UP, ONE_DOWN, 2.0, -1.0, 1e-300, 1e300, -1e300, LARGEST, -LARGEST]
VALUES += [TINY, -TINY, SMALLEST_NORMAL, np.inf, -np.inf, np.nan]


def brute(costs: np.ndarray) -> np.ndarray:
    """The definition, row against row."""
    weakly = (costs[:, None, :] <= costs[None]).all(axis=2)
    strictly = (costs[:, None, :] < costs[None]).any(axis=2)
    return ~(weakly & strictly).any(axis=0) & ~np.isnan(costs).any(axis=1)


@st.composite
def tables(draw, objectives=(1, 6), rows=(0, 40)):
    """Cost tables rich in ties: few distinct values, any magnitude."""
    k, n, seed = (draw(st.integers(*bounds)) for bounds in (objectives, rows, (0, 2**32 - 1)))
    palette = draw(st.lists(st.sampled_from(VALUES) | st.floats(), min_size=1, max_size=8))
    return np.random.default_rng(seed).choice(palette, (n, k))


# --- one table ---------------------------------------------------------------------------------------


@given(tables())
def test_front_is_that_of_brute_force(costs):
    np.testing.assert_array_equal(non_dominated(costs), brute(costs))


@settings(max_examples=300)
@given(tables(objectives=(2, 6), rows=(1, 120)))
@example(np.array([[np.inf, 1.0, 0.0], [np.inf, 0.0, 1.0]]))
@example(np.array([[-np.inf, -np.inf, 0.0, 1.0]] * 3 + [[np.inf] * 4]))
def test_the_sweep_for_large_tables_is_as_exact(costs):
    """moocore itself errs on infinities and may crash on them, so it must never see one."""
    costs = costs[~np.isnan(costs).any(axis=1)]
    np.testing.assert_array_equal(pareto._sweep(costs), brute(costs))


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("values", [VALUES, VALUES[:12], [1.0, ONE_UP, ONE_DOWN], None])
def test_tables_beyond_the_small_ones(k, values):
    rng = np.random.default_rng(k)
    costs = rng.random((1500, k)) if values is None else rng.choice(values, (1500, k))
    np.testing.assert_array_equal(non_dominated(costs), brute(costs))


def test_ties_all_stay_and_nan_never_does():
    costs = np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [0.0, np.nan], [np.nan, np.nan]])
    assert non_dominated(costs).tolist() == [True, True, True, False, False, False]


def test_one_ulp_decides():
    assert non_dominated(np.array([[1.0, ONE_UP], [1.0, 1.0], [ONE_DOWN, ONE_UP]])).tolist() == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("shape", [(3,), (3, 0), (2, 2, 2)])
def test_what_is_no_table_is_refused(shape):
    with pytest.raises(ValueError, match=r"shape \(n, k\)"):
        non_dominated(np.zeros(shape))


def test_small_fronts_do_not_import_the_sweep():
    code = (
        "import sys, numpy as np; from dse.search.pareto import FrontArchive, non_dominated\n"
        "c = np.random.default_rng(0).random((500, 3)); assert non_dominated(c).any()\n"
        "a = FrontArchive(); a.update(list(c.T), np.zeros(1, int), np.ones(500, bool), range(500))\n"
        "assert len(a.fronts()[0][0]) > 1\n"
        "assert 'moocore' not in sys.modules and 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- archives ----------------------------------------------------------------------------------------

Points = tuple[np.ndarray, np.ndarray, np.ndarray]  # costs (n, k), group (n,), feasible (n,)


@st.composite
def points(draw) -> Points:
    costs = draw(tables(objectives=(1, 4), rows=(1, 60)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    group = rng.choice([0, 1, 7, 300], len(costs))
    return costs, group, rng.random(len(costs)) < draw(st.sampled_from([0.0, 0.5, 1.0]))


def top_three() -> TopArchive:
    return TopArchive(3)


@pytest.fixture(params=[FrontArchive, top_three], ids=["front", "top"])
def kind(request):
    return request.param


@contextmanager
def settings_for(eager: bool):
    """Thresholds so low that even small examples meet samples, pivots and reductions."""
    with pytest.MonkeyPatch.context() as patch:
        if eager:
            patch.setattr(pareto, "SMALL", 0)
            patch.setattr(pareto, "PENDING", 5)
            patch.setattr(pareto, "CANDIDATES", 4)
            patch.setattr(rows, "SAMPLE", 3)
            patch.setattr(top, "SAMPLE", 3)
        yield


def content(archive) -> dict:
    """What an archive holds, in plain values."""
    if isinstance(archive, FrontArchive):
        return {g: (n.tolist(), c.tolist()) for g, (n, c) in archive.fronts().items()}
    return {g: [(n.tolist(), c.tolist()) for n, c in tops] for g, tops in archive.tops().items()}


def expected(kind, given: Points) -> dict:
    """The same by brute force; a point's number is its row."""
    costs, group, feasible = given
    result: dict = {}
    for g in np.unique(group).tolist():
        at = np.flatnonzero((group == g) & feasible)
        if kind is FrontArchive:
            at = at[brute(costs[at])]
            if at.size:
                result[g] = (at.tolist(), costs[at].tolist())
            continue
        tops = []
        for column in costs.T:
            ranked = at[~np.isnan(column[at])]
            ranked = ranked[np.lexsort((ranked, column[ranked]))][:3]
            tops.append((ranked.tolist(), column[ranked].tolist()))
        if any(numbers for numbers, _ in tops):
            result[g] = tops
    return result


def take(archive, given: Points, chosen: np.ndarray) -> None:
    """Update with the chosen points as one flat slice."""
    costs, group, feasible = given
    archive.update(list(costs[chosen].T), group[chosen], feasible[chosen], chosen)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(points(), st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_any_slicing_order_and_merging_gives_the_same(kind, given, seed, pieces, archives, eager):
    rng = np.random.default_rng(seed)
    piece = rng.integers(0, pieces, len(given[0]))
    with settings_for(eager):
        parts = [kind() for _ in range(archives)]
        for p in [*rng.permutation(pieces), rng.integers(pieces)]:  # one slice arrives twice
            take(parts[rng.integers(archives)], given, rng.permutation(np.flatnonzero(piece == p)))
        first, *others = (pickle.loads(pickle.dumps(part)) if rng.random() < 0.3 else part for part in parts)
        for other in others:
            first.merge(other)
        assert content(first) == expected(kind, given)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6)),
    objectives=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    eager=st.booleans(),
)
def test_an_open_mesh_means_its_flat_points(kind, shape, objectives, seed, eager):
    """Length-1, missing and stride-0 axes change nothing but the work."""
    rng = np.random.default_rng(seed)

    def thin(values):
        kept = tuple(size if rng.random() < 0.6 else 1 for size in shape)
        array = rng.choice(values, kept)
        return np.broadcast_to(array, shape) if rng.random() < 0.3 else array

    costs = [thin([0.0, 1.0, ONE_UP, 2.0, np.inf, np.nan]) for _ in range(objectives)]
    costs[0] = costs[0][0] if costs[0].shape[0] == 1 else costs[0]
    group, feasible = thin([0, 2, 5]), thin([True, True, False])
    mesh = np.empty(shape)
    flat = [np.broadcast_to(array, shape).reshape(-1) for array in (*costs, group, feasible)]
    given = (np.column_stack(flat[:-2]), flat[-2], flat[-1])
    numbered = [range(mesh.size), np.arange(mesh.size).reshape(shape), lambda index: index]
    with settings_for(eager):
        for number in numbered:
            archive = kind()
            archive.update(costs, group, np.broadcast_to(feasible, shape), number)
            assert content(archive) == expected(kind, given)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_large_slices_with_the_thresholds_as_delivered(kind, objectives):
    """Correlated, anticorrelated and tied costs in several groups, in the sizes of a real sweep."""
    rng = np.random.default_rng(objectives)
    n = 16_000
    costs = rng.random((n, objectives))
    costs[: n // 4] = np.round(costs[: n // 4], 2)
    costs[n // 4 : n // 2, 0] = 1.2 - costs[n // 4 : n // 2].mean(axis=1)
    group = rng.integers(0, 12, n)
    given = (costs, group, rng.random(n) < 0.8)
    archive = kind()
    for chosen in np.split(np.arange(n), [100, 5_000, 12_000]):
        take(archive, given, chosen)
    got = content(archive)
    for g in range(12):
        at = np.flatnonzero(group == g)
        part = expected(kind, (costs[at], group[at], given[2][at]))[g]
        if kind is FrontArchive:
            assert got[g] == (at[part[0]].tolist(), part[1])
        else:
            assert got[g] == [(at[numbers].tolist(), values) for numbers, values in part]


def test_ten_thousand_groups_stay_apart(kind):
    group = np.arange(10_000)[:, None]
    costs = [np.array([[2.0, 1.0, 2.0]]), np.array([[1.0, 2.0, 2.0]])]
    archive = kind()
    archive.update(costs, group, np.ones((10_000, 3), dtype=bool), range(30_000))
    got = content(archive)
    assert list(got) == list(range(10_000))
    if kind is FrontArchive:
        assert got[4321] == ([12963, 12964], [[2.0, 1.0], [1.0, 2.0]])
    else:
        assert got[4321] == [
            ([12964, 12963, 12965], [1.0, 2.0, 2.0]),
            ([12963, 12964, 12965], [1.0, 2.0, 2.0]),
        ]


def test_top_keeps_n_and_breaks_ties_by_number():
    archive = TopArchive(n=2)
    archive.update(
        [np.array([3.0, 1.0, 1.0, 1.0])], np.zeros(1, int), np.ones(4, bool), np.array([1, 9, 4, 6])
    )
    numbers, costs = archive.tops()[0][0]
    assert numbers.tolist() == [4, 6]
    assert costs.tolist() == [1.0, 1.0]


def test_nothing_seen_is_nothing_held(kind):
    archive = kind()
    assert content(archive) == {}
    archive.update([np.empty((0, 3))], np.zeros((1, 1), int), np.ones((1, 1), bool), range(0))
    archive.update([np.ones(3)], np.zeros(1, int), np.zeros(3, bool), range(3))
    archive.merge(kind())
    assert content(archive) == {}


@pytest.mark.parametrize(
    ("costs", "group", "number", "message"),
    [
        ([], [0], range(2), "at least one cost"),
        ([np.ones(2)] * 2, [0], range(2), "got 2"),
        ([np.ones(2)], [-1], range(2), "groups must be >= 0"),
        ([np.ones(2)], [0], range(3), "3 numbers for 2 points"),
        ([np.ones(3)], [0], range(2), "broadcast"),
    ],
)
def test_slices_that_make_no_sense_are_refused(kind, costs, group, number, message):
    archive = kind()
    archive.update([np.ones(1)], np.zeros(1, int), np.ones(1, bool), range(1))
    with pytest.raises(ValueError, match=message):
        archive.update(costs, np.array(group), np.ones(2, bool), number)


def test_archives_that_differ_do_not_merge(kind):
    one, two = kind(), kind()
    one.update([np.ones(1)], np.zeros(1, int), np.ones(1, bool), range(1))
    two.update([np.ones(1)] * 2, np.zeros(1, int), np.ones(1, bool), range(1))
    with pytest.raises(ValueError, match="1 objectives, got 2"):
        one.merge(two)
    with pytest.raises(ValueError, match="best 3"):
        TopArchive(2).merge(TopArchive(3))
