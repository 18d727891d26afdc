"""What of a plan's answer is replayed in the simulator, for how long, and what is said where it is not."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from dse.errors import CannotRun
from dse.report.plan import alternative_row
from dse.report.plan_words import sentences
from dse.run import replay as module
from dse.run.alternatives import alternatives
from dse.run.answered import Answered
from dse.run.fleet_facts import Facts
from dse.run.plan import load_plan, plan
from dse.run.problem import balanced, state_problem
from dse.run.replay import FEWEST, MOST_ENGINES, MOST_REQUESTS, replay
from dse.run.vouched import vouched

OFFLOADED = {
    "name": "off",
    "models": [
        {"model": "opt-30b", "demand": {"buckets": [{"input": 512, "output": 64, "requests_per_s": 0.4}]}},
    ],
    "slo": {"ttft_ms": {"p99": 120000}},
    "candidates": {"hardware": ["t4", "l4"], "precision": ["fp16"], "offload": ["none", "lp"], "max_devices": 1},
    "price": {"kind": "on-demand"},
}
CHAT = {
    "name": "chat",
    "models": [
        {"model": "llama-3.1-8b", "demand": {"buckets": [{"input": 200, "output": 400, "requests_per_s": 900}]}}
    ],
    "slo": {"tpot_ms": {"p99": 20}},
    "candidates": {"hardware": ["h100-sxm"], "max_devices": 1},
    "price": {"kind": "on-demand"},
}


def changed(base, **fields):
    return {**copy.deepcopy(base), **fields}


def facts_of(base) -> Facts:
    stated = state_problem(load_plan(base))
    return Facts(stated, balanced(stated.fleet, stated.best()))


def test_an_offloaded_answer_keeps_its_latency_with_the_wait_for_a_block():
    """A block of 128 lasts 416 s: its requests cannot all have a first token after 120 s."""
    found = plan(OFFLOADED).answer
    (tried,) = found["verification"]["tried"]
    assert found["verification"]["holds"] is True
    assert tried["share_of_requests"] == pytest.approx(1.0)
    assert tried["requests"] >= 2000
    assert 0 < tried["measured"]["opt-30b"]["ttft_ms:p99"] <= 120_000
    for bucket in found["buckets"]:
        for point in bucket["served_by"].values():
            assert point["ttft_ms"] < point["ttft_p99_ms"] <= 120_000 * (1 + 1e-6)
            assert point["latency_p99_s"] > point["latency_s"]


def test_blocks_that_gather_for_too_long_are_not_chosen():
    """Twice the time allowed lets blocks be larger, and fewer cards do."""
    tight, loose = (plan(changed(OFFLOADED, slo={"latency_s": {"p99": limit}})).answer for limit in (200, 1200))
    assert loose["cost_usd_per_hour"] < tight["cost_usd_per_hour"]
    assert max(d["batch"] for d in loose["deployments"]) > max(d["batch"] for d in tight["deployments"])


def test_a_latency_no_block_can_keep_has_no_answer():
    found = plan(changed(OFFLOADED, slo={"ttft_ms": {"p99": 2000}})).answer
    assert found["status"] == "infeasible"
    assert "no rate of arrivals does" in found["reason"]


@pytest.mark.parametrize("rate", [0.02, 0.4])
def test_predicted_waits_for_a_block_are_those_of_the_replay(rate):
    base = changed(OFFLOADED, headroom=0)
    base["models"][0]["demand"]["buckets"][0]["requests_per_s"] = rate
    facts = facts_of(base)
    (row,) = (row for rows in facts.rows for row in rows.values()) if len(facts.rows) == 1 else (facts.rows[0][0],)
    measured = replay(facts, 3).measured["opt-30b"]["ttft_ms:p99"]
    if len(facts.rows) == 1:
        assert measured == pytest.approx(row["ttft_p99_ms"], rel=0.15)
    assert measured <= 120_000 * 1.05


def test_a_large_fleet_is_replayed_in_part_for_as_many_residences():
    facts = facts_of(CHAT)
    ((name, played),) = replay(facts, 1).played.items()
    standing = int(facts.answer.counts[0])
    assert FEWEST <= played.replicas <= MOST_ENGINES
    assert played.of == standing > played.replicas
    row = facts.rows[0][0]
    span = played.requests / (900 * played.replicas / standing)
    assert span >= 25 * row["latency_s"] * 0.99
    assert played.requests <= MOST_REQUESTS * FEWEST
    assert name.startswith("llama-3.1-8b h100-sxm")


def test_a_part_of_a_fleet_is_as_slow_as_the_whole_of_it(monkeypatch):
    facts = facts_of(_at(400.0))
    part = replay(facts, 1)
    monkeypatch.setattr(module, "MOST_ENGINES", 1000)
    whole = replay(facts, 1, 1_000_000)
    ((few,), (many,)) = (each.played.values() for each in (part, whole))
    assert few.replicas < many.replicas == many.of
    slow, slower = (each.measured["llama-3.1-8b"]["tpot_ms:p99"] for each in (whole, part))
    assert slower == pytest.approx(slow, rel=0.06)


def _at(rate: float):
    base = changed(CHAT)
    base["models"][0]["demand"]["buckets"][0]["requests_per_s"] = rate
    return base


def test_the_answer_says_which_part_was_replayed():
    found = plan(changed(CHAT, alternatives=1)).answer
    tried = found["verification"]["tried"][-1]
    (part,) = tried["replayed"].values()
    said = " ".join(sentences(found))
    assert f"{part['replicas']} of {part['of']} replicas of llama-3.1-8b h100-sxm bf16 tp1" in said


def test_a_demand_of_a_million_requests_per_s_has_an_answer():
    found = plan(changed(_at(1e6), alternatives=1)).answer
    assert found["status"] == "optimal"
    assert found["verification"]["holds"] is not None
    assert found["instances"]["h100-sxm"] > 10_000


@pytest.mark.parametrize(
    ("fields", "because"),
    [
        ({"slo": "batch"}, "the plan limits no latency"),
        ({"verify": {"requests": 0}}, "verify.requests is 0"),
    ],
)
def test_what_is_not_simulated_says_why(fields, because):
    found = plan(changed(_at(20.0), **fields)).answer
    assert found["verification"]["holds"] is None
    assert found["verification"]["because"] == because
    assert found["verification"]["tried"] == []
    assert any(text.startswith(f"Not simulated, because {because}") for text in sentences(found))


def test_what_the_simulator_cannot_run_is_said_and_does_not_count_as_kept(monkeypatch):
    def refuses(*_args, **_options):
        raise CannotRun("nobody simulates this")

    monkeypatch.setattr(module, "simulate", refuses)
    found = plan(_at(20.0)).answer
    assert found["verification"]["holds"] is None
    assert found["verification"]["because"] == "nobody simulates this"
    assert np.isfinite(found["cost_usd_per_hour"])


# -- the fleets beside it -------------------------------------------------------------------------------

TWO_KINDS = changed(
    _at(60.0), candidates={"hardware": ["h100-sxm", "l40s", "a100-sxm-80gb"], "max_devices": 1}, alternatives=2
)


def test_the_best_of_the_alternatives_are_replayed_and_say_so():
    rows = plan(TWO_KINDS).answer["alternatives"]
    by_title = {row["title"]: row for row in rows}
    assert by_title["recommended"]["verified"] is True
    for title in ("best single type", "fastest"):
        assert by_title[title]["verified"] in (True, False)
    assert all(row["verified"] is None for row in rows if row["title"].startswith("only "))
    assert all(bool(row["missed"]) == (row["verified"] is False) for row in rows)


def test_a_demoted_fleet_that_comes_back_as_an_alternative_is_marked():
    stated = state_problem(load_plan(TWO_KINDS))
    boasting = replace(stated, fleet=stated.fleet.slower(3.0))
    answer = balanced(boasting.fleet, boasting.best())
    tried = replay(Facts(boasting, answer), 0)
    assert tried.holds is False
    assert vouched(boasting, answer, (tried,)) == {"verified": False, "missed": ["tpot_ms:p99"]}
    assert vouched(boasting, answer) == {"verified": False, "missed": ["tpot_ms:p99"]}
    rows = list(alternatives(Answered(boasting, answer, (tried,))))
    assert (rows[0]["title"], rows[0]["verified"], rows[0]["missed"]) == ("recommended", False, ["tpot_ms:p99"])
    assert alternative_row(rows[0])["simulated"] == "misses p99 TPOT"
    assert alternative_row({**rows[0], "verified": None})["simulated"] == "no"


def test_where_nothing_is_replayed_no_alternative_is():
    rows = plan(changed(TWO_KINDS, verify={"requests": 0})).answer["alternatives"]
    assert all(row["verified"] is None for row in rows)
