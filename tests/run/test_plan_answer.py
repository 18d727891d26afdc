"""Plans from the engine: properties of the answer, what deployments are found, what the simulator does with it."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from dse.cost.capacity import highest_rate
from dse.cost.choices import AXES
from dse.cost.mesh import Mesh
from dse.cost.metrics import Scored
from dse.run.candidates import deployments_of, find_candidates
from dse.run.fleet_facts import Facts
from dse.run.operating import operating_points
from dse.run.plan import load_plan, plan
from dse.run.problem import balanced, state_problem
from dse.run.replay import FEWEST, MOST_ENGINES, MOST_REQUESTS, replay
from dse.run.verified import derated, solve

PLAN = {
    "name": "chat",
    "models": [
        {
            "model": "llama-3.1-8b",
            "demand": {
                "buckets": [
                    {"input": 256, "output": 64, "requests_per_s": 30},
                    {"input": 1024, "output": 256, "requests_per_s": 20},
                    {"input": 4096, "output": 256, "requests_per_s": 4},
                ]
            },
        }
    ],
    "slo": {"ttft_ms": {"p99": 1500}, "tpot_ms": {"mean": 50}},
    "candidates": {"hardware": ["l4", "l40s", "a10g", "a100-sxm-80gb", "h100-sxm"], "max_devices": 2},
    "price": {"kind": "on-demand"},
    "verify": {"requests": 500},
}


def changed(**fields):
    return {**copy.deepcopy(PLAN), **fields}


def problem(**fields):
    return state_problem(load_plan(changed(**fields)))


def cost(**fields) -> float:
    answer = problem(**fields).best()
    return answer.usd_per_hour if answer.found else np.inf


# -- the answer -----------------------------------------------------------------------------------------


def test_tighter_latencies_never_cost_less():
    costs = [cost(slo={"ttft_ms": {"p99": 1500 * scale}, "tpot_ms": {"mean": 50 * scale}}) for scale in (4, 2, 1, 0.5)]
    assert all(tight >= loose * (1 - 1e-3) for loose, tight in pairwise(costs))
    assert costs[-1] > costs[0]


def test_more_hardware_to_choose_from_never_costs_more():
    few = cost(candidates={**PLAN["candidates"], "hardware": ["a100-sxm-80gb", "h100-sxm"]})
    assert cost() <= few * (1 + 1e-6)


def test_the_order_of_everything_does_not_matter():
    turned = changed()
    turned["models"][0]["demand"]["buckets"].reverse()
    turned["candidates"]["hardware"].reverse()
    one, other = plan(turned).answer, plan(changed()).answer
    for key in ("status", "cost_usd_per_hour", "instances", "deployments", "buckets", "alternatives", "hash"):
        assert one[key] == other[key], key


def test_two_models_on_one_fleet_cost_their_sum_unless_they_share_boxes():
    other = {"model": "qwen3-8b", "demand": PLAN["models"][0]["demand"]}
    both = [*PLAN["models"], other]
    assert cost(models=both) == pytest.approx(cost() + cost(models=[other]))
    boxed = {"candidates": {**PLAN["candidates"], "hardware": ["h100-sxm"]}, "whole_boxes": True}
    apart = cost(**boxed) + cost(models=[other], **boxed)
    assert cost(models=both, **boxed) <= apart


def test_burstier_arrivals_need_more():
    bursty = copy.deepcopy(PLAN["models"])
    bursty[0]["demand"]["burstiness"] = 3.0
    assert cost(models=bursty) >= cost()


def test_a_precision_nobody_measured_is_left_out_where_accuracy_matters():
    free = problem(candidates={**PLAN["candidates"], "precision": ["bf16", "fp8", "nvfp4"]})
    held = problem(
        candidates={**PLAN["candidates"], "precision": ["bf16", "fp8", "nvfp4"]},
        constraints={"accuracy_drop_pct": {"max": 0.0}},
    )
    names = {scheme for option in held.fleet.options for scheme in option.name.split() if scheme in ("bf16", "fp8")}
    assert names == {"bf16"}
    assert len(free.fleet.options) > len(held.fleet.options)


# -- deployments ----------------------------------------------------------------------------------------


def test_a_deployment_keeps_its_latencies_at_the_rate_it_is_said_to_serve():
    plan_ = load_plan(PLAN)
    for deployment in find_candidates(plan_).deployments:
        able = [bucket for bucket in range(3) if deployment.rates[bucket] > 0]
        for point in operating_points(deployment, able, [float(deployment.rates[bucket]) for bucket in able]):
            assert point["ttft_p99_ms"] <= 1500 * (1 + 1e-6)
            assert point["tpot_ms"] <= 50 * (1 + 1e-6)


def test_a_deployment_misses_a_latency_a_little_above_that_rate():
    plan_ = load_plan(PLAN)
    misses = []
    for deployment in find_candidates(plan_).deployments:
        able = [bucket for bucket in range(3) if deployment.rates[bucket] > 0]
        for point in operating_points(deployment, able, [1.02 * float(deployment.rates[bucket]) for bucket in able]):
            over = not point["ttft_p99_ms"] <= 1500 or not point["tpot_ms"] <= 50  # NaN: more than it can finish
            misses.append(over)
    assert np.mean(misses) > 0.95


def test_what_cannot_matter_is_let_go_and_nothing_else():
    """The undominated deployments of each accelerator are the same when every rate is searched to the end."""
    plan_ = load_plan(PLAN)
    model = plan_.models[0]
    sweep = replace(model.sweep, settings=replace(model.sweep.settings, slo={"ttft_ms": 1500.0}))
    choices = sweep.choices_of(0, 0)
    mesh = Mesh.open(AXES, [slice(0, size) for size in choices.shape])
    scored = Scored.of(sweep.models[0], choices, mesh)
    with np.errstate(all="ignore"):
        every = highest_rate(scored.served, model.slo.limits, np.ones(1, dtype=bool))
    found, _, points = deployments_of(model.sweep, 0, plan_.buckets, model.slo, None)
    assert points == every.size
    kept = {(each.layout, each.hardware): each.rates for each in found}
    layouts = sweep.axes.layout
    for hardware in range(len(sweep.hardware)):
        rates = {layout: every[layout, hardware, 0, 0, :, 0, 0] for layout in range(len(layouts))}
        for layout, of in rates.items():
            beaten = any(
                np.all((layouts[layout].devices // layouts[other].devices) * rates[other] >= of)
                for other in rates
                if other != layout and layouts[other].devices <= layouts[layout].devices
            )
            if not beaten and np.any(of > 0):
                np.testing.assert_allclose(kept[layout, hardware], of, rtol=1e-9)


def test_chunks_of_prompts_compete_with_whole_ones():
    """Short answers beside long prompts: whole prompts hold up every token, chunks of them do not."""
    models = [{"model": "llama-3.1-8b", "demand": {"buckets": [
        {"input": 64, "output": 400, "requests_per_s": 10}, {"input": 6000, "output": 100, "requests_per_s": 5},
    ]}}]  # fmt: skip
    slo = {"ttft_ms": {"p99": 3000}, "tpot_ms": {"p99": 25}}
    candidates = {"hardware": ["h100-sxm"], "max_devices": 1, "techniques": {"chunk_tokens": ["none", 512]}}
    chosen = problem(models=models, slo=slo, candidates=candidates)
    assert "llama-3.1-8b h100-sxm bf16 tp1 chunk_tokens 512" in {option.name for option in chosen.fleet.options}
    whole = problem(models=models, slo=slo, candidates={**candidates, "techniques": {}})
    assert chosen.best().usd_per_hour <= whole.best().usd_per_hour


def test_static_placements_compete_where_nobody_waits():
    job = [{"model": "opt-30b", "demand": {"buckets": [{"input": 512, "output": 32, "requests_per_s": 0.2}]}}]
    candidates = {"hardware": ["t4"], "precision": ["fp16"], "offload": ["none", "lp"], "max_devices": 1, "batch": [64]}
    found = state_problem(load_plan(changed(models=job, slo="batch", candidates=candidates)))
    (option,) = found.fleet.options  # sixty gigabytes of weights, sixteen of memory
    assert option.name == "opt-30b t4 fp16 tp1 static offloaded"
    assert option.rates[0] > 0


def test_balanced_shares_leave_no_kind_busier_than_need_be():
    stated = problem()
    answer = stated.best()
    even = balanced(stated.fleet, answer)
    np.testing.assert_allclose(even.shares.sum(axis=0), 1.0, atol=1e-6)
    assert even.utilisation(stated.fleet).max() <= answer.utilisation(stated.fleet).max() * (1 + 1e-6)
    assert even.usd_per_hour == answer.usd_per_hour


# -- the simulator --------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_replay():
    stated = problem()
    facts = Facts(stated, balanced(stated.fleet, stated.best()))
    assert replay(facts, 7).plain() == replay(facts, 7).plain()
    assert replay(facts, 8).plain() != replay(facts, 7).plain()


def test_an_answer_that_misses_is_demoted_and_its_deployments_count_for_less():
    """Throughputs five times too high: the first answer is too small, and the simulator says so."""
    honest = problem(verify={"requests": 500, "answers": 12})
    boasting = replace(honest, fleet=honest.fleet.slower(5.0))
    solved = solve(boasting)
    assert not solved.tried[0].holds
    assert len(solved.tried) > 1
    costs = [each.answer.usd_per_hour for each in solved.tried]
    assert costs[-1] > costs[0]
    late = {name for name, excess in solved.tried[0].excess.items() if excess > 1}
    again = derated(boasting, solved.tried[0])
    for before, after in zip(boasting.fleet.options, again.fleet.options, strict=True):
        assert np.all(after.rates == before.rates * (0.85 if before.name in late else 1.0))


def test_answers_that_none_holds_are_said_to_miss():
    solved = solve(replace(problem(verify={"requests": 500, "answers": 1}), fleet=problem().fleet.slower(5.0)))
    assert solved.verified is False


def test_of_a_large_fleet_a_part_is_replayed_with_its_part_of_the_arrivals():
    """So many as are replayed at most, and a thousand times as many as busy: the same latencies, and no more time."""

    def asked(rate: float):
        sizes = [{"input": 256, "output": 64, "requests_per_s": rate}]
        models = [{"model": "llama-3.1-8b", "demand": {"buckets": sizes}}]
        return problem(models=models, candidates={"hardware": ["h100-sxm"], "max_devices": 1})

    each = (1 - 1e-6) * 0.8 * max(option.rates[0] for option in asked(1.0).fleet.options)
    measured = []
    for replicas in (MOST_ENGINES, 1000 * MOST_ENGINES):
        found = asked(replicas * each)
        answer = balanced(found.fleet, found.best())
        assert sum(answer.counts) == replicas
        replayed = replay(Facts(found, answer), seed=0)
        assert replayed.requests <= MOST_REQUESTS * FEWEST
        measured.append(replayed.measured["llama-3.1-8b"])
    for limit, value in measured[0].items():
        assert measured[1][limit] == pytest.approx(value, rel=1e-3)
