"""Deployments of two pools that a plan may choose: worker tables first, then pairs of them, then rates of the best.

    workers   of every layout, accelerator and precision: requests/s of full prompt passes, and of as many sequences as
              have a step within the latencies. No pair serves more than min(x R_p, y R_d) of these.
    pairs     per size of deployment the two layouts that serve most per device (`dse.cost.matching`), and the same
              with one prefill worker more, for queues
    rates     the highest at which a deployment keeps the latencies (`dse.cost.pooled`), of those that no replicas of
              the same accelerator, nor other pools, can do without

Like accelerators are paired with each other; unlike ones where they are the cheapest for some size: two kinds for its
prompts, two for its tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.capacity import highest_rate_of_pools, memory_share
from dse.cost.choices import AXES, PREFILL, Choices
from dse.cost.feasible import structure_status
from dse.cost.lengths import expected
from dse.cost.matching import match
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.cost.workers import DecodeWorker, PrefillWorker
from dse.run.axes import BOXED, POOLED, PoolAxes
from dse.run.deployment import CODES, Deployment, degrees_text, variant_words, worker_facts
from dse.run.resolve import Sweep
from dse.search.space import Layout
from dse.spec.hardware import HardwareSpec
from dse.spec.slo import Limit, Slo

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

CELLS = 400_000
"""Pairs of workers matched at once."""
SLICE = 20_000
"""Deployments times sizes whose queues are computed at once."""
CHEAPEST = 2
"""Accelerators that are the cheapest for the prompts of a size, and for its tokens, of which unlike pairs are made."""
HALVINGS = 12
"""Of the load at which prompts wait as long as they may."""


@dataclass(frozen=True, eq=False)
class PooledDeployment(Deployment):
    """x prefill workers and y decode workers; what is inherited is of the decode workers."""

    prefill_layout: int = 0
    prefill_hardware: int = 0
    prefill_precision: int = 0
    workers: tuple[int, int] = (1, 1)
    """Of each pool."""

    @property
    def pools(self) -> PoolAxes:
        """Axes of the prefill workers."""
        assert self.sweep.axes.pools is not None
        return self.sweep.axes.pools

    @property
    def prefill_chip(self) -> HardwareSpec:
        """The accelerator of the prefill workers."""
        return self.pools.hardware[self.prefill_hardware]

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        """Of a worker of each pool."""
        return self.pools.layout[self.prefill_layout], self.sweep.axes.layout[self.layout]

    @property
    def devices_of_pools(self) -> tuple[int, int]:
        """Accelerators of each pool."""
        prefill, decode = (count * layout.devices for count, layout in zip(self.workers, self.layouts, strict=True))
        return prefill, decode

    @property
    def held(self) -> dict[str, int]:
        """Accelerators of one deployment by name, those of the decode workers first."""
        prefill, decode = self.devices_of_pools
        found = {self.chip.name: decode}
        found[self.prefill_chip.name] = found.get(self.prefill_chip.name, 0) + prefill
        return found

    @property
    def prompt_devices(self) -> Mapping[str, int]:
        """Accelerators of the prefill workers."""
        return {self.prefill_chip.name: self.devices_of_pools[0]}

    @property
    def pool_facts(self) -> list[dict[str, Any]]:
        """What the workers of each pool are."""
        sweep, mesh = self.points([0], [1.0])
        kinds = self.served(Point(sweep.models[0], sweep.choices_of(0, 0), mesh)).kinds
        names, chips = ("prefill", "decode"), (self.prefill_chip, self.chip)
        return [
            {"pool": name, "workers": count, "hardware": chip.name, **worker_facts(point), "devices": layout.devices}
            for name, count, chip, point, layout in zip(names, self.workers, chips, kinds, self.layouts, strict=True)
        ]

    def points(self, buckets: Sequence[int], rates: Sequence[float]) -> tuple[Sweep, Mesh]:
        """This deployment at some of the model's buckets: the points, and the sweep they are of."""
        axes, variant, pools = self.sweep.axes, self.sweep.variants[self.box], self.pools
        one: dict[str, Any] = {name: (variant[name],) for name in BOXED}
        one |= {"hardware": (self.chip,), "changes": (axes.changes[self.hardware],)}
        one |= {"layout": (axes.layout[self.layout],), "precision": (axes.precision[self.precision],)}
        one |= {"workload": tuple(axes.workload[bucket] for bucket in buckets), "rate": tuple(rates)}
        one["pools"] = replace(
            pools, hardware=(self.prefill_chip,), layout=(pools.layout[self.prefill_layout],),
            precision=(pools.precision[self.prefill_precision],),
        )  # fmt: skip
        sweep = replace(
            self.sweep, axes=replace(axes, **one),
            accuracy=((self.sweep.accuracy[0][self.precision],),),
            prefill_accuracy=((self.sweep.prefill_accuracy[0][self.prefill_precision],),),
        )  # fmt: skip
        zero, place = np.zeros(len(buckets), dtype=np.intp), np.arange(len(buckets))
        choices = sweep.choices_of(0, 0)
        index = {"workload": place, "rate": place, **_widest(choices, zero)}
        return sweep, Mesh.points(choices.axes, [index.get(axis, zero) for axis in choices.axes])

    def most(self, bucket: int) -> int:
        """The limit on the sequences of a decode worker."""
        return max(self.pools.decode_batch)

    def served(self, point: Point) -> Pooled:
        """Its steady state at these points."""
        prefill, decode = (np.full(1, float(count)) for count in self.workers)
        return Pooled(point, point.choices.runtime).with_workers(prefill, decode)


