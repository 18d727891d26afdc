"""Customers of many servers, against recursions and played queues."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson

from dse.cost.servers import bursts, constant_service, erlang_c, of_constant_service


def one(value) -> float:
    return float(np.ravel(value)[0])


# -- exponential service -----------------------------------------------------------------------------


def exact_erlang_c(offered: float, servers: int) -> float:
    terms = [1.0]
    for k in range(1, servers + 1):
        terms.append(terms[-1] * offered / k)
    last = terms[-1] / (1 - offered / servers)
    return last / (sum(terms[:-1]) + last)


@given(servers=st.integers(1, 60), load=st.floats(0.05, 0.97))
def test_erlang_c_of_whole_servers(servers, load):
    assert one(erlang_c(float(servers), load)) == pytest.approx(exact_erlang_c(load * servers, servers), rel=1e-6)


# -- constant service --------------------------------------------------------------------------------


@given(st.floats(0.02, 0.98))
def test_one_server_of_constant_service_is_pollaczek_khinchine(load):
    waits, delay, unlike = (one(value) for value in constant_service(1.0, load))
    assert waits == pytest.approx(load, rel=2e-3)
    assert delay == pytest.approx(0.5 / (1 - load), rel=2e-3)
    square = 2 * (load / (1 - load) / 2) ** 2 + load / (1 - load) / 3
    assert (1 + unlike) * delay**2 * waits == pytest.approx(square, rel=5e-3)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.5), (5, 0.8), (16, 0.8), (25, 0.9)])
def test_constant_service_on_many_servers(servers, load):
    """Crommelin: who is served at a time is gone a service time later, who waits or comes meanwhile is there."""
    come = poisson.pmf(np.arange(12 * servers + 120), servers * load)
    there = np.zeros(len(come))
    there[0] = 1.0
    for _ in range(600):
        waiting = np.append(there[servers:], np.zeros(servers))
        waiting[0] += there[:servers].sum()
        there = np.convolve(waiting, come)[: len(come)]
    waits, delay, _ = (one(value) for value in constant_service(float(servers), load))
    queue = np.sum(np.maximum(np.arange(len(there)) - servers, 0) * there)
    assert waits == pytest.approx(there[servers:].sum(), rel=2e-3)
    assert waits * delay * load == pytest.approx(queue, rel=2e-3)  # Little's law


def waits_by_lindley(servers: int, load: float, cv: float, customers=200_000):
    gaps = np.random.default_rng(0).gamma(1 / cv**2, cv**2, customers * servers)
    steps = servers * load - gaps.reshape(-1, servers).sum(axis=1)
    walk = np.concatenate([[0.0], np.cumsum(steps)])
    return (walk - np.minimum.accumulate(walk))[1:-1] / load


@pytest.mark.parametrize(("servers", "load", "cv"), [(1, 0.3, 1.5), (1, 0.7, 2.0), (4, 0.6, 1.5), (16, 0.8, 0.7)])
def test_gaps_that_vary_more_are_those_of_fewer_servers(servers, load, cv):
    played = waits_by_lindley(servers, load, cv)
    waits, delay, unlike = (one(value) for value in constant_service(servers / cv**2, load))
    assert waits == pytest.approx(np.mean(played > 0), rel=0.05)
    assert delay * cv**2 == pytest.approx(np.mean(played[played > 0]), rel=0.08)
    assert unlike == pytest.approx(np.var(played[played > 0]) / np.mean(played[played > 0]) ** 2, abs=0.15)


@pytest.mark.parametrize("cv", [1.5, 2.5])
def test_what_bursts_add_to_the_queue_of_one_server(cv):
    played = waits_by_lindley(1, 0.5, cv)
    mean, variance = (one(value) for value in bursts(np.array([0.5]), cv))
    assert 0.5 + mean == pytest.approx(np.mean(played), rel=0.05)
    assert 0.25 + 1 / 3 + variance == pytest.approx(np.var(played), rel=0.12)
    assert one(bursts(np.array([0.5]), 1.0)[0]) == pytest.approx(0.0, abs=1e-3)


@given(servers=st.floats(0.05, 4000), load=st.floats(0.02, 0.98))
def test_beside_exponential_service_fewer_wait_and_for_less(servers, load):
    few, long, unlike = (one(value) for value in of_constant_service(np.array([servers]), np.array([load])))
    if servers >= 1:
        assert 0.85 <= few <= 1.003
    assert 0 < long <= 1.003
    assert 0 < unlike <= 1.003 or servers < 1


@given(servers=st.floats(1, 500), load=st.floats(0.2, 0.97))
def test_it_is_continuous_and_what_the_sums_say(servers, load):
    found = of_constant_service(np.array([servers, servers * 1.001]), np.array([load, load]))
    for values in found:
        assert values[1] == pytest.approx(values[0], rel=2e-3)
    waits, delay, unlike = constant_service(servers, load)
    exact = waits / erlang_c(servers, load), delay * (1 - load), unlike
    for values, right in zip(found, exact, strict=True):
        assert values[0] == pytest.approx(one(right), rel=0.012)
