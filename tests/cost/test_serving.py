"""Steady states: what each promises, and what an engine adds to the kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dse
from dse.cost.choices import AXES, Choices
from dse.cost.evaluate import Question, columns, score
from dse.cost.mesh import Mesh
from dse.cost.modes import served
from dse.cost.phases import Point
from dse.cost.serving import ClosedLoop, Static, Steady
from dse.spec.catalog import load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import IDEAL, RuntimeSpec, load_runtime
from dse.spec.workload import Workload

MODEL, CHIP, FP8 = dse.load_model("llama-3.1-70b"), dse.load_hardware("h100-sxm"), load_precision("fp8")
COSTS = RuntimeSpec(name="costly", step_us=500, layer_us=3, sequence_us=5, collective_us=2, request_ms=20)


def point(serving="static", batch=32, tp=8, pp=1, workload=(1024, 256), runtime=IDEAL, chip=CHIP, model=MODEL) -> Point:
    choices = Choices(
        [chip], [Workload(*workload)], [FP8],
        ["datasheet"], [Layout(tp, pp, 1, 1)], [batch], serving=serving, runtime=runtime,
    )  # fmt: skip
    return Point(model, choices, Mesh.points(AXES, [np.zeros(1, dtype=int)] * len(AXES)))


def one(value) -> float:
    return float(np.ravel(value)[0])


def test_a_static_batch_without_an_engine_is_its_kernels_to_the_last_bit():
    asked = point()
    found = served(asked)
    assert type(found) is Static
    assert one(found.ttft) == one(asked.ttft)
    assert one(found.tpot) == one(asked.tpot)
    assert one(found.latency) == one(asked.latency)
    assert one(found.requests_per_s) == 32 / one(asked.latency)


def test_an_engine_adds_what_its_file_says():
    asked = point(runtime=COSTS)
    found = served(asked)
    host = 500e-6 + 80 * 3e-6 + 160 * 2e-6  # two collectives in each of 80 layers
    assert one(found.tpot) == pytest.approx(one(asked.tpot) + host + 32 * 5e-6)
    passes = one(asked.micro_batches["prefill"])
    assert one(found.ttft) == pytest.approx(one(asked.ttft) + passes * host)
    alone = served(point(runtime=COSTS, tp=1, batch=1, model=dse.load_model("llama-3.1-8b")))
    assert one(alone.tpot) == pytest.approx(one(alone.point.tpot) + 500e-6 + 32 * 3e-6 + 5e-6)


def test_offline_throughput_is_the_amortised_cost_of_a_request():
    found = served(point("offline"))
    assert type(found) is Steady
    batch, entering = one(found.batch), one(found.arriving)
    cost = batch / entering * one(found.entering.ttft) + 256 * one(found.running.tpot)
    assert one(found.requests_per_s) * 256 == pytest.approx(batch * 256 / cost)
    assert one(found.latency) * one(found.requests_per_s) == pytest.approx(batch)  # Little's law


@settings(deadline=None)  # a busy machine
@given(
    tp=st.sampled_from([2, 4, 8]), prompt=st.integers(16, 8000), output=st.integers(2, 4000),
    occupancy=st.sampled_from([0.5, 0.75, 1.0]),
)  # fmt: skip
def test_offline_runs_as_many_as_memory_holds_and_no_more(tp, prompt, output, occupancy):
    found = served(point("offline", tp=tp, workload=(prompt, output), runtime=RuntimeSpec(occupancy=occupancy)))
    assert one(found.memory.total) <= one(found.memory.limit)
    # What more would not fit: the cache of one more sequence, or activations that were kept for a few more.
    each = one(found.memory.cache) / one(found.batch)
    spare = one(found.memory.limit) - one(found.memory.total)
    assert spare <= each + 0.05 * one(found.memory.limit)


def test_an_engine_may_run_fewer_than_memory_holds():
    assert one(served(point("offline", runtime=RuntimeSpec(max_batch=64))).batch) == 64


def test_a_closed_loop_obeys_littles_law_and_interleaves_prompts():
    found = served(point("closed-loop", runtime=COSTS))
    assert type(found) is ClosedLoop
    assert one(found.requests_per_s) * one(found.latency) == pytest.approx(32)
    assert one(found.tpot) == pytest.approx(one(found.step) + 32 * one(found.prompt) / 256)


def test_a_single_stream_waits_for_nobody():
    found = served(point("closed-loop", batch=1, runtime=COSTS))
    assert one(found.ttft) == pytest.approx(20e-3 + one(found.prompt))


def test_requests_in_lockstep_wait_for_each_other():
    alone, together = (
        one(served(point("closed-loop", batch=64, runtime=RuntimeSpec(lockstep=share))).ttft) for share in (0.0, 1.0)
    )
    burst = one(point(batch=64).ttft)
    assert together == pytest.approx((burst + one(served(point("closed-loop", batch=64)).prompt)) / 2)
    assert alone < together / 5


def test_what_does_not_fit_waits_for_a_slot():
    runtime = RuntimeSpec(max_batch=64)
    within, beyond = (served(point("closed-loop", batch=batch, runtime=runtime)) for batch in (64, 256))
    assert one(beyond.tpot) == one(within.tpot)
    waiting = (256 - 64) * 256 * one(within.tpot) / 64
    assert one(beyond.ttft) - one(within.ttft) == pytest.approx(waiting)


@settings(deadline=None)
@given(st.lists(st.integers(1, 2000), min_size=2, max_size=2, unique=True).map(sorted))
def test_more_in_flight_is_never_less_throughput(batches):
    few, many = (one(served(point("closed-loop", batch=batch, runtime=COSTS)).requests_per_s) for batch in batches)
    assert many >= few * (1 - 1e-3)  # whole sequences and passes round a little


def test_prompts_of_others_take_the_slowest_stage_not_the_whole_pipeline():
    found = served(point("offline", tp=2, pp=4))
    assert one(found.interruption) < one(found.prompt)


def test_decode_attention_on_vector_units_is_slower_where_heads_share_their_cache():
    slow = RuntimeSpec(attention_vector_share=0.1)
    for model, least in (("llama-2-7b", 1.0), ("llama-3.1-8b", 1.2)):
        plain, vector = (
            one(served(point(batch=64, tp=1, workload=(2048, 1024), runtime=r, model=dse.load_model(model))).tpot)
            for r in (IDEAL, slow)
        )
        assert vector >= plain * least


def test_few_cores_starve_a_wide_memory():
    starved = RuntimeSpec(core_gb_per_s=9)
    llama = dse.load_model("llama-3.1-8b")
    wide, narrow = (
        one(served(point(batch=1, tp=1, runtime=starved, chip=dse.load_hardware(chip), model=llama)).tpot)
        / one(point(batch=1, tp=1, chip=dse.load_hardware(chip), model=llama).tpot)
        for chip in ("h100-sxm", "l40s")
    )
    assert wide == pytest.approx(0.8 * 3350 / 132 / 9)
    assert narrow == 1.0


def test_sums_in_fp16_are_twice_as_fast_on_geforce_only():
    """GeForce halves the rate of sums in fp32; workstation and server parts of the same silicon do not."""
    llama, fp16 = dse.load_model("llama-3.1-8b"), load_precision("fp16")
    for chip, gain in (("rtx-3090", 2.0), ("rtx-a6000", 1.0), ("a100-sxm-80gb", 1.0)):
        products = [
            Choices([dse.load_hardware(chip)], [Workload(1024, 1)], [fp16], ["ideal"], [Layout()], [1], runtime=runtime)
            for runtime in (RuntimeSpec(), RuntimeSpec(sums="fp16"))
        ]
        summed_wide, summed_narrow = (one(Point(llama, c, Mesh.points(AXES, [np.zeros(1, dtype=int)] * len(AXES))).ttft)
                                      for c in products)  # fmt: skip
        assert summed_wide / summed_narrow == pytest.approx(gain, rel=0.05)


@pytest.mark.parametrize(("prompt", "pp"), [(512, 4), (1024, 1), (1024, 2), (1024, 4), (4096, 4)])
def test_parts_of_one_prompt_follow_each_other_through_the_stages(prompt, pp):
    """c parts through p equal stages take (c + p - 1) / (c p) of the whole prompt's time."""
    cut = RuntimeSpec(ubatch_tokens=512)
    whole, parts = (
        one(served(point(batch=1, tp=1, pp=pp, workload=(prompt, 1), runtime=runtime)).ttft) for runtime in (IDEAL, cut)
    )
    count = prompt // 512
    assert parts / whole == pytest.approx((count + pp - 1) / (count * pp), rel=0.03)  # the head makes stages unequal


