"""Columns of points whose tensors were placed: where they lie, how the block runs, whether it was worth it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dse.cost.metrics import Scored
from dse.cost.phases import Point
from dse.cost.placement.affine import TIERS, Tensor
from dse.cost.placement.placed import Placed
from dse.cost.placement.tiers import Tiers
from dse.cost.work import Array
from dse.spec.model import ModelSpec, MoE

SECONDS_PER_DAY = 86_400


def placement_columns(scored: Scored, tensors: Sequence[Tensor], size: int) -> dict[str, list[Any]]:
    """Columns of a list of points, offloaded or not, so that both stand in one table.

    Args:
        scored: the points.
        tensors: those of the sweep's models; a model without experts has none to place.
        size: number of points.
    """
    point = scored.point
    shares = {f"{tensor}_on_{tier}": _listed(_share(point, tensor, tier), size) for tensor in tensors for tier in TIERS}
    placed = isinstance(point, Placed)
    return {
        "gpu_batch": [int(b) for b in _listed(point.gpu_batch if placed else point.batch, size)],
        "num_batches": [int(n) for n in _listed(point.placement.num_batches if placed else 1, size)],
        "host_computes": np.broadcast_to(point.placement.host_computes if placed else "nothing", (size,)).tolist(),
        **shares,
        "disk_written_tb_per_day": _listed(written_per_day(point) / 1e12 if placed else 0.0, size),
        "offload_speedup": _listed(offload_speedup(scored), size),
    }


def tensors_of(models: Sequence[ModelSpec]) -> list[Tensor]:
    """Tensors that any of the models has."""
    experts = any(isinstance(layer.ffn, MoE) for model in models for layer in model.layers)
    return ["weights", *(["experts"] if experts else []), "cache", "hidden"]  # type: ignore[list-item]


def _share(point: Point, tensor: Tensor, tier: str) -> Array:
    if isinstance(point, Placed):
        on = point.placement.shares.get(tensor)
        return np.nan if on is None else on[tier]  # type: ignore[index]
    has = tensor != "experts" or "experts" in tensors_of([point.model])
    return (1.0 if tier == "accelerator" else 0.0) if has else np.nan


def written_per_day(point: Placed) -> Array:
    """Bytes a replica's disks would take in a day of blocks one after the other: their endurance is finite."""
    rate = Tiers.on(point.mesh, point.choices).disk_write
    streams = point.placement.streams
    written = (streams["prefill", "disk_write"] + point.steps * streams["decode", "disk_write"]) / rate
    return written * point.degrees.devices / point.latency * SECONDS_PER_DAY


def offload_speedup(scored: Scored) -> Array:
    """Throughput over that of the same point without offloading; NaN where it does not fit without."""
    point = scored.point
    if not isinstance(point, Placed):
        return 1.0
    plain = Scored(Point(point.model, point.choices, point.mesh))
    fits = plain.memory.total <= plain.memory.limit
    return np.where(fits, plain.point.latency / point.latency, np.nan)


def _listed(value: Array, size: int) -> list[Any]:
    """One number per point, None where there is none."""
    numbers = np.broadcast_to(np.asarray(value, dtype=float), (size,)).tolist()
    return [None if number != number else number for number in numbers]
