"""The queues of two pools beside the simulator: means within 10 %, 99th percentiles within 25 %."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from deployments import choices, load_model

from dse.cost.choices import Pools
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.simulate.deployment import Deployment
from dse.simulate.fleet import simulate
from dse.simulate.pools import transfer_of
from dse.simulate.trace import draw
from dse.spec.workload import Workload

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # quotients of what is masked

REQUESTS, WARM = 6000, 1200
CASES = [((3, 1), (3000, 100), 0.7), ((1, 2), (500, 300), 0.6), ((1, 1), (1500, 200), 0.4), ((5, 1), (6000, 40), 0.5)]


def pooled(workers, size, **more) -> Pooled:
    one = replace(choices(**more), workload=[Workload(*size)], batch=[256])
    axes = replace(one, serving="disaggregated", pools=Pools(one))
    point = Point(load_model("llama-3.1-8b"), axes, Mesh.points(axes.axes, [np.zeros(1, dtype=int)] * len(axes.axes)))
    return Pooled(point, axes.runtime).with_workers(*np.array(workers, dtype=float).reshape(2, 1))


def played(pools: Pooled, workers, size, rate: float, **more):
    plain = replace(pools.point.choices, serving="static", pools=None, batch=[1])
    one = Deployment(pools.point.model, plain, 256)
    x, y = workers
    groups = more.get("groups", 1)
    trace = draw(REQUESTS, rate, [size], seed=3)
    return simulate([one] * (y * groups), trace, dispatch="least-loaded", prefill=[one] * (x * groups),
                    transfer=transfer_of(pools), groups=groups)  # fmt: skip


@pytest.mark.parametrize(("workers", "size", "load"), CASES)
def test_queues_are_those_that_are_played(workers, size, load):
    pools = pooled(workers, size)
    rate = load * pools.capacity
    queue, record = pools.at(rate), played(pools, workers, size, float(rate[0]))
    ttft, tpot, latency = (values[WARM:] for values in (record.ttft, record.tpot, record.latency))
    np.testing.assert_allclose(queue.ttft, np.mean(ttft), rtol=0.1)
    np.testing.assert_allclose(queue.tpot, np.mean(tpot), rtol=0.1)
    np.testing.assert_allclose(queue.latency, np.mean(latency), rtol=0.1)
    np.testing.assert_allclose(queue.quantile("first_tokens", 0.99), np.percentile(ttft, 99), rtol=0.25)
    np.testing.assert_allclose(queue.quantile("gaps", 0.99), np.percentile(tpot, 99), rtol=0.25)


def test_what_is_exposed_of_a_transfer_is_at_most_what_the_cost_model_adds():
    """Its layers overlap to the last; the cost model adds the last one on top, and hides the start of a transfer."""
    for size in ((200, 10), (8000, 10)):
        pools = pooled((1, 1), size)
        sent = played(pools, (1, 1), size, 0.01).sent
        exposed = float(pools.at(np.full(1, 0.01)).exposed[0])
        start = float(np.ravel(pools.link.alpha)[0])
        assert start < 20e-6
        assert np.all(sent <= exposed + start)
        assert np.all(sent > 0)


def test_groups_are_deployments_of_their_own():
    """Twice the deployments carry twice the rate as fast; together they are a little better than one, never worse."""
    pools, workers, size = pooled((2, 1), (3000, 100)), (2, 1), (3000, 100)
    rate = 0.7 * float(pools.capacity[0])
    one, two = played(pools, workers, size, rate), played(pools, workers, size, 2 * rate, groups=2)
    assert np.mean(two.ttft[WARM:]) <= np.mean(one.ttft[WARM:]) * 1.02
    np.testing.assert_allclose(np.mean(two.tpot[WARM:]), np.mean(one.tpot[WARM:]), rtol=0.05)


def test_more_is_finished_than_the_capacity_says_by_nobody():
    pools, workers, size = pooled((2, 1), (3000, 100)), (2, 1), (3000, 100)
    record = played(pools, workers, size, 3 * float(pools.capacity[0]))
    assert REQUESTS / record.end <= float(pools.capacity[0]) * 1.02


def test_the_same_seed_gives_the_same_bytes():
    pools, workers, size = pooled((2, 1), (3000, 100)), (2, 1), (3000, 100)
    one, other = (played(pools, workers, size, 10.0, groups=2) for _ in range(2))
    for name in ("first", "last", "sent", "replica"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
