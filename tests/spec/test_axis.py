"""Axes of numbers that need not be whole."""

from __future__ import annotations

import pytest

from dse.spec.axis import reals
from dse.spec.reading import Document


@pytest.mark.parametrize(
    ("raw", "values"),
    [
        (2, [2.0]),
        ([0.5, 3], [0.5, 3.0]),
        ({"from": 0.1, "to": 0.4, "step": 0.1}, [0.1, 0.2, 0.3, 0.4]),
        ({"from": 0.5, "to": 3.9, "scale": "log2"}, [0.5, 1.0, 2.0]),
        ([{"from": 1, "to": 2, "step": 1}, 8], [1.0, 2.0, 8.0]),
    ],
)
def test_numbers_lists_and_ranges(raw, values):
    assert reals(Document("", {"rate": raw}), ("rate",), raw, most=100) == values
