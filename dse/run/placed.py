"""Columns of points whose tensors were placed: where they lie, how the block runs, whether it was worth it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dse.cost.metrics import Scored
from dse.cost.phases import Point
from dse.cost.placement.affine import TENSORS, TIERS, Tensor, Tier
from dse.cost.placement.placed import Placed, PlacedMemory
from dse.cost.work import Array
from dse.spec.model import ModelSpec

if TYPE_CHECKING:
    from dse.run.resolve import Sweep

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
    if isinstance(point, Placed):
        of_block = {
            "gpu_batch": [int(sequences) for sequences in _listed(point.gpu_batch, size)],
            "num_batches": np.broadcast_to(point.placement.num_batches, (size,)).tolist(),
            "host_computes": np.broadcast_to(point.placement.host_computes, (size,)).tolist(),
        }
        written = _listed(written_per_day(point) / 1e12, size)
    else:
        in_order = np.broadcast_to(point.batch, point.mesh.shape).ravel()
        batches = [int(sequences) for sequences in _listed(in_order, size)]
        of_block = {"gpu_batch": batches, "num_batches": [1] * size, "host_computes": ["nothing"] * size}
        written = [0.0] * size
    return {
        **of_block,
        **shares,
        "disk_written_tb_per_day": written,
        "offload_speedup": _listed(offload_speedup(scored), size),
    }


def placement_caps(sweep: Sweep) -> Iterator[str]:
    """How many placements a point of an offloading sweep is given, in words."""
    if "lp" not in sweep.axes.offload:
        return
    from dse.cost.placement.schedules import NUM_BATCHES, schedules_of

    ways = {len(schedules_of(model)) for model in sweep.models}
    cuts = ", ".join(map(str, NUM_BATCHES))
    yield f"offload lp: at most {max(ways)} placements per point: {cuts} GPU batches, and what the host computes"


def tier_gb(point: Placed, tier: Tier, size: int) -> list[dict[str, float]]:
    """What lies on a tier at its peak, per device and use, GB; of what fits nowhere, only how much it is."""
    from dse.cost.placement.tiers import Tiers

    placed, memory = point.placement, PlacedMemory(point)
    tiers = Tiers.on(point.mesh, point.choices)
    limit = {"accelerator": memory.limit, "host": tiers.host_bytes, "disk": tiers.disk_bytes}[tier]
    total = memory.total if tier == "accelerator" else np.nan_to_num(placed.peaks[tier])
    held = {f"{NAMES[tensor]}_gb": np.nan_to_num(placed.held[tier, tensor]) for tensor in placed.shares}
    buffers = np.maximum(np.where(placed.feasible, total, 0.0) - sum(held.values()), 0.0)
    utilization = point.choices.memory_utilization if tier == "accelerator" else point.choices.host_utilization
    columns = {**held, "buffers_gb": buffers, "total_gb": total, "limit_gb": limit, "capacity_gb": limit / utilization}
    spread = {name: (np.broadcast_to(value, (size,)) / 1e9).tolist() for name, value in columns.items()}
    return [{name: values[index] for name, values in spread.items()} for index in range(size)]


NAMES: dict[Tensor, str] = {"weights": "weights", "experts": "experts", "cache": "kv_cache", "hidden": "hidden"}
"""Tensors as reports call them."""


def tensors_of(models: Sequence[ModelSpec]) -> list[Tensor]:
    """Tensors that any of the models has."""
    from dse.cost.placement.schedules import has_experts

    experts = any(has_experts(model) for model in models)
    return [tensor for tensor in TENSORS if tensor != "experts" or experts]


def _share(point: Point, tensor: Tensor, tier: Tier) -> Array:
    if tensor == "experts" and tensor not in tensors_of([point.model]):
        return np.nan
    if isinstance(point, Placed):
        return point.placement.shares[tensor][tier]
    return 1.0 if tier == "accelerator" else 0.0


def written_per_day(point: Placed) -> Array:
    """Bytes a replica's disks would take in a day of blocks one after the other: their endurance is finite."""
    from dse.cost.placement.tiers import Tiers

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
