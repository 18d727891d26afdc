"""Mixed passes: a chunk of a prompt beside decodes, between the two passes it joins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dse
from dse.cost.choices import AXES, Choices
from dse.cost.engine import host_seconds, prompt_seconds, step_seconds
from dse.cost.mesh import Mesh
from dse.cost.mixed import MixedPass, mixed_seconds
from dse.cost.phases import Point
from dse.spec.catalog import load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import IDEAL, RuntimeSpec, load_runtime
from dse.spec.workload import Workload

CHIP = dse.load_hardware("h100-sxm")
MODELS = ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "gpt-oss-20b", "qwen3-next-80b-a3b")
PLAIN_COSTS = RuntimeSpec(prefill_slowdown=1.2, decode_slowdown=1.1, step_us=500, layer_us=3, sequence_us=5)


def point(model="llama-3.1-8b", batch=32, tp=1, pp=1, dp=1, workload=(1024, 2), fidelity="datasheet") -> Point:
    choices = Choices(
        [CHIP], [Workload(*workload)], [load_precision("bf16")], [fidelity], [Layout(tp, pp, dp, 0)], [1],
        max_prefill_tokens=np.inf,
    )  # fmt: skip
    asked = Point(dse.load_model(model), choices, Mesh.points(AXES, [np.zeros(1, dtype=int)] * len(AXES)))
    return asked.with_batch(np.full(1, float(batch)))


def one(value) -> float:
    return float(np.ravel(value)[0])


LAYOUTS = [(1, 1, 1), (4, 1, 1), (1, 4, 1), (2, 2, 1), (1, 1, 4)]
each_layout = pytest.mark.parametrize(("tp", "pp", "dp"), LAYOUTS)


@each_layout
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("runtime", [IDEAL, PLAIN_COSTS, load_runtime("vllm-2024"), load_runtime("vllm-2023")],
                         ids=lambda runtime: runtime.name)  # fmt: skip
def test_without_a_chunk_it_is_the_decode_step(model, tp, pp, dp, runtime):
    asked = point(model, 32, tp, pp, dp)
    assert one(mixed_seconds(asked, runtime, 0.0, 0.0)) == pytest.approx(one(step_seconds(asked, runtime)), rel=1e-12)


@each_layout
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("runtime", [IDEAL, PLAIN_COSTS, load_runtime("vllm-2023")], ids=lambda runtime: runtime.name)
def test_without_decodes_it_is_the_prompt_pass_of_one_request(model, tp, pp, dp, runtime):
    alone = point(model, dp, tp, pp, dp)
    found = mixed_seconds(alone.with_batch(np.zeros(1)), runtime, 1024.0, 0.0)
    assert one(found) == pytest.approx(one(prompt_seconds(alone, runtime)), rel=1e-12)


@each_layout
@pytest.mark.parametrize("model", MODELS)
def test_it_costs_less_than_its_two_passes_and_more_than_either(model, tp, pp, dp):
    asked = point(model, 32, tp, pp, dp)
    step = one(step_seconds(asked, IDEAL))
    chunk = one(prompt_seconds(point(model, dp, tp, pp, dp, workload=(512, 2)), IDEAL))
    mixed = one(mixed_seconds(asked, IDEAL, 512.0, 0.0))
    assert max(step, chunk) < mixed < step + chunk


def attention_of_chunk(model: str, length: float, cached: float, amount: str) -> float:
    """FLOPs or bytes of the attention of a chunk, every distinct layer once."""
    passed = MixedPass(point(model, 0), IDEAL, np.full(1, length), np.full(1, cached))
    with np.errstate(invalid="ignore"):  # experts without tokens: the decodes there are none of
        works = [work for index in range(len(passed.point.parts)) for work in passed._works(index)[2]]
    return sum(one(getattr(work.each, amount) * work.times) for work in works if work.group == "attention")


@pytest.mark.parametrize("model", MODELS)
def test_chunks_of_a_prompt_count_the_attention_of_the_whole(model):
    chunks = sum(attention_of_chunk(model, 256.0, done, "flops") for done in range(0, 4096, 256))
    assert chunks == pytest.approx(attention_of_chunk(model, 4096.0, 0.0, "flops"))


def test_each_chunk_reads_the_cache_of_those_before_it():
    """Keys of s tokens are read s^2 / 2C times over in all, beside each chunk's own half (Sarathi)."""
    chunks = sum(attention_of_chunk("llama-3.1-8b", 256.0, done, "kv_read") for done in range(0, 4096, 256))
    once = attention_of_chunk("llama-3.1-8b", 4096.0, 0.0, "kv_read")
    assert chunks / once == pytest.approx((4096 / 256 + 1) / 2)


@given(st.integers(0, 60_000), st.integers(1, 4096), st.integers(0, 200))
def test_more_cached_more_tokens_and_more_decodes_take_longer(cached, chunk, batch):
    def seconds(batch, chunk, cached):
        return one(mixed_seconds(point(batch=batch), IDEAL, float(chunk), float(cached)))

    before = seconds(batch, chunk, cached)
    for after in (
        seconds(batch + 8, chunk, cached),
        seconds(batch, chunk + 64, cached),
        seconds(batch, chunk, cached + 512),
    ):
        assert after >= before * (1 - 1e-12)


def test_weights_are_read_once():
    """A memory-bound step takes a small chunk along for nearly nothing: 16 GB are read either way."""
    asked = point(batch=8, fidelity="ideal")
    step, mixed = one(step_seconds(asked, IDEAL)), one(mixed_seconds(asked, IDEAL, 128.0, 0.0))
    assert mixed < 1.1 * step


def test_arrays_broadcast():
    """One call makes a table: batches along one axis, chunks along another."""
    choices = point().choices
    mesh = Mesh.open(AXES, [slice(0, 1)] * len(AXES))
    batches = np.array([0.0, 1, 8, 64])
    asked = Point(point().model, choices, mesh).with_batch(batches.reshape(*[1] * (len(AXES) - 1), 4))
    chunks = np.array([1.0, 512, 2048]).reshape(3, *[1] * (len(AXES) - 1))
    found = mixed_seconds(asked, PLAIN_COSTS, chunks, 1000.0)
    assert found.shape == (3, *[1] * (len(AXES) - 2), 4)
    for i, chunk in enumerate((1.0, 512.0, 2048.0)):
        for j, batch in enumerate(batches):
            assert found[i, ..., j].item() == one(mixed_seconds(point(batch=batch), PLAIN_COSTS, chunk, 1000.0))


def test_the_host_costs_once_per_iteration():
    asked = point()
    free = one(mixed_seconds(asked, RuntimeSpec(), 512.0, 0.0))
    costly = RuntimeSpec(step_us=500, layer_us=3, sequence_us=5)
    assert one(mixed_seconds(asked, costly, 512.0, 0.0)) - free == pytest.approx(
        one(host_seconds(asked, costly)) + 32 * 5e-6
    )
