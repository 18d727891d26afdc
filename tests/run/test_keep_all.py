"""A sweep that keeps all points: the same rows as one by one, an honest estimate, parts of about a second."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from dse.errors import CannotRun
from dse.run.arrow import table
from dse.run.effort import IN_BLOCKS, PART_POINTS, effort, parts
from dse.run.executors import RATE, RAY_PAYS_AFTER, Local, choose
from dse.run.rows import complete, complete_in_chunks
from dse.run.score import PLACED_WEIGHT, Engine
from dse.run.sweep import load_sweep, run_sweep

SWEEPS: dict[str, dict[str, Any]] = {
    "layouts that fit and not": {
        "workload": {"input": [128, 1024], "output": [1, 64]}, "batch": {"from": 1, "to": 512, "scale": "log2"},
        "parallel": {"tp": [1, 3, 4], "pp": [1, 2], "dp": [1, 2]}, "constraints": {"ttft_ms": {"max": 200}},
    },
    "ways to serve": {
        "models": "llama-3.1-8b", "hardware": [{"base": "h200-sxm", "memory.capacity_gb": [100, 141]}, "rtx-4090"],
        "batch": [1, 300], "serving": ["static", "offline", "closed-loop", "open-loop"], "rate": [0.5, 4],
        "runtime": ["ideal", "vllm"], "fidelity": ["ideal", "calibrated"],
    },
    "techniques": {
        "models": "mixtral-8x7b", "hardware": "h100-sxm", "batch": [1, 64], "kv_budget": ["none", 512],
        "chunk_tokens": ["none", 512], "prefix_hit": ["none", 0.5],
        "speculation": ["none", {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.7}],
    },
    "placements": {"hardware": "l40s", "workload": "512x32", "batch": [1, 64], "offload": ["none", "lp"]},
    "pools": {
        "models": "llama-3.1-8b", "parallel": {"tp": [1, 2]}, "batch": [1, 16], "serving": ["static", "disaggregated"],
        "disaggregated": {"prefill": {"parallel": {"tp": [1, 2]}, "batch": [1, 2]}, "devices": 8},
    },
}  # fmt: skip
COMMON = {
    "name": "kept", "models": ["llama-3.1-8b", "mixtral-8x7b"], "hardware": ["h100-sxm", "mi300x"],
    "precision": ["bf16", "w4a16-g128"], "workload": "1024x256", "keep": "all",
}  # fmt: skip


@pytest.mark.parametrize("changes", SWEEPS.values(), ids=SWEEPS)
def test_points_completed_as_blocks_are_those_completed_one_by_one(changes) -> None:
    """Bit for bit, every column, however the sweep is cut."""
    engine = Engine(load_sweep({**COMMON, **changes}))
    text = engine.sweep.text_columns
    listed = table(complete(engine, range(engine.space.size)), text)
    for part_points in (1, PART_POINTS):
        kept = pa.concat_tables(
            rows for part in parts(engine, part_points) for rows in complete_in_chunks(engine, part)
        )
        assert kept.schema == listed.schema
        for name in listed.column_names:
            # Bits, not values: NaN is NaN.
            ours, theirs = (column.combine_chunks() for column in (kept[name], listed[name]))
            assert ours.to_numpy(False).tobytes() == theirs.to_numpy(False).tobytes() or ours.equals(theirs), name
            assert ours.is_null().equals(theirs.is_null()), name


def test_completing_and_writing_a_point_counts(small) -> None:
    plain, kept = (Engine(load_sweep(small, [f"keep={keep}"])) for keep in ("frontier", "all"))
    assert effort(plain) == 192
    assert effort(kept) == 192 * (1 + IN_BLOCKS)


def test_each_way_to_complete_a_point_has_its_price(small) -> None:
    def price(**changes: Any) -> float:
        plain, kept = (Engine(load_sweep({**small, **changes, "keep": keep})) for keep in ("frontier", "all"))
        return (effort(kept) - effort(plain)) / plain.space.size

    assert price(offload="lp") == PLACED_WEIGHT
    assert price(serving="open-loop", rate=1) > price(speculation={"mtp": 1, "accepted": 0.8}) > price() == IN_BLOCKS


def test_auto_takes_ray_for_what_keeping_all_makes_long(monkeypatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    points = int(RATE * RAY_PAYS_AFTER / 2)
    assert choose("auto", points)[0].name == "local"
    assert choose("auto", points * (1 + IN_BLOCKS))[0].name == "ray"


def test_a_part_takes_about_a_second() -> None:
    """What a kill may lose; 1.9 million points of one part took minutes."""
    engine = Engine(load_sweep({**COMMON, "batch": {"from": 1, "to": 50_000}, "parallel": {"tp": [1, 2]}}))
    found = parts(engine)
    assert sum(len(part.points) for part in found) == engine.space.size == 800_000
    assert max(len(part.points) for part in found) * (1 + IN_BLOCKS) <= PART_POINTS
    slow = {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.7}
    searched = Engine(load_sweep({**COMMON, "batch": {"from": 1, "to": 50_000}, "speculation": slow}))
    assert max(len(part.points) for part in parts(searched)) <= 20_000


class Stopping(Local):
    """Fails after two parts."""

    def run(self, work, indices, done) -> None:
        super().run(work, indices[:2], done)
        raise CannotRun("the lights went out")


def points_of(run) -> pa.Table:
    return pa.Table.from_pandas(run.points().sort_values("number", ignore_index=True))


@pytest.mark.parametrize("again", [60, 2000], ids=["in the same parts", "in others"])
def test_a_run_that_was_stopped_goes_on_and_keeps_each_point_once(small, tmp_path, again) -> None:
    whole = run_sweep(small, tmp_path / "whole", keep="all")
    with pytest.raises(CannotRun, match="the lights went out"):
        run_sweep(small, tmp_path / "out", keep="all", executor=Stopping(), part_points=60)
    (folder,) = (tmp_path / "out").iterdir()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("points/*")}
    assert len(before) == 2
    run = run_sweep(small, tmp_path / "out", keep="all", part_points=again)
    assert points_of(run).equals(points_of(whole))
    if again == 60:
        assert {path: path.stat().st_mtime_ns for path in before} == before, "finished parts are not written again"
