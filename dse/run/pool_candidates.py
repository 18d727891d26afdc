"""Deployments of two pools that a plan may choose: worker tables first, then pairs of them, then rates of the best.

    workers   of every layout, accelerator and precision: requests/s of full prompt passes, and of as many sequences as
              have a step within the latencies. No pair serves more than min(x R_p, y R_d) of these.
    pairs     per size of request and of deployment the two layouts and the counts that serve most per device
              (`dse.cost.matching`), of full prefill workers and of as full ones as queues allow
    rates     the highest at which a deployment keeps the latencies (`dse.cost.pools_under_load`), where replicas of
              the same accelerators cannot stand in for it; of these, few that come near the best
              (`dse.run.pool_choice`)

Like accelerators are paired with each other; unlike ones of a vendor where they are the cheapest for some size: two
kinds for its prompts, two for its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dse.cost.capacity import highest_rate_of_pools, memory_share
from dse.cost.choices import PREFILL, Choices
from dse.cost.feasible import structure_status
from dse.cost.matching import match
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.run.axes import POOLED
from dse.run.deployment import CODES, Deployment, Miss, degrees_text, variant_words
from dse.run.pool_choice import Rivals, needed
from dse.run.pool_workers import Workers, decode_workers, prefill_workers
from dse.run.pooled_deployment import PooledDeployment, widest
from dse.run.resolve import Sweep
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.slo import Limit, Slo

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

CELLS = 400_000
"""Pairs of workers matched at once."""
SLICE = 20_000
"""Deployments times sizes whose queues are computed at once."""
CHEAPEST = 2
"""Accelerators that are the cheapest for the prompts of a size, and for its tokens, that unlike pairs are made with."""


# -- pairs --------------------------------------------------------------------------------------------

Unit = tuple[int, int, int, int, int, int, int, int]
"""Layout, chip and precision of a prefill worker, of a decode worker, and the workers of each."""

Kinds = tuple[int, int, int, int]
"""Chip and precision of prefill workers, chip and precision of decode workers."""


def _pairings(choices: Choices, tables: tuple[Workers, Workers], usd: Mapping[str, float]) -> list[Kinds]:
    """Kinds of workers that are put together: like chips or cheap unlike ones, and one precision.

    Where prefill workers have precisions of their own, any that keep caches in one format.
    """
    assert choices.pools is not None
    prefill = choices.pools.prefill
    chips = [(p, d) for p, one in enumerate(prefill.hardware) for d, other in enumerate(choices.hardware)
             if one.name == other.name]  # fmt: skip
    costs = tuple(
        _cost(table, [usd.get(chip.name, np.inf) for chip in hardware])
        for table, hardware in zip(tables, (prefill.hardware, choices.hardware), strict=True)
    )
    chips += _unlike(costs, (prefill.hardware, choices.hardware))
    apart = [scheme.name for scheme in prefill.precision] != [scheme.name for scheme in choices.precision]
    schemes = [(p, d) for p, one in enumerate(prefill.precision) for d, other in enumerate(choices.precision)
               if one.kv_cache == other.kv_cache and (apart or one.name == other.name)]  # fmt: skip
    return [(p, a, d, b) for p, d in dict.fromkeys(chips) for a, b in schemes]


def _cost(table: Workers, usd: Sequence[float]) -> Floats:
    """Dollars for so many requests on the best workers of each chip. Shape (chips, sizes)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = table.devices[:, None, None, None] * np.array(usd)[None, :, None, None] / table.usable
    return np.asarray(np.where(table.usable > 0, cost, np.inf).min(axis=(0, 2)))


def _unlike(costs: Sequence[Floats], chips: Sequence[Sequence[HardwareSpec]]) -> Iterator[tuple[int, int]]:
    """Per size, the cheapest chips for prompts and for tokens, each with the cheapest of its vendor for the other.

    The transports of engines (NIXL, RIXL, Mooncake) join accelerators of one vendor.
    """
    for size in range(costs[0].shape[1]):

        def ranked(pool: int, vendor: str | None, size: int = size) -> list[int]:
            column, of_pool = costs[pool][:, size], chips[pool]
            able = [at for at, chip in enumerate(of_pool) if column[at] < np.inf and vendor in (None, chip.vendor)]
            return sorted(able, key=lambda at: (column[at], of_pool[at].name))

        for mine, other in ((0, 1), (1, 0)):
            for chip in ranked(mine, None)[:CHEAPEST]:
                for partner in ranked(other, chips[mine][chip].vendor)[:1]:
                    yield (chip, partner) if mine == 0 else (partner, chip)


