"""A sweep of an open loop, from file to folder and back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dse.run.folder import Run
from dse.run.rows import complete
from dse.run.score import Engine
from dse.run.sweep import load_sweep, run_sweep

SWEEP = {
    "name": "loaded", "models": "llama-3.1-8b", "hardware": ["h100-sxm", "l4"], "precision": "fp8",
    "workload": [{"trace": "conversation"}, "chat"], "serving": ["closed-loop", "open-loop"], "rate": [1, 6, 400],
    "batch": [16, 64], "chunk_tokens": ["none", 1024], "slo": {"ttft_ms": 500, "tpot_ms": 40}, "burstiness": 1.2,
    "objectives": ["output_tokens_per_s_per_device", "latency_s"], "group_by": ["model", "workload", "rate"],
    "current": {"hardware": "l4", "batch": 16, "serving": "open-loop", "rate": 1}, "keep": "all",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return run_sweep(SWEEP, tmp_path_factory.mktemp("loaded"), executor="local")


def test_only_the_open_loop_has_an_axis_of_rates():
    boxes = Engine(load_sweep(SWEEP)).space.boxes
    rates = [next(axis.size for axis in box.axes if axis.name == "rate") for box in boxes]
    assert sorted(rates) == [1, 1, 3, 3]
    assert load_sweep(SWEEP).axes.points == sum(box.size for box in boxes)


def test_rows_say_the_rate_and_how_saturated_the_replica_is(run):
    rows = run.points()
    closed, loaded = rows[rows.serving == "closed-loop"], rows[rows.serving == "open-loop"]
    assert closed.rate.isna().all()
    assert set(closed.saturation) == {""}
    assert set(loaded.rate) == {1.0, 6.0, 400.0}
    assert set(loaded.saturation) == {"stable", "backlogged", "overloaded"} or set(loaded.saturation) == {
        "stable", "overloaded"
    }  # fmt: skip
    assert (loaded[loaded.rate == 400].status == "overloaded").all()
    fine = loaded[loaded.status == "ok"]
    assert (fine.slo_attainment.between(0, 1)).all()
    assert fine.goodput_requests_per_s.to_numpy() == pytest.approx((fine.rate * fine.slo_attainment).to_numpy())
    assert fine.concurrency.to_numpy() == pytest.approx((fine.rate * fine.latency_s).to_numpy())
    assert set(rows.workload) == {"azure-conversation", "1155x211"}


def test_columns_of_arrivals_stand_only_where_something_arrives_or_asks_for_them(run):
    closed = SWEEP | {"serving": "closed-loop", "rate": None, "slo": None, "group_by": ["model"], "current": None}
    plain = load_sweep({key: value for key, value in closed.items() if value is not None and key != "burstiness"})
    of_arrivals = {"load", "ttft_p99_ms", "tpot_p50_ms", "slo_attainment", "goodput_requests_per_s", "max_rate"}
    assert of_arrivals | {"saturation"} <= {*run.frontier().columns}
    columns = complete(Engine(plain), [0])
    assert not (of_arrivals | {"saturation"}) & columns.keys()
    asked = replace(plain, question=replace(plain.question, objectives=("tpot_ms", "ttft_p99_ms")))
    assert columns.keys() ^ complete(Engine(asked), [0]).keys() == {"ttft_p99_ms"}


def test_the_nearest_miss_says_what_arrives_and_what_is_finished(run):
    miss = run.manifest["nearest_misses"]["overloaded"]
    finished = miss["rate"] / miss["load"]
    assert miss["rate"] == 6  # 400 miss it by more
    assert miss["reason"] == f"6 requests/s arrive, {finished:.4g} is the most it finishes"


def test_rates_are_groups(run):
    frontier = run.frontier()
    assert set(frontier.rate.dropna()) == {1.0, 6.0}
    assert frontier.rate.isna().any()  # the closed loop's


def test_a_point_of_the_run_is_computed_again_from_its_manifest(run):
    restored, asked = run.engine().sweep, load_sweep(SWEEP)
    assert restored.axes == asked.axes
    assert restored.settings == asked.settings


def test_what_changes_the_answer_changes_the_hash():
    plain = load_sweep(SWEEP).hash
    for change in ({"rate": [1, 6, 401]}, {"burstiness": 1.0}, {"slo": {"ttft_ms": 500}}, {"chunk_tokens": "none"}):
        assert load_sweep(SWEEP | change).hash != plain
    assert load_sweep(SWEEP | {"name": "other"}).hash == plain


def test_the_shipped_sweep_answers():
    sweep = load_sweep("serving-under-load")
    assert sweep.axes.serving == ("open-loop",)
    assert sweep.axes.workload[0].name == "azure-conversation"
