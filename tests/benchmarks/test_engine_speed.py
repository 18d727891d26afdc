"""Speed of the engine, as ratios within one run: `pytest tests/benchmarks -m benchmark -s`.

Not part of a normal test run. Figures measured: README.md beside this file.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from benchmarks.sweeps import small, sweep
from reference.scalar import Reference

from dse.cost.choices import AXES
from dse.run.score import Engine
from dse.run.sweep import load_sweep, run_sweep
from dse.spec.workload import Workload

pytestmark = pytest.mark.benchmark

BATCH, DEVICES = 512, [4, 8, 16]  # 9.7 million points
ROUNDS = 7


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(load_sweep(sweep(BATCH, DEVICES)))


def per_object_seconds(engine: Engine, count: int = 150) -> float:
    """Seconds per point of the same model as one object and one Python loop per point, as peers write it.

    Requests of two tokens: the reference walks through all decode steps, which would flatter the engine's closed
    form a hundredfold.
    """
    draw = random.Random(1)
    (box,) = engine.space.boxes
    choices = engine.sweep.choices_of(0, 0)
    points = []
    for _ in range(count):
        model, *at = (draw.randrange(size) for size in box.shape)
        values = {axis: getattr(choices, axis)[i] for axis, i in zip(AXES, at, strict=True)}
        values["workload"] = Workload(values["workload"].input, 2)
        values.pop("rate")  # nothing arrives at one
        points.append(Reference(engine.sweep.models[model], chip=values.pop("hardware"), **values))
    start = time.process_time()
    for point in points:
        if point.status == "ok":
            point.metrics()
    return (time.process_time() - start) / count


def memory_bound_seconds() -> float:
    """Seconds per point to write and read three objectives once: what no engine that makes them can beat."""
    size = 2**24
    costs = np.empty((3, size))
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        costs.fill(1.0)
        costs.min(axis=1)
        best = min(best, time.process_time() - start)
    return best / size


def test_ten_million_points_end_to_end(benchmark, engine, tmp_path):
    """From the sweep to its report, exact fronts of three objectives, in one process."""

    points, seconds = engine.space.size, []

    def run():
        start = time.process_time()
        run_sweep(engine.sweep, tmp_path, executor="local", fresh=True)
        seconds.append(time.process_time() - start)

    benchmark.pedantic(run, rounds=3, warmup_rounds=0)
    took = min(seconds) / points  # of one core: other processes may have the rest
    ratio, ceiling = per_object_seconds(engine) / took, took / memory_bound_seconds()
    benchmark.extra_info.update(points=points, points_per_s=1 / took, objects=ratio, ceiling=ceiling)
    print(f"\n{points:,} points, {1 / took / 1e6:.2f} M points/s/core; {ratio:,.0f}x a loop over objects; "
          f"{ceiling:.0f}x the time to write and read the objectives once")  # fmt: skip
    assert ratio > 100


def measured(batch: int, *devices: int) -> dict[str, float]:
    """A sweep in a process of its own."""
    script = Path(__file__).with_name("sweeps.py")
    command = [sys.executable, str(script), str(batch), *map(str, devices)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_memory_hardly_grows_from_one_to_a_hundred_million_points():
    """Scaled along batch and layout."""
    little, much = measured(128, 4, 8), measured(1640, 8, 16, 32, 64)
    for found in (little, much):
        print(f"\n{found['points']:,} points in {found['seconds']:.1f} s: {found['peak_mb']:.0f} MB, "
              f"{found['peak_mb'] - found['imported_mb']:.0f} MB above the imports")  # fmt: skip
    growth = much["peak_mb"] / little["peak_mb"]
    print(f"growth {growth:.2f}x")
    assert much["points"] > 90 * little["points"]
    assert growth < 1.2
    assert much["peak_mb"] - much["imported_mb"] < 150


def wall(*command: str) -> float:
    # As an installed package: with its bytecode.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=surroundings)
    return time.perf_counter() - start


def test_help_and_a_small_sweep_against_the_imports_alone():
    imports = (sys.executable, "-c", "import numpy, pyarrow.parquet")
    dse = str(Path(sys.executable).with_name("dse"))
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "small.yaml")
        file.write_text(yaml.safe_dump(small()))
        rounds = []
        for _ in range(ROUNDS + 1):  # the first warms caches
            run = wall(dse, "sweep", str(file), "--out", name, "--fresh")
            rounds.append((wall(*imports), wall(dse, "--help"), run))
    base, help_, run = (statistics.median(column) for column in zip(*rounds[1:], strict=True))
    print(f"\nimports {base:.3f} s, help {help_:.3f} s; 1,056 points with report {run:.3f} s: {run / base:.2f}x")
    assert run < 4 * base
    assert help_ < base
