"""Plans of measured throughputs: what of the plan file still has a meaning beside a table, and today's fleet in it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dse.errors import InputError
from dse.run.plan import load_plan, plan

DESIGN = """\
name: chat-under-budget
models: [{model: llama-3.1-70b, demand: {trace: azure-conversation, requests_per_s: 40, peak_factor: 2}}]
slo: {ttft_ms: {p99: 2000}, tpot_ms: {mean: 50}}
budget: {usd_per_month: 60000, power_kw: 40, stock: {h100-sxm: 16}}
candidates: {hardware: all, precision: [bf16, fp8]}
redundancy: 1
headroom: 0.2
price: {kind: on-demand}
throughput: ./my-measurements.csv
objective: cost
"""
"""The plan file of the interfaces users rely on."""

TABLE = """\
input,output,hardware,requests_per_s
16384,1024,h100-sxm,20
16384,1024,a100-sxm-80gb,12
16384,1024,l4,0.6
"""

SMALL: dict[str, Any] = {
    "name": "table",
    "models": [{"model": "m", "demand": {"buckets": [{"input": 1000, "output": 100, "requests_per_s": 60}]}}],
    "headroom": 0,
    "price": {"override": {"h100-sxm": 3.0, "a100-sxm-80gb": 1.0, "mine": 0.1}},
}
ROWS = "1000,100,h100-sxm,10\n1000,100,a100-sxm-80gb,6\n1000,100,mine,0\n"


@pytest.fixture
def ask(tmp_path):
    """The answer to the small plan with some fields of its own."""
    table = tmp_path / "table.csv"
    table.write_text("input,output,hardware,requests_per_s\n" + ROWS)

    def answer(**more: Any) -> dict:
        return plan({**copy.deepcopy(SMALL), "throughput": str(table), **more}).answer

    return answer


@pytest.mark.parametrize("without", ["", "16384,1024,h100-sxm,20\n"], ids=["as it stands", "no row for its stock"])
def test_the_plan_of_the_interfaces_with_a_table(tmp_path, without):
    (tmp_path / "my-measurements.csv").write_text(TABLE.replace(without, ""))
    path = tmp_path / "plan.yaml"
    path.write_text(DESIGN)
    found = plan(path).answer
    assert found["status"] == "optimal"
    assert sum(found["instances"].values()) >= 6  # 100 requests/s with head-room, and one that may fail
    assert any(text.startswith("Of the candidates, precision means nothing") for text in found["assumptions"])


def test_candidates_filter_the_rows_of_a_table(ask):
    assert ask()["instances"] == {"a100-sxm-80gb": 10}
    assert ask(candidates={})["instances"] == {"a100-sxm-80gb": 10}
    for named in (["h100-sxm"], "h100-sxm", ["H100 SXM"]):
        found = ask(candidates={"hardware": named})
        assert (found["instances"], found["candidates"]["hardware"]) == ({"h100-sxm": 6}, 1)
        assert not [text for text in found["assumptions"] if "candidates" in text]


def test_a_table_has_spellings_of_its_own(tmp_path):
    """What the plan calls h100-sxm is what the table calls H100, in stock, prices, candidates and today's fleet."""
    table = tmp_path / "table.csv"
    table.write_text("input,output,hardware,requests_per_s\n" + ROWS.replace("h100-sxm", "H100"))
    changes = {"price": {"override": {"h100-sxm": 0.9, "a100-sxm-80gb": 1.0, "mine": 1}}, "throughput": str(table),
               "budget": {"stock": {"h100-sxm": 3}}, "current": [{"hardware": "h100-sxm", "replicas": 2}]}  # fmt: skip
    found = plan({**copy.deepcopy(SMALL), **changes}).answer
    assert found["instances"] == {"H100": 3, "a100-sxm-80gb": 5}
    assert (found["current"]["instances"], found["current"]["usd_per_hour"]) == ({"H100": 2}, 1.8)
    alone = plan({**copy.deepcopy(SMALL), **changes, "budget": {}, "candidates": {"hardware": "h100-sxm"}}).answer
    assert alone["instances"] == {"H100": 6}


def test_other_candidates_are_said_to_mean_nothing(ask):
    found = ask(candidates={"max_devices": 4, "runtime": "sglang", "hardware": "all"})
    text = "Of the candidates, max_devices and runtime mean nothing beside a table: its rows rest on what they were "
    assert f"{text}measured with." in found["assumptions"]


