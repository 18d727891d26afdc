"""Every deployment a plan may choose: what each serves of each bucket within its latencies, and what it misses by.

A deployment is a point of the model's sweep but for the workload and the limit on the batch: of those limits the one
with the highest throughput among those that keep the latencies is taken, bucket by bucket, on the mesh's arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES
from dse.cost.feasible import STRUCTURE, structure_status
from dse.cost.mesh import Mesh
from dse.cost.metrics import Scored
from dse.run.demand import Bucket
from dse.run.planning import Plan
from dse.run.resolve import Sweep
from dse.run.score import Engine
from dse.search.fleet import Fleet, Option, pruned
from dse.search.space import slices
from dse.spec.slo import Limit, Slo

Floats = NDArray[np.float64]

_CODES = {reason: code for code, reason in enumerate(STRUCTURE, 1)}


@dataclass(frozen=True, eq=False)
class Deployment:
    """One way to run a model on an accelerator."""

    name: str
    model: int
    sweep: Sweep
    hardware: str
    devices: int
    numbers: NDArray[np.int64]
    """Point of the sweep at each of the model's buckets: the batch chosen for it; -1 where it cannot serve it."""
    rates: Floats
    """Requests/s of each of the model's buckets; 0 where it cannot serve it."""


@dataclass
class Miss:
    """The deployment that comes closest to serving a bucket."""

    excess: float = np.inf
    """By how much the worst limit is missed: 1.3 is 30 % too much."""
    limit: str = ""
    where: str = ""


@dataclass
class Candidates:
    """What the engine found."""

    deployments: list[Deployment] = field(default_factory=list)
    misses: dict[int, Miss] = field(default_factory=dict)
    """By bucket of the plan that nothing serves."""
    points: int = 0
    """Evaluated."""


def find_candidates(plan: Plan, slo_scale: float = 1.0) -> Candidates:
    """The undominated deployments of every model on every accelerator.

    Args:
        plan: with sweeps.
        slo_scale: factor on all latencies allowed.
    """
    found = Candidates()
    for index, model in enumerate(plan.models):
        assert model.sweep is not None
        places = [place for place, bucket in enumerate(plan.buckets) if bucket.model == index]
        buckets = [plan.buckets[place] for place in places]
        slo = model.slo if slo_scale == 1.0 else model.slo.scaled(slo_scale)
        bound = plan.file.constraints.get("accuracy_drop_pct")
        most_loss = None if bound is None else bound.max
        deployments, misses, points = deployments_of(model.sweep, index, buckets, slo, most_loss)
        found.points += points
        found.deployments += _undominated(plan, deployments, buckets)
        for place, miss in zip(places, misses, strict=True):
            if not any(each.rates[places.index(place)] > 0 for each in deployments):
                found.misses[place] = miss
    return found


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
    engine = Engine(sweep)
    found: list[Deployment] = []
    misses = [Miss() for _ in buckets]
    for box, space_box in enumerate(engine.space.boxes):
        if not _sensible(sweep, box):
            continue
        for block in slices(space_box):
            mesh = Mesh.open(AXES, block[1:])
            scored = Scored.of(sweep.models[0], sweep.choices_of(box, 0), mesh)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                rates, excess = _rated(scored, slo, most_loss)
            numbers = np.asarray(space_box.numbers(block)).reshape(mesh.shape)
            found += _best(sweep, box, model, mesh, rates, numbers)
            _note_misses(misses, sweep, box, mesh, rates, excess)
    return found, misses, engine.space.size


def _sensible(sweep: Sweep, box: int) -> bool:
    """Placements run static blocks; resident weights are served as requests come, unless static is all there is."""
    variant = sweep.variants[box]
    others = [serving for serving in sweep.axes.serving if serving != "static"]
    return (
        variant["serving"] == "static" if variant["offload"] == "lp" else variant["serving"] != "static" or not others
    )


def _rated(scored: Scored, slo: Slo, most_loss: float | None) -> tuple[Floats, dict[str, Floats]]:
    """Requests/s of every point, 0 where it cannot run or is too slow, and how far it is beyond each limit."""
    point = scored.point
    shape = point.mesh.shape
    runs = structure_status(scored.asked, _CODES) == 0
    if most_loss is not None:
        loss = point.mesh.take(point.choices.accuracy_of(point.model.name), "precision")
        runs = runs & (loss <= most_loss)  # nobody's measurement is NaN: no
    excess: dict[str, Floats] = {"memory": np.asarray(scored.memory.total / scored.memory.limit)}
    for limit in slo.limits:
        excess[limit.name] = _latency(scored, limit) / limit.most
    within = np.asarray(runs)
    for ratio in excess.values():
        within = within & ~(ratio > 1.0)
    rates = np.where(within, scored.requests_per_s, 0.0)
    excess = {name: np.broadcast_to(np.where(runs, ratio, np.nan), shape) for name, ratio in excess.items()}
    return np.broadcast_to(np.nan_to_num(rates), shape), excess


