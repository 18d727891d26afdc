"""Placement programs: how many a second, coefficients included, against PuLP with CBC in the same run."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "placement"))

from placements import blocks, instance, machine
from properties.points import mesh_of

from dse.cost.placement.schedules import place, plans, schedules_of
from dse.run.sweep import run_sweep
from dse.search import oracle
from dse.spec.catalog import load_model

pytestmark = pytest.mark.benchmark
MODELS = ("opt-30b", "llama-3.1-70b", "mixtral-8x7b", "deepseek-v3")
AXES = {
    "hardware": [
        machine(base, box__host_memory_gb=gb)
        for base in ("t4", "l4", "rtx-4090", "a100-sxm-80gb") for gb in (64, 128, 256, 512)
    ],
    "workload": [(i, o) for i in (256, 1024, 4096) for o in (32, 256)],
    "precision": ["fp16", "w4a16-g128"],
    "batch": [2**i for i in range(10)],
    "layout": [(1,), (2,)],
}  # fmt: skip


def timed(work) -> float:
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        work()
    return time.perf_counter() - start


def cbc_seconds(model, chosen, count: int) -> float:
    """Seconds per program of PuLP with CBC, the readable program built and solved."""
    import pulp

    mesh = mesh_of(chosen)
    ((_, plan),) = plans(model, chosen, mesh, schedules_of(model, (4,))[:1])
    places = np.linspace(0, np.prod(mesh.shape) - 1, count).astype(int)
    start = time.perf_counter()
    for where in zip(*np.unravel_index(places, mesh.shape), strict=True):
        problem, _ = oracle._problem(instance(plan, where, mesh.shape), None)
        problem.solve(pulp.PULP_CBC_CMD(msg=False))
    return (time.perf_counter() - start) / count


@pytest.mark.parametrize("name", MODELS)
def test_fifty_thousand_programs_a_second_and_150_times_cbc(name):
    model, chosen = load_model(name), blocks(**AXES)
    mesh = mesh_of(chosen)
    found = {}
    with np.errstate(all="ignore"):
        place(model, chosen, mesh)  # warm
    seconds = min(timed(lambda: found.update(placed=place(model, chosen, mesh))) for _ in range(3))
    programs = found["placed"].programs
    rate, cbc = programs / seconds, cbc_seconds(model, chosen, 20)
    print(f"\n{name}: {programs:,} programs, {found['placed'].unfinished} by HiGHS: {rate:,.0f}/s/core; "
          f"{rate * cbc:,.0f}x PuLP+CBC ({cbc * 1e3:.1f} ms each)")  # fmt: skip
    assert rate * cbc >= 150


def test_two_hundred_thousand_offloaded_points_in_a_minute_on_two_cores(tmp_path):
    sweep = {
        "name": "many", "models": list(MODELS),
        "hardware": [
            {"base": base, "box.host_memory_gb": [64, 128, 256, 512, 1024], "box.disk_read_gb_per_s": [2, 4, 8, 16]}
            for base in ("t4", "rtx-4090", "a100-sxm-80gb", "h100-sxm")
        ],
        "precision": ["bf16", "fp8", "w4a16-g128"],
        "workload": [{"input": i, "output": o} for i in (256, 1024) for o in (32, 128, 512)],
        "batch": {"from": 1, "to": 512, "scale": "log2"}, "parallel": {"tp": [1, 2, 4, 8]}, "offload": "lp",
        "objectives": ["output_tokens_per_s", "latency_s"],
    }  # fmt: skip
    start = time.perf_counter()
    run = run_sweep(sweep, tmp_path, executor="ray")
    seconds = time.perf_counter() - start
    print(f"\n{run.manifest['points']:,} points, {run.manifest['programs']}: {seconds:.0f} s on Ray")
    assert run.manifest["points"] >= 200_000
