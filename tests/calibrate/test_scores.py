"""Errors: what each figure means, on rows where it can be said by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dse.calibrate.scores import Scored, by, curve_spearman, scores, spearman, worst


def rows(*pairs, **fields):
    return [Scored(i, {"metric": "e2e_s", **fields}, m, p) for i, (m, p) in enumerate(pairs)]


def test_scores_of_five_rows():
    found = scores(rows((1.0, 1.1), (2.0, 1.0), (4.0, 4.0), (1.0, None), (None, 3.0)))
    assert found["rows"] == 5
    assert found["predicted_rows"] == 4
    assert found["coverage_pct"] == 80
    assert found["median_ape_pct"] == pytest.approx(10)
    assert found["mean_ape_pct"] == pytest.approx(20)
    assert found["median_ratio"] == 1.0
    assert found["bias_pct"] == 0.0
    assert found["spearman"] == pytest.approx(0.5)


def test_nothing_predicted_scores_nothing():
    found = scores(rows((1.0, None)))
    assert found["coverage_pct"] == 0
    assert found["median_ape_pct"] is None
    assert found["spearman"] is None


def test_ranks_are_compared_within_a_configuration():
    """Two curves, each in order, whose levels are wrong against each other."""
    slow = rows((1.0, 10.0), (2.0, 20.0), (3.0, 30.0), model="a")
    fast = rows((10.0, 1.0), (20.0, 2.0), (30.0, 3.0), model="b")
    assert curve_spearman(slow + fast) == pytest.approx(1.0)
    assert curve_spearman(slow[:2]) is None  # two rows rank nothing


def test_equal_ranks_share_their_mean():
    assert spearman(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0, 3.0])) == pytest.approx(1)
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([5.0, 5.0, 5.0])) is None


@settings(deadline=None)  # the first call imports scipy.stats
@given(arrays(float, st.integers(3, 30), elements=st.integers(0, 9).map(float)), st.randoms(use_true_random=False))
def test_spearman_is_scipy_s(values, random):
    from scipy.stats import spearmanr

    other = values.copy()
    random.shuffle(other)
    mine = spearman(values, other)
    if mine is not None:
        assert mine == pytest.approx(spearmanr(values, other).statistic, abs=1e-12)


def test_the_worst_rows_are_off_by_the_largest_ratio_either_way():
    found = worst(rows((1.0, 1.1), (1.0, 0.2), (1.0, 4.0), (1.0, None)))
    assert [row.predicted for row in found] == [0.2, 4.0, 1.1]


def test_rows_are_grouped_in_order():
    held = rows((1.0, 1.0), source="b") + rows((1.0, 1.0), source="a")
    assert list(by(held, "source")) == [("a",), ("b",)]
