"""When there are too many points, every objective's best and every group stay visible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.report.thinning import fair_shares, rows_to_explain, thin


def test_a_front_within_the_limit_is_kept_whole():
    assert thin(["a"] * 3, [np.array([1.0, 2.0, 3.0])], 5) == [0, 1, 2]


def test_each_group_keeps_the_best_of_each_objective():
    draw = np.random.default_rng(1)
    groups = draw.choice(["a", "b", "c"], size=2000, p=[0.9, 0.09, 0.01]).tolist()
    first, second = draw.random(2000), draw.random(2000)
    kept = set(thin(groups, [first, second], 50))
    assert len(kept) == 50
    for group in "abc":
        rows = [row for row, other in enumerate(groups) if other == group]
        for values in (first, second):
            assert min(rows, key=lambda row: values[row]) in kept


def test_the_spread_covers_the_whole_front_evenly():
    kept = thin(["a"] * 1001, [np.arange(1001.0)], 11)
    assert kept[0] == 0
    assert kept[-1] == 1000
    assert max(np.diff(kept)) < 130


def test_a_missing_value_is_never_the_best():
    assert thin(["a"] * 3, [np.array([np.nan, 2.0, 1.0])], 1) == [2]


def test_rows_asked_for_are_kept_before_the_spread():
    assert 777 in thin(["a"] * 1000, [np.arange(1000.0)], 3, keep=[777])


@pytest.mark.parametrize(
    ("sizes", "limit", "shares"),
    [([10, 1, 10], 9, [4, 1, 4]), ([2, 2], 10, [2, 2]), ([5], 0, [0]), ([], 3, [])],
)
def test_shares_are_fair(sizes, limit, shares):
    assert fair_shares(sizes, limit) == shares


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(0, 300))
def test_shares_use_the_whole_limit_and_never_more_than_there_is(sizes, limit):
    shares = fair_shares(sizes, limit)
    assert sum(shares) == min(limit, sum(sizes))
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(allow_infinity=False)), max_size=60), st.integers(1, 40))
def test_never_more_than_the_limit_and_no_row_twice(rows, limit):
    kept = thin([group for group, _ in rows], [np.array([value for _, value in rows])], limit)
    assert len(kept) == min(limit, len(rows))
    assert kept == sorted(set(kept))


def test_detail_goes_to_the_best_points_of_every_group():
    frontier = {"model": ["a"] * 300 + ["b"] * 300, "tpot_ms": [float(n) for n in range(600)]}
    manifest = {"group_by": ["model"], "objectives": [{"name": "tpot_ms", "sense": "min"}]}
    rows = rows_to_explain(frontier, manifest, limit=20)
    assert len(rows) == 20
    assert {0, 300} <= set(rows)
