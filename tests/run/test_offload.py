"""Sweeps with offloading: both kinds of points in one run, the same bytes from everywhere, what the files say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from runs import front_bytes

from dse.run.dry_run import plan
from dse.run.executors import OnRay, choose
from dse.run.explain import explain_points
from dse.run.rows import complete
from dse.run.score import PLACED_WEIGHT, Engine
from dse.run.sweep import load_sweep, run_sweep
from dse.search.space import tasks


@pytest.fixture
def offloading() -> dict[str, Any]:
    """120 points, half of them offloaded; the 8B model fits without on one of the chips."""
    return {
        "name": "offloading",
        "models": ["llama-3.1-8b", "mixtral-8x7b"],
        "hardware": ["t4", {"base": "l4", "box.host_memory_gb": [64, 256]}],
        "precision": ["fp16"],
        "workload": [{"input": 256, "output": 16}, {"input": 1024, "output": 16}],
        "batch": [1, 4, 16, 64, 256],
        "offload": ["none", "lp"],
        "objectives": ["output_tokens_per_s", "latency_s", "host_memory_gb"],
    }


def test_offloaded_points_are_boxes_of_their_own(offloading):
    engine = Engine(load_sweep(offloading))
    assert engine.space.size == 120
    assert [box.weight for box in engine.space.boxes] == [1, PLACED_WEIGHT]
    assert engine.space.effort == 60 * (1 + PLACED_WEIGHT)


def test_parts_of_offloaded_points_are_small_so_that_little_is_lost(offloading):
    engine = Engine(load_sweep({**offloading, "batch": {"from": 1, "to": 2000}, "offload": "lp"}))
    sizes = [len(part.points) for part in tasks(engine.space)]
    assert max(sizes) <= 8_000
    assert sum(sizes) == engine.space.size


def test_a_run_says_what_it_placed(offloading, tmp_path):
    said: list[str] = []
    run = run_sweep(offloading, tmp_path, say=said.append)
    assert "offload lp: at most 20 placements per point: 1, 2, 4, 8, 16 GPU batches, and what the host computes" in said
    solved = run.manifest["programs"]
    assert 0 < solved["solved"] <= 60 * 20
    assert solved["by_highs"] <= solved["solved"] / 50
    frame = run.frontier()
    placed = frame[frame["offload"] == "lp"]
    assert len(placed)
    shares = placed[[f"weights_on_{tier}" for tier in ("accelerator", "host", "disk")]].sum(axis=1)
    assert np.allclose(shares, 1)
    assert (placed["gpu_batch"] * placed["num_batches"] >= placed["batch"]).all()
    assert placed["experts_on_host"].isna().eq(placed["model"] == "llama-3.1-8b").all()
    # What does not fit without offloading has no speed-up over it.
    assert placed["offload_speedup"].isna().any()
    report = run.report.read_text(encoding="utf-8")
    assert "offloaded points on the frontier" in report


def test_what_fits_nowhere_is_a_status_with_the_nearest_miss(offloading, tmp_path):
    small = {"base": "l4", "box.host_memory_gb": 16, "box.disk_gb": 40}
    run = run_sweep({**offloading, "models": "mixtral-8x7b", "hardware": small, "offload": "lp"}, tmp_path)
    assert run.manifest["feasible"] == 0
    miss = run.manifest["nearest_misses"]["exceeds_memory"]
    assert miss["reason"].startswith("needs ")


@pytest.mark.ray
def test_executors_and_parts_change_no_byte(offloading, tmp_path):
    here = run_sweep(offloading, tmp_path / "here", executor="local")
    parts = run_sweep(offloading, tmp_path / "parts", executor="local", part_points=7 * PLACED_WEIGHT)
    ray = run_sweep(offloading, tmp_path / "ray", executor=OnRay(cpus=2), part_points=20 * PLACED_WEIGHT)
    assert front_bytes(here.folder) == front_bytes(parts.folder) == front_bytes(ray.folder)


def test_rows_equal_the_mesh(offloading):
    """A kept point is placed again by itself: the same shares, whatever it was placed beside."""
    engine = Engine(load_sweep(offloading))
    every = complete(engine, range(engine.space.size))
    for number in (61, 77, 90, 119):
        alone = complete(engine, [number])
        for name, values in alone.items():
            assert values[0] == every[name][number] or values[0] is None or values[0] != values[0], name


def test_explaining_a_placed_point_accounts_for_its_time(offloading):
    engine = Engine(load_sweep(offloading))
    columns = complete(engine, range(60, 120))
    ok = [n for n, status in zip(columns["number"], columns["status"], strict=True) if status == "ok"]
    for number, found in explain_points(engine, ok[::7]).items():
        for phase in found["phases"].values():
            streams = phase["streams"]
            kernels = sum(one["count"] * one["seconds"] for one in phase["operators"])
            assert kernels == pytest.approx(streams["accelerator"], rel=1e-6), number
            assert max(streams.values()) <= phase["seconds"] * (1 + 1e-9)
        for tier, sizes in found["memory"].items():
            assert sizes["total_gb"] <= sizes["limit_gb"] * (1 + 1e-9), tier
            parts = [v for k, v in sizes.items() if k not in ("total_gb", "limit_gb", "capacity_gb")]
            assert sum(parts) == pytest.approx(sizes["total_gb"])


def test_the_plan_says_how_long_placing_takes(offloading):
    engine = Engine(load_sweep({**offloading, "batch": {"from": 1, "to": 4000}}))
    lines = list(plan(engine, choose("auto", engine.space.effort)))
    assert any("offload lp" in line for line in lines)
    assert any("placements per point" in line for line in lines)


def test_points_without_a_host_link_keep_everything_on_the_accelerator(tmp_path):
    run = run_sweep(
        {"name": "soc", "models": "llama-3.2-1b", "hardware": "apple-m2-max-38", "workload": "256x16", "offload": "lp"},
        tmp_path,
    )
    row = run.rows()[0]
    assert row["weights_on_accelerator"] == 1
    assert row["host_memory_gb"] == 0


