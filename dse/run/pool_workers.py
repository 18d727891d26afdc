"""The workers that deployments of two pools are made of: what one of each kind does by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES, Choices
from dse.cost.feasible import structure_status
from dse.cost.lengths import expected
from dse.cost.memory import Memory
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.work import Array
from dse.cost.workers import DecodeWorker, PrefillWorker
from dse.run.deployment import CODES, Miss, degrees_text
from dse.spec.model import ModelSpec
from dse.spec.slo import Limit

Floats = NDArray[np.float64]

HALVINGS = 12
"""Of the load at which prompts wait as long as they may."""


@dataclass(frozen=True)
class Workers:
    """Requests/s of one worker of each kind, 0 where it cannot run or is too slow: (layouts, chips, schemes, sizes)."""

    full: Floats
    """At most."""
    usable: Floats
    """Where queues keep the latencies, roughly."""
    devices: Floats
    """Of a worker. Shape (layouts,)."""
    misses: tuple[Miss, ...]
    """Per size, what comes nearest to keeping the limits with a request by itself."""


def _table(choices: Choices) -> Mesh:
    lengths = [slice(0, size) for size in choices.shape]
    widest = int(np.argmax(choices.batch))
    return Mesh.open(AXES, [*lengths[:-1], slice(widest, widest + 1)])


def _flat(values: Any, shape: Sequence[int]) -> Floats:
    """Along layouts, chips, schemes and sizes: the other axes have one value."""
    return np.broadcast_to(np.asarray(values, dtype=float), shape)[:, :, :, 0, :, 0, 0]


def _runs(point: Point, memory: Memory, most_loss: float | None) -> NDArray[np.bool_]:
    runs = (structure_status([point], CODES) == 0) & (memory.over <= 1.0)
    if most_loss is not None:
        loss = point.mesh.take(point.choices.accuracy_of(point.model.name), "precision")
        runs = runs & (loss <= most_loss)  # what nobody has measured is NaN
    return np.asarray(runs)


def prefill_workers(model: ModelSpec, choices: Choices, limits: Sequence[Limit], most_loss: float | None) -> Workers:
    """Every prefill worker there is to choose from."""
    point = Point(model, choices, _table(choices))
    worker = PrefillWorker(point, choices.runtime)
    full, own = worker.engine.finished(worker.most), expected(point.lengths, worker.alone)
    runs, usable = _runs(point, worker.memory, most_loss), full
    beyond: dict[str, Any] = {}
    for limit in limits:
        if limit.metric != "tpot_ms":
            most = limit.most * (1e-3 if limit.metric == "ttft_ms" else 1.0)
            beyond[limit.name] = own / most
            usable = np.minimum(usable, full * _load_within(np.asarray((most - own) * full), limit.statistic))
    return _workers(point, runs, beyond, full, usable, "prefill")


def _load_within(slack: Floats, statistic: str) -> Floats:
    """Load at which one server's queue waits so many services: M/D/1, its 99th percentile as if exponential."""
    low, high = np.zeros(np.shape(slack)), np.ones(np.shape(slack))
    for _ in range(HALVINGS):
        load = (low + high) / 2
        each = 0.5 / (1 - load)
        wait = load * each if statistic == "mean" else each * np.log(np.maximum(100 * load, 1.0))
        low, high = np.where(wait <= slack, load, low), np.where(wait <= slack, high, load)
    return low


def decode_workers(model: ModelSpec, choices: Choices, limits: Sequence[Limit], most_loss: float | None) -> Workers:
    """Every decode worker there is to choose from."""
    alone = replace(choices, pools=None, serving="static")
    point = Point(model, alone, _table(alone))
    worker = DecodeWorker(point, choices.runtime)
    step, longest = worker.engine.step(np.ones(1)), np.full(1, np.inf)
    beyond: dict[str, Any] = {}
    for limit in limits:
        if limit.metric != "ttft_ms":
            most: Any = limit.most * 1e-3
            if limit.metric == "latency_s":
                most = limit.most / np.maximum(point.steps, 1.0)
            beyond[limit.name] = np.where(point.steps > 0, step / most, 0.0)
            longest = np.minimum(longest, most)
    rates = worker.paced(longest)
    return _workers(point, _runs(point, worker.memory, most_loss), beyond, rates, rates, "decode")


def _workers(
    point: Point, runs: NDArray[np.bool_], beyond: Mapping[str, Any], full: Array, usable: Array, pool: str
) -> Workers:
    """Tables of what runs and keeps the limits alone, and what comes nearest to it."""
    shape = point.mesh.shape
    worst: Any = np.zeros(1)
    for ratio in beyond.values():
        worst = np.maximum(worst, ratio)
    good = runs & (worst <= 1.0)
    nearest = _flat(np.where(runs, worst, np.inf), shape)
    named = {name: _flat(ratio, shape) for name, ratio in beyond.items()}
    misses = tuple(_miss(point, nearest[..., size], {n: of[..., size] for n, of in named.items()}, pool)
                   for size in range(nearest.shape[-1]))  # fmt: skip
    most, rough = (_flat(np.where(good, rates, 0.0), shape) for rates in (full, usable))
    return Workers(most, rough, point.choices.of_layout("devices"), misses)


def _miss(point: Point, worst: Floats, beyond: Mapping[str, Floats], pool: str) -> Miss:
    at = tuple(int(index) for index in np.unravel_index(int(np.argmin(worst)), worst.shape))
    if not np.isfinite(worst[at]):
        return Miss(why=f"no {pool} worker holds the model, or keeps the rules of its layout and engine")
    choices, (layout, chip, scheme) = point.choices, at
    names = point.model.name, choices.hardware[chip].name, choices.precision[scheme].name
    limit = max(beyond, key=lambda name: float(beyond[name][at]), default="")
    where = f"{' '.join(names)} {degrees_text(choices.layout[layout])} as a {pool} worker"
    return Miss(float(worst[at]), limit, where)