def _widest(choices: Choices, zero: Indices) -> dict[str, Indices]:
    """The largest limits: the rate decides how many run."""
    return {axis: zero + int(np.argmax(choices.along(axis))) for axis in ("batch", "prefill_batch")}


# -- workers ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Workers:
    """Requests/s of one worker of each kind; 0 where it cannot run or is too slow. Shape (layouts, chips, schemes,
    sizes).
    """

    full: Floats
    """At most."""
    usable: Floats
    """Where queues keep the latencies, roughly."""
    devices: Floats
    """Of a worker. Shape (layouts,)."""


def _table(choices: Choices) -> Mesh:
    lengths = [slice(0, size) for size in choices.shape]
    widest = int(np.argmax(choices.batch))
    return Mesh.open(AXES, [*lengths[:-1], slice(widest, widest + 1)])


def _flat(values: Any, shape: Sequence[int]) -> Floats:
    """Along layouts, chips, schemes and sizes: the other axes have one value."""
    return np.broadcast_to(np.asarray(values, dtype=float), shape)[:, :, :, 0, :, 0, 0]


def _runs(point: Point, memory: Any, most_loss: float | None) -> NDArray[np.bool_]:
    runs = (structure_status([point], CODES) == 0) & (memory.over <= 1.0)
    if most_loss is not None:
        loss = point.mesh.take(point.choices.accuracy_of(point.model.name), "precision")
        runs = runs & (loss <= most_loss)  # what nobody has measured is NaN
    return np.asarray(runs)


def _prefill_workers(model: Any, choices: Choices, limits: Sequence[Limit], most_loss: float | None) -> Workers:
    point = Point(model, choices, _table(choices))
    worker = PrefillWorker(point, choices.runtime)
    full, own = worker.engine.finished(worker.most), expected(point.lengths, worker.alone)
    good, usable = _runs(point, worker.memory, most_loss), full
    for limit in limits:
        if limit.metric != "tpot_ms":
            slack: Any = limit.most * (1e-3 if limit.metric == "ttft_ms" else 1.0) - own
            good = good & (slack >= 0)
            usable = np.minimum(usable, full * _load_within(np.asarray(slack * full), limit.statistic))
    shape = point.mesh.shape
    return Workers(
        _flat(np.where(good, full, 0.0), shape), _flat(np.where(good, usable, 0.0), shape), choices.of_layout("devices")
    )