def test_todays_fleet_is_of_rows_of_the_table(ask):
    current = ask(current=[{"hardware": "h100-sxm", "replicas": 6}])["current"]
    assert (current["instances"], current["usd_per_hour"], current["served"]) == ({"h100-sxm": 6}, 18.0, 1.0)
    assert (current["carries_the_demand"], current["regret_usd_per_hour"]) == (True, pytest.approx(8))


def test_todays_fleet_that_serves_less_and_costs_more_is_told_by_how_much(ask):
    current = ask(current=[{"hardware": "h100-sxm", "replicas": 4}, {"hardware": "mine"}])["current"]
    assert not current["carries_the_demand"]
    assert current["served"] == pytest.approx(40 / 60)
    assert current["difference_served"] == pytest.approx(20 / 60)
    assert current["difference_usd_per_hour"] == current["regret_usd_per_hour"] == pytest.approx(12.1 - 10)
    assert current["cannot"] == ["mine: its throughput is 0 everywhere, or no row is as large"]


def test_todays_fleet_that_serves_less_for_less_is_no_regret_in_dollars(ask):
    current = ask(current=[{"hardware": "a100-sxm-80gb", "replicas": 5}])["current"]
    assert (current["served"], current["difference_usd_per_hour"]) == (0.5, pytest.approx(-5))
    assert current["regret_usd_per_hour"] is None


def test_todays_fleet_may_be_of_rows_that_do_not_compete(ask):
    found = ask(candidates={"hardware": ["h100-sxm"]}, current=[{"hardware": "a100-sxm-80gb", "replicas": 10}])
    assert found["current"]["difference_usd_per_hour"] == pytest.approx(10 - 18)
    assert found["current"]["carries_the_demand"]


def test_buying_in_a_region_costs_what_it_costs_there(ask):
    """Rent and purchase of a region have the same factor: only the power, paid by all alike, moves the break-even."""
    free = {"price": {"override": {"a100-sxm-80gb": 9, "mine": 9}, "purchase": {"h100-sxm": 25_000}},
            "economics": {"usd_per_kwh": 0}}  # fmt: skip
    months = []
    for factor in (1.0, 2.0):
        (row,) = ask(**free, budget={"regions": {"eu-west": {"price_factor": factor}}})["rent_or_buy"]
        assert (row["hardware"], row["purchase_usd"]) == ("h100-sxm@eu-west", 25_000 * factor)
        months.append(row["months_to_break_even"])
    assert months[0] == pytest.approx(months[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": {"hardware": ["h100-sxm", "h200-sx"]}},
         "candidates.hardware[1]: 'h200-sx' has no rows in the table; did you mean 'h100-sxm'?"),
        ({"candidates": {"hardware": "tpu"}}, "candidates.hardware: 'tpu' has no rows in the table"),
        ({"candidates": {"hardware": [{"base": "h100-sxm"}]}},
         "candidates.hardware[0]: expected the name of an accelerator of the table"),
        ({"constraints": {"accuracy_drop_pct": {"max": 1}}},
         "constraints: goes without 'throughput': the table does not say in which precision its rows were measured"),
        ({"current": [{"hardware": "h100-sx"}]},
         "current[0].hardware: 'h100-sx' has no rows in the table; did you mean 'h100-sxm'?"),
        ({"current": [{"hardware": "h100-sxm", "tp": 8}]},
         "current[0].tp: goes without 'throughput': a row of the table is a replica, whatever is in it"),
        ({"candidates": {"hardware": ["h100-sxm"]}, "budget": {"stock": {"b200": 1}}},
         "budget.stock.b200: 'b200' is not among this plan's hardware"),
    ],
)  # fmt: skip
def test_what_a_plan_with_a_table_cannot_say(tmp_path, changes, message):
    table = tmp_path / "table.csv"
    table.write_text("input,output,hardware,requests_per_s\n" + ROWS)
    with pytest.raises(InputError) as caught:
        load_plan({**copy.deepcopy(SMALL), "throughput": str(table), **changes})
    assert [str(fault).split("; did")[0] for fault in caught.value.faults] == [message.split("; did")[0]]
