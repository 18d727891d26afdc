"""What aiconfigurator 0.12.0 answered to two questions, beside ours; docs/peers.md says why they differ.

Its figures are predictions as well: the test holds the comparison to what the page says of it.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dse
from dse.run.executors import Local
from dse.run.sweep import load_sweep, run_sweep

HERE = Path(__file__).parent
PAGE = (HERE.parent.parent / "docs" / "peers.md").read_text(encoding="utf-8")
SHAPE: dict[str, Any] = {"precision": "fp8-block-kv8", "runtime": "tensorrt-llm", "input": 4000, "output": 1000}
SWEEPS = {"qwen3-32b": "peer-qwen3-32b-8xh200", "deepseek-v3": "peer-deepseek-v3-32xh200"}


def answers(serving: str) -> list[dict[str, str]]:
    with (HERE / "aiconfigurator_answers.csv").open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["serving"] == serving]


def degrees(row: dict[str, str], pool: str = "") -> dict[str, int]:
    return {name: int(row[f"{pool}{name}"]) for name in ("tp", "dp", "ep")}


@cache
def explained(place: int) -> dict[str, Any]:
    """Our figures of the disaggregated answer at this place."""
    row = answers("disaggregated")[place]
    prefill = {"parallel": degrees(row, "prefill_"), "batch": int(row["prefill_batch"])}
    return dse.explain(
        row["model"], "h200-sxm", **SHAPE, **degrees(row), batch=int(row["batch"]), serving="disaggregated",
        disaggregated={"prefill": prefill, "devices": 32},
    )  # fmt: skip


def test_decode_workers_agree():
    rows = answers("disaggregated")
    rates, times = [], []
    for place, row in enumerate(rows):
        found = explained(place)
        rates.append(found["pools"][1]["requests_per_s"] / float(row["decode_requests_per_s"]))
        times.append(found["point"]["tpot_ms"] / float(row["tpot_ms"]))
    print(f"{len(rows)} decode workers: rate {min(rates):.2f} to {max(rates):.2f}, median {np.median(rates):.2f}; "
          f"TPOT {min(times):.2f} to {max(times):.2f}, median {np.median(times):.2f}")  # fmt: skip
    assert 0.9 < np.median(rates) < 1.1
    assert 0.95 < np.median(times) < 1.05
    assert 0.75 < min(rates) < max(rates) < 1.25
    assert f"{min(rates):.2f} to\n  {max(rates):.2f} times its rate, median {np.median(rates):.2f}" in PAGE
    assert f"median ratio {np.median(times):.2f}" in PAGE


def test_prefill_workers_agree_but_for_experts_within_one_box():
    ratios = {}
    for place, row in enumerate(answers("disaggregated")):
        found = explained(place)["pools"][0]["requests_per_s"] / float(row["prefill_requests_per_s"])
        ratios[row["model"], int(row["prefill_dp"])] = found
    assert ratios["qwen3-32b", 1] == pytest.approx(1.11, abs=0.02)
    assert ratios["deepseek-v3", 16] == pytest.approx(0.99, abs=0.02)
    assert ratios["deepseek-v3", 8] == pytest.approx(1.91, abs=0.05)  # the page says why


def test_the_peers_rates_follow_from_its_factors():
    """What the page says of its arithmetic, on every answer."""
    for row in answers("disaggregated"):
        of_prefill, of_decode = (float(row[f"{pool}_requests_per_s"]) for pool in ("prefill", "decode"))
        workers = int(row["prefill_workers"]), int(row["decode_workers"])
        assert of_decode == pytest.approx(int(row["batch"]) / (999 * float(row["tpot_ms"]) / 1e3), rel=0.01)
        served = min(0.9 * workers[0] * of_prefill, 0.92 * workers[1] * of_decode)
        prefill, decode = (np.prod([degrees(row, pool)[name] for name in ("tp", "dp")]) for pool in ("prefill_", ""))
        gpus = workers[0] * prefill + workers[1] * decode
        assert float(row["tokens_per_s_per_gpu"]) == pytest.approx(served * 1000 / gpus, rel=0.01)


def shown(value: float) -> str:
    """A figure as the page writes it."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


