"""Fleet problems for tests: small ones drawn at random, and Mélange's slices as it has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dse.search.fleet import Device, Fleet, Option
from dse.search.milp import minimise

BUCKETS = 3


def fleet_of(table: Mapping[str, tuple[float, Sequence[float]]], demand: Sequence[float], **limits: Any) -> Fleet:
    """A problem of single devices: name -> (price, requests/s per bucket)."""
    options = tuple(Option(name, name, 1, np.array(rates, dtype=float)) for name, (_, rates) in table.items())
    devices = {name: Device(name, price) for name, (price, _) in table.items()}
    return Fleet(np.array(demand, dtype=float), options, devices, **limits)


@st.composite
def fleets(draw: st.DrawFn, **limits: Any) -> Fleet:
    """Two to four kinds of device, three buckets, each of which something serves."""
    count = draw(st.integers(2, 4))
    number = st.floats(0.25, 8).map(lambda value: round(value, 2))
    rate = st.one_of(st.just(0.0), number)
    table = {
        f"chip-{place}": (draw(number), draw(st.lists(rate, min_size=BUCKETS, max_size=BUCKETS)))
        for place in range(count)
    }
    table["all-round"] = (draw(number), draw(st.lists(number, min_size=BUCKETS, max_size=BUCKETS)))
    demand = draw(st.lists(st.one_of(st.just(0.0), st.floats(0.1, 20)), min_size=BUCKETS, max_size=BUCKETS))
    return fleet_of(table, demand, headroom=draw(st.sampled_from([0.0, 0.2])), **limits)


def slice_binaries(fleet: Fleet, slices: int) -> float:
    """The cost of Mélange's own program (2404.14527): one binary per slice of a bucket and kind of device."""
    import pulp

    problem = pulp.LpProblem("slices", pulp.LpMinimize)
    loads, buckets = fleet.loads, [int(b) for b in fleet.wanted]
    counts = [problem.add_variable(f"y{place}", 0, None, "Integer") for place in range(len(fleet.options))]
    on = {
        (place, bucket, part): problem.add_variable(f"x{place}_{bucket}_{part}", cat="Binary")
        for place in range(len(fleet.options))
        for bucket in buckets
        for part in range(slices)
        if np.isfinite(loads[place, bucket])
    }
    for bucket in buckets:
        for part in range(slices):
            problem += pulp.lpSum(x for (_, b, s), x in on.items() if (b, s) == (bucket, part)) == 1
    for place, count in enumerate(counts):
        terms = [loads[p, b] / slices * x for (p, b, _), x in on.items() if p == place]
        problem += pulp.lpSum(terms) <= count
    price = [fleet.devices[option.device].usd_per_hour for option in fleet.options]
    cost = pulp.lpSum(usd * count for usd, count in zip(price, counts, strict=True))
    return minimise(problem, [cost]).value
