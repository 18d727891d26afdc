"""Open-loop serving: what holds whatever the model, and how a sweep sees it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.points import ASKED, choices, flat_mesh_of, mesh_of

import dse
from dse.cost.at_a_rate import ATTAINED
from dse.cost.choices import AXES, Choices
from dse.cost.evaluate import Question, columns, score
from dse.cost.mesh import Mesh
from dse.cost.metrics import METRICS, NO_RATE, NO_SLO
from dse.cost.open_loop import OpenLoop
from dse.cost.phases import Point
from dse.spec.catalog import load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import IDEAL, RuntimeSpec
from dse.spec.workload import load_workload

MODEL, CHIP, FP8 = dse.load_model("llama-3.1-8b"), dse.load_hardware("h100-sxm"), load_precision("fp8")


def loop(
    rate=4.0, batch=128, workload="1024x256", chunk="none", cv=1.0, runtime=IDEAL, tp=1, pp=1, dp=1, slo=None, **rest
) -> OpenLoop:
    asked = Choices(
        [CHIP], load_workload(workload), [FP8], ["datasheet"], [Layout(tp, pp, dp, 1)], [batch], rate=[rate],
        burstiness=cv, slo=slo or {}, serving="open-loop", runtime=runtime, techniques={"chunk_tokens": chunk}, **rest,
    )  # fmt: skip
    return OpenLoop(Point(MODEL, asked, Mesh.points(AXES, [np.zeros(1, dtype=int)] * len(AXES))), runtime)


def one(value) -> float:
    return float(np.ravel(value)[0])


def at_load(load: float, **asked) -> OpenLoop:
    return loop(rate=load * one(loop(rate=1.0, **asked).capacity), **asked)


# -- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", ["none", 2048])
def test_a_lone_request_waits_for_nobody(chunk):
    found = loop(rate=1e-6, chunk=chunk, runtime=RuntimeSpec(request_ms=20, prompt_token_us=3))
    alone = one(found.engine.alone(np.ones(1))[0])
    assert one(found.ttft) == pytest.approx(0.020 + 1024 * 3e-6 + alone, rel=1e-4)
    assert one(found.tpot) == pytest.approx(one(found.engine.step(np.ones(1))), rel=1e-3)
    assert one(found.queue.quantile("first_tokens", 0.99)) == pytest.approx(one(found.ttft), rel=1e-3)


@pytest.mark.parametrize("load", [0.2, 0.6, 0.8])
def test_prompts_alone_are_the_single_server(load):
    """One token each, one prompt per pass: M/D/1, W = load S / (2 (1 - load))."""
    found = at_load(load, workload="5000x1")
    own = one(found.engine.alone(np.ones(1))[0])
    assert one(found.capacity) == pytest.approx(1 / own)
    assert one(found.ttft) == pytest.approx(own * (1 + load / (2 * (1 - load))), rel=0.02)
    assert one(found.latency) == one(found.ttft)


@pytest.mark.parametrize("chunk", ["none", 512])
@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("workload", ["400x100", "100x800"])
def test_one_place_is_the_single_server(load, chunk, workload):
    """Constant service of prompt and decodes, W = load S / (2 (1 - load)); who has the place waits for no pass."""
    found = at_load(load, batch=1, workload=workload, chunk=chunk)
    queue = found.queue
    service = 1 / one(found.capacity)
    assert one(queue.engaged) == pytest.approx(load, rel=1e-3)
    assert one(found.ttft) == pytest.approx(one(queue.own[0]) + load / (2 * (1 - load)) * service, rel=5e-3)


def test_few_places_and_long_answers_are_a_queue_for_places():
    """16 places, 2,048 tokens each: M/D/16, whose mean wait at 80 % is 0.0526 of the service."""
    found = at_load(0.8, batch=16, workload="16x2048")
    service = one(found.queue.per_token(np.array([16.0]))) * 2047
    waited = one(found.ttft) - one(found.engine.alone(np.ones(1))[0])
    assert waited == pytest.approx(0.0526 * service, rel=0.1)


def test_many_places_are_never_short():
    found = at_load(0.5, batch=100_000, workload="100x50")
    assert one(found.queue.engaged) == 0.0
    assert one(found.queue.admitted[0]) == pytest.approx(one(found.queue.queued[0]))


@pytest.mark.parametrize("chunk", ["none", 512])
def test_capacity_is_what_a_full_batch_finishes(chunk):
    found = loop(chunk=chunk, batch=32)
    least = 32 / (255 * one(found.engine.step(np.array([32.0]))) + 1e-12)
    assert 0.3 * least < one(found.capacity) < least


# -- laws --------------------------------------------------------------------------------------------

LOADS = st.floats(0.02, 0.97)
ASKS = {
    "load": LOADS, "batch": st.sampled_from([1, 8, 64, 300]),
    "workload": st.sampled_from(["100x2", "300x900", "5000x50", {"trace": "code"}]),
    "chunk": st.sampled_from(["none", 256, 4096]), "cv": st.sampled_from([0.0, 0.7, 1.0, 2.5]),
}  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(**ASKS, tp=st.sampled_from([1, 4]), pp=st.sampled_from([1, 2]), dp=st.sampled_from([1, 2]))
def test_figures_are_numbers_in_their_order_and_keep_littles_law(load, tp, pp, dp, batch, **asked):
    found = at_load(load, tp=tp, pp=pp, dp=dp, batch=batch * dp, **asked)
    queue = found.queue
    assert one(found.requests_per_s) == one(found.point.rate)  # what comes in goes out
    for mean, cases in ((queue.ttft, "first_tokens"), (queue.tpot, "gaps"), (queue.latency, "latencies")):
        low, middle, high = (one(queue.quantile(cases, share)) for share in (0.5, 0.9, 0.99))
        assert 0 < low <= middle <= high < math.inf
        assert 0 < one(mean) < math.inf
    assert one(queue.latency) >= one(queue.ttft)
    assert all(one(value) >= 0 for value in (*queue.place, *queue.admitted, queue.released))
    assert one(queue.engaged) <= 1
    assert one(queue.flight.mean) <= one(found.slots) * (1 + 1e-9)
    assert one(queue.ttft) >= one(queue.own[0]) * (1 if len(queue.own) == 1 else 0) * (1 - 1e-9)


@settings(deadline=None, max_examples=40)
@given(**{**ASKS, "load": st.floats(0.05, 0.9)})
def test_a_little_more_load_is_a_little_slower(load, **asked):
    before, after = (at_load(each, **asked) for each in (load, load * 1.001))
    assert one(after.ttft) == pytest.approx(one(before.ttft), rel=0.03)
    # Known from 49 states: where arrivals are like a clock they are few for its spread.
    assert one(after.queue.engaged) == pytest.approx(one(before.queue.engaged), rel=0.3, abs=1e-3)


@settings(deadline=None, max_examples=40)
@given(
    loads=st.lists(LOADS, min_size=2, max_size=2, unique=True).map(sorted), **{k: ASKS[k] for k in ("batch", "chunk")}
)
def test_more_arrivals_are_never_faster(loads, batch, chunk):
    few, many = (at_load(load, batch=batch, chunk=chunk) for load in loads)
    assert one(many.ttft) >= one(few.ttft) * (1 - 0.01)
    assert one(many.latency) >= one(few.latency) * (1 - 0.01)
    assert one(many.queue.quantile("first_tokens", 0.99)) >= one(few.queue.quantile("first_tokens", 0.99)) * (1 - 0.02)


@pytest.mark.parametrize("batch", [16, 256])
def test_bursts_make_longer_queues(batch):
    calm, plain, bursts = (at_load(0.7, batch=batch, cv=cv) for cv in (0.3, 1.0, 2.0))
    assert one(calm.ttft) <= one(plain.ttft) < one(bursts.ttft)


def test_chunks_trade_the_first_token_for_the_others():
    """Decodes are not held up by whole prompts (Sarathi 2308.16369, figure 1)."""
    asked = {"workload": "8000x200", "rate": 0.6 * one(loop(rate=1.0, workload="8000x200").capacity)}
    whole, pieces = loop(**asked), loop(**asked, chunk=512)
    assert one(pieces.queue.quantile("gaps", 0.99)) < one(whole.queue.quantile("gaps", 0.99))
    assert one(pieces.ttft) > one(whole.ttft)


# -- service level objectives ------------------------------------------------------------------------


def test_who_may_take_for_ever_always_meets_it():
    found = loop(slo={"ttft_ms": 1e9, "tpot_ms": 1e9, "latency_s": 1e9})
    assert one(found.queue.attainment) == pytest.approx(1)
    assert one(found.max_rate) == pytest.approx(one(found.capacity), rel=1e-3)


def test_what_is_faster_than_possible_is_never_met():
    found = loop(slo={"ttft_ms": 1e-3})
    assert one(found.queue.attainment) == 0
    assert one(found.max_rate) == 0


@pytest.mark.parametrize("slo", [{"ttft_ms": 120}, {"tpot_ms": 9}, {"latency_s": 5}, {"ttft_ms": 150, "tpot_ms": 8}])
@pytest.mark.parametrize("workload", ["1024x256", {"trace": "conversation"}])
def test_the_highest_rate_is_where_attainment_ends(slo, workload):
    found = loop(slo=slo, workload=workload)
    most = one(found.max_rate)
    assert 0 < most < one(found.capacity)
    assert one(found.at(np.array([most * 0.99])).attainment) >= ATTAINED
    assert one(found.at(np.array([most * 1.01])).attainment) < ATTAINED


def test_a_percentile_is_where_so_many_meet_it():
    found = loop(rate=8.0, workload={"trace": "conversation"})
    limit = one(found.queue.quantile("first_tokens", 0.9)) * 1e3
    assert one(loop(rate=8.0, workload={"trace": "conversation"}, slo={"ttft_ms": limit}).queue.attainment) == (
        pytest.approx(0.9, abs=1e-3)
    )


# -- on a mesh ---------------------------------------------------------------------------------------

WIDE = {
    "hardware": ("h100-sxm", "l4"), "workload": ((300, 1), (1000, 100), (6000, 40)), "precision": ("bf16", "fp8"),
    "layout": ((1,), (2, 2), (1, 1, 4, 0)), "batch": (4, 100), "rate": (0.3, 2.0, 50.0),
}  # fmt: skip


@pytest.mark.parametrize("chunk", ["none", 512])
def test_a_list_of_points_has_the_bits_of_the_open_mesh(chunk):
    chosen = choices(**WIDE, serving="open-loop", chunk_tokens=chunk, slo={"ttft_ms": 500.0, "tpot_ms": 30.0})
    model = dse.load_model("mixtral-8x7b")
    wide, flat = columns(model, chosen, mesh_of(chosen)), columns(model, chosen, flat_mesh_of(chosen))
    for name in METRICS:
        assert np.array_equal(wide[name].ravel(), flat[name], equal_nan=True), name
    alone = columns(
        model, chosen, Mesh.points(AXES, [axis[[77]] for axis in np.indices(chosen.shape).reshape(len(AXES), -1)])
    )
    for name in METRICS:
        assert np.array_equal(flat[name][[77]], alone[name], equal_nan=True), name


def test_what_has_no_rate_has_no_percentiles_and_the_reason():
    chosen = choices(serving="closed-loop")
    found = columns(MODEL, chosen, mesh_of(chosen))
    absent = {name for name, metric in METRICS.items() if metric.absent.startswith((NO_RATE, NO_SLO))}
    assert {"ttft_p99_ms", "tpot_p50_ms", "latency_p90_s", "load", "slo_attainment", "max_rate"} <= absent
    assert all(np.all(np.isnan(found[name])) for name in absent)
    assert found["concurrency"].item() == pytest.approx(8)  # exists for all


def test_too_many_arrivals_are_a_status_and_how_far_they_are_too_many():
    chosen = choices(rate=(1.0, 1e5), serving="open-loop")
    question = Question(("ttft_ms",), {})
    found = score(MODEL, chosen, mesh_of(chosen), question)
    names = [question.reasons[code] for code in found.status.ravel()]
    assert names == ["ok", "overloaded"]
    code = question.reasons.index("overloaded")
    assert np.ravel(found.excess[code])[1] == pytest.approx(1e5 * np.ravel(found.excess[code])[0])


@pytest.mark.parametrize(
    ("serving", "asked", "reason"),
    [
        ("static", {"chunk_tokens": 512}, "chunks_are_continuous"),
        ("closed-loop", {"chunk_tokens": 512}, "ok"),
        ("offline", {"chunk_tokens": 512}, "ok"),
    ],
)
def test_chunks_go_with_continuous_batching(serving, asked, reason):
    chosen = choices(serving=serving, **asked)
    status = score(MODEL, chosen, mesh_of(chosen), ASKED).status
    assert ASKED.reasons[status.item()] == reason


def test_a_static_batch_has_one_length():
    frame = dse.evaluate(
        "llama-3.1-8b", "h100-sxm", workload=["chat", {"trace": "conversation"}], serving=["static", "closed-loop"]
    )
    found = dict(zip(zip(frame.serving, frame.workload, strict=True), frame.status, strict=True))
    assert found == {
        ("static", "1155x211"): "ok", ("static", "azure-conversation"): "static_needs_one_length",
        ("closed-loop", "1155x211"): "ok", ("closed-loop", "azure-conversation"): "ok",
    }  # fmt: skip


def test_a_trace_longer_than_the_model_reads_is_a_status():
    frame = dse.evaluate("llama-2-7b", "h100-sxm", workload=[{"trace": "long-context"}], serving="closed-loop")
    assert list(frame.status) == ["context_exceeds_model"]


def test_a_saturated_closed_loop_with_chunks_keeps_its_tokens():
    """Prompts cannot come faster than the tokens of iterations allow."""
    (row,) = dse.evaluate(
        "llama-3.1-8b", "h100-sxm", precision="fp8", input=2048, output=28, serving="closed-loop", batch=64,
        chunk_tokens=512, fidelity="datasheet",
    ).to_dict("records")  # fmt: skip
    assert row["requests_per_s"] * row["latency_s"] == pytest.approx(64)
    tokens = row["requests_per_s"] * (2048 + 27)
    assert tokens <= 512 / (row["tpot_ms"] * 1e-3) * 1.05
