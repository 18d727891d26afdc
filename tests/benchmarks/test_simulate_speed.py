"""Speed of the simulator: leaps against single steps, and a million requests.

Not part of a normal test run: `pytest tests/benchmarks -m benchmark -s`.
"""

from __future__ import annotations

import time

import pytest
from simulate.deployments import deployment
from simulate.stepwise import Engine

from dse.simulate.fleet import simulate
from dse.simulate.results import capacity
from dse.simulate.trace import draw

pytestmark = pytest.mark.benchmark

schedulers = pytest.mark.parametrize("chunk", [None, 2048], ids=["prefill-first", "chunked"])


@schedulers
@pytest.mark.parametrize(("load", "goal"), [(0.1, 2.5), (0.8, 1.5)])
def test_leaps_against_single_steps(chunk, load, goal):
    """The busier a replica, the sooner the next event: leaps are long where little happens."""
    kind = deployment(chunk_tokens=chunk)
    trace = draw(6000, 1.0, "1024x256", seed=1)
    trace = trace.at_rate(load * capacity([kind], trace))
    start = time.process_time()
    record = simulate([kind], trace)
    leaps = time.process_time() - start
    Engine(record.fleet[0]).run(trace)
    steps = time.process_time() - start - leaps
    each = leaps / len(trace) * 1e6
    print(f"\nload {load:.0%}: {each:.0f} us per request, {steps / leaps:.1f} times as fast as step by step")
    assert steps > goal * leaps


@schedulers
def test_a_million_requests_take_minutes(chunk):
    """A tenth of them are run: nothing grows with their number but time."""
    kind = deployment(chunk_tokens=chunk)
    trace = draw(100_000, 1.0, "1024x256", seed=1)
    trace = trace.at_rate(0.8 * capacity([kind], trace))
    start = time.process_time()
    simulate([kind], trace)
    million = 10 * (time.process_time() - start)
    print(f"\na million requests at 80 % load: {million:.0f} s")
    assert million < 180
