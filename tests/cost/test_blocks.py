"""Batch servers: waits against what is known of bulk queues, and against the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.cost.blocks import Blocks
from dse.simulate.blocks import Block, run_blocks
from dse.simulate.trace import draw


def under(most: float, seconds: float, load: float, burstiness: float = 1.0):
    """One server at a share of its capacity."""
    values = (most, seconds / 4, seconds / 100, seconds)
    return Blocks(*(np.full(1, float(value)) for value in values), burstiness).at(np.full(1, load * most / seconds))


@pytest.mark.parametrize("load", [0.1, 0.5, 0.8, 0.9, 0.99])
def test_blocks_of_one_are_the_queue_of_constant_service(load):
    """M/D/1: rho^2 / (2 (1 - rho)) wait on average (Pollaczek-Khinchine)."""
    assert under(1, 3.0, load).left[0] == pytest.approx(load**2 / (2 * (1 - load)), rel=2e-3)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.8), (5, 0.9), (10, 0.9)])
def test_left_over_requests_are_the_queue_of_as_many_servers(servers, load):
    """M/D/c (Crommelin 1932): the chain of the numbers a service time apart, run to its rest."""
    most, size = servers, 400
    arrivals = _poisson(load * servers, size)
    chances = np.zeros(size)
    chances[0] = 1.0
    for _ in range(1000):
        after = np.concatenate([[chances[: most + 1].sum()], chances[most + 1 :], np.zeros(most)])
        chances = np.convolve(after, arrivals)[:size]
    left = float(np.maximum(np.arange(size) - most, 0) @ chances)
    assert under(servers, 1.0, load).left[0] == pytest.approx(left, rel=5e-3)


def _poisson(mean: float, size: int):
    from scipy.stats import poisson

    return poisson.pmf(np.arange(size), mean)


@pytest.mark.parametrize(
    ("most", "load", "burstiness"),
    [(128, 0.5, 1.0), (128, 0.9, 1.0), (24, 0.8, 1.0), (16, 0.95, 1.0), (4, 0.8, 1.0), (64, 0.8, 2.0), (64, 0.9, 0.3)],
)
def test_waits_are_those_of_the_simulated_server(most, load, burstiness):
    seconds, rate = 10.0, load * most / 10.0
    trace = draw(60_000, rate=rate, lengths=[(512, 64, 1.0)], burstiness=burstiness, seed=5)
    found = run_blocks(trace, 1, {(512, 64): Block(most, seconds / 4, seconds)})
    queue = under(most, seconds, load, burstiness)
    ttft = found.ttft[4_000:]
    assert queue.ttft[0] == pytest.approx(ttft.mean(), rel=0.08)
    assert queue.late(0.99)[0] + seconds / 4 == pytest.approx(np.percentile(ttft, 99), rel=0.12)
    assert np.all(found.ttft >= seconds / 4 - 1e-9)
    assert np.allclose(found.latency - found.ttft, seconds * 3 / 4)


@settings(max_examples=25)
@given(st.integers(1, 300), st.floats(0.02, 0.97), st.floats(1.01, 1.03))
def test_more_arrivals_never_wait_less(most, load, factor):
    fewer, more = under(most, 7.0, load), under(most, 7.0, min(load * factor, 0.99))
    assert more.wait[0] >= fewer.wait[0] * (1 - 1e-9)
    assert more.late(0.99)[0] >= fewer.late(0.99)[0] * (1 - 1e-4)
    assert fewer.late(0.99)[0] >= fewer.late(0.5)[0]
    assert 0 <= fewer.waits(np.full(1, 3.0))[0] <= fewer.waits(np.full(1, 8.0))[0] <= 1


def test_at_its_capacity_a_server_has_no_latency():
    queue = under(8, 2.0, 1.0)
    assert np.isnan(queue.ttft[0])
    assert np.isnan(queue.late(0.99)[0])


def test_a_server_takes_the_size_that_has_waited_longest_and_no_more_than_its_block():
    trace = draw(2000, rate=5.0, lengths=[(10, 4, 1.0), (20, 8, 1.0)], seed=1)
    found = run_blocks(trace, 2, {(10, 4): Block(8, 0.5, 1.0), (20, 8): Block(16, 1.0, 2.0)})
    for size, most in (((10, 4), 8), ((20, 8), 16)):
        mine = (trace.input == size[0]) & (trace.output == size[1])
        # Two servers: no more than two blocks end at once, and each holds its size alone.
        _, counts = np.unique(found.last[mine], return_counts=True)
        assert counts.max() <= 2 * most
    assert found.blocks >= len(np.unique(found.last))
