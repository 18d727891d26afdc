"""Numbers are written with the digits a reader can use."""

from __future__ import annotations

import math

import pytest

from dse.report.columns import describe, layout, number_text


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


def test_a_layout_of_two_pools_names_both_with_their_workers():
    own = {"tp": 2, "pp": 1, "dp": 4, "ep": 8}
    pools = {"prefill_tp": 1, "prefill_pp": 2, "prefill_dp": 1, "prefill_ep": 1}
    assert layout(own) == layout(own | dict.fromkeys(pools)) == "tp 2 dp 4 ep 8"
    workers = {"prefill_workers": 3, "decode_workers": 1}
    assert layout(own | pools | workers) == "3 × tp 1 pp 2 + 1 × tp 2 dp 4 ep 8"