@pytest.mark.parametrize("serving", ["static", "offline", "closed-loop"])
def test_mesh_and_list_of_points_give_the_same_bits(serving):
    choices = Choices(
        [CHIP, dse.load_hardware("mi300x")], [Workload(512, 128), Workload(4096, 512)], [FP8], ["datasheet"],
        [Layout(4, 1, 1, 1), Layout(8, 2, 1, 1), Layout(4, 1, 2, 1)], [1, 16, 200],
        serving=serving, runtime=COSTS,
    )  # fmt: skip
    wide = columns(MODEL, choices, Mesh.open(AXES, [slice(0, size) for size in choices.shape]))
    index = np.unravel_index(np.arange(np.prod(choices.shape)), choices.shape)
    flat = columns(MODEL, choices, Mesh.points(AXES, list(index)))
    for name, values in wide.items():
        np.testing.assert_array_equal(values.ravel(), flat[name], err_msg=name)


def test_offline_counts_only_the_first_batch():
    choices = Choices(
        [CHIP], [Workload(512, 128)], [FP8], ["datasheet"], [Layout(8, 1, 1, 1)], [1, 2], serving="offline"
    )
    question = Question(("tpot_ms",), {})
    status = score(MODEL, choices, Mesh.open(AXES, [slice(0, s) for s in choices.shape]), question).status
    assert [question.reasons[code] for code in status.ravel()] == ["ok", "batch_set_by_engine"]


