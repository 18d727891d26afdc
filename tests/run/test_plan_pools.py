"""Plans that may choose pools of prefill and decode workers: where they win and lose, limits, the replay."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from dse.errors import CannotRun
from dse.run.candidates import find_candidates
from dse.run.fleet_facts import Facts
from dse.run.operating import operating_points
from dse.run.plan import load_plan, plan
from dse.run.problem import balanced, state_problem
from dse.run.replay import replay
from dse.run.verified import solve

LONG = {"input": 8000, "output": 150, "requests_per_s": 6}
"""Prompts that stop who decodes for a third of a second."""
MIDDLE = {"input": 2000, "output": 250, "requests_per_s": 8}

TIGHT: dict[str, Any] = {
    "name": "tight",
    "models": [{"model": "llama-3.1-8b", "demand": {"buckets": [LONG, MIDDLE]}}],
    "slo": {"ttft_ms": {"p99": 2500}, "tpot_ms": {"p99": 20}},
    "candidates": {"hardware": ["h100-sxm"], "max_devices": 2, "serving": ["open-loop", "disaggregated"]},
    "verify": {"requests": 1500},
}  # fmt: skip

SHORT = {"input": 100, "output": 600, "requests_per_s": 30}


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(TIGHT), **fields}


def candidates(**fields: Any) -> dict[str, Any]:
    return {**TIGHT["candidates"], **fields}


def problem(**fields: Any):
    return state_problem(load_plan(changed(**fields)))


def cost(**fields: Any) -> float:
    answer = problem(**fields).best()
    return answer.usd_per_hour if answer.found else np.inf


def pools_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry for entry in found["deployments"] if "pools" in entry]


@pytest.fixture(scope="module")
def tight() -> dict[str, Any]:
    return plan(TIGHT).answer


# -- where they win, and where they lose ----------------------------------------------------------------


def test_pools_win_where_prompts_are_long_and_tokens_must_come_evenly(tight):
    assert pools_of(tight)
    alone = cost(candidates=candidates(serving="open-loop"))
    assert tight["cost_usd_per_hour"] < 0.75 * alone


def test_pools_lose_where_prompts_are_short():
    """A prefill worker would stand idle: the answer is that of replicas alone."""
    demand = [{"model": "llama-3.1-8b", "demand": {"buckets": [SHORT]}}]
    loose = {"ttft_ms": {"p99": 2500}, "tpot_ms": {"mean": 60}}
    both = plan(changed(models=demand, slo=loose)).answer
    alone = cost(models=demand, slo=loose, candidates=candidates(serving="open-loop"))
    assert not pools_of(both)
    assert both["cost_usd_per_hour"] == pytest.approx(alone)


def test_more_ways_to_serve_never_cost_more():
    both = cost()
    for serving in ("open-loop", "disaggregated"):
        assert both <= cost(candidates=candidates(serving=serving)) * (1 + 1e-6)


def test_a_plan_that_does_not_ask_has_none():
    found = find_candidates(load_plan(changed(candidates={"hardware": ["h100-sxm"], "max_devices": 2})))
    assert not [each for each in found.deployments if each.pool_facts]


# -- what is said of them -------------------------------------------------------------------------------


def test_a_row_of_pools_says_both(tight):
    for entry in pools_of(tight):
        prefill, decode = entry["pools"]
        assert (prefill["pool"], decode["pool"]) == ("prefill", "decode")
        assert entry["devices_per_replica"] == sum(pool["workers"] * pool["devices"] for pool in entry["pools"])
        assert entry["serving"] == "disaggregated"
        assert {"tp", "pp", "dp", "ep", "precision"} <= prefill.keys()
    devices = sum(entry["devices"] for entry in tight["deployments"])
    assert sum(tight["instances"].values()) == devices
    assert tight["economics"]["power_kw"] < tight["economics"]["power_kw_limit"]
    assert tight["economics"]["usd_per_million_input_tokens"] > 0
    assert tight["economics"]["output_tokens_per_joule"] > 0


def test_launch_commands_are_those_of_the_engines(tight):
    entry = pools_of(tight)[0]
    prefill, decode = entry["pools"]
    launch = entry["launch"]
    vllm = launch["vllm"].splitlines()
    assert f"--tensor-parallel-size {prefill['tp']} " in vllm[0]
    assert '"kv_connector":"NixlConnector","kv_role":"kv_producer"' in vllm[0]
    assert f"--tensor-parallel-size {decode['tp']} " in vllm[1]
    assert '"kv_role":"kv_consumer"' in vllm[1]
    assert vllm[2].count("prefill-") == prefill["workers"]
    sglang = launch["sglang"].splitlines()
    assert "--disaggregation-mode prefill --disaggregation-transfer-backend nixl" in sglang[0]
    assert "--disaggregation-mode decode " in sglang[1]
    assert sglang[2].count("--prefill http://") == prefill["workers"]
    trtllm = launch["tensorrt-llm"].splitlines()
    assert trtllm[-1] == "trtllm-serve disaggregated -c disagg_config.yaml"
    assert f"context_servers: {{num_instances: {prefill['workers']}, urls: [prefill-1:8001" in trtllm[-2]
    assert "disable_overlap_scheduler: true" in trtllm[0]


def test_pools_keep_their_latencies_at_the_rate_they_are_said_to_serve():
    found = [each for each in find_candidates(load_plan(TIGHT)).deployments if each.pool_facts]
    assert found
    for deployment in found:
        able = [bucket for bucket in range(2) if deployment.rates[bucket] > 0]
        for point in operating_points(deployment, able, [float(deployment.rates[bucket]) for bucket in able]):
            assert point["ttft_p99_ms"] <= 2500 * (1 + 1e-6)
            assert point["tpot_p99_ms"] <= 20 * (1 + 1e-6)


# -- the replay -----------------------------------------------------------------------------------------


def test_the_answer_holds_in_the_replay_with_arrivals_of_other_seeds(tight):
    assert tight["verification"]["holds"]
    solved = solve(problem())
    for seed in (10**6, 10**6 + 1):
        assert replay(solved.facts, seed).holds


def test_pools_that_are_too_few_miss_in_the_replay():
    """The replay would tell: it plays the same pools with two and a half times as much to do."""
    found = problem()
    answer = balanced(found.fleet, found.best())
    more = [{**bucket, "requests_per_s": 2.5 * bucket["requests_per_s"]}
            for bucket in TIGHT["models"][0]["demand"]["buckets"]]  # fmt: skip
    asked = problem(models=[{"model": "llama-3.1-8b", "demand": {"buckets": more}}], headroom=0.0)
    assert not replay(Facts(asked, answer), 5).holds


# -- two kinds of accelerator ---------------------------------------------------------------------------

PAIR = candidates(hardware=["l40s", "h100-sxm"], max_devices=1, disaggregated={"devices": 4})


def test_unlike_accelerators_are_paired_and_counted_by_kind():
    found = problem(candidates=PAIR)
    unlike = [option for option in found.fleet.options if option.others]
    assert unlike
    for option in unlike:
        deployment = found.deployments[option.name]
        assert option.held == dict(deployment.held)
        assert set(option.held) == {"l40s", "h100-sxm"}
        assert option.size == sum(option.held.values()) <= 4


@pytest.mark.parametrize("limit", [
    {"stock": {"l40s": 3, "h100-sxm": 2}}, {"usd_per_hour": 14.0}, {"power_kw": 4.0},
    {"stock": {"h100-sxm": 1}, "power_kw": 3.0, "usd_per_hour": 20.0},
])  # fmt: skip
def test_limits_are_kept_with_two_kinds(limit):
    found = problem(candidates=PAIR, budget=limit, objective="served_rate")
    answer = found.best()
    assert answer.found
    held: dict[str, int] = {}
    for option, count in zip(answer.options, answer.counts, strict=True):
        for name, each in option.held.items():
            held[name] = held.get(name, 0) + each * int(count)
    assert held == dict(answer.devices)
    devices = found.fleet.devices
    assert all(held.get(name, 0) <= most for name, most in limit.get("stock", {}).items())
    assert sum(devices[name].usd_per_hour * n for name, n in held.items()) <= limit.get("usd_per_hour", np.inf) + 1e-6
    assert sum(devices[name].watts * n for name, n in held.items()) <= limit.get("power_kw", np.inf) * 1e3 + 1e-6


def test_the_order_of_everything_does_not_matter():
    turned = changed(candidates={**PAIR, "hardware": PAIR["hardware"][::-1], "serving": PAIR["serving"][::-1]})
    turned["models"][0]["demand"]["buckets"].reverse()
    one, other = (plan(each).answer for each in (changed(candidates=PAIR), turned))
    for key in ("status", "cost_usd_per_hour", "instances", "deployments", "buckets", "alternatives", "hash"):
        assert one[key] == other[key], key


def test_pools_in_regions_stand_in_one():
    regions = {"eu": {"stock": {"l40s": 0}}, "us": {"price_factor": 1.1}}
    found = problem(candidates=PAIR, budget={"regions": regions})
    for option in found.fleet.options:
        assert len({name.partition("@")[2] for name in option.held}) == 1


def test_prefill_workers_may_have_accelerators_of_their_own():
    own = candidates(hardware=["h100-sxm"], serving="disaggregated", disaggregated={"prefill": {"hardware": "l40s"}})
    found = problem(candidates=own)
    assert found.fleet.options
    assert all(option.held.keys() == {"h100-sxm", "l40s"} for option in found.fleet.options)
    assert not found.under([model.slo for model in found.plan.models], ["h100-sxm"]).fleet.options


def test_accelerators_for_prompts_alone_cannot_serve():
    own = candidates(hardware=["h100-sxm"], serving="disaggregated", disaggregated={"prefill": {"hardware": "l40s"}})
    with pytest.raises(CannotRun, match="no candidate has a price of kind purchase"):
        load_plan(changed(candidates=own, price={"kind": "purchase", "purchase": {"l40s": 9000}}))


# -- what cannot be ---------------------------------------------------------------------------------------


def test_a_size_no_pool_serves_is_named_with_the_nearest_miss():
    found = plan(changed(slo={"ttft_ms": {"p99": 60}}, candidates=candidates(serving="disaggregated"))).answer
    assert found["status"] == "infeasible"
    assert found["reason"].startswith(
        "no candidate serves 2000x250 of llama-3.1-8b; nearest: llama-3.1-8b h100-sxm bf16"
    )
    assert "as a prefill worker at" in found["reason"]
    assert "times the limit of ttft_ms:p99" in found["reason"]
