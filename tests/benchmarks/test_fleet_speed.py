"""The fleet program: seconds against Mélange's slices, one binary each, by the same solver in the same run."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "search"))

from fleets import fleet_of, slice_binaries

from dse.search.fleet import pruned
from dse.search.fleet_program import cheapest, written
from dse.search.milp import minimise

pytestmark = pytest.mark.benchmark


def cost(fleet) -> float:
    """Written and solved for the cost alone, as the slices are; which of equally cheap fleets it is does not matter."""
    program = written(pruned(fleet), all_of_it=True)
    return minimise(program.problem, [program.usd_per_hour]).value


def test_shares_are_faster_than_slices(shared_data):
    """All recorded instances, with as many slices as each asks for: the same cost or less, five times faster."""
    cases = json.loads((shared_data / "fleet" / "melange_golden.json").read_text(encoding="utf-8"))["cases"]
    cheapest(fleet_of({"chip": (1.0, [1.0])}, [1.0]))  # imports
    seconds = dict.fromkeys(("shares", "in shares of slices", "slices", "with ties"), 0.0)
    for case in cases:
        table = {name: (info["cost"], np.ravel(info["tputs"])) for name, info in case["gpu_info"].items()}
        fleet = fleet_of(table, np.ravel(case["workload_distribution"]) * case["total_request_rate"])
        slices = case["slice_factor"]
        costs = {}
        for name, solve in (
            ("shares", lambda fleet=fleet: cost(fleet)),
            ("in shares of slices", lambda fleet=fleet, n=slices: cost(replace(fleet, slices=n))),
            ("with ties", lambda fleet=fleet: cheapest(fleet).usd_per_hour),
            ("slices", lambda fleet=fleet, n=slices: slice_binaries(fleet, n)),
        ):
            start = time.perf_counter()
            costs[name] = solve()
            seconds[name] += time.perf_counter() - start
        assert costs["slices"] == pytest.approx(case["result"]["cost"])
        assert costs["in shares of slices"] == pytest.approx(case["result"]["cost"])
        assert costs["shares"] == pytest.approx(costs["with ties"])
        assert costs["shares"] <= costs["slices"] + 1e-6
    print({name: round(spent, 3) for name, spent in seconds.items()})
    assert seconds["slices"] >= 5 * seconds["shares"]
