"""`dse plan`: what it prints, its JSON, its files, its exit codes."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import pytest

from dse import plan
from dse.plain import plain
from dse.report.plan_words import sentences, signed
from dse.spec.accuracy import accuracy_drop
from dse.spec.catalog import load_model, load_precision
from dse.spec.plan import HOURS_PER_MONTH

PLAN = """\
name: "chat [bold]</script>"
models:
  - model: llama-3.1-8b
    demand:
      buckets:
        - {input: 512, output: 128, requests_per_s: 20}
        - {input: 2048, output: 256, requests_per_s: 5}
      peak_factor: 2
      growth_per_year: 0.5
slo: {ttft_ms: {p99: 1000}, tpot_ms: {mean: 40}}
budget: {usd_per_hour: 60}
candidates: {hardware: [l4, a10g, h100-sxm], precision: [bf16], max_devices: 2}
price: {kind: on-demand}
current: [{hardware: h100-sxm, replicas: 1}]
verify: {requests: 500}
"""

TABLE = "input,output,hardware,requests_per_s\n512,128,old,2\n512,128,new,9\n2048,256,old,0\n2048,256,new,3\n"
MEASURED = """\
name: measured
models:
  - demand:
      buckets: [{input: 512, output: 128, requests_per_s: 10}, {input: 2048, output: 256, requests_per_s: 2}]
throughput: table.csv
headroom: 0
price: {override: {old: 0.5, new: 4}}
"""

KEYS = {
    "status", "gap", "cost_usd_per_hour", "instances", "deployments", "buckets", "alternatives", "binding",
    "recommendation", "economics", "prices", "hash",
}  # fmt: skip


@pytest.fixture
def plan_file(tmp_path) -> Path:
    path = tmp_path / "chat.yaml"
    path.write_text(PLAN)
    return path


@pytest.fixture
def measured(tmp_path) -> Path:
    (tmp_path / "table.csv").write_text(TABLE)
    path = tmp_path / "measured.yaml"
    path.write_text(MEASURED)
    return path


@pytest.fixture(scope="module")
def answer(tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("plan") / "chat.yaml"
    path.write_text(PLAN)
    return plain(plan(path).answer)


def test_json_has_what_a_script_needs(answer):
    assert answer.keys() >= KEYS
    assert answer["status"] == "optimal"
    assert answer["gap"] <= 1e-3
    prices = {price["hardware"]: price["usd_per_device_hour"] for price in answer["prices"]}
    paid = sum(prices[name] * count for name, count in answer["instances"].items())
    assert answer["cost_usd_per_hour"] == pytest.approx(paid) == pytest.approx(answer["economics"]["usd_per_hour"])
    assert answer["cost_usd_per_hour"] <= 60
    for bucket in answer["buckets"]:
        assert bucket["served"] == pytest.approx(1, abs=1e-6)
        assert bucket["peak_requests_per_s"] == 2 * bucket["requests_per_s"]
        for point in bucket["served_by"].values():
            assert point["ttft_p99_ms"] <= 1000
            assert point["tpot_ms"] <= 40
    for entry in answer["deployments"]:
        assert entry["devices"] == entry["replicas"] * entry["devices_per_replica"]
        assert 0 < entry["utilisation"] <= entry["utilisation_at_peak"] <= 0.8 + 1e-6
        assert entry["evidence"]
    held = dict.fromkeys(answer["instances"], 0)
    for entry in answer["deployments"]:
        held[entry["hardware"]] += entry["devices"]
    assert held == answer["instances"]


def test_the_recommendation_is_the_cheapest_of_the_alternatives(answer):
    mine, *others = answer["alternatives"]
    assert mine["title"] == "recommended"
    assert all(row["difference_usd_per_hour"] >= -1e-6 for row in others)
    assert {"best single type", "fastest"} <= {row["title"] for row in others}


def test_dollars_per_token_add_up(answer):
    costs = answer["economics"]
    per_second = (
        costs["usd_per_million_input_tokens"] * costs["input_tokens_per_s"]
        + costs["usd_per_million_output_tokens"] * costs["output_tokens_per_s"]
    )
    assert per_second * 3600 / 1e6 == pytest.approx(costs["usd_per_hour"])
    assert costs["usd_per_month"] == pytest.approx(costs["usd_per_hour"] * HOURS_PER_MONTH)
    assert 0 < costs["power_kw"] <= costs["power_kw_limit"]
    assert costs["site_power_kw"] == pytest.approx(1.58 * costs["power_kw"])


def test_launch_commands_have_the_engines_own_flags(answer):
    for entry in answer["deployments"]:
        launch, tp, batch = entry["launch"], entry["tp"], entry["batch"]
        assert launch["vllm"].startswith(f"vllm serve meta-llama/Llama-3.1-8B --tensor-parallel-size {tp}")
        assert f"--max-num-seqs {batch} " in launch["vllm"]
        assert f"sglang.launch_server --model-path meta-llama/Llama-3.1-8B --tp-size {tp}" in launch["sglang"]
        assert f"trtllm-serve meta-llama/Llama-3.1-8B --tp_size {tp} --pp_size {entry['pp']}" in launch["tensorrt-llm"]


def test_the_simulator_was_asked(answer):
    found = answer["verification"]
    assert found["holds"]
    measured = found["tried"][-1]["measured"]["llama-3.1-8b"]
    assert measured["ttft_ms:p99"] <= 1000
    assert measured["tpot_ms:mean"] <= 40


def test_growth_and_today(answer):
    growth = answer["growth"]
    assert 0 <= growth["years_until_headroom_is_used"] <= growth["years_until_saturated"]
    current = answer["current"]
    assert current["instances"] == {"h100-sxm": 1}
    assert current["carries_the_demand"] == (current["demand_factor"] >= 1)
    if current["carries_the_demand"]:
        assert current["regret_usd_per_hour"] == pytest.approx(current["usd_per_hour"] - answer["cost_usd_per_hour"])


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("{hardware: l4, tp: 3}", "tp must divide the number of heads"),
        ("{hardware: t4}", "llama-3.1-8b t4 bf16 tp1 at 1."),
    ],
)
def test_what_of_todays_fleet_serves_nothing_says_why(dse, plan_file, part, reason):
    plan_file.write_text(PLAN.replace("{hardware: h100-sxm, replicas: 1}", part))
    said = dse("plan", plan_file, "--set", "verify.requests=0")
    assert f"Of today's, what serves nothing: {reason}" in " ".join(said.out.split())


def test_power_on_average_is_below_that_at_full_draw(dse, plan_file):
    """A loaded replica's joules hold its pauses: they are not counted again."""
    for changes in ([], ["--set", "slo={tpot_ms: {mean: 200}}"], ["--set", "slo={}"]):
        said = dse("plan", plan_file, "--json", "--set", "candidates.hardware=[l4]", "--set", "verify.requests=0",
                   "--set", "models=[{model: llama-3.1-8b, demand: {buckets: [{input: 1024, output: 128, "
                   "requests_per_s: 2}]}}]", "--set", "current=[]", *changes)  # fmt: skip
        costs = json.loads(said.out)["economics"]
        assert 0 < costs["power_kw"] <= costs["power_kw_limit"]


