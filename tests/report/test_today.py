"""Today's deployment is compared with the frontier of its own group, and with no other."""

from __future__ import annotations

import pytest

from dse.report.today import comparisons

AIMS = [
    {"name": "output_tokens_per_s_per_device", "sense": "max", "unit": "tokens/s/device"},
    {"name": "tpot_ms", "sense": "min", "unit": "ms"},
]


def row(number, hardware, throughput, tpot, **other):
    """A point with the columns a comparison reads."""
    return {
        "number": number, "model": "m", "hardware": hardware, "precision": "fp8", "tp": 4, "pp": 1, "dp": 1, "ep": 1,
        "batch": 8, "devices": 4, "status": "ok", "output_tokens_per_s_per_device": throughput, "tpot_ms": tpot,
    } | other  # fmt: skip


def compare(current, frontier, **manifest):
    columns = {name: [one[name] for one in frontier] for name in frontier[0]}
    return comparisons({"objectives": AIMS, "group_by": ["model"], "current_rows": [current], **manifest}, columns)


def test_a_move_is_no_worse_on_every_objective():
    found = compare(
        row(0, "a", 100.0, 20.0),
        [row(1, "a", 150.0, 20.0), row(2, "a", 400.0, 21.0), row(3, "b", 200.0, 10.0), row(4, "b", 300.0, 19.0)],
    )
    same, other = found[0]["moves"]
    assert (same["number"], same["title"]) == (1, "Same hardware, better setting")
    assert (other["number"], other["title"]) == (4, "Other hardware")
    assert same["text"].endswith("Throughput per device 100 to 150 tokens/s/device (×1.5), TPOT as now")


def test_on_the_frontier_there_is_nothing_to_gain_for_free():
    found = compare(row(0, "a", 100.0, 20.0), [row(1, "a", 100.0, 20.0), row(2, "a", 400.0, 30.0)])
    assert not found[0]["moves"]
    assert "each trades one for another" in found[0]["today"]


def test_an_objective_unknown_today_is_said_and_left_out():
    found = compare(row(0, "a", float("nan"), 20.0), [row(1, "a", 5.0, 15.0)])
    assert "Throughput per device not known" in found[0]["today"]
    assert "Throughput" not in found[0]["moves"][0]["text"]


def test_points_of_other_groups_do_not_count():
    assert not compare(row(0, "a", 100.0, 20.0), [row(1, "a", 900.0, 1.0, model="other")])[0]["moves"]


def test_hardware_outside_the_sweep_is_named_as_such():
    resolved = {"hardware": [{"name": "b"}]}
    assert (
        "the sweep has none" in compare(row(0, "a", 1.0, 2.0), [row(1, "b", 3.0, 1.0)], resolved=resolved)[0]["today"]
    )


@pytest.mark.parametrize("status", ["exceeds_memory", "heads_not_divisible"])
def test_what_cannot_run_is_not_compared(status):
    found = compare(row(0, "a", 100.0, 20.0, status=status), [row(1, "a", 900.0, 1.0)])
    assert "cannot run" in found[0]["today"]
    assert not found[0]["moves"]


def test_what_only_misses_a_limit_is_compared():
    assert compare(row(0, "a", 100.0, 20.0, status="constraint:tpot_ms"), [row(1, "a", 900.0, 1.0)])[0]["moves"]