@pytest.mark.parametrize("model", SWEEPS)
def test_the_page_states_what_the_sweep_answers(model, tmp_path):
    frontier = run_sweep(SWEEPS[model], tmp_path, executor=Local()).frontier()
    for serving in ("closed-loop", "disaggregated"):
        best = frontier[frontier["serving"] == serving].nlargest(1, "output_tokens_per_s_per_device").iloc[0]
        cells = [best["output_tokens_per_s_per_device"], best["ttft_ms"], best["tpot_ms"]]
        assert f"| {' | '.join(map(shown, cells))} |" in PAGE


@pytest.mark.parametrize(("model", "place"), [("qwen3-32b", 0), ("deepseek-v3", 13)])
def test_the_page_states_what_the_peers_deployment_would_give(model, place):
    row = answers("disaggregated")[place]
    prefill = {"parallel": degrees(row, "prefill_"), "batch": int(row["prefill_batch"])}
    devices = {"qwen3-32b": 8, "deepseek-v3": 32}[model]
    pools = {"prefill": prefill, "devices": devices, "fill": True}
    (found,) = dse.evaluate(
        model, "h200-sxm", **SHAPE, **degrees(row), batch=int(row["batch"]), serving="disaggregated",
        disaggregated=pools,
    ).to_dict("records")  # fmt: skip
    assert (found["prefill_workers"], found["decode_workers"]) == (
        int(row["prefill_workers"]), int(row["decode_workers"])
    )  # fmt: skip
    cells = [found["output_tokens_per_s_per_device"], found["ttft_ms"], found["tpot_ms"]]
    assert f"dse, the same deployment | {' | '.join(map(shown, cells))} |" in PAGE


@pytest.mark.parametrize(("model", "place"), [("qwen3-32b", 0), ("deepseek-v3", 4)])
def test_the_page_states_what_the_peers_replicas_would_give(model, place):
    row = answers("aggregated")[place]
    (found,) = dse.evaluate(
        model, "h200-sxm", **SHAPE, **degrees(row), batch=int(row["batch"]), serving="closed-loop"
    ).to_dict("records")  # fmt: skip
    cells = [found["output_tokens_per_s_per_device"], found["ttft_ms"], found["tpot_ms"]]
    assert f"dse, the same deployment | {' | '.join(map(shown, cells))} |" in PAGE


def test_the_sweeps_cover_the_candidates_of_the_peer():
    small = [*range(1, 16), *range(16, 29, 4), *range(32, 57, 8), *range(64, 241, 16), *range(256, 481, 32)]
    replicas = {*small, 512, 768, 1024}
    decode = {*range(1, 16), *range(16, 31, 2), *range(32, 125, 4), *range(128, 505, 8), 512}
    dense, experts = (load_sweep(name).axes for name in SWEEPS.values())
    for axes in (dense, experts):
        assert axes.pools is not None
        assert axes.pools.max_workers >= 32
        assert {1, 2, 4, 8} <= {layout.tp for layout in axes.layout} & {layout.tp for layout in axes.pools.layout}
    assert replicas <= set(dense.batch)
    assert decode <= set(dense.pools.decode_batch)
    # Its batches are those of a rank of attention-dp.
    for layout in experts.layout:
        assert {batch * layout.dp for batch in decode} <= set(experts.pools.decode_batch)
        assert {batch * layout.dp for batch in replicas if batch <= 512} <= set(experts.batch)
    # Prompts of a pass: whole ones within 8,192 tokens a rank.
    assert {count * layout.dp for layout in experts.pools.layout for count in (1, 2)} <= set(experts.pools.batch)