def test_bursts_that_nothing_bears_are_said_to_be(dse, plan_file):
    said = dse("plan", plan_file, "--set", "models=[{model: llama-3.1-8b, demand: {trace: azure-code, "
               "requests_per_s: 1, burstiness: 20}}]", "--json")  # fmt: skip
    reason = json.loads(said.out)["reason"]
    assert "where a request by itself keeps every limit, and no rate of arrivals does" in reason


def test_growth_beyond_any_number(dse, plan_file):
    said = dse("plan", plan_file, "--set", "models=[{model: llama-3.1-8b, demand: {trace: azure-code, "
               "requests_per_s: 1, growth_per_year: 100}}]", "--set", "verify.requests=0", "--json")  # fmt: skip
    assert 0 < json.loads(said.out)["growth"]["years_until_saturated"] < 1


def test_the_command_prints_what_python_gets(dse, plan_file, answer):
    said = dse("plan", plan_file, "--json")
    assert said.code == 0
    assert json.loads(said.out) == answer


def test_what_a_reader_sees(dse, plan_file):
    said = dse("plan", plan_file)
    assert said.code == 0
    lines = " ".join(said.out.split())
    for text in ("chat [bold]</script>:", "serves all of the demand", "What else could be had", "best single type",
                 "10 % more traffic costs", "Growth uses up the head-room in", "Simulated with", "Today's 1 x h100-sxm",
                 "vllm serve", "Price of", "on-demand, 2026-Q1, gpuaudit", "Report: "):  # fmt: skip
        assert text in lines, text


