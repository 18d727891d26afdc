"""Plans that ask for the most under a budget: what they are told, and that it is of what is served."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dse.run.plan import plan

Rows = list[tuple[int, int, str, float]]

PAIR: Rows = [(1000, 100, "h100-sxm", 20), (100, 10, "l4", 5), (1000, 100, "l4", 0)]
"""Two sizes, each of which one card serves."""
DEMAND = [(1000, 100, 100), (100, 10, 4)]
PRICES = {"h100-sxm": 3.0, "l4": 0.5}
MIXED: Rows = [
    (1000, 100, "h100-sxm", 10), (300, 40, "h100-sxm", 37), (1000, 100, "a100-sxm-80gb", 6),
    (300, 40, "a100-sxm-80gb", 17), (1000, 100, "l4", 0.7), (300, 40, "l4", 3.3),
]  # fmt: skip


@pytest.fixture
def ask(tmp_path: Path):
    """The answer to a plan of measured throughputs: rows, demand, prices, and what else it says."""

    def answer(rows: Rows, demand: list[tuple[int, int, float]], prices: dict[str, float], **more: Any) -> dict:
        table = tmp_path / "table.csv"
        lines = [",".join(map(str, row)) for row in rows]
        table.write_text("\n".join(["input,output,hardware,requests_per_s", *lines]) + "\n")
        buckets = [{"input": i, "output": o, "requests_per_s": rate} for i, o, rate in demand]
        growth = more.pop("growth", 0.0)
        models = [{"model": "m", "demand": {"buckets": buckets, "growth_per_year": growth}}]
        stated = {"name": "most", "models": models, "throughput": str(table), "price": {"override": prices}}
        return plan({**stated, "headroom": 0, "objective": "served_rate", **more}).answer

    return answer


@pytest.fixture
def short(ask):
    """A budget of $13.5/h where the demand takes $15.5/h."""
    return ask(PAIR, DEMAND, PRICES, budget={"usd_per_hour": 13.5}, growth=0.5)


def rows_named(found: dict, title: str) -> list[dict]:
    return [row for row in found["alternatives"] if row["title"].startswith(title)]


def test_the_budget_that_stops_the_answer_is_named_though_some_of_it_is_left(short):
    """$1 is left, and half a dollar would buy a card that is of no use."""
    assert (short["instances"], short["cost_usd_per_hour"]) == ({"h100-sxm": 4, "l4": 1}, 12.5)
    (limit,) = [entry for entry in short["binding"] if entry["what"] == "limit usd_per_hour"]
    assert limit["change"] == pytest.approx(20)
    assert limit["instances"] == {"h100-sxm": 5, "l4": 1}
    assert (limit["unit"], limit["dual"]) == ("requests_per_s", pytest.approx(20 / 3))
    assert (limit["used"], limit["limit"], limit["served"]) == (12.5, 13.5, 1.0)


def test_a_budget_that_does_not_stop_it_is_not_named(ask):
    found = ask(PAIR, DEMAND, PRICES, budget={"usd_per_hour": 100})
    assert (found["served"], found["cost_usd_per_hour"]) == (1.0, 15.5)
    assert [entry["what"] for entry in found["binding"]] == ["10 % more traffic"]


def test_errors_say_what_is_then_served_and_nothing_holds_that_never_did(short):
    for entry in short["sensitivity"]:
        assert entry["recommended_still_carries_the_demand"] is None
        assert entry["regret_usd_per_hour"] is None
        assert entry["served"] >= entry["recommended_served"] or not entry["recommended_within_budget"]
    slower = next(e for e in short["sensitivity"] if e["what"] == "all throughputs" and e["factor"] < 1)
    assert slower["recommended_served"] == pytest.approx((0.9 * 80 + 4) / 104)
    cheaper = next(e for e in short["sensitivity"] if e["what"] == "price of h100-sxm" and e["factor"] < 1)
    assert cheaper["instances"] == {"h100-sxm": 5}  # what the small ones ask for is less than another large card serves
    assert cheaper["regret_served"] == pytest.approx(100 / 104 - 84 / 104)
    dearer = next(e for e in short["sensitivity"] if e["what"] == "price of h100-sxm" and e["factor"] > 1)
    assert (dearer["recommended_within_budget"], dearer["regret_served"]) == (False, None)


def test_a_tenth_more_traffic_says_what_is_served_of_it(short):
    entry = short["binding"][-1]
    assert entry["what"] == "10 % more traffic"
    assert entry["recommended_served"] == pytest.approx((80 + 4.4) / 114.4)


def test_growth_says_what_is_served_year_by_year(short):
    served = list(short["growth"]["served_after_years"].values())
    assert served == sorted(served, reverse=True)
    assert short["growth"]["served_after_years"]["1"] == pytest.approx((80 + 5) / (104 * 1.5))
    assert short["growth"]["demand_factor_left"] == pytest.approx(0.8)


def test_the_frontier_is_the_most_that_each_budget_serves(short):
    rows = short["frontier"]["served"]
    assert [row["budget_usd_per_hour"] / 13.5 for row in rows] == [0.25, 0.5, 0.75, 1.0, 1.5]  # that serves all of it
    assert all(row["usd_per_hour"] <= row["budget_usd_per_hour"] + 1e-9 for row in rows)
    assert all(row["served"] <= row["served_bound"] + 1e-9 for row in rows)
    assert all(later["served"] >= earlier["served"] for earlier, later in pairwise(rows))
    assert (rows[3]["served"], rows[-1]["served"]) == (short["served"], 1.0)


def test_the_price_at_which_one_kind_alone_would_serve_as_much(ask):
    found = ask([row for row in MIXED if row[0] == 1000], [(1000, 100, 60)],
                {"h100-sxm": 3.0, "a100-sxm-80gb": 1.5, "l4": 0.3}, budget={"usd_per_hour": 12})  # fmt: skip
    assert found["instances"] == {"a100-sxm-80gb": 8}
    even = {row["hardware"]: row["break_even_usd_per_device_hour"] for row in found["break_even"]}
    assert even == {"h100-sxm": pytest.approx(12 / 5), "l4": pytest.approx(12 / 69)}


def test_other_mixes_and_what_all_of_it_would_cost_are_told(ask):
    found = ask(MIXED, [(1000, 100, 60), (300, 40, 90)], {"h100-sxm": 3.0, "a100-sxm-80gb": 1.7, "l4": 0.3},
                budget={"usd_per_hour": 20})  # fmt: skip
    mixes = rows_named(found, "next best mix")
    assert mixes
    assert all(row["served"] <= found["served"] * (1 + 2e-3) and row["usd_per_hour"] <= 20 for row in mixes)
    served = [row["served"] for row in mixes]
    assert served == sorted(served, reverse=True)
    (whole,) = rows_named(found, "cheapest for all of the demand")
    assert (whole["served"], whole["instances"]) == (1.0, {"a100-sxm-80gb": 10, "h100-sxm": 2, "l4": 5})
    assert whole["usd_per_hour"] == pytest.approx(24.5)


def test_no_alternative_is_larger_than_it_need_be(ask):
    """Where the budget is ample, each is as cheap as if the cheapest had been asked for."""
    stated = MIXED, [(1000, 100, 60), (300, 40, 90)], {"h100-sxm": 3.0, "a100-sxm-80gb": 1.7, "l4": 0.3}
    most = ask(*stated, budget={"usd_per_hour": 500})
    least = ask(*stated, objective="cost")
    assert most["instances"] == least["instances"]
    for title in ("best single type", "only l4"):
        (one,), (other,) = rows_named(most, title), rows_named(least, title)
        assert one["usd_per_hour"] <= other["usd_per_hour"] * 1.002
        assert one["served"] == pytest.approx(1, abs=1e-3)
    assert most["served"] == 1.0
    assert not [entry for entry in most["binding"] if entry["what"].startswith("limit")]


def test_the_order_of_the_rows_changes_nothing(ask):
    demand, prices = [(1000, 100, 60), (300, 40, 90)], {"h100-sxm": 3.0, "a100-sxm-80gb": 1.7, "l4": 0.3}
    budget = {"usd_per_hour": 20, "stock": {"l4": 9}}
    one = ask(MIXED, demand, prices, budget=budget)
    other = ask(MIXED[::-1], demand[::-1], dict(reversed(prices.items())), budget=budget)
    for key in ("cost_usd_per_hour", "instances", "served", "alternatives", "binding", "frontier", "sensitivity",
                "break_even", "hash"):  # fmt: skip
        assert one[key] == other[key], key


def test_a_stock_that_stops_the_answer_is_named_though_none_of_it_is_used():
    """Seven cards are free, a replica takes four, and one replica is not enough."""
    found = plan({
        "name": "stock", "models": [{"model": "llama-3.1-70b", "demand": {"buckets": [
            {"input": 512, "output": 128, "requests_per_s": 10}]}}],
        "slo": "relaxed", "candidates": {"hardware": ["a100-sxm-80gb", "b200"], "precision": ["bf16"],
                                         "parallel": {"tp": [4]}, "serving": "open-loop"},
        "price": {"override": {"a100-sxm-80gb": 0.5, "b200": 2.0}}, "budget": {"stock": {"a100-sxm-80gb": 7}},
        "verify": {"requests": 0},
    }).answer  # fmt: skip
    assert found["instances"] == {"b200": 4}
    limit = found["binding"][0]
    assert (limit["what"], limit["used"], limit["instances"]) == ("limit stock:a100-sxm-80gb", 0, {"a100-sxm-80gb": 12})
    assert limit["change"] == pytest.approx(-2)


def test_the_most_under_latencies_has_a_fastest_fleet_and_a_frontier():
    found = plan({
        "name": "most", "models": [{"model": "llama-3.1-8b", "demand": {"buckets": [
            {"input": 512, "output": 128, "requests_per_s": 400}]}}],
        "slo": "standard", "candidates": {"hardware": ["h100-sxm", "l4"], "precision": ["bf16"], "max_devices": 1},
        "budget": {"usd_per_hour": 13.7}, "objective": "served_rate", "verify": {"requests": 0},
    }).answer  # fmt: skip
    assert 0 < found["served"] < 1
    rows = found["frontier"]["latency"]
    assert [row["slo_scale"] for row in rows if row["slo_scale"] >= 1] == [1.0, 2.0]
    assert all(later["served"] >= earlier["served"] * 0.998 for earlier, later in pairwise(rows))
    (fastest,) = rows_named(found, "fastest")
    assert fastest["slo_scale"] < 1
    assert fastest["served"] <= found["served"]
    assert fastest["usd_per_hour"] <= 13.7
