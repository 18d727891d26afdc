"""Mélange (2404.14527): which mix of GPUs serves a workload cheapest, against what its own solver answered.

Fractional shares are never dearer than its slices, the same slices cost the same, and the answer of a whole bucket on
one kind (slice factor 1) is that of its README. Prices and throughputs are theirs, as inputs.
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))

from fleets import fleet_of

from dse.run.plan import plan
from dse.search.fleet_program import cheapest, multipliers

README = {"A10G": (1.01, [2, 1, 5, 2]), "A100-80GB": (3.67, [20, 20, 40, 20])}
"""The example of tyler-griggs/melange-release@d46ab43: $/h and requests/s of two by two sizes."""
SHARES = (0.2, 0.1, 0.5, 0.2)

ANSWERS = [
    (5, 1, 2.02), (5, 8, 2.02), (30, 1, 6.70), (30, 2, 5.69), (30, 8, 5.69), (100, 4, 14.68),
]  # fmt: skip
"""Rate, slice factor, dollars per hour that its solver answered (its README states the 6.70)."""

CONTINUOUS = {5: 2.02, 30: 4.68, 100: 14.68}
"""Dollars per hour where a bucket may be split anywhere."""


@pytest.mark.parametrize(("rate", "slices", "cost"), ANSWERS)
def test_the_example_of_its_readme(rate, slices, cost):
    fleet = fleet_of(README, [share * rate for share in SHARES])
    assert cheapest(replace(fleet, slices=slices)).usd_per_hour == pytest.approx(cost)
    assert cheapest(fleet).usd_per_hour == pytest.approx(CONTINUOUS[rate])


@pytest.fixture(scope="module")
def cases(shared_data):
    return json.loads((shared_data / "fleet" / "melange_golden.json").read_text(encoding="utf-8"))["cases"]


def problem(case):
    table = {name: (info["cost"], np.ravel(info["tputs"])) for name, info in case["gpu_info"].items()}
    return fleet_of(table, np.ravel(case["workload_distribution"]) * case["total_request_rate"])


def test_every_recorded_instance(cases):
    for case in cases:
        fleet, theirs = problem(case), case["result"]["cost"]
        free, sliced = cheapest(fleet), cheapest(replace(fleet, slices=case["slice_factor"]))
        assert free.usd_per_hour <= theirs + 1e-6, case["name"]
        assert sliced.usd_per_hour == pytest.approx(theirs), case["name"]
        assert free.gap <= 1e-3
        assert multipliers(fleet).bound <= free.usd_per_hour + 1e-9
        assert free.usd_per_hour <= min(single["cost"] for single in case["single_type"].values()) + 1e-6


def test_single_kinds_cost_what_it_says(cases):
    for case in cases:
        fleet = problem(case)
        for option in fleet.options:
            single, theirs = cheapest(fleet.of([option])), case["single_type"][option.name]
            assert (single.devices[option.name], single.usd_per_hour) == (theirs["n"], pytest.approx(theirs["cost"]))


def test_a_size_that_a_kind_cannot_serve_is_left_out(cases):
    """Where Mélange divides by zero."""
    case = next(case for case in cases if "long" in case["name"])
    fleet = problem(case)
    lamed = [replace(option, rates=np.where(fleet.demand > 0, 0.0, 1.0)) if option.name == "L4" else option
             for option in fleet.options]  # fmt: skip
    answer = cheapest(fleet.of(lamed))
    assert answer.found
    assert "L4" not in answer.devices


def test_a_plan_of_measured_throughputs(cases, tmp_path):
    """The same instance from a plan file and a table, as a user has them."""
    case = next(case for case in cases if case["name"] == "synthetic 4-GPU 6x6 mixed rate=64 sf=4")
    sizes = [(2**i, 2**j) for i in range(6, 12) for j in range(3, 9)]
    table = tmp_path / "measured.csv"
    with table.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["input", "output", "hardware", "requests_per_s"])
        for name, info in case["gpu_info"].items():
            writer.writerows([*size, name, rate] for size, rate in zip(sizes, np.ravel(info["tputs"]), strict=True))
    rates = np.ravel(case["workload_distribution"]) * case["total_request_rate"]
    buckets = [{"input": i, "output": o, "requests_per_s": rate} for (i, o), rate in zip(sizes, rates, strict=True)]
    found = plan(
        {
            "name": "melange",
            "models": [{"model": "theirs", "demand": {"buckets": buckets}}],
            "throughput": str(table),
            "headroom": 0.0,
            "price": {"override": {name: info["cost"] for name, info in case["gpu_info"].items()}},
        }
    ).answer
    assert found["cost_usd_per_hour"] == pytest.approx(23.73)
    assert found["instances"] == {"A100-80GB": 6, "A10G": 1, "L4": 1}
    singles = {row["title"]: row["usd_per_hour"] for row in found["alternatives"]}
    assert singles["best single type"] == pytest.approx(25.69)
