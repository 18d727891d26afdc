"""The most requests per second a replica may be sent: the highest rate at which its latencies stay within limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.at_a_rate import ATTAINED
from dse.cost.blocks import Blocks, BlocksUnderLoad
from dse.cost.latency import UnderLoad
from dse.cost.lengths import expected
from dse.cost.memory import Memory
from dse.cost.mesh import Mesh
from dse.cost.open_loop import Capped, OpenLoop
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.cost.pools_under_load import PoolsUnderLoad
from dse.cost.serving import Static, SteadyMemory
from dse.cost.work import Array
from dse.spec.slo import Limit

Mask = NDArray[np.bool_]
Matters = Callable[[NDArray[np.float64], NDArray[np.float64]], Mask]

LEAST = 1 / 256
"""Share of the capacity below which no rate is looked for: a replica that idle is no way to serve anything."""

WAITED: Mapping[str, float] = {"ttft_ms": 1e-3, "latency_s": 1.0}
"""Latencies that hold the wait for a block, with their unit in seconds."""

COARSE, FINE = 5, 5
"""Bisections of the logarithm of the rate, from `LEAST` of the capacity to all of it: first to 19 %, which shows what
cannot matter, then to 0.5 %, on the safe side."""


def highest_rate(
    served: Static, limits: Sequence[Limit], may_run: Mask, matters: Matters | None = None
) -> NDArray[np.float64]:
    """Requests/s of one replica within the limits, 0 where there is no such rate. Shape of the mesh.

    Where requests arrive (`open-loop`) the rate is searched for, and that of static blocks where the wait for a block
    counts; any other steady state has one rate, and its latencies have means only: to these all limits are held.

    Args:
        served: on an open mesh.
        limits: of latencies.
        may_run: where structure and memory allow it.
        matters: told between what the rates of all points lie after the first bisections; what cannot matter any more
            is let go, and counts as 0.
    """
    shape = served.point.mesh.shape
    within = may_run
    for excess in excesses(served, limits).values():
        within = within & np.logical_not(excess > 1.0)
    if type(served) is Static and any(limit.metric in WAITED for limit in limits):
        return _highest_rate_of_blocks(served, limits, np.broadcast_to(within, shape))
    if not isinstance(served, OpenLoop):
        return np.broadcast_to(np.where(within, np.nan_to_num(served.requests_per_s), 0.0), shape)
    found = np.zeros(shape)
    places = np.nonzero(np.broadcast_to(within & _widens(served), shape))
    if not len(places[0]):
        return found
    loop = _listed(served, places)
    low, high = _searched(loop, limits, np.zeros(len(places[0])), loop.capacity, COARSE)
    if matters is not None:
        most = np.zeros(shape)
        found[places], most[places] = low, high
        kept = matters(found, most)[places]
        found = np.zeros(shape)
        places = tuple(place[kept] for place in places)
        loop, low, high = _listed(served, places), low[kept], high[kept]
    found[places], _ = _searched(loop, limits, low, high, FINE)
    return found


def _highest_rate_of_blocks(served: Static, limits: Sequence[Limit], within: Mask) -> NDArray[np.float64]:
    """The same of static blocks, for which requests wait. Shape of the mesh."""
    found = np.zeros(within.shape)
    places = np.nonzero(within & (np.broadcast_to(served.latency, within.shape) < np.inf))
    if len(places[0]):
        blocks = Blocks.of(served, places)
        found[places], _ = _searched(blocks, limits, np.zeros(len(places[0])), blocks.capacity, COARSE + FINE)
    return found


def highest_rate_of_pools(
    pools: Pooled, limits: Sequence[Limit], may_run: Mask, matters: Matters | None = None
) -> NDArray[np.float64]:
    """Requests/s of each deployment of a list within the limits, 0 where there is no such rate.

    Args:
        pools: on a list of points.
        limits: of latencies.
        may_run: where structure and memory allow it.
        matters: as above, told of the whole list.
    """
    within = may_run
    for excess in excesses(pools, limits).values():
        within = within & np.logical_not(excess > 1.0)
    within = np.broadcast_to(within, pools.point.mesh.shape)
    low, high = np.zeros(pools.point.mesh.shape), np.where(within, pools.capacity, 0.0)
    for sections in (COARSE, FINE):
        places = np.flatnonzero(high > 0)
        if not len(places):
            break
        found = _searched(pools.of(places), limits, low[places], high[places], sections)
        low[places], high[places] = found
        if matters is not None:
            kept = matters(low, high)
            low, high = np.where(kept, low, 0.0), np.where(kept, high, 0.0)
    return low


def excesses(served: Static, limits: Sequence[Limit]) -> Mapping[str, Array]:
    """Limit -> what a request takes over what it may; NaN where it has no such time.

    Of an open loop, a request that has the replica to itself: what misses a limit then, misses it at any rate.
    """
    times: Any = served
    if isinstance(served, OpenLoop | Pooled):
        times = _alone(served) if isinstance(served, OpenLoop) else _alone_in_pools(served)
    return {limit.name: _mean(times, limit.metric, served.point.steps) / limit.most for limit in limits}


def most_running(served: Static) -> Array:
    """Most sequences that run at once in a replica."""
    if isinstance(served, Pooled):
        return served.decoder.slots
    return served.slots if isinstance(served, OpenLoop) else served.running.batch


def memory_share(served: Static) -> Array:
    """Memory of a device over what it has, with all places of the batch taken; of pools, the fuller one's."""
    if isinstance(served, Pooled):
        return cast(Array, np.maximum(served.prefiller.memory.over, served.decoder.memory.over))
    if isinstance(served, OpenLoop):  # its own memory is that of the sequences that run at the rate of the axis
        point = served.point
        full, entering = point.with_batch(served.slots), point.with_batch(point.degrees.dp)
        memory: Memory = SteadyMemory(full, entering, served.runtime.occupancy)
    else:
        memory = served.memory
    return memory.total / memory.limit