@pytest.mark.parametrize(
    ("runtime", "hardware", "model", "precision", "status"),
    [
        ("tensorrt-llm", "h100-sxm", "llama-3.1-8b", "fp8", "ok"),
        ("tensorrt-llm", "mi300x", "llama-3.1-8b", "fp8", "runtime_unsupported"),
        ("deepspeed-mii", "h100-sxm", "deepseek-v2-lite", "bf16", "runtime_unsupported"),
        ("llama.cpp", "h100-sxm", "llama-3.1-8b", "fp8", "runtime_unsupported"),
        ("llama.cpp", "apple-m1-max-32", "llama-3.1-8b", "q4_k_m", "ok"),
    ],
)
def test_what_an_engine_does_not_run_is_a_status(runtime, hardware, model, precision, status):
    (row,) = dse.evaluate(model, hardware, precision=precision, runtime=runtime).to_dict("records")
    assert row["status"] == status
    assert row["runtime"] == runtime


def test_dollars_and_joules_follow_the_steady_state():
    frame = dse.evaluate(
        "llama-3.1-70b", "h100-sxm", precision="fp8", tp=8, batch=32, serving=["static", "offline", "closed-loop"],
        price={"kind": "on-demand"},
    ).set_index("serving")  # fmt: skip
    for _, row in frame.iterrows():
        hourly = row["usd_per_hour"]
        assert row["usd_per_million_output_tokens"] == pytest.approx(hourly / 3600 / row["output_tokens_per_s"] * 1e6)
        least, most = (share * 8 * 700 / row["output_tokens_per_s"] for share in (0.3, 1.0))
        assert least <= row["joules_per_output_token"] <= most
    assert frame.loc["offline", "output_tokens_per_s"] > frame.loc["closed-loop", "output_tokens_per_s"]


def test_library_engines_are_never_faster_than_their_own_slowdown():
    """What they add is time: only a factor below one can make them faster than the kernels."""
    for name in ("tensorrt-llm", "vllm", "sglang"):
        runtime = load_runtime(name)
        found = served(point("closed-loop", runtime=runtime))
        assert one(found.step) >= min(1.0, runtime.decode_slowdown) * one(found.running.tpot)


def test_a_block_that_cannot_run_at_all_has_its_reason_and_no_figure_asked_for():
    """Whole boxes are such (chunks beside a static batch): to time them took half of a sweep."""
    asked = point("static", batch=32)
    asked.choices = replace(asked.choices, techniques={"chunk_tokens": 512})
    question = Question(("tpot_ms", "ttft_ms"), {"ttft_ms": (None, 1.0)})
    scores = score(asked.model, asked.choices, asked.mesh, question)
    assert [question.reasons[code] for code in scores.status.ravel()] == ["chunks_are_continuous"]
    assert scores.excess == {}
    assert len(scores.costs) == 2
