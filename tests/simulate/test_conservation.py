"""What no schedule can change: Little's law, work in = work out, order; and queues with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from deployments import CHIP, choices, deployment, load_model, tight
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import dse
from dse.simulate.deployment import Deployment
from dse.simulate.fleet import simulate
from dse.simulate.trace import Trace, draw
from dse.spec.runtime import RuntimeSpec

SHAPES = [(900, 200), (64, 500, 0.5), (3000, 8), (200, 1), (16, 33)]

loads = st.builds(
    draw,
    requests=st.integers(1, 150),
    rate=st.floats(0.2, 200.0),
    lengths=st.just(SHAPES),
    burstiness=st.sampled_from([0.0, 0.5, 1.0, 4.0]),
    seed=st.integers(0, 10_000),
)
KINDS = {
    "roomy": deployment(),
    "chunked": deployment(chunk_tokens=512),
    "few slots": deployment(max_running=4),
    "few slots, chunked": deployment(max_running=4, chunk_tokens=256),
    "tight": tight(share=0.222),
    "tight, chunked": tight(share=0.222, chunk_tokens=512),
    "windows, tight": tight("gpt-oss-20b", 0.493, chunk_tokens=512),
    "ranks": deployment("deepseek-v2-lite", dp=4),
    "ranks, chunked": deployment("deepseek-v2-lite", dp=4, chunk_tokens=512),
    "stages": deployment(pp=4),
    "server": deployment(runtime=RuntimeSpec(request_ms=40, prompt_token_us=5, step_us=300)),
}
kinds = st.sampled_from(list(KINDS))
example = hypothesis_settings(max_examples=40)


@example
@given(kinds, loads, st.integers(1, 3), st.sampled_from(["round-robin", "least-loaded"]))
def test_littles_law(kind, trace, replicas, dispatch):
    """Requests in the system, integrated over time, are the sum of their latencies (Little 1961)."""
    record = simulate([KINDS[kind]] * replicas, trace, dispatch=dispatch)
    runtime = KINDS[kind].choices.runtime
    server = runtime.request_ms * 1e-3 * len(trace) + runtime.prompt_token_us * 1e-6 * np.sum(trace.input)
    area = sum(usage.running + usage.waiting for usage in record.usage) + server
    assert area == pytest.approx(np.sum(record.latency), rel=1e-9)


@example
@given(kinds, loads, st.integers(1, 3))
def test_every_request_ends_after_its_first_token(kind, trace, replicas):
    record = simulate([KINDS[kind]] * replicas, trace)
    assert np.all(record.first > trace.arrival)
    several = trace.output > 1
    assert np.all(record.last[several] > record.first[several])
    assert np.all(record.last[~several] == record.first[~several])
    assert record.end == record.last.max()
    assert sum(usage.emitted for usage in record.usage) == np.sum(trace.output)


@example
@given(kinds, loads)
def test_work_out_is_work_in(kind, trace):
    """Every prompt token is computed and every output token generated, by evictions some prompt tokens again."""
    record = simulate([KINDS[kind]], trace)
    usage = record.usage[0]
    assert usage.emitted == np.sum(trace.output)
    again = usage.prompt_tokens - np.sum(trace.input)
    assert again == 0 if usage.preemptions == 0 else again >= 0


@example
@given(kinds, loads)
def test_busy_and_idle_time_are_all_the_time(kind, trace):
    record = simulate([KINDS[kind]], trace)
    usage = record.usage[0]
    assert 0 < usage.busy <= record.end * (1 + 1e-12)
    idle = record.end - usage.busy
    assert idle == pytest.approx(usage.idle, rel=1e-9, abs=1e-9)


@example
@given(st.sampled_from(["roomy", "chunked", "few slots", "few slots, chunked", "stages"]), loads)
def test_first_come_first_served(kind, trace):
    """Without evictions first tokens leave in the order of arrival."""
    record = simulate([KINDS[kind]], trace)
    assert record.usage[0].preemptions == 0
    assert np.all(np.diff(record.first) >= 0)


@example
@given(kinds, st.integers(0, 1000), st.floats(0.5, 20.0), st.floats(1.5, 4.0))
def test_more_load_never_answers_sooner(kind, seed, rate, factor):
    """The same requests closer together: within a thousandth, as batches may happen to fall better."""
    slow = draw(120, rate, SHAPES, seed=seed)
    fast = slow.at_rate(slow.rate * factor)
    one, other = (simulate([KINDS[kind]], trace) for trace in (slow, fast))
    assert np.mean(other.latency) >= np.mean(one.latency) * (1 - 1e-3)


@example
@given(kinds, loads)
def test_slots_and_cache_are_never_overdrawn(kind, trace):
    """Looked at whenever a request arrives."""

    def look(index, replicas):
        fitted = replicas[0].fitted
        decoding, prompts = replicas[0].contexts()
        assert len(decoding) + len(prompts) <= fitted.slots
        assert sum(fitted.held[fitted.blocks(tokens)] for tokens in (*decoding, *prompts)) <= fitted.room
        return 0

    record = simulate([KINDS[kind]], trace, dispatch=look)
    assert record.usage[0].most_running <= record.fleet[0].slots


@example
@given(kinds, st.integers(0, 1000))
def test_the_same_seed_gives_the_same_bytes(kind, seed):
    one, other = (simulate([KINDS[kind]] * 2, draw(50, 20.0, SHAPES, seed=seed)) for _ in range(2))
    assert one.first.tobytes() == other.first.tobytes()
    assert one.last.tobytes() == other.last.tobytes()


# -- known answers ----------------------------------------------------------------------------------


def test_a_request_alone_takes_what_the_cost_model_says():
    record = simulate([deployment(fidelity="calibrated")], draw(5, 0.01, "1024x256"))
    row = dse.evaluate("llama-3.1-8b", CHIP, precision="bf16", input=1024, output=256, batch=1).iloc[0]
    np.testing.assert_allclose(record.ttft * 1e3, row["ttft_ms"], rtol=1e-4)
    np.testing.assert_allclose(record.tpot * 1e3, row["tpot_ms"], rtol=1e-4)
    np.testing.assert_allclose(record.latency, row["latency_s"], rtol=1e-4)


def test_a_burst_is_a_static_batch():
    """Thirty-two at once in one pass: the steady state `static` of the cost model."""
    trace = Trace(np.zeros(32), np.full(32, 200), np.full(32, 100))
    record = simulate([deployment(fidelity="calibrated")], trace)
    row = dse.evaluate("llama-3.1-8b", CHIP, precision="bf16", input=200, output=100, batch=32).iloc[0]
    np.testing.assert_allclose(record.ttft * 1e3, row["ttft_ms"], rtol=1e-3)
    np.testing.assert_allclose(record.latency, row["latency_s"], rtol=1e-3)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_prompts_one_at_a_time_queue_as_m_d_1(load):
    """One token out and passes of one prompt: service is constant, so the wait is load x service / 2 (1 - load)
    (Pollaczek-Khinchine)."""
    single = Deployment(load_model("llama-3.1-8b"), choices(max_prefill_tokens=1))
    service = simulate([single], draw(1, 1.0, "1024x1")).ttft[0]
    record = simulate([single], draw(40_000, load / service, "1024x1", seed=3))
    wait = np.mean(record.ttft[4000:]) - service
    assert wait == pytest.approx(load * service / (2 * (1 - load)), rel=0.08)


@pytest.mark.parametrize("load", [0.4, 0.7])
def test_prompts_of_two_lengths_queue_as_m_g_1(load):
    single = Deployment(load_model("llama-3.1-8b"), choices(max_prefill_tokens=1))
    service = np.array([simulate([single], draw(1, 1.0, shape)).ttft[0] for shape in ("512x1", "4096x1")])
    mean, square = np.mean(service), np.mean(service**2)
    record = simulate([single], draw(40_000, load / mean, [(512, 1), (4096, 1)], seed=4))
    wait = np.mean(record.ttft[4000:]) - mean
    assert wait == pytest.approx(load / mean * square / (2 * (1 - load)), rel=0.08)