def _units(tables: tuple[Workers, Workers], pairings: Sequence[Kinds], caps: Sequence[int], most: int) -> list[Unit]:
    """Per kinds, size of request and size of deployment, the two layouts and the counts that serve most per device."""
    prefill, decode = tables
    found: dict[Unit, None] = {}
    shape = (len(prefill.devices), len(decode.devices), prefill.full.shape[-1])
    step = max(CELLS // int(np.prod(shape)), 1)
    sizes = prefill.devices[:, None, None], decode.devices[None, :, None]
    for start in range(0, len(pairings), step):
        kinds = pairings[start : start + step]
        p, a, d, b = np.array(kinds).T
        of_decode = np.moveaxis(decode.full[:, d, b], 0, 1)[:, None]
        for of_prefill in (prefill.full, prefill.usable):
            rates = np.moveaxis(of_prefill[:, p, a], 0, 1)[:, :, None], np.minimum(of_decode, 1e12)
            for cap in caps:
                matched = match(rates, sizes, float(cap), most)
                per_device, x, y = map(np.asarray, (matched.per_device, matched.prefill, matched.decode))
                for place in np.argwhere(np.any(per_device > 0, axis=(1, 2))).tolist():
                    at = _best_pair(per_device, place)
                    counts = int(x[at]), int(y[at])
                    pair = kinds[place[0]]
                    found[(at[1], pair[0], pair[1], at[2], pair[2], pair[3], *counts)] = None
    return sorted(found)


def _best_pair(per_device: Floats, place: Sequence[int]) -> tuple[int, int, int, int]:
    of_pair = per_device[place[0], :, :, place[1]]
    layouts = np.unravel_index(int(np.argmax(of_pair)), of_pair.shape)
    return place[0], int(layouts[0]), int(layouts[1]), place[1]


# -- rates --------------------------------------------------------------------------------------------


def pooled_deployments(
    sweep: Sweep,
    model: int,
    slo: Slo,
    most_loss: float | None,
    caps: Sequence[int],
    usd: Mapping[str, float],
    others: Sequence[Deployment],
    *,
    scarce: bool,
) -> tuple[list[Deployment], list[Miss], int]:
    """Deployments of two pools of a sweep that serve more of some size than `others` do in their place.

    Args:
        sweep: of one model, whose workloads are the buckets.
        model: its index in the plan.
        slo: its latencies.
        most_loss: accuracy a precision may lose, percent.
        caps: sizes of deployments, in accelerators, up to which the best is looked for.
        usd: dollars per accelerator and hour.
        others: what else there is to choose from.
        scarce: whether something but money is limited.

    Returns:
        The deployments, what comes nearest for each size, and how many workers, pairs and sizes were looked at.
    """  # fmt: skip
    p99 = {limit.metric: limit.most for limit in slo.limits if limit.statistic == "p99"}
    sweep = replace(sweep, settings=replace(sweep.settings, slo=p99))
    found: list[Deployment] = []
    misses = [Miss() for _ in sweep.axes.workload]
    points = 0
    for box, variant in enumerate(sweep.variants):
        if variant["serving"] == POOLED and variant["offload"] != "lp":
            rates = np.array([each.rates for each in others]).reshape(len(others), len(misses))
            rivals = Rivals([each.held for each in others], rates)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                each, near, looked_at = _of_box(sweep, box, model, slo, most_loss, caps, usd, rivals, scarce)
            found += each
            misses = [old.nearer(new) for old, new in zip(misses, near, strict=True)]
            points += looked_at
    return found, misses, points


def _of_box(
    sweep: Sweep, box: int, model: int, slo: Slo, most_loss: float | None, caps: Sequence[int],
    usd: Mapping[str, float], rivals: Rivals, scarce: bool,
) -> tuple[list[Deployment], list[Miss], int]:  # fmt: skip
    choices, spec = sweep.choices_of(box, 0), sweep.models[0]
    pools = choices.pools
    assert pools is not None
    tables = (
        prefill_workers(spec, pools.prefill, slo.limits, most_loss),
        decode_workers(spec, choices, slo.limits, most_loss),
    )
    units = _units(tables, _pairings(choices, tables, usd), caps, pools.max_workers)
    made = [_deployment(sweep, box, model, unit) for unit in units]
    order = sorted(range(len(units)), key=lambda place: made[place].name)  # the same whatever the order of the input
    units, made = [units[place] for place in order], [made[place] for place in order]
    bound = np.array([_bound(tables, unit) for unit in units]).reshape(len(units), len(sweep.axes.workload))
    kept = np.flatnonzero(~rivals.beat([each.held for each in made], bound))
    units, made, bound = [units[place] for place in kept], [made[place] for place in kept], bound[kept]
    rates = _rates(spec, choices, units, bound, slo.limits)
    few = needed([each.held for each in made], rates, rivals, caps, usd, scarce=scarce)
    left = [replace(made[place], rates=rates[place]) for place in few]
    misses = [max(pair, key=lambda miss: miss.excess) for pair in zip(*(table.misses for table in tables), strict=True)]
    return [*left], misses, sum(table.full.size for table in tables) + bound.size


def _bound(tables: tuple[Workers, Workers], unit: Unit) -> Floats:
    """What a deployment serves of each size at most."""
    prefill, decode = tables
    of_prefill, of_decode = prefill.full[unit[0:3]], decode.full[unit[3:6]]
    return np.asarray(np.minimum(unit[6] * of_prefill, unit[7] * of_decode))


def _rates(model: ModelSpec, choices: Choices, units: Sequence[Unit], bound: Floats, limits: Sequence[Limit]) -> Floats:
    """Requests/s of each size within the latencies."""
    found = np.zeros(bound.shape)
    places = np.argwhere(bound > 0)
    for start in range(0, len(places), SLICE):
        unit, size = places[start : start + SLICE].T
        chosen = np.array(units, dtype=np.intp)[unit]
        zero = np.zeros(len(unit), dtype=np.intp)
        names = ("layout", "hardware", "precision")
        index = {PREFILL[name]: chosen[:, place] for place, name in enumerate(names)}
        index |= {name: chosen[:, 3 + place] for place, name in enumerate(names)}
        index |= {"workload": size, **widest(choices, zero)}
        point = Point(model, choices, Mesh.points(choices.axes, [index.get(axis, zero) for axis in choices.axes]))
        pooled = Pooled(point, choices.runtime).with_workers(chosen[:, 6].astype(float), chosen[:, 7].astype(float))
        may_run = (structure_status(pooled.kinds, CODES) == 0) & ~(memory_share(pooled) > 1.0)
        found[unit, size] = highest_rate_of_pools(pooled, limits, may_run)
    return found


def _deployment(sweep: Sweep, box: int, model: int, unit: Unit) -> PooledDeployment:
    axes, pools = sweep.axes, sweep.axes.pools
    assert pools is not None
    p_layout, p_chip, p_scheme, layout, chip, scheme, x, y = unit
    choices = sweep.choices_of(box, 0)
    assert choices.pools is not None
    first, second = pools.hardware[p_chip].name, axes.hardware[chip].name
    schemes = choices.pools.prefill.precision[p_scheme].name, choices.precision[scheme].name
    name = " ".join(filter(None, [
        axes.models[0].name, second, schemes[1],
        f"{y} x {degrees_text(axes.layout[layout])}",
        f"behind {x} x {degrees_text(pools.layout[p_layout])}", first if first != second else "",
        schemes[0] if schemes[0] != schemes[1] else "", *variant_words(sweep, box),
    ]))  # fmt: skip
    sizes = len(axes.workload)
    return PooledDeployment(
        name, model, sweep, box, layout, chip, scheme, np.zeros(sizes, dtype=np.intp), np.zeros(sizes),
        p_layout, p_chip, p_scheme, (x, y),
    )  # fmt: skip


def sizes_up_to(most: int | None, stock: Iterable[int]) -> list[int]:
    """Sizes of deployments that are looked for: doublings of two accelerators, the most there may be, a whole stock."""
    assert most is not None, "a plan always says it"
    doublings = [2 << doubling for doubling in range(most.bit_length())]
    return sorted({size for size in (*doublings, *stock) if 2 <= size < most} | {most})
