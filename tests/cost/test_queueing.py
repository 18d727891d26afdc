"""Queues against what is known of them in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.cost.queueing import (
    Passes,
    Spread,
    at_most,
    birth_death,
    interpolate,
    iterations,
    lone,
    quantile,
    renewals,
)
from dse.cost.servers import erlang_c


def one(value) -> float:
    return float(np.ravel(value)[0])


def passes(each=0.05, setup=0.0, step=0.01, spread=0.0, most=1.0) -> Passes:
    return Passes(step, lambda count: setup + each * count, spread, 0.0, most, 1.0 / most)


# -- iterations --------------------------------------------------------------------------------------


@given(load=st.floats(0.05, 0.95), each=st.floats(0.001, 10), cv=st.floats(0, 2))
def test_one_prompt_per_pass_and_no_decodes_is_the_single_server(load, each, cv):
    """Pollaczek-Khinchine: W = rate E[S^2] / (2 (1 - load)), and the second moment of the same."""
    rate, spread = load / each, (cv * each) ** 2
    found = iterations(rate, passes(each, spread=spread), idle=1.0)
    wait = one(found.met) * (1 + load) / 2
    assert wait == pytest.approx(rate * (each**2 + spread) / (2 * (1 - load)), rel=1e-6)
    third = each**3 + 3 * each * spread
    square = rate * third / (3 * (1 - load)) + 2 * wait**2
    met, met_square = one(found.met), one(found.met_square)
    variance = (
        met_square * (1 - load) ** 2 / 12 + rate * met / 2 * (each**2 + spread)
        + ((1 + load) / 2) ** 2 * (met_square - met**2)
    )  # fmt: skip
    assert variance + wait**2 == pytest.approx(square, rel=1e-6)


def test_beside_decodes_an_arrival_waits_half_a_step_longer():
    """Vacations (Doshi 1986): W = W of M/G/1 + E[V^2] / (2 E[V])."""
    alone, beside = (iterations(8.0, passes(0.05, step=0.02), idle=idle) for idle in (1.0, 0.0))
    assert (one(beside.met) - one(alone.met)) * (1 + 0.4) / 2 == pytest.approx(0.02 / 2)


@given(rate=st.floats(0.1, 15), setup=st.floats(0, 0.1), most=st.sampled_from([1.0, 4.0, 64.0]))
def test_prompts_take_their_share_of_the_time(rate, setup, most):
    found = iterations(rate, passes(0.05, setup, most=most))
    least, largest = rate * (0.05 + setup / most), rate * (0.05 + setup)
    assert least * (1 - 1e-9) <= one(found.prompting) <= largest * (1 + 1e-9) or one(found.prompting) > 0.999
    assert 1.0 <= one(found.group) <= most


def test_beyond_what_prompts_allow_it_never_ends():
    found = iterations(21.0, passes(0.05))
    assert math.isinf(one(found.met))


# -- bursts ------------------------------------------------------------------------------------------


def test_after_an_arrival_a_poisson_process_is_as_ever():
    assert renewals(0.7, 1.0) == 0.7


@pytest.mark.parametrize("cv", [0.5, 1.5, 3.0])
def test_after_an_arrival_bursts_bring_more(cv):
    """The renewal theorem: (cv^2 - 1) / 2 arrivals more in the long run; few at once."""
    assert one(renewals(50.0, cv)) - 50 == pytest.approx((cv**2 - 1) / 2, abs=0.06 * cv**2)
    drawn = np.random.default_rng(0).gamma(1 / cv**2, cv**2, (20_000, 40)).cumsum(axis=1)
    for within in (0.1, 0.5, 2.0):
        counted = float(np.mean(np.sum(drawn <= within, axis=1)))
        assert one(renewals(within, cv)) == pytest.approx(counted, rel=0.05, abs=0.005)


def test_a_clock_brings_one_per_tick():
    assert one(renewals(0.5, 0.0)) == pytest.approx(0.0, abs=1e-3)
    assert one(renewals(1.5, 0.0)) == pytest.approx(1.0, abs=1e-3)


# -- in flight ---------------------------------------------------------------------------------------


def chain(offered: float, places: float, clumps=1.0, slowing=0.0, tail=None):
    """Requests of one second each at a rate of `offered`, where each further one slows all by `slowing`."""
    finished = lambda running: running / (1 + slowing * running)  # noqa: E731
    width = 6 * math.sqrt((offered + 1) * clumps) + 4
    capacity = float(finished(places))
    span = (np.array([offered - width]), np.array([offered + width + 3 * clumps]))
    return birth_death(offered, np.array([places]), capacity, finished, clumps, tail or clumps, span)


@given(st.floats(0.05, 300))
def test_where_nobody_waits_nor_slows_it_is_poisson(offered):
    found = chain(offered, 1e6)
    assert one(found.mean) == pytest.approx(offered, rel=0.01)
    assert one(found.variance) == pytest.approx(offered, rel=0.05)
    assert one(found.full) == 0


@given(offered=st.floats(3, 100), clumps=st.floats(1, 8))
def test_clumps_widen_it_and_leave_the_mean(offered, clumps):
    found = chain(offered, 1e6, clumps)
    assert one(found.mean) == pytest.approx(offered, rel=0.08)  # widest where few states are evenly spaced over many
    assert one(found.variance) == pytest.approx(clumps * offered, rel=0.15)


@given(servers=st.integers(1, 30), load=st.floats(0.1, 0.97))
def test_with_so_many_places_it_is_erlang_c(servers, load):
    found = chain(load * servers, float(servers))
    assert one(found.full) == pytest.approx(one(erlang_c(float(servers), load)), rel=0.02, abs=1e-9)
    assert one(found.mean) == pytest.approx(load * servers, rel=0.01)  # busy servers


@given(load=st.floats(0.05, 0.95), clumps=st.floats(1, 5))
def test_one_place_is_taken_as_often_as_the_load_says_however_requests_clump(load, clumps):
    assert one(chain(load, 1.0, clumps).full) == pytest.approx(load, rel=1e-6)


@given(places=st.integers(2, 40), load=st.floats(0.3, 0.9), slowing=st.floats(0, 0.2), clumps=st.floats(1, 3))
def test_as_many_leave_as_come(places, load, slowing, clumps):
    finished = lambda running: running / (1 + slowing * running)  # noqa: E731
    rate = load * float(finished(places))
    whole = (np.zeros(1), np.array([float(places)]))
    found = birth_death(rate, np.array([float(places)]), float(finished(places)), finished, clumps, clumps, whole)
    assert one(found.expected(lambda k: finished(np.maximum(k, 0.0)))) == pytest.approx(rate, rel=1e-6)


@given(loads=st.lists(st.floats(0.05, 0.95), min_size=2, max_size=2).map(sorted), places=st.integers(1, 300))
def test_places_are_taken_the_more_the_more_come(loads, places):
    few, many = (one(chain(load * places, float(places), 1.5).full) for load in loads)
    assert 0 <= few <= many + 1e-9 <= 1 + 1e-9


@given(st.floats(0.5, 12), st.floats(0.05, 5))
def test_of_others_who_have_places_there_are_fewer(offered, others):
    found = chain(offered, 1e6)
    shares = [one(found.leaves(np.array([places]), np.array([others]))) for places in (1.0, 4.0, 16.0, 400.0)]
    assert shares == sorted(shares)
    assert shares[0] >= 0
    assert shares[-1] == pytest.approx(1.0, rel=1e-3)


# -- chunks ------------------------------------------------------------------------------------------


@given(rate=st.floats(0.01, 6), each=st.floats(0.05, 0.15), setup=st.floats(0, 0.05))
def test_the_last_pass_of_a_prompt_is_short_where_nobody_waits(rate, each, setup):
    short = one(lone(np.array([rate]), passes(each), each, setup))
    assert short == 1  # the only pass of its prompt
    several = replace(passes(each), opening=0.9 * each)
    short, more = (one(lone(np.array([r]), several, each, setup)) for r in (rate, 1.1 * rate))
    assert 0 <= more <= short + 1e-12 <= 1 + 1e-12
    assert one(lone(np.array([1e-9]), several, each, setup)) == pytest.approx(1.0)


# -- percentiles -------------------------------------------------------------------------------------


def test_quantiles_of_one_exponential():
    spread = [(np.array([1.0]), Spread(np.array([2.0]), np.array([5.0]), np.array([9.0])))]
    for share in (0.5, 0.9, 0.99):
        assert one(quantile(spread, share)) == pytest.approx(2 - 3 * math.log(1 - share), rel=1e-5)


def test_quantiles_of_a_mixture_lie_where_its_parts_say():
    certain = [
        (np.array([weight]), Spread(*np.array([[at], [at], [0.0]]))) for weight, at in ((0.95, 1.0), (0.05, 7.0))
    ]
    assert one(quantile(certain, 0.9)) == pytest.approx(1.0, rel=1e-5)
    assert one(quantile(certain, 0.99)) == pytest.approx(7.0, rel=1e-5)
    assert one(at_most(certain, 3.0)) == pytest.approx(0.95)


@given(
    mean=st.floats(0.01, 100), cv=st.floats(0.05, 2), least=st.floats(0, 0.99), share=st.sampled_from([0.5, 0.9, 0.99])
)
def test_a_quantile_is_the_inverse_of_the_probability(mean, cv, least, share):
    excess = (1 - least) * mean
    spread = [(np.array([1.0]), Spread(*np.array([[least * mean], [mean], [(cv * excess) ** 2]])))]
    assert one(at_most(spread, quantile(spread, share))) == pytest.approx(share, abs=1e-3)


def test_nothing_is_above_the_most():
    spread = [(np.array([1.0]), Spread(*np.array([[1.0], [2.0], [4.0], [3.0]])))]
    assert one(quantile(spread, 0.99)) == pytest.approx(3.0, rel=1e-5)


def test_between_grid_points_it_is_a_line_and_beyond_them_constant():
    table = np.array([[1.0], [3.0], [4.0]])
    found = interpolate((1.0, 2.0, 4.0), table, np.array([0.5, 1.0, 1.5, 3.0, 9.0]))
    assert found.tolist() == [1.0, 1.0, 2.0, 3.5, 4.0]