def _load_within(slack: Floats, statistic: str) -> Floats:
    """Load at which one server's queue waits so many services: M/D/1, its 99th percentile as if exponential."""
    low, high = np.zeros(np.shape(slack)), np.ones(np.shape(slack))
    for _ in range(HALVINGS):
        load = (low + high) / 2
        each = 0.5 / (1 - load)
        wait = load * each if statistic == "mean" else each * np.log(np.maximum(100 * load, 1.0))
        low, high = np.where(wait <= slack, load, low), np.where(wait <= slack, high, load)
    return low


def _decode_workers(model: Any, choices: Choices, limits: Sequence[Limit], most_loss: float | None) -> Workers:
    alone = replace(choices, pools=None, serving="static")
    point = Point(model, alone, _table(alone))
    worker = DecodeWorker(point, choices.runtime)
    longest: Any = np.full(1, np.inf)
    for limit in limits:
        if limit.metric == "tpot_ms":
            longest = np.minimum(longest, limit.most * 1e-3)
        elif limit.metric == "latency_s":
            longest = np.minimum(longest, limit.most / np.maximum(point.steps, 1.0))
    rates = np.where(_runs(point, worker.memory, most_loss), worker.paced(longest), 0.0)
    flat = _flat(rates, point.mesh.shape)
    return Workers(flat, flat, alone.of_layout("devices"))


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
    cheap = [
        _cheapest(table, [usd.get(chip.name, np.inf) for chip in hardware])
        for table, hardware in zip(tables, (prefill.hardware, choices.hardware), strict=True)
    ]
    for of_prefill, of_decode in zip(*cheap, strict=True):
        chips += list(product(of_prefill, of_decode))
    apart = [scheme.name for scheme in prefill.precision] != [scheme.name for scheme in choices.precision]
    schemes = [(p, d) for p, one in enumerate(prefill.precision) for d, other in enumerate(choices.precision)
               if one.kv_cache == other.kv_cache and (apart or one.name == other.name)]  # fmt: skip
    return [(p, a, d, b) for p, d in dict.fromkeys(chips) for a, b in schemes]


def _cheapest(table: Workers, usd: Sequence[float]) -> Iterator[list[int]]:
    """Per size, the chips with the least dollars per request."""
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = table.devices[:, None, None, None] * np.array(usd)[None, :, None, None] / table.usable
    of_chip = np.where(table.usable > 0, cost, np.inf).min(axis=(0, 2))
    for column in of_chip.T:
        order = np.argsort(column, kind="stable")[:CHEAPEST].tolist()
        yield [chip for chip in order if np.isfinite(column[chip])]


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
                per_device, *counted = (
                    np.asarray(each) for each in (matched.per_device, matched.prefill, matched.decode)
                )
                for place in np.argwhere(np.any(per_device > 0, axis=(1, 2))).tolist():
                    at = _best_pair(per_device, place)
                    counts = int(counted[0][at]), int(counted[1][at])
                    pair = kinds[place[0]]
                    found[(at[1], pair[0], pair[1], at[2], pair[2], pair[3], *counts)] = None
    return sorted(found)


def _best_pair(per_device: Floats, place: Sequence[int]) -> tuple[int, int, int, int]:
    of_pair = per_device[place[0], :, :, place[1]]
    layouts = np.unravel_index(int(np.argmax(of_pair)), of_pair.shape)
    return place[0], int(layouts[0]), int(layouts[1]), place[1]


# -- rates --------------------------------------------------------------------------------------------