def _latency(scored: Scored, limit: Limit) -> Floats:
    """A latency in the unit of its limit; NaN, which exceeds nothing, where requests have none."""
    served = scored.served
    match limit.metric:
        case "ttft_ms":
            return np.asarray(served.ttft * 1e3)
        case "tpot_ms":
            return np.where(scored.point.steps > 0, served.tpot * 1e3, np.nan)
    return np.asarray(served.latency)


def _best(
    sweep: Sweep, box: int, model: int, mesh: Mesh, rates: Floats, numbers: NDArray[np.int64]
) -> list[Deployment]:
    """Per layout, accelerator and precision the best batch of each bucket."""
    batch = AXES.index("batch")
    at = np.argmax(rates, axis=batch, keepdims=True)
    best = np.take_along_axis(rates, at, batch)[..., 0]
    chosen = np.where(best > 0, np.take_along_axis(numbers, at, batch)[..., 0], -1)
    found = []
    for place in np.argwhere(np.any(best > 0, axis=-1)):
        layout, hardware, precision, fidelity = (int(index) for index in place)
        where = {"layout": layout, "hardware": hardware, "precision": precision, "fidelity": fidelity}
        indices = {axis: int(mesh.index[axis].ravel()[index]) for axis, index in where.items()}
        found.append(
            Deployment(
                _name(sweep, box, indices),
                model,
                sweep,
                sweep.hardware[indices["hardware"]].name,
                sweep.axes.layout[indices["layout"]].devices,
                chosen[tuple(place)],
                best[tuple(place)],
            )
        )
    return found


def _name(sweep: Sweep, box: int, indices: Mapping[str, int]) -> str:
    """Text that tells a deployment from all others of the plan."""
    axes = sweep.axes
    layout = axes.layout[indices["layout"]]
    degrees = [f"{name}{getattr(layout, name)}" for name in ("tp", "pp", "dp", "ep") if getattr(layout, name) > 1]
    variant = sweep.variants[box]
    words = [
        axes.models[0].name,
        axes.hardware[indices["hardware"]].name,
        axes.precision_of(axes.models[0])[indices["precision"]].name,
        " ".join(degrees) or "tp1",
        variant["serving"] if len(axes.serving) > 1 else "",
        "offloaded" if variant["offload"] == "lp" else "",
        variant["runtime"].name if len(axes.runtime) > 1 else "",
    ]
    return " ".join(filter(None, words))


def _note_misses(
    misses: list[Miss], sweep: Sweep, box: int, mesh: Mesh, rates: Floats, excess: Mapping[str, Floats]
) -> None:
    """Keep, per bucket, the point whose worst limit is missed by least."""
    names = list(excess)
    ratios = np.nan_to_num(np.stack([excess[name] for name in names]), nan=0.0)
    known = ~np.isnan(excess["memory"])
    worst = np.where(known, ratios.max(axis=0), np.inf)
    workload = AXES.index("workload")
    for bucket in range(rates.shape[workload]):
        of_bucket = np.take(worst, bucket, axis=workload)
        nearest = int(np.argmin(of_bucket))
        if of_bucket.flat[nearest] < misses[bucket].excess:
            at = [int(index) for index in np.unravel_index(nearest, of_bucket.shape)]
            full = (*at[:workload], bucket, *at[workload:])
            indices = {axis: int(mesh.index[axis].ravel()[i]) for axis, i in zip(AXES, full, strict=True)}
            here = {name: float(np.nan_to_num(excess[name][full])) for name in names}
            limit = max(names, key=here.__getitem__)
            misses[bucket] = Miss(float(of_bucket.flat[nearest]), limit, _name(sweep, box, indices))


def _undominated(plan: Plan, deployments: Sequence[Deployment], buckets: Sequence[Bucket]) -> list[Deployment]:
    """Of each accelerator, the deployments that no other there matches for less."""
    demand = np.array([bucket.peak for bucket in buckets])
    devices = {name: each.device for name, each in plan.devices.items()}
    watts = plan.file.budget.power_kw
    kept: list[Deployment] = []
    for hardware in dict.fromkeys(each.hardware for each in deployments):
        here = {each.name: each for each in deployments if each.hardware == hardware}
        options = [Option(name, hardware, each.devices, each.rates) for name, each in sorted(here.items())]
        # The slowest bucket decides: a deployment that serves others may still be needed for one.
        left = pruned(Fleet(demand, tuple(options), devices, watts=watts)).options
        kept += [here[option.name] for option in left]
    return kept
