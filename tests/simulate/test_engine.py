"""One replica: leaps are steps, and the order of things."""

from __future__ import annotations

import numpy as np
import pytest
from deployments import deployment, tight
from hypothesis import given, settings
from hypothesis import strategies as st
from stepwise import Engine

from dse.simulate.fleet import simulate
from dse.simulate.trace import draw

SHAPES = [(1024, 256), (64, 700, 0.5), (3000, 8), (200, 1), (16, 33)]
each_scheduler = pytest.mark.parametrize("chunk", [None, 512, 64], ids=["prefill-first", "chunks-512", "chunks-64"])


def same(record, stepwise: Engine) -> None:
    n = len(record.trace)
    assert record.usage[0].preemptions == stepwise.preemptions
    np.testing.assert_allclose(record.first, [stepwise.first[i] for i in range(n)], rtol=1e-9)
    np.testing.assert_allclose(record.last, [stepwise.last[i] for i in range(n)], rtol=1e-9)


@each_scheduler
@pytest.mark.parametrize("rate", [2.0, 12.0, 60.0])
@pytest.mark.parametrize("burstiness", [0.0, 1.0, 3.0])
def test_leaps_end_where_single_steps_do(chunk, rate, burstiness):
    record = simulate([deployment(chunk_tokens=chunk)], draw(150, rate, SHAPES, burstiness=burstiness, seed=1))
    same(record, Engine(record.fleet[0]).run(record.trace))


@each_scheduler
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt-oss-20b", "gemma-2-9b"])
def test_so_they_do_when_the_cache_overflows(chunk, model):
    """Windows make later blocks cheaper (gpt-oss): then bytes are bounded first, and counted when it matters."""
    share = {"llama-3.1-8b": 0.215, "gpt-oss-20b": 0.493, "gemma-2-9b": 0.26}[model]
    growing = [(64, 700), (200, 300), (3000, 8, 0.2), (16, 33)]
    record = simulate([tight(model, share, chunk_tokens=chunk)], draw(120, 60.0, growing, seed=2))
    assert record.usage[0].preemptions > 0
    same(record, Engine(record.fleet[0]).run(record.trace))


LENGTHS = st.tuples(st.integers(1, 1500), st.integers(1, 400))


@settings(max_examples=60)
@given(
    chunk=st.sampled_from([None, 64, 200, 2048]),
    slots=st.sampled_from([None, 3, 40]),
    block=st.sampled_from([1, 16, 64]),
    budget=st.sampled_from([1, 1000, 8192]),
    share=st.sampled_from([0.215, 0.25, 0.9]),
    trace=st.builds(
        draw,
        requests=st.integers(1, 60),
        rate=st.floats(0.4, 400.0),
        lengths=st.lists(LENGTHS, min_size=1, max_size=4),
        burstiness=st.sampled_from([0.0, 1.0, 3.0]),
        seed=st.integers(0, 10_000),
    ),
)
def test_so_they_do_whatever_is_asked(chunk, slots, block, budget, share, trace):
    kind = tight(share=share, chunk_tokens=chunk, max_running=slots, kv_block_size=block, max_prefill_tokens=budget)
    record = simulate([kind], trace)
    same(record, Engine(record.fleet[0]).run(trace))
