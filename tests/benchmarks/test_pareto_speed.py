"""Running fronts cost little beside what they replace: stated as ratios within one run."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from dse.search.pareto import FrontArchive, TopArchive, non_dominated

pytestmark = pytest.mark.benchmark

SLICES, GROUPS, LAYOUTS, BATCHES, PRECISIONS = 20, 8, 125, 50, 5
POINTS = GROUPS * LAYOUTS * BATCHES * PRECISIONS  # 250,000 in a slice


def slice_of(seed: int):
    """Throughput, latency and memory of a toy deployment, on an open mesh, with its feasible points."""
    rng = np.random.default_rng(seed)
    group, _, batch, bits = np.ix_(np.arange(GROUPS), range(LAYOUTS), np.arange(1, BATCHES + 1), [4, 5, 8, 8.5, 16])
    devices = rng.choice([1.0, 2, 4, 8], LAYOUTS).reshape(1, -1, 1, 1)
    speed = rng.uniform(0.3, 1.0, LAYOUTS).reshape(1, -1, 1, 1) * (1 + 0.2 * np.sin(seed))
    memory = (7 * bits / 8 + batch * (group + 1) * 0.1) / devices
    latency = memory / speed + 0.02 * devices + batch / devices / 50
    return (
        [-batch / latency / devices, latency, memory],
        group,
        memory < 12,
        range(seed * POINTS, (seed + 1) * POINTS),
    )


@pytest.fixture(scope="module")
def stream():
    return [slice_of(seed) for seed in range(SLICES)]


def seconds(work: Callable[[], object]) -> float:
    """Best of three."""
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def archived(kind, stream):
    archive = kind()
    for costs, group, feasible, number in stream:
        archive.update(costs, group, feasible, number)
    return archive


def flat(costs, group, feasible, number):
    shape = np.broadcast_shapes(*(c.shape for c in costs), feasible.shape)
    columns = np.column_stack([np.broadcast_to(c, shape).ravel() for c in costs])
    return columns, np.broadcast_to(group, shape).ravel(), np.broadcast_to(feasible, shape).ravel()


def whole_fronts(piece) -> None:
    """The exact front of every group of one slice, with nothing dropped beforehand."""
    columns, group, feasible = flat(*piece)
    for g in range(GROUPS):
        non_dominated(columns[(group == g) & feasible])


def pass_over(stream) -> None:
    """The least any filter can do: read each full-size cost once."""
    for costs, *_ in stream:
        for cost in costs:
            np.broadcast_to(cost, (GROUPS, LAYOUTS, BATCHES, PRECISIONS)) <= 0.5  # noqa: B015


def test_pivots_beat_sorting_everything(stream):
    """Measured about 3x."""
    filtered = seconds(lambda: archived(FrontArchive, stream[:5]))
    sorted_whole = seconds(lambda: [whole_fronts(piece) for piece in stream[:5]])
    print(f"fronts: {sorted_whole / filtered:.1f}x faster than sorting every slice")
    assert sorted_whole > 1.5 * filtered


def test_fronts_cost_a_few_dozen_passes_over_the_costs(stream):
    took, ceiling = seconds(lambda: archived(FrontArchive, stream)), seconds(lambda: pass_over(stream))
    print(f"fronts: {SLICES * POINTS / took / 1e6:.0f} M points/s, {took / ceiling:.0f} passes")
    assert took < 60 * ceiling


def test_tops_cost_less_than_fronts(stream):
    tops, fronts = (seconds(lambda kind=kind: archived(kind, stream)) for kind in (TopArchive, FrontArchive))
    print(f"tops: {tops / fronts:.2f} of the fronts' time")
    assert tops < 1.5 * fronts


@pytest.mark.parametrize("kind", [FrontArchive, TopArchive])
def test_memory_does_not_grow_with_the_stream(stream, kind):
    """Beyond the slice itself (6 MB) a few MB, whatever the number of slices."""

    def peak(pieces) -> int:
        tracemalloc.start()
        archived(kind, pieces)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    long, short = peak(stream), peak(stream[:4])
    print(f"{kind.__name__}: peak {long / 1e6:.1f} MB")
    assert long < short + 12e6  # the rows that wait to be reduced
    assert long < 16e6
