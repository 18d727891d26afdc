"""Rate matching: against every pair of counts, and against what no counts can exceed."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.cost.matching import fills, match

RATES = st.floats(0.01, 100, allow_nan=False)
SIZES = st.integers(1, 8)

pairs = given(
    of_prefill=RATES, of_decode=RATES, prefill=SIZES, decode=SIZES, devices=st.integers(2, 40), most=st.integers(1, 32)
)


def counts(prefill: int, decode: int, devices: int, most: int, fill: bool = False) -> list[tuple[int, int, int]]:
    """Every (x, y, devices) there may be."""
    every = ((x, y, x * prefill + y * decode) for x, y in product(range(1, most + 1), repeat=2))
    return [(x, y, used) for x, y, used in every if used <= devices and not (fill and devices % used)]


def best(options: list[tuple[int, int, int]], of_prefill: float, of_decode: float) -> tuple[float, int]:
    """Most requests/s per device, and the fewest devices that serve so many."""
    rates = [min(x * of_prefill, y * of_decode) / used for x, y, used in options]
    most = max(rates)
    return most, min(used for rate, (_, _, used) in zip(rates, options, strict=True) if rate >= most * (1 - 1e-9))


@pairs
def test_the_counts_are_the_best_of_all(of_prefill, of_decode, prefill, decode, devices, most):
    found = match((of_prefill, of_decode), (prefill, decode), devices, most)
    options = counts(prefill, decode, devices, most)
    if not options:
        assert np.isnan(found.prefill)
        assert np.isnan(found.requests_per_s)
        assert found.per_device == 0
        return
    rate, used = best(options, of_prefill, of_decode)
    assert found.per_device == pytest.approx(rate, rel=1e-9)
    assert found.prefill * prefill + found.decode * decode == used
    assert found.requests_per_s == pytest.approx(rate * used, rel=1e-9)


@pairs
def test_counts_that_fill_are_the_best_of_those(of_prefill, of_decode, prefill, decode, devices, most):
    found = match((of_prefill, of_decode), (prefill, decode), devices, most, devices)
    options = counts(prefill, decode, devices, most, fill=True)
    assert bool(fills(devices, (prefill, decode), most)) == bool(options)
    if options:
        rate, used = best(options, of_prefill, of_decode)
        assert found.per_device == pytest.approx(rate, rel=1e-9)
        assert found.prefill * prefill + found.decode * decode == used
    else:
        assert np.isnan(found.decode)


@pairs
def test_no_counts_serve_more_per_device_than_workers_in_any_fraction(
    of_prefill, of_decode, prefill, decode, devices, most
):
    found = match((of_prefill, of_decode), (prefill, decode), devices, most)
    # A request needs prefill / of_prefill + decode / of_decode seconds of a device, whatever the counts.
    assert found.per_device <= 1 / (prefill / of_prefill + decode / of_decode) * (1 + 1e-12)


@pairs
def test_more_devices_and_more_workers_never_serve_less(of_prefill, of_decode, prefill, decode, devices, most):
    fewer, more = (
        match((of_prefill, of_decode), (prefill, decode), devices * times, most * times).per_device for times in (1, 2)
    )
    assert more >= fewer * (1 - 1e-12)


def test_equal_workers_are_one_of_each_however_many_there_may_be():
    found = match((0.1, 0.1), (2, 2), np.inf, 32)
    assert (found.prefill, found.decode) == (1, 1)  # 3 x 0.1 rounds to more than thrice 0.1


def test_a_mesh_of_workers_gives_the_bits_of_each_pair():
    rng = np.random.default_rng(1)
    of_prefill, of_decode = rng.uniform(0.1, 9, (7, 1)), rng.uniform(0.1, 9, (1, 11))
    prefill, decode = rng.integers(1, 5, (7, 1)).astype(float), rng.integers(1, 9, (1, 11)).astype(float)
    for fill in (None, 24.0):
        wide = match((of_prefill, of_decode), (prefill, decode), 24.0, 32, fill)
        for i, j in product(range(7), range(11)):
            sizes = prefill[i, 0], decode[0, j]
            one = match((of_prefill[i, 0], of_decode[0, j]), sizes, 24.0, 32, fill)
            for name in ("prefill", "decode", "requests_per_s", "per_device"):
                assert np.array_equal(getattr(one, name), getattr(wide, name)[i, j], equal_nan=True), (name, i, j)