@dataclass
class Rivals:
    """What there is to choose from beside: rates of replicas, and what they hold."""

    held: list[Mapping[str, int]]
    rates: Floats
    """Shape (rivals, sizes)."""

    def copies(self, held: Sequence[Mapping[str, int]]) -> Floats:
        """Of each rival (column) how many stand on the accelerators of each deployment (row)."""
        names = sorted({name for each in (*held, *self.held) for name in each})
        ours, theirs = (np.array([[one.get(n, 0) for n in names] for one in each]) for each in (held, self.held))
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(theirs[None] > 0, ours[:, None] // theirs[None], np.inf)
        return np.asarray(times.min(axis=2))

    def beat(self, held: Sequence[Mapping[str, int]], most: Floats) -> NDArray[np.bool_]:
        """Which deployments cannot serve more of any size than rivals in their place."""
        if not self.held or not len(held):
            return np.zeros(len(held), dtype=bool)
        copies = self.copies(held)
        out = np.zeros(len(held), dtype=bool)
        for place, (times, rates) in enumerate(zip(copies, most, strict=True)):
            near = times >= 1
            out[place] = np.any(np.all(times[near, None] * self.rates[near] >= rates[None], axis=1))
        return out


def pooled_deployments(
    sweep: Sweep,
    model: int,
    slo: Slo,
    most_loss: float | None,
    caps: Sequence[int],
    usd: Mapping[str, float],
    others: Sequence[Deployment],
) -> tuple[list[Deployment], int]:
    """Deployments of two pools of a sweep that serve more of some size than `others` do in their place.

    Args:
        sweep: of one model, whose workloads are the buckets.
        model: its index in the plan.
        slo: its latencies.
        most_loss: accuracy a precision may lose, percent.
        caps: sizes of deployments, in accelerators, up to which the best is looked for.
        usd: dollars per accelerator and hour.
        others: what else there is to choose from.

    Returns:
        The deployments, and how many pairs and sizes were looked at.
    """  # fmt: skip
    p99 = {limit.metric: limit.most for limit in slo.limits if limit.statistic == "p99"}
    sweep = replace(sweep, settings=replace(sweep.settings, slo=p99))
    found: list[Deployment] = []
    points = 0
    for box, variant in enumerate(sweep.variants):
        if variant["serving"] == POOLED and variant["offload"] != "lp":
            rivals = Rivals([each.held for each in others], np.array([each.rates for each in others]))
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                each, looked_at = _of_box(sweep, box, model, slo, most_loss, caps, usd, rivals)
            found += each
            points += looked_at
    return found, points


def _of_box(
    sweep: Sweep, box: int, model: int, slo: Slo, most_loss: float | None, caps: Sequence[int],
    usd: Mapping[str, float], rivals: Rivals,
) -> tuple[list[Deployment], int]:  # fmt: skip
    choices, spec = sweep.choices_of(box, 0), sweep.models[0]
    pools = choices.pools
    assert pools is not None
    tables = (
        _prefill_workers(spec, pools.prefill, slo.limits, most_loss),
        _decode_workers(spec, choices, slo.limits, most_loss),
    )
    units = _units(tables, _pairings(choices, tables, usd), caps, pools.max_workers)
    made = [_deployment(sweep, box, model, unit) for unit in units]
    bound = np.array([_bound(tables, unit) for unit in units]).reshape(len(units), len(sweep.axes.workload))
    kept = np.flatnonzero(~rivals.beat([each.held for each in made], bound))
    units, made, bound = [units[place] for place in kept], [made[place] for place in kept], bound[kept]
    rates = _rates(spec, choices, units, bound, slo.limits)
    left = [replace(each, rates=rate) for each, rate in zip(made, rates, strict=True) if np.any(rate > 0)]
    return list(left), sum(table.full.size for table in tables) + bound.size


def _bound(tables: tuple[Workers, Workers], unit: Unit) -> Floats:
    """What a deployment serves of each size at most."""
    prefill, decode = tables
    of_prefill, of_decode = prefill.full[unit[0:3]], decode.full[unit[3:6]]
    return np.asarray(np.minimum(unit[6] * of_prefill, unit[7] * of_decode))


def _rates(model: Any, choices: Choices, units: Sequence[Unit], bound: Floats, limits: Sequence[Limit]) -> Floats:
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
        index |= {"workload": size, **_widest(choices, zero)}
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