def test_the_files_of_a_plan(dse, plan_file, tmp_path):
    dse("plan", plan_file, "--out", "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["candidates.csv", "plan.json", "report.html"]
    rows = list(csv.DictReader((folder / "candidates.csv").open(encoding="utf-8")))
    assert {row["hardware"] for row in rows} == {"l4", "a10g", "h100-sxm"}
    assert all(float(row["requests_per_s"]) > 0 for row in rows)
    stored = json.loads((folder / "plan.json").read_text())
    assert folder.name.endswith(stored["hash"])
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "chat [bold]&lt;/script&gt;" in page
    assert "[bold]</script>" not in page
    assert "http://" not in page.split('<script type="application/json"')[0]


def test_a_change_on_the_command_line(dse, plan_file):
    found = json.loads(dse("plan", plan_file, "--json", "--set", "headroom=0", "--set", "verify.requests=0").out)
    assert found["plan"]["headroom"] == 0
    assert found["verification"]["holds"] is None


def test_a_plan_of_measured_throughputs(dse, measured):
    found = json.loads(dse("plan", measured, "--json").out)
    assert found["instances"] == {"new": 1, "old": 4}  # the long ones take two thirds of a new one, which helps
    assert found["cost_usd_per_hour"] == 6
    assert found["buckets"][1]["served_by"] == {
        "new": {"share": 1.0, "requests_per_s_per_replica": 3.0, "row": "2048x256"}
    }
    assert found["verification"]["holds"] is None


def test_a_size_without_a_row_takes_the_next_larger(dse, measured):
    text = measured.read_text().replace("input: 512, output: 128", "input: 600, output: 100")
    measured.write_text(text)
    found = json.loads(dse("plan", measured, "--json").out)
    assert {point["row"] for point in found["buckets"][0]["served_by"].values()} == {"2048x256"}


def test_a_frontier_never_costs_less_than_its_bound(answer):
    for rows in answer["frontier"].values():
        assert rows
        assert all(row["lower_bound"] <= row["usd_per_hour"] * (1 + 1e-6) for row in rows)
    costs = [row["usd_per_hour"] for row in answer["frontier"]["served"]]
    assert costs == sorted(costs)
    costs = [row["usd_per_hour"] for row in answer["frontier"]["latency"]]
    assert all(later <= earlier * 1.001 for earlier, later in pairwise(costs))


# -- nothing will do, or the plan is at fault ------------------------------------------------------------


def test_what_no_candidate_serves_is_named_with_the_nearest_miss(dse, plan_file):
    said = dse("plan", plan_file, "--set", "slo={ttft_ms: {p99: 1}}")
    assert said.code == 1
    lines = " ".join(said.out.split())
    assert "infeasible: no candidate serves 512x128 of llama-3.1-8b; nearest: llama-3.1-8b h100-sxm bf16" in lines
    assert "times the limit of ttft_ms:p99" in lines


def test_what_can_run_nowhere_says_why(dse, plan_file):
    said = dse("plan", plan_file, "--set", "models=[{model: llama-2-7b, demand: {buckets: [{input: 9000, output: 9, "
               "requests_per_s: 1}]}}]", "--json")  # fmt: skip
    assert said.code == 1
    assert json.loads(said.out)["reason"] == (
        "no candidate serves 9000x9 of llama-2-7b: input + output is longer than the model's longest context"
    )
    said = dse("plan", plan_file, "--set", "constraints={accuracy_drop_pct: {max: 0}}",
               "--set", "candidates.precision=nvfp4", "--json")  # fmt: skip
    assert "no precision keeps the accuracy, as far as published" in json.loads(said.out)["reason"]


def test_the_precision_that_comes_nearest_to_an_accuracy_is_named(dse, plan_file):
    said = dse("plan", plan_file, "--set", "constraints={accuracy_drop_pct: {max: 0}}",
               "--set", "candidates.precision=[nvfp4, w4a16-g128]", "--json")  # fmt: skip
    (row, _) = json.loads(said.out)["unserved"]
    loss = min(accuracy_drop(load_model("llama-3.1-8b"), load_precision(name)).pct for name in ("nvfp4", "w4a16-g128"))
    assert row["reason"].startswith("no precision keeps the accuracy, as far as published; nearest: ")
    assert row["reason"].endswith(f", which loses {loss:.3g} %; at most 0 is wanted")


def test_many_sizes_that_nothing_serves_are_one_clause_and_a_table(dse, plan_file):
    changes = ("--set", "models=[{model: llama-3.1-8b, demand: {trace: azure-conversation, requests_per_s: 5}}]",
               "--set", "slo={ttft_ms: {p99: 1}}")  # fmt: skip
    found = json.loads(dse("plan", plan_file, "--json", *changes).out)
    assert len(found["unserved"]) == 16
    assert found["reason"].count("no candidate serves") == 1
    text = "no candidate serves 16 sizes of llama-3.1-8b, 169x182 to 14050x39; 169x182 comes nearest, with llama-3.1-8b"
    assert found["reason"].startswith(text)
    assert all(row["times_the_limit"] > 1 and row["limit"] == "ttft_ms:p99" for row in found["unserved"])
    lines = dse("plan", plan_file, *changes).out
    assert "What nothing serves" in lines
    assert all(f"{row['input']}x{row['output']}" in lines for row in found["unserved"])


def test_a_size_that_the_most_leaves_out_is_told(dse, plan_file):
    sizes = "{input: 500, output: 50, requests_per_s: 9}, {input: 90000, output: 50, requests_per_s: 1}"
    said = dse("plan", plan_file, "--set", f"models=[{{model: llama-3.1-8b, demand: {{buckets: [{sizes}]}}}}]",
               "--set", "candidates.hardware=[l4]", "--set", "objective=served_rate", "--set", "verify.requests=0",
               "--set", "current=[]")  # fmt: skip
    assert "serves 90% of the demand" in said.out
    assert "Nothing serves 90000x50 of llama-3.1-8b: nearest: llama-3.1-8b l4 bf16" in " ".join(said.out.split())


def test_the_time_limit_is_told_with_the_gap(dse, plan_file, answer):
    assert answer["time_limit_s"] == 30
    said = dse("plan", plan_file, "--set", "time_limit_s=20", "--set", "verify.requests=0")
    assert "Optimal to 0.00% (time limit 20 s per program): of the fleets" in " ".join(said.out.split())


@pytest.mark.parametrize(("value", "text"), [(-1.11e-14, "+0.00"), (-0.004, "+0.00"), (-0.006, "-0.01"), (3, "+3.00")])
def test_a_difference_that_rounds_to_nothing_is_no_less_than_nothing(value, text):
    assert signed(value, 2) == text


def test_todays_fleet_that_does_not_carry_the_demand_still_costs_something(dse, plan_file):
    said = dse("plan", plan_file, "--json", "--set", "current=[{hardware: l4}]", "--set", "verify.requests=0")
    found = json.loads(said.out)
    current = found["current"]
    assert not current["carries_the_demand"]
    assert current["difference_usd_per_hour"] == pytest.approx(current["usd_per_hour"] - found["cost_usd_per_hour"])
    assert current["difference_served"] == pytest.approx(1 - current["served"])
    (sentence,) = [text for text in sentences(found) if text.startswith("Today's")]
    less = f"costs ${-current['difference_usd_per_hour']:,.2f}/h less than the recommended fleet, which serves 100%."
    assert sentence.endswith(f"it serves {current['served']:.0%} of it and {less}")


def test_a_budget_that_is_too_small_says_what_it_buys(dse, plan_file):
    said = dse("plan", plan_file, "--set", "budget.usd_per_hour=1", "--json")
    found = json.loads(said.out)
    assert (said.code, found["status"], found["instances"]) == (1, "infeasible", {})
    assert found["reason"].startswith("the limits allow none of the demand; without them ")
    assert "without them" in found["reason"]


def test_the_most_for_a_budget(dse, plan_file):
    said = dse("plan", plan_file, "--set", "budget.usd_per_hour=2", "--set", "objective=served_rate", "--json")
    found = json.loads(said.out)
    assert said.code == 0
    assert found["cost_usd_per_hour"] <= 2
    assert 0 < found["served"] < 1
    assert f"serves {found['served']:.0%} of the demand" in found["recommendation"]


def test_the_worth_of_the_only_model_changes_nothing(dse, plan_file):
    def found(weight: str) -> dict:
        model = f"{{model: llama-3.1-8b, weight: {weight}, demand: {{trace: azure-code, requests_per_s: 5}}}}"
        changes = (f"models=[{model}]", "budget={usd_per_hour: 2}", "objective=served_rate", "verify.requests=0")
        said = dse("plan", plan_file, "--json", *(word for change in changes for word in ("--set", change)))
        assert said.code == 0
        return json.loads(said.out)

    usual = found("1")
    for weight in ("1.0e-9", "1.0e+300"):
        answer = found(weight)
        assert (answer["instances"], answer["served"]) == (usual["instances"], usual["served"])


def test_no_price_is_no_candidate(dse, plan_file):
    said = dse("plan", plan_file, "--set", "candidates.hardware=[mi210]")
    assert said.code == 1
    assert said.err == (
        "no candidate has a price of kind on-demand; choose another price.kind, or give price.override\n"
    )


def test_a_fault_has_its_place(dse, plan_file):
    said = dse("plan", plan_file, "--set", "objective=cheap")
    assert said.code == 2
    assert said.err == "--set: objective: 'cheap' is not one of cost, served_rate\n"
    plan_file.write_text(PLAN.replace("peak_factor: 2", "peak_factr: 2"))
    said = dse("plan", plan_file)
    assert said.code == 2
    assert said.err == f"{plan_file}:8:7: models[0].demand.peak_factr: unknown field; did you mean 'peak_factor'?\n"


def test_plans_are_checked_and_listed(dse, plan_file):
    assert dse("check", plan_file).out.endswith(
        "plan 'chat [bold]</script>', 2 sizes of request, 50 requests/s at the peak\n"
    )
    assert "chat-under-budget" in dse("list", "plans").out
