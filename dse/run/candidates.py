"""Every deployment a plan may choose: what each serves of each bucket within its latencies, and what it misses by.

A deployment is a point of the model's sweep but for the workload and the limit on the batch: of those limits the one
with the highest throughput among those that keep the latencies is taken, bucket by bucket, on the mesh's arrays.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dse.cost.capacity import excesses, highest_rate, memory_share
from dse.cost.choices import AXES
from dse.cost.feasible import STRUCTURE, structure_status
from dse.cost.mesh import Mesh
from dse.cost.metrics import Scored
from dse.cost.phases import Point
from dse.run.axes import POOLED
from dse.run.demand import Bucket
from dse.run.deployment import CODES, Deployment, Miss, degrees_text, variant_words
from dse.run.parallel import mapped
from dse.run.planning import Plan
from dse.run.pool_candidates import pooled_deployments, sizes_up_to
from dse.run.resolve import Sweep
from dse.run.score import Engine
from dse.search.fleet import Device, Fleet, pruned
from dse.search.space import slices
from dse.spec.slo import Slo

Floats = NDArray[np.float64]

FORKED = 50_000
"""Points, some three seconds of queues, from which the models are shared among the cores."""

CELLS = 40_000
"""Points of a slice: queues take hundreds of arrays for each."""

_LOSSY = len(CODES) + 1
_WORDS = ["", *(words for _, words in STRUCTURE.values()), "no precision keeps the accuracy, as far as published"]


@dataclass
class Candidates:
    """What the engine found."""

    deployments: list[Deployment] = field(default_factory=list)
    misses: dict[int, Miss] = field(default_factory=dict)
    """By bucket of the plan that nothing serves."""
    points: int = 0
    """Evaluated."""


def find_candidates(plan: Plan) -> Candidates:
    """The undominated deployments of every model on every accelerator."""
    found = Candidates()
    sweeps = [model.sweep for model in plan.models if model.sweep is not None]
    points = sum(_size(sweep) for sweep in sweeps)
    indices = range(len(plan.models))
    for part in mapped(lambda index: _of_model(plan, index), indices, worth_it=points > FORKED):
        found.deployments += part.deployments
        found.misses |= part.misses
        found.points += part.points
    return found


def _of_model(plan: Plan, index: int) -> Candidates:
    """The undominated deployments of one model, and the nearest miss of each bucket that none serves."""
    model = plan.models[index]
    assert model.sweep is not None
    places = [place for place, bucket in enumerate(plan.buckets) if bucket.model == index]
    buckets = [plan.buckets[place] for place in places]
    bound = plan.file.constraints.get("accuracy_drop_pct")
    most_loss = None if bound is None else bound.max
    deployments, misses, points = deployments_of(model.sweep, index, buckets, model.slo, most_loss)
    if model.sweep.axes.pools is not None:
        pooled, near, more = _pooled(plan, index, most_loss, deployments)
        deployments, points = [*deployments, *pooled], points + more
        misses = [miss.nearer(other) for miss, other in zip(misses, near, strict=True)]
    served = np.any([each.rates > 0 for each in deployments], axis=0) if deployments else np.zeros(len(places), bool)
    missed = {place: miss for place, miss, by in zip(places, misses, served, strict=True) if not by}
    return Candidates(_undominated(deployments, buckets), missed, points)


def _pooled(
    plan: Plan, index: int, most_loss: float | None, others: Sequence[Deployment]
) -> tuple[list[Deployment], list[Miss], int]:
    """Deployments of two pools beside those of one engine."""
    model, budget = plan.models[index], plan.file.budget
    assert model.sweep is not None
    assert model.sweep.axes.pools is not None
    usd: dict[str, float] = {}
    for device in plan.devices.values():
        usd[device.chip] = min(usd.get(device.chip, np.inf), device.device.usd_per_hour)
    stock = [device.device.stock for device in plan.devices.values() if device.device.stock is not None]
    power = [budget.power_kw, *(region.power_kw for region in budget.regions.values())]
    scarce = bool(stock) or any(limit is not None for limit in (*power, budget.capital_usd))
    caps = sizes_up_to(model.sweep.axes.pools.devices, stock)
    return pooled_deployments(model.sweep, index, model.slo, most_loss, caps, usd, others, scarce=scarce)


def deployments_of(
    sweep: Sweep, model: int, buckets: Sequence[Bucket], slo: Slo, most_loss: float | None
) -> tuple[list[Deployment], list[Miss], int]:
    """Every deployment of a sweep that can serve any of the buckets, and the nearest miss per bucket.

    Args:
        sweep: of one model, whose workloads are the buckets.
        model: its index in the plan.
        buckets: its demand.
        slo: its latencies.
        most_loss: accuracy a precision may lose, percent.
    """
    # Attainment of the percentile limits is part of what is computed on the mesh.
    p99 = {limit.metric: limit.most for limit in slo.limits if limit.statistic == "p99"}
    sweep = replace(sweep, settings=replace(sweep.settings, slo=p99))
    engine = Engine(sweep)
    found: list[Deployment] = []
    misses = [Miss() for _ in buckets]
    for box, space_box in enumerate(engine.space.boxes):
        if not _sensible(sweep, box):
            continue
        for block in slices(space_box, CELLS):
            mesh = Mesh.open(AXES, block[1:])
            scored = Scored.of(sweep.models[0], sweep.choices_of(box, 0), mesh)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                rates, excess, status = _rated(scored, slo, most_loss)
            found += _best(sweep, box, model, mesh, rates)
            _note_misses(misses, sweep, box, mesh, excess, status)
    return found, misses, _size(sweep)


def _size(sweep: Sweep) -> int:
    """Points of all boxes but those of two pools, whose pairs are not all looked at."""
    boxes = zip(Engine(sweep).space.boxes, sweep.variants, strict=True)
    return sum(box.size for box, variant in boxes if variant["serving"] != POOLED)


def _sensible(sweep: Sweep, box: int) -> bool:
    """Placements run static blocks; resident weights are served as requests come, unless static is all there is."""
    variant = sweep.variants[box]
    if variant["serving"] == POOLED:  # two kinds of worker: `dse.run.pool_candidates`
        return False
    others = [serving for serving in sweep.axes.serving if serving != "static"]
    return (
        variant["serving"] == "static" if variant["offload"] == "lp" else variant["serving"] != "static" or not others
    )


def _rated(scored: Scored, slo: Slo, most_loss: float | None) -> tuple[Floats, dict[str, Floats], NDArray[np.int8]]:
    """Requests/s of every point, 0 where it cannot run or is too slow; how far it is beyond each limit; its reason."""
    point = scored.asked
    shape = point.mesh.shape
    status = structure_status([point], CODES)
    if most_loss is not None:
        loss = point.mesh.take(point.choices.accuracy_of(point.model.name), "precision")
        lossy = ~(loss <= most_loss)  # what nobody has measured is NaN
        status = np.where((status == 0) & lossy, np.int8(_LOSSY), status)
    runs = status == 0
    served = scored.served
    excess = {"memory": memory_share(served), **excesses(served, slo.limits)}
    may_run = runs & ~(excess["memory"] > 1.0)
    rates = highest_rate(served, slo.limits, may_run, lambda low, high: _matters(point, low, high))
    known = {name: np.broadcast_to(np.where(runs, ratio, np.nan), shape) for name, ratio in excess.items()}
    return rates, known, np.broadcast_to(status, shape)


def _matters(point: Point, low: Floats, high: Floats) -> NDArray[np.bool_]:
    """Points that may still be of use, given bounds of their rates.

    On one accelerator, whole copies of a deployment that serve at least as much of every size on no more devices rule
    another out, and a batch limit whose best is below another's worst is not the best.
    """
    devices = np.broadcast_to(point.degrees.devices, low.shape)[:, 0, 0, 0, 0, 0, 0]
    layouts, chips, schemes, _, sizes, *_ = low.shape
    least, most = low.max(axis=-1), high.max(axis=-1)
    keep = most.reshape(layouts, chips, schemes, sizes) > 0
    ways = np.repeat(devices, schemes)
    copies = np.floor(ways[:, None] / ways[None, :])  # of the second in place of the first
    for chip in range(chips):
        bounds = [of[:, chip].reshape(layouts * schemes, sizes) for of in (least, most)]
        served = bounds[1] > 0
        beats = np.all((copies[:, :, None] * bounds[0][None] >= bounds[1][:, None]) | ~served[:, None], axis=2)
        beats &= (copies >= 1) & np.any(bounds[0] > 0, axis=1)[None]
        np.fill_diagonal(beats, val=False)
        both = beats & beats.T  # twins: one of them has to stay
        ruled_out = np.any(beats & ~(both & np.triu(np.ones_like(both))), axis=1)
        keep[:, chip] &= ~ruled_out.reshape(layouts, schemes, 1)
    return np.asarray(keep[:, :, :, None, :, None, None] & (high >= least[..., None]))


def _best(sweep: Sweep, box: int, model: int, mesh: Mesh, rates: Floats) -> list[Deployment]:
    """Per layout, accelerator and precision the best batch limit of each bucket."""
    axis = AXES.index("batch")
    at = np.argmax(rates, axis=axis, keepdims=True)
    best = np.take_along_axis(rates, at, axis)[:, :, :, 0, :, 0, 0]  # fidelity and rate have one value each
    batch = at[:, :, :, 0, :, 0, 0] + int(mesh.index["batch"].ravel()[0])
    found = []
    for place in np.argwhere(np.any(best > 0, axis=-1)):
        layout, hardware, precision = (
            int(mesh.index[name].ravel()[index]) for name, index in zip(AXES[:3], place, strict=True)
        )
        where = {"layout": layout, "hardware": hardware, "precision": precision}
        name = _name(sweep, box, where)
        here = tuple(place)
        found.append(Deployment(name, model, sweep, box, layout, hardware, precision, batch[here], best[here]))
    return found


def _name(sweep: Sweep, box: int, indices: Mapping[str, int]) -> str:
    """Text that tells a deployment from all others of the plan."""
    axes = sweep.axes
    words = [
        axes.models[0].name,
        axes.hardware[indices["hardware"]].name,
        axes.precision_of(axes.models[0])[indices["precision"]].name,
        degrees_text(axes.layout[indices["layout"]]),
        *variant_words(sweep, box),
    ]
    return " ".join(filter(None, words))


def _note_misses(
    misses: list[Miss], sweep: Sweep, box: int, mesh: Mesh, excess: Mapping[str, Floats], status: NDArray[np.int8]
) -> None:
    """Keep, per bucket, the point whose worst limit is missed by least, or the reason why none can run."""
    names = list(excess)
    ratios = np.nan_to_num(np.stack([excess[name] for name in names]), nan=0.0)
    known = ~np.isnan(excess["memory"])
    worst = np.where(known, ratios.max(axis=0), np.inf)
    workload = AXES.index("workload")
    for bucket in range(status.shape[workload]):
        reasons = np.bincount(np.take(status, bucket, axis=workload).ravel())
        misses[bucket].why = misses[bucket].why or _WORDS[int(np.argmax(reasons))]
        of_bucket = np.take(worst, bucket, axis=workload)
        nearest = int(np.argmin(of_bucket))
        if of_bucket.flat[nearest] < misses[bucket].excess:
            at = [int(index) for index in np.unravel_index(nearest, of_bucket.shape)]
            full = (*at[:workload], bucket, *at[workload:])
            indices = {axis: int(mesh.index[axis].ravel()[i]) for axis, i in zip(AXES, full, strict=True)}
            here = {name: float(np.nan_to_num(excess[name][full])) for name in names}
            limit = max(names, key=here.__getitem__)
            misses[bucket] = Miss(float(of_bucket.flat[nearest]), limit, _name(sweep, box, indices))


def _undominated(deployments: Sequence[Deployment], buckets: Sequence[Bucket]) -> list[Deployment]:
    """Of each accelerator, or of two beside each other, the deployments that no other there matches for less."""
    demand = np.array([bucket.peak for bucket in buckets])
    kept: list[Deployment] = []
    for names in dict.fromkeys(tuple(sorted(each.held)) for each in deployments):
        here = {each.name: each for each in deployments if set(each.held) == set(names)}
        options = [each.option(name, each.rates) for name, each in sorted(here.items())]
        # On one accelerator all that is scarce goes with the number of devices, on two with the number of each.
        scarce = {name: Device(name, 1.0, stock=None if len(names) == 1 else sys.maxsize) for name in names}
        left = pruned(Fleet(demand, tuple(options), scarce)).options
        kept += [here[option.name] for option in left]
    return kept
