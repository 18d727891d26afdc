"""Busy periods of a single server, against closed forms and a played queue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.cost.busy_periods import beside, transform, work_in_front

UNLIKE = [(np.ones(1), np.ones(1), np.full(1, 0.9)), (np.ones(1), np.ones(1), np.full(1, 0.1))]
"""Lengths of which one in ten is the second."""


def one(value) -> float:
    return float(np.ravel(value)[0])


def played(rate: float, services: list[float], requests: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrivals, services and waits of a single server."""
    random = np.random.default_rng(1)
    gaps, service = random.exponential(1 / rate, requests), random.choice(services, requests, p=[0.9, 0.1])
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:])])
    return np.cumsum(gaps), service, walk - np.minimum.accumulate(walk)


@given(load=st.floats(0.05, 0.95), leave=st.floats(1e-3, 10.0), ratio=st.floats(1.0, 20.0))
def test_the_transform_solves_its_equation_from_below(load, leave, ratio):
    services = [np.ones(1), np.full(1, ratio)]
    rate = load / (0.9 + 0.1 * ratio)
    found = one(transform(UNLIKE, services, rate, leave))
    right = [np.exp(-service * (leave + rate * (1 - found))) for service in services]
    assert 0.0 < found < 1.0
    assert found == pytest.approx(one(0.9 * right[0] + 0.1 * right[1]), abs=1e-4)


@given(load=st.floats(0.05, 0.9))
def test_busy_periods_are_as_long_as_the_load_says(load):
    found = one(transform(UNLIKE, [np.ones(1), np.ones(1)], load, 1e-5))
    assert (1 - found) / 1e-5 == pytest.approx(1 / (1 - load), rel=0.02)


@pytest.mark.parametrize(("load", "ratio"), [(0.5, 1.0), (0.8, 1.0), (0.5, 10.0), (0.7, 10.0)])
def test_work_in_front_is_what_arrivals_find(load, ratio):
    mean = 0.9 + 0.1 * ratio
    spread, skew = (0.9 * (1 - mean) ** k + 0.1 * (ratio - mean) ** k for k in (2, 3))
    _, _, waits = played(load / mean, [1.0, ratio], 1_000_000)
    first, second = (one(value) for value in work_in_front(load / mean, mean, spread, skew))
    assert first == pytest.approx(waits.mean(), rel=0.04)
    assert second == pytest.approx(np.mean(waits**2), rel=0.1)


@pytest.mark.parametrize(("load", "stay", "within"), [(0.3, 20.0, 0.12), (0.7, 20.0, 0.03), (0.8, 100.0, 0.03)])
def test_beside_are_as_many_as_in_a_played_queue(load, stay, within):
    """One of each service that ended, for an exponential time: mean over services, by the work that waits then."""
    arrivals, _, waits = played(load, [1.0, 1.0], 200_000)
    begins = arrivals + waits
    work = np.searchsorted(arrivals, begins, side="right") - np.arange(len(arrivals)) - 0.5
    there = total = previous = 0.0
    for begin, weight in zip(begins, work, strict=True):
        there *= np.exp(-(begin - previous) / stay)
        total += weight * there * stay * -np.expm1(-1.0 / stay)
        there, previous = there * np.exp(-1.0 / stay) + 1.0, begin + 1.0
    found = one(beside(UNLIKE, [np.ones(1), np.ones(1)], load, np.full(1, stay), load * stay))
    assert found == pytest.approx(total / work.sum(), rel=within)
    assert found > load * stay  # more than on average
