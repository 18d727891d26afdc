"""What techniques change of a request, change it in the simulation too."""

from __future__ import annotations

import numpy as np
import pytest
from deployments import CHIP, choices, load_model

import dse
from dse.cost.choices import AXES
from dse.cost.engine import prompt_seconds, step_seconds
from dse.cost.mesh import Mesh
from dse.cost.mixed import mixed_seconds
from dse.cost.phases import Point
from dse.errors import CannotRun
from dse.run.sweep import load_sweep

FOUND = [
    {"prefix_hit": {"tokens": 768}},
    {"prefix_hit": {"share": 0.5, "own": True}},
    {"prefix_hit": {"tokens": 700, "cascade": True}},
    {"sampling": {"n": 4}},
    {"speculation": {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.7}},
    {"speculation": {"tree": 26, "eagle": 5, "tau": 3.6}},
]


def simulated(rate=0.01, requests=4, lengths="1024x256", **axes):
    return dse.simulate("llama-3.1-8b", CHIP, precision="bf16", fidelity="datasheet", rate=rate, requests=requests,
                        lengths=lengths, warmup=0, **axes)  # fmt: skip


@pytest.mark.parametrize("technique", FOUND, ids=str)
@pytest.mark.parametrize("chunk", [None, 4096])
def test_a_request_alone_takes_what_the_cost_model_says(technique, chunk):
    found = simulated(chunk_tokens=chunk, **technique)
    row = dse.evaluate("llama-3.1-8b", CHIP, precision="bf16", fidelity="datasheet", input=1024, output=256,
                       **technique).iloc[0]  # fmt: skip
    np.testing.assert_allclose(found.record.ttft * 1e3, row["ttft_ms"], rtol=2e-3)
    np.testing.assert_allclose(found.record.tpot * 1e3, row["tpot_ms"], rtol=2e-3)


def test_a_shared_prefix_is_held_once_and_not_computed():
    plain, shared = (simulated(rate=15, requests=400, **axes) for axes in ({}, {"prefix_hit": {"tokens": 768}}))
    assert shared.record.usage[0].prompt_tokens == 400 * 256
    assert shared.record.usage[0].cached_tokens == 400 * 768
    assert shared.summary["recomputed_tokens"] == 0
    assert shared.summary["ttft_ms"]["mean"] < 0.7 * plain.summary["ttft_ms"]["mean"]
    assert shared.backlogged > 1.5 * plain.backlogged
    assert shared.record.fleet[0].held[80] < 0.5 * plain.record.fleet[0].held[80]


@pytest.mark.parametrize("prefix", [{"tokens": 1000}, {"tokens": 1600}, {"tokens": 1000, "own": True}, 0.5], ids=str)
def test_prompts_shorter_than_a_prefix_share_what_they_have(prefix, tmp_path):
    """A small memory, full: as many run and finish as the cost model says of the same lengths."""
    table = tmp_path / "mix.csv"
    table.write_text("input,output,weight\n200,100,2\n600,400,1\n4000,200,1\n")
    chip = {"base": CHIP, "memory.capacity_gb": 24}
    axes = {"precision": "bf16", "fidelity": "datasheet", "prefix_hit": prefix}
    row = dse.evaluate("llama-3.1-8b", chip, workload={"lengths": str(table)}, serving="offline", **axes).iloc[0]
    found = dse.simulate("llama-3.1-8b", chip, rate=50, requests=2000, lengths=str(table), **axes)
    assert found.backlogged == pytest.approx(row["requests_per_s"], rel=0.08)
    assert found.summary["running"]["mean"] == pytest.approx(row["max_batch"], rel=0.08)


@pytest.mark.parametrize(
    "prefix", [{"tokens": 768}, {"tokens": 768, "cascade": True}, {"share": 0.5, "own": True}], ids=str
)
def test_chunks_of_prompts_that_are_partly_cached(prefix):
    """vLLM's usual mode: what is new is cut into chunks, which see the cached prefix too."""
    axes = {"precision": "bf16", "fidelity": "datasheet", "chunk_tokens": 512, "prefix_hit": prefix, "batch": 64}
    row = dse.evaluate("llama-3.1-8b", CHIP, input=1024, output=128, serving="open-loop", rate=12, **axes).iloc[0]
    found = dse.simulate("llama-3.1-8b", CHIP, rate=12, requests=2000, lengths="1024x128", **axes).summary
    assert row["ttft_ms"] == pytest.approx(found["ttft_ms"]["mean"], rel=0.04)
    assert row["tpot_ms"] == pytest.approx(found["tpot_ms"]["mean"], rel=0.02)
    assert row["load"] == pytest.approx(found["load"], rel=0.08)


def test_a_prefix_longer_than_a_chunk_is_held_once_all_the_same():
    whole, cut = (simulated(prefix_hit={"tokens": 768}, chunk_tokens=chunk).record.fleet[0] for chunk in (None, 256))
    assert cut.held[: 1024 // 16] == whole.held[: 1024 // 16]


def test_a_request_keeps_for_itself_what_it_does_not_share():
    fleet = simulated(lengths=[(40, 10), (1024, 10)], prefix_hit={"tokens": 768}).record.fleet[0]
    assert (fleet.shared, fleet.apart(1024), fleet.apart(800), fleet.apart(40)) == (768, 0, 0, 768 - 32)
    own = 40 - 32 + 10  # of 40 tokens 39 are found, 32 of them whole blocks
    assert fleet.held[fleet.blocks(40 + 10 + fleet.apart(40))] == fleet.held[fleet.blocks(768 + own)]


def test_parallel_answers_are_all_generated():
    one, four = (simulated(rate=1, requests=200, **axes).summary for axes in ({}, {"sampling": {"n": 4}}))
    assert four["output_tokens_per_s"] == pytest.approx(4 * one["output_tokens_per_s"], rel=0.01)
    assert four["tpot_ms"]["mean"] > one["tpot_ms"]["mean"]


def test_answers_that_share_prompts_of_several_lengths_are_refused():
    with pytest.raises(CannotRun, match="prompts of one length only"):
        simulated(lengths=[(100, 10), (200, 10)], sampling={"n": 2})


def point(batch: float, **techniques) -> Point:
    sweep = load_sweep(
        {"name": "x", "models": "llama-3.1-8b", "hardware": "h100-sxm", "workload": "64x8", **techniques}
    )
    chosen = choices(techniques=sweep.choices_of(0, 0).techniques, max_prefill_tokens=np.inf)
    asked = Point(load_model("llama-3.1-8b"), chosen, Mesh.points(AXES, [np.zeros(1, dtype=int)] * len(AXES)))
    return asked.with_batch(np.full(1, batch))


@pytest.mark.parametrize("technique", FOUND, ids=str)
def test_mixed_passes_join_the_passes_of_a_technique(technique):
    asked = point(16.0, **technique)
    runtime = asked.choices.runtime
    step = float(step_seconds(asked, runtime)[0])
    assert float(np.ravel(mixed_seconds(asked, runtime, 0.0, 0.0))[0]) == pytest.approx(step)
    beside = float(np.ravel(mixed_seconds(asked, runtime, 1024.0, 0.0))[0])
    alone = float(np.ravel(mixed_seconds(asked.with_batch(np.zeros(1)), runtime, 1024.0, 0.0))[0])
    assert max(step, alone * 0.5) < beside < step + alone
    if "prefix_hit" not in technique:
        prompt = float(np.ravel(prompt_seconds(point(1.0, **technique), runtime))[0])
        assert alone == pytest.approx(prompt, rel=1e-3)
