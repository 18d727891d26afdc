"""Pools under load: queues with known answers, what no rate can change, and the same bits in a list and on a mesh."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dse
from dse.cost.capacity import highest_rate_of_pools
from dse.cost.choices import Choices, Pools
from dse.cost.evaluate import columns
from dse.cost.mesh import Mesh
from dse.cost.modes import served
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import IDEAL
from dse.spec.slo import Limit
from dse.spec.workload import Workload

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # quotients of what is masked

H100 = load_hardware("h100-sxm")
LLAMA = load_model("llama-3.1-8b")
BF16 = load_precision("bf16")


def choices(size=(2000, 200), prefill_batch=(1,), batch=(256,), rate=(1.0,), **more: Any) -> Choices:
    one = Choices([H100], [Workload(*size)], [BF16], ["datasheet"], [Layout()], batch, rate=rate, runtime=IDEAL)
    prefill = replace(one, batch=prefill_batch, rate=(np.nan,))
    return replace(one, serving="disaggregated", pools=Pools(prefill, 16.0), **more)


def pooled(x=1, y=1, points=1, **more: Any) -> Pooled:
    """A list of so many equal points, of so many workers each."""
    axes = choices(**more)
    point = Point(LLAMA, axes, Mesh.points(axes.axes, [np.zeros(points, dtype=int) for _ in axes.axes]))
    return Pooled(point, IDEAL).with_workers(np.full(points, float(x)), np.full(points, float(y)))


def at(pools: Pooled, load: float) -> Any:
    return pools.at(load * pools.capacity)


@pytest.mark.parametrize("load", [0.2, 0.5, 0.8, 0.95])
def test_prompts_of_one_length_wait_as_in_m_d_1(load):
    """One prompt per pass, nobody decodes between: load S / 2 (1 - load) (Pollaczek-Khinchine)."""
    pools = pooled(y=8)  # prompts are what is short
    service = 1 / pools.full_rates[0]
    wait = at(pools, load).prompts.wait(np.ones(1))[0]
    np.testing.assert_allclose(wait, load * service / (2 * (1 - load)), rtol=1e-3)


def test_alone_it_is_a_pass_the_rest_of_the_transfer_and_steps():
    pools = pooled()
    queue = at(pools, 1e-5)
    passed = pools.prefiller.alone[0]
    np.testing.assert_allclose(queue.ttft, passed + queue.exposed, rtol=1e-3)
    np.testing.assert_allclose(queue.tpot, pools.decoder.engine.step(np.ones(1)), rtol=1e-3)
    np.testing.assert_allclose(queue.latency, queue.ttft + 199 * queue.tpot, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 6), st.integers(1, 4), st.sampled_from([1, 8, 64]), st.floats(0.1, 0.9), st.floats(1.02, 2.0),
    st.sampled_from([(2000, 200), (200, 50), (6000, 20), (300, 1)]),
)  # fmt: skip
def test_more_load_never_answers_sooner(x, y, most, load, factor, size):
    pools = pooled(x, y, size=size, prefill_batch=(most,))
    slow, fast = at(pools, load), at(pools, min(load * factor, 0.99))
    for name in ("ttft", "latency", "tpot"):
        assert np.all(getattr(fast, name) >= getattr(slow, name) * (1 - 2e-3)), name
    for cases in ("first_tokens", "latencies"):
        assert np.all(fast.quantile(cases, 0.99) >= slow.quantile(cases, 0.99) * 0.99), cases  # gamma laws: fitted
        assert np.all(slow.quantile(cases, 0.99) >= slow.quantile(cases, 0.5))


@pytest.mark.parametrize("load", [0.3, 0.6, 0.9])
def test_more_workers_of_the_same_load_wait_less(load):
    waits = [float(at(pooled(x, 8), load).prompts.wait(np.full(1, float(x)))[0][0]) for x in (1, 2, 4, 8)]
    assert all(more < less for less, more in pairwise(waits))


def test_overload_has_no_latencies():
    pools = pooled()
    for queue in (at(pools, 1.0), at(pools, 3.0)):
        for values in (queue.ttft, queue.tpot, queue.latency, queue.quantile("first_tokens", 0.5), queue.attainment):
            assert np.all(np.isnan(values))


def test_one_token_is_answered_without_a_decode_worker():
    pools = pooled(size=(2000, 1))
    queue = at(pools, 0.5)
    assert pools.capacity == pytest.approx(pools.full_rates[0])
    assert np.all(np.isfinite(queue.ttft))
    np.testing.assert_allclose(queue.latency, queue.ttft)


def test_a_link_slower_than_the_passes_sets_the_pace():
    slow = dse.load_hardware({"base": "h100-sxm", "scale_up.gb_per_s": 2, "name": "slow"})
    axes = choices()
    prefill = replace(axes.pools.prefill, hardware=[slow])
    slowed = replace(axes, hardware=[slow], pools=replace(axes.pools, prefill=prefill))
    mesh = Mesh.points(axes.axes, [np.zeros(1, dtype=int) for _ in axes.axes])
    one, other = (
        Pooled(Point(LLAMA, each, mesh), IDEAL).with_workers(np.ones(1), np.full(1, 4.0)) for each in (axes, slowed)
    )
    sent = other.sending(other.link)(np.ones(1))
    assert sent > 1 / one.capacity
    np.testing.assert_allclose(other.capacity, 1 / sent, rtol=1e-6)
    assert at(other, 0.5).ttft > at(one, 0.5).ttft


def test_a_sweep_at_a_rate_gives_the_bits_of_each_point():
    axes = choices(prefill_batch=(1, 4), batch=(8, 256), rate=(0.5, 4.0, 30.0), slo={"ttft_ms": 500.0, "tpot_ms": 20.0})
    mesh = Mesh.open(axes.axes, [slice(0, size) for size in axes.shape])
    names = ("ttft_ms", "tpot_ms", "ttft_p99_ms", "tpot_p99_ms", "latency_p99_s", "load", "max_rate",
             "goodput_requests_per_s", "joules_per_output_token", "prefill_workers", "decode_workers")  # fmt: skip
    wide = columns(LLAMA, axes, mesh, names)
    coordinates = [index.ravel() for index in np.broadcast_arrays(*mesh.index.values())]
    listed = columns(LLAMA, axes, Mesh.points(axes.axes, coordinates), names)
    for name in names:
        assert np.array_equal(wide[name].ravel(), listed[name], equal_nan=True), name
    assert np.any(wide["load"] >= 1)
    assert np.all(np.isnan(wide["ttft_p99_ms"]) == (wide["load"] >= 1))


def test_a_rate_asks_for_queues_and_none_for_full_workers():
    axes = choices()
    mesh = Mesh.points(axes.axes, [np.zeros(1, dtype=int) for _ in axes.axes])
    assert isinstance(served(Point(LLAMA, axes, mesh)), Pooled)
    assert not isinstance(served(Point(LLAMA, replace(axes, rate=(np.nan,)), mesh)), Pooled)


def test_the_highest_rate_keeps_the_limits_and_a_little_more_does_not():
    limits = [Limit("ttft_ms", "p99", 800.0), Limit("tpot_ms", "mean", 15.0)]
    pools = pooled(3, 2, points=4, slo={"ttft_ms": 800.0})
    rates = highest_rate_of_pools(pools, limits, np.array([True, True, True, False]))
    assert rates[3] == 0
    assert np.ptp(rates[:3]) == 0

    def kept(rate):
        queue = pools.at(rate)
        return bool(queue.quantile("first_tokens", 0.99)[0] <= 0.8 * 1.001 and queue.tpot[0] <= 0.015)

    assert kept(rates)
    assert not kept(rates * 1.02)
