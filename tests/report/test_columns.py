"""Numbers are written with the digits a reader can use."""

from __future__ import annotations

import math

import pytest

from dse.report.columns import describe, number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0, "0"),
        (0.0, "0"),
        (12, "12"),
        (1234567, "1,234,567"),
        (1234.56, "1,235"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.01234, "0.0123"),
        (-3.456, "-3.46"),
        (1.2e-7, "1.20e-07"),
        (math.inf, "inf"),
        ("fp8", "fp8"),
        (True, "True"),
    ],
)
def test_numbers_read_well(value, text):
    assert number_text(value) == text


def test_the_manifest_decides_unit_and_sense():
    column = describe("tpot_ms", [{"name": "tpot_ms", "sense": "max", "unit": "milliseconds"}])
    assert (column.unit, column.sense) == ("milliseconds", "max")


def test_an_unknown_column_takes_its_unit_from_its_name():
    column = describe("memory.capacity_gb")
    assert (column.label, column.unit, column.sense) == ("Memory.capacity", "GB", None)