def _widens(loop: OpenLoop) -> Mask:
    """Where a limit on the batch lets more run than the limit before it: the others are the same again."""
    slots = np.broadcast_to(loop.slots, loop.point.mesh.shape)
    return np.asarray(np.diff(slots, axis=-1, prepend=0.0) > 0)


def _listed(loop: OpenLoop, places: tuple[NDArray[np.intp], ...]) -> OpenLoop:
    """The open loop at some points of its open mesh, as a list: queues cost the same for each, wanted or not.

    With the batch that memory holds, which is what an engine is told to run.
    """
    point = loop.point
    axes = list(point.mesh.index)
    coordinates = [point.mesh.index[axis].ravel()[place] for axis, place in zip(axes, places, strict=True)]
    return Capped(Point(point.model, point.choices, Mesh.points(axes, coordinates)), loop.runtime)


def _searched(
    loop: OpenLoop | Pooled | Blocks, limits: Sequence[Limit], low: Array, high: Array, sections: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Between what the highest rate of each point of a list lies, after so many bisections more."""
    floor = LEAST * loop.capacity
    for _ in range(sections):
        middle = np.sqrt(np.maximum(low, floor) * high)
        good = _within(loop.at(middle), limits)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.asarray(low), np.asarray(high)


def _within(queue: UnderLoad | PoolsUnderLoad | BlocksUnderLoad, limits: Sequence[Limit]) -> Mask:
    """Where a rate keeps the limits: the percentiles together, which is stricter than each by itself."""
    good: Mask = np.asarray(queue.ttft > 0)  # NaN at and beyond the capacity
    if isinstance(queue, BlocksUnderLoad):
        return good & _blocks_within(queue, limits)
    if any(limit.statistic == "p99" for limit in limits):
        good = good & (queue.attainment >= ATTAINED)
    for limit in limits:
        if limit.statistic == "mean":
            good = good & np.logical_not(_mean(queue, limit.metric, queue.point.steps) > limit.most)
    return good


def _blocks_within(queue: BlocksUnderLoad, limits: Sequence[Limit]) -> Mask:
    """Where blocks keep the limits; those of the time per token no rate changes."""
    blocks, good = queue.blocks, np.ones(queue.rate.shape, dtype=bool)
    for metric, statistic, most in limits:
        if metric in WAITED:
            mean, busy = (queue.ttft, blocks.prompt) if metric == "ttft_ms" else (queue.latency, blocks.seconds)
            limit = most * WAITED[metric]
            good &= mean <= limit if statistic == "mean" else queue.waits(limit - busy) >= ATTAINED
    return good


class _Alone:
    """A request that has a replica to itself."""

    def __init__(self, ttft: Array, tpot: Array, steps: Array) -> None:
        self.ttft, self.tpot, self.latency = ttft, tpot, ttft + steps * tpot


def _alone(loop: OpenLoop) -> _Alone:
    runtime, point = loop.runtime, loop.point
    host = runtime.request_ms * 1e-3 + runtime.prompt_token_us * 1e-6 * point.input
    return _Alone(loop.engine.alone(np.ones(1))[0] + host, loop.engine.steps[0], point.steps)


def _alone_in_pools(pools: Pooled) -> _Alone:
    point, one = pools.point, np.ones(1)
    exposed = pools.handover.exposed(pools.sending(pools.link)(one), pools.prompting.computing(one))
    ttft = expected(point.lengths, pools.prefiller.alone) + exposed
    return _Alone(ttft, pools.decoder.engine.steps[0], point.steps)


def _mean(times: Any, metric: str, steps: Array) -> Array:
    """A mean latency in the unit of its name."""
    if metric == "ttft_ms":
        return cast(Array, times.ttft * 1e3)
    if metric == "tpot_ms":
        return cast(Array, np.where(steps > 0, times.tpot * 1e3, np.nan))
    return cast(Array, times.latency)
