"""Whole numbers made distinct."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from dse.search.rows import distinct


@given(arrays(np.int64, array_shapes(min_dims=1, max_dims=3, min_side=0), elements=st.integers(-3, 3)))
def test_distinct_numbers_are_those_of_numpy(values):
    found = distinct(values)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, np.unique(values))
