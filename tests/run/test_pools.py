"""Sweeps that hold deployments of two pools beside replicas of one engine: numbered, grouped, resumed, explained."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from runs import PART, front_bytes

import dse
from dse.run.contests import Divisions
from dse.run.executors import Local, OnRay
from dse.run.folder import Run
from dse.run.score import Engine
from dse.run.sweep import load_sweep, run_sweep

PREFILL = ("hardware", "precision", "tp", "pp", "dp", "ep", "batch")


@pytest.fixture
def both() -> dict[str, Any]:
    """Replicas and pools of two chips, 432 points in several parts."""
    return {
        "name": "both",
        "models": ["llama-3.1-8b", "mixtral-8x7b"],
        "hardware": ["h100-sxm", "mi300x"],
        "precision": "fp8",
        "workload": "1024x256",
        "parallel": {"tp": [1, 4], "dp": [1, 2]},
        "batch": [4, 32],
        "serving": ["closed-loop", "disaggregated"],
        "disaggregated": {
            "prefill": {"parallel": {"tp": [1, 2]}, "batch": [1, 2]},
            "decode": {"batch": [8, 16, 64]},
            "devices": 8,
        },
        "group_by": ["model", "serving"],
    }


def test_pools_have_axes_of_their_own_and_the_decode_batch_may_differ(both):
    space = Engine(load_sweep(both)).space
    assert [axis.name for axis in space.boxes[0].axes[1:]] == [
        "layout", "hardware", "precision", "fidelity", "workload", "rate", "batch"
    ]  # fmt: skip
    assert [axis.name for axis in space.boxes[1].axes[1:5]] == [
        "prefill_layout", "prefill_hardware", "prefill_precision", "prefill_batch"
    ]  # fmt: skip
    assert [box.size for box in space.boxes] == [2 * 4 * 2 * 2, 2 * (2 * 2 * 2) * (4 * 2 * 3)]


def test_what_is_left_out_is_the_sweeps_own(both):
    del both["disaggregated"]
    choices = Engine(load_sweep(both)).sweep.choices_of(1, 0)
    prefill = choices.pools.prefill
    assert (prefill.hardware, prefill.precision, prefill.layout) == (
        choices.hardware, choices.precision, choices.layout
    )  # fmt: skip
    assert (prefill.batch, choices.batch) == ((1,), (4, 32))
    assert (choices.pools.devices, choices.pools.max_workers) == (float("inf"), 32)


def test_both_stand_in_one_table_with_blanks_where_there_is_no_prefill_worker(both, tmp_path):
    run = run_sweep(both, tmp_path, executor=Local(), part_points=PART)
    frame = run.frontier()
    replicas, pools = (frame[frame["serving"] == serving] for serving in ("closed-loop", "disaggregated"))
    assert len(replicas)
    assert len(pools)
    for name in PREFILL:
        assert replicas[f"prefill_{name}"].isna().all()
        assert pools[f"prefill_{name}"].notna().all()
    assert replicas[["prefill_workers", "decode_workers"]].isna().all(axis=None)
    size = pools["prefill_workers"] * pools["prefill_tp"] + pools["decode_workers"] * pools["tp"] * pools["dp"]
    assert (pools["devices"] == size).all()
    assert (pools["devices"] <= 8).all()
    assert {group["key"]["serving"] for group in run.manifest["groups"]} == {"closed-loop", "disaggregated"}
    assert "prefill_tp" in run.manifest["axes"]


def test_every_point_of_a_run_is_the_one_its_number_names(both, tmp_path):
    run = run_sweep(both | {"keep": "all"}, tmp_path, executor=Local(), part_points=PART)
    points = run.points()
    assert list(points["number"]) == list(range(len(points)))
    frontier = run.frontier().set_index("number")
    frontier = frontier.drop(columns="front_probability")
    kept = points.set_index("number").loc[frontier.index, frontier.columns]
    pd.testing.assert_frame_equal(kept, frontier, check_exact=True, check_dtype=False)
    names = ("prefill_hardware", "prefill_tp", "prefill_batch", "tp", "dp", "hardware", "batch", "model", "serving")
    assert not points.duplicated(subset=list(names)).any()


@pytest.mark.parametrize("executor", [Local, pytest.param(lambda: OnRay(cpus=1), marks=pytest.mark.ray, id="ray")])
def test_parts_and_executors_leave_the_same_bytes(both, tmp_path, executor):
    whole = front_bytes(run_sweep(both, tmp_path / "whole", executor=Local()).folder)
    assert front_bytes(run_sweep(both, tmp_path / "parts", executor=executor(), part_points=PART).folder) == whole


def test_a_run_is_restored_from_its_manifest(both, tmp_path):
    both["disaggregated"] |= {"devices": 16, "fill": True, "max_workers": 3}
    both["disaggregated"]["prefill"] |= {"precision": ["native", "fp8"], "hardware": ["b200", "h100-sxm"]}
    run = run_sweep(both, tmp_path, executor=Local())
    again = Run.open(run.folder).engine().sweep
    assert again.resolved == load_sweep(both).resolved
    assert again.hash == run.manifest["hash"]


@pytest.mark.parametrize(
    "change",
    [
        {"devices": 9}, {"max_workers": 3}, {"fill": True}, {"decode": {"batch": [8, 16]}},
        {"prefill": {"batch": [1]}}, {"prefill": {"hardware": "b200"}}, {"prefill": {"precision": "bf16"}},
    ],
)  # fmt: skip
def test_whatever_the_pools_choose_from_makes_another_run(both, change):
    before = load_sweep(both).hash
    both["disaggregated"] |= change
    assert load_sweep(both).hash != before


def test_pools_nobody_asked_for_change_no_hash(both):
    plain = {key: value for key, value in both.items() if key != "disaggregated"} | {"serving": "closed-loop"}
    assert "pools" not in load_sweep(plain).resolved


def test_points_may_be_grouped_by_what_prefill_workers_are(both, tmp_path):
    both["group_by"] = ["serving", "prefill_tp", "prefill_hardware"]
    groups = run_sweep(both, tmp_path, executor=Local()).manifest["groups"]
    keys = [tuple(group["key"].values()) for group in groups]
    pools = [("disaggregated", tp, chip) for tp in (1, 2) for chip in both["hardware"]]
    assert keys == [("closed-loop", None, None), *pools]


def test_a_pair_of_unlike_chips_competes_as_one_of_its_own(both):
    engine = Engine(load_sweep(both))
    assert Divisions(engine.sweep, engine.groups).count == 4  # two chips, and two pairs of both


def test_a_point_is_explained_with_both_pools(both, tmp_path):
    run = run_sweep(both, tmp_path, executor=Local())
    frame = run.frontier()
    row = frame[(frame["serving"] == "disaggregated") & (frame["prefill_hardware"] != frame["hardware"])].iloc[0]
    from dse.run.evaluate import explain_run

    found = explain_run(str(run.folder), int(row["number"]))
    prefill, decode = found["pools"]
    assert (prefill["pool"], decode["pool"]) == ("prefill", "decode")
    assert (prefill["hardware"], decode["hardware"]) == (row["prefill_hardware"], row["hardware"])
    assert (prefill["workers"], decode["workers"]) == (row["prefill_workers"], row["decode_workers"])
    assert (prefill["batch"], decode["batch"]) == (row["prefill_batch"], row["batch"])
    served = min(pool["workers"] * pool["requests_per_s"] for pool in (prefill, decode))
    assert served == pytest.approx(row["requests_per_s"])
    assert max(pool["memory"]["total_gb"] for pool in (prefill, decode)) == pytest.approx(row["memory_gb_per_device"])
    assert found["hardware"]["name"] == row["hardware"]
    # Each phase is that of its own worker.
    alone = dse.explain(
        row["model"], row["prefill_hardware"], precision="fp8", tp=int(row["prefill_tp"]),
        batch=int(row["prefill_batch"]), input=1024, output=256,
    )  # fmt: skip
    assert found["phases"]["prefill"]["operators"] == alone["phases"]["prefill"]["operators"]


def test_todays_deployment_may_have_pools(both, tmp_path):
    both["current"] = {"serving": "disaggregated", "hardware": "h100-sxm", "batch": 16, "tp": 4}
    (row, *_) = run_sweep(both, tmp_path, executor=Local()).manifest["current_rows"]
    assert (row["serving"], row["batch"], row["tp"]) == ("disaggregated", 16, 4)
    assert (row["prefill_hardware"], row["prefill_tp"], row["prefill_batch"]) == ("h100-sxm", 1, 1)


def test_nearest_misses_say_which_pool_is_too_full(both, tmp_path):
    both |= {"serving": "disaggregated", "models": "mixtral-8x7b", "hardware": "mi300x"}
    both["disaggregated"]["prefill"] = {"hardware": "l4", "parallel": {"tp": 1}}
    manifest = run_sweep(both, tmp_path, executor=Local()).manifest
    assert manifest["nearest_misses"]["exceeds_memory"]["reason"] == ("needs 47.3 of 21.2 GB on the accelerator")


def test_offloading_beside_pools_is_a_status(both, tmp_path):
    both |= {"offload": ["none", "lp"], "models": "llama-3.1-8b"}
    manifest = run_sweep(both, tmp_path, executor=Local()).manifest
    pairs = 2 * 2 * 2 * 4 * 2 * 3
    assert manifest["statuses"]["offload_is_static"] == 16 + pairs


def test_pools_at_a_rate_have_percentiles_and_say_when_they_are_too_few(both, tmp_path):
    both |= {
        "models": ["llama-3.1-8b"], "serving": ["open-loop", "disaggregated"], "rate": [2.0, 20.0, 1000.0],
        "slo": {"ttft_ms": 500, "tpot_ms": 25}, "objectives": ["ttft_p99_ms", "goodput_requests_per_s"], "keep": "all",
    }  # fmt: skip
    run = run_sweep(both, tmp_path, executor=Local(), part_points=PART)
    points = run.points()
    pools = points[points["serving"] == "disaggregated"]
    assert set(pools["rate"]) == {2.0, 20.0, 1000.0}
    served = pools[pools["status"] == "ok"]
    assert set(pools["status"]) >= {"ok", "overloaded"}
    assert (pools[pools["rate"] == 1000.0]["status"] != "ok").all()
    assert (served["ttft_p50_ms"] <= served["ttft_p99_ms"]).all()
    assert (served["goodput_requests_per_s"] <= served["rate"] * (1 + 1e-9)).all()
    assert (served["load"] < 1).all()
    assert set(served["saturation"]) <= {"stable", "backlogged"}
    assert (served["max_rate"] * (1 + 1e-9) < served["requests_per_s"] / served["load"]).all()
