"""The probability of being on a front: what must hold for any costs and errors."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dse.search import chance
from dse.search.chance import SAMPLES, front_chances, normals
from dse.search.pareto import non_dominated

COSTS = arrays(float, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 9).map(float))


def own(names, size=1.0, objectives=1):
    """Errors that each point has for itself, alike in all objectives."""
    drawn = normals(names).T[:, :, None] * np.full(objectives, size)
    return lambda draws: drawn[draws]


def none(costs):
    return lambda draws: np.zeros((draws.stop - draws.start, *costs.shape))


# -- the draws ------------------------------------------------------------------------------------------------


def test_every_variable_takes_every_quantile_once():
    drawn = normals(["chip h100-sxm decode", "octave 3 prefill"])
    assert drawn.shape == (2, SAMPLES)
    assert np.array_equal(np.sort(drawn[0]), np.sort(drawn[1]))
    assert np.mean(drawn[0]) == pytest.approx(0, abs=1e-12)
    assert np.var(drawn[0]) == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(np.sort(drawn[0])) < 1.6449) == pytest.approx(0.9, abs=0.01)


def test_draws_follow_from_the_name_alone_on_any_machine():
    one = normals(["a", "b", "c"])
    assert np.array_equal(normals(["c", "a"]), one[[2, 0]])
    order = np.argsort(one, axis=1).astype("<i8")
    assert hashlib.sha256(order.tobytes()).hexdigest()[:12] == "95d37c0b9530"


def test_variables_are_uncorrelated():
    drawn = normals([f"layout {i}" for i in range(100)])
    apart = np.corrcoef(drawn)[~np.eye(100, dtype=bool)]
    assert np.std(apart) == pytest.approx(SAMPLES**-0.5, rel=0.1)


# -- the probabilities ----------------------------------------------------------------------------------------


@given(COSTS)
def test_without_errors_it_is_one_on_the_front_and_zero_off_it(costs):
    assert np.array_equal(front_chances(costs, none(costs)), non_dominated(costs).astype(float))


@given(COSTS, st.floats(0, 3))
def test_an_error_that_all_share_changes_nothing(costs, size):
    shared = size * normals(["all"])[0][:, None, None] * np.ones(costs.shape)
    assert np.array_equal(front_chances(4 * costs, lambda draws: shared[draws]), non_dominated(costs).astype(float))


def test_twins_share_the_front():
    """One objective, equal predictions, errors of their own: each is best half of the time, never both."""
    found = front_chances(np.zeros((2, 1)), own(["a", "b"]))
    assert found.sum() == 1
    assert found == pytest.approx([0.5, 0.5], abs=0.1)


@given(st.lists(st.floats(0, 5), min_size=2, max_size=6).map(sorted))
def test_a_larger_lead_is_never_less_sure(leads):
    found = [front_chances(np.array([[0.0], [lead]]), own(["a", "b"]))[0] for lead in leads]
    assert found == sorted(found)


def test_a_lead_of_many_deviations_is_sure():
    assert front_chances(np.array([[0.0], [9.0]]), own(["a", "b"])).tolist() == [1, 0]


@given(COSTS, st.randoms(use_true_random=False))
def test_the_order_of_points_does_not_matter(costs, random):
    names = [f"point {i}" for i in range(len(costs))]
    order = list(range(len(costs)))
    random.shuffle(order)
    plain = front_chances(costs, own(names, 2.0, costs.shape[1]))
    shuffled = front_chances(costs[order], own([names[i] for i in order], 2.0, costs.shape[1]))
    assert np.array_equal(plain[order], shuffled)


@given(COSTS)
def test_pairs_at_once_and_a_sweep_per_draw_agree(costs):
    errors = own([f"point {i}" for i in range(len(costs))], 2.0, costs.shape[1])
    limit, chance.PAIRS = chance.PAIRS, 0
    try:
        swept = front_chances(costs, errors)
    finally:
        chance.PAIRS = limit
    assert np.array_equal(front_chances(costs, errors), swept)


@given(st.integers(1, 300))
def test_how_many_draws_are_made_at_once_does_not_matter(cells):
    costs, names = np.array([[0.0, 3.0], [1.0, 1.0], [2.0, 2.0]]), ["a", "b", "c"]
    whole = front_chances(costs, own(names, 1.0, 2))
    limit, chance.CELLS = chance.CELLS, cells
    try:
        assert np.array_equal(front_chances(costs, own(names, 1.0, 2)), whole)
    finally:
        chance.CELLS = limit


def test_a_chain_keeps_its_order_and_so_its_place():
    """Three batches that trade one objective for the other: errors of any size never turn them round."""
    costs = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]])
    drawn = np.stack([normals(["a", "b", "c"]).T, normals(["d", "e", "f"]).T], axis=2) * 5
    assert front_chances(costs, lambda draws: drawn[draws]).max() < 1
    assert front_chances(costs, lambda draws: drawn[draws], [np.array([[0, 1, 2]])]).tolist() == [1, 1, 1]


def test_what_is_not_known_is_never_on_the_front_and_beats_nobody():
    costs = np.array([[0.0, np.nan], [1.0, 1.0]])
    assert front_chances(costs, own(["a", "b"], 1.0, 2)).tolist() == [0, 1]
