"""One point, operator by operator: FLOPs, bytes, seconds, bound, share, and memory by tier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dse.cost.breakdown import Timed, bound_names, seconds_by_cause, timed_operators
from dse.cost.choices import AXES, Choices
from dse.cost.memory import Memory
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.setting import Phase
from dse.cost.work import BYTE_KINDS, Operands
from dse.run.rows import complete
from dse.run.score import Engine


def explain_point(engine: Engine, number: int) -> dict[str, Any]:
    """Everything about the point with this number, as plain values; figures per device.

    Returns:
        `point` (its row), `hardware`, `phases` (per phase: seconds, bound, operators, time by cause), `memory`
        by tier, and `layers` (operators of each distinct layer in order).
    """
    point = point_of(engine, number)
    choices = point.choices
    row = {name: values[0] for name, values in complete(engine, [number]).items()}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        phases = {phase: _phase(point, phase) for phase in ("prefill", "decode")}
        if point.output.item() == 1:
            phases["decode"] = {"seconds": 0.0, "bound": "none", "operators": [], "time_by": {}}
        return {
            "point": row,
            "hardware": _hardware(point, choices),
            "phases": phases,
            "memory": memory_gb(point),
            "layers": _layers(point),
        }


def point_of(engine: Engine, number: int) -> Point:
    """The mesh of one point."""
    boxes, _ = engine.space.locate([number])
    box = int(boxes[0])
    model, *coordinates = engine.space.boxes[box].decode([number])
    return Point(engine.sweep.models[int(model[0])], engine.sweep.choices[box], Mesh.points(AXES, coordinates))


def _phase(point: Point, phase: Phase) -> dict[str, Any]:
    seconds = _number(point.ttft if phase == "prefill" else point.tpot)
    timed = list(timed_operators(point, phase))
    return {
        "seconds": seconds,
        "bound": str(bound_names(point, phase)[0]),
        "operators": [_operator(point, entry, seconds) for entry in timed],
        "time_by": {cause: _number(value) for cause, value in seconds_by_cause(point, phase).items()},
    }


def _operator(point: Point, timed: Timed, phase_seconds: float) -> dict[str, Any]:
    work, amount = timed.work, timed.amount
    moved = {kind: _number(getattr(amount, kind)) for kind in BYTE_KINDS}
    moved["messages"] = _number(work.message.bytes * work.times) if work.message is not None else 0.0
    flops, memory_bytes = _number(amount.flops), _number(amount.bytes)
    compute, memory = _number(timed.times.compute), _number(timed.times.memory)
    overhead = _number(timed.overhead)
    roof = _number(timed.times.seconds)
    bound = "network" if work.message is not None else "compute" if compute > memory else "memory"
    if overhead > roof:
        bound = "overhead"
    count = _number(timed.count)
    return {
        "name": work.name,
        "kernel": work.kernel,
        "layer": timed.part,
        "count": count,
        "flops": flops,
        "bytes": moved,
        "intensity": flops / memory_bytes if memory_bytes else None,
        "dtype": _dtype(point, work.operands) if work.message is None else None,
        "seconds": roof + overhead,
        "compute_seconds": compute,
        "memory_seconds": memory,
        "overhead_seconds": overhead,
        "bound": bound,
        "share": count * (roof + overhead) / phase_seconds if phase_seconds else None,
    }


def _dtype(point: Point, operands: Operands) -> str:
    if operands == "vector":
        return "vector"
    chip = point.choices.hardware[int(point.mesh.index["hardware"][0])]
    precision = point.choices.precision[int(point.mesh.index["precision"][0])]
    return point.choices.compute_type(chip, precision, operands)[1]


def _hardware(point: Point, choices: Choices) -> dict[str, Any]:
    chip = choices.hardware[int(point.mesh.index["hardware"][0])]
    limit = _number(Memory(point).limit)
    return {
        "name": chip.name,
        "memory_bandwidth_gb_per_s": chip.bandwidth / 1e9,
        "peaks_tflops": {dtype: peak / 1e12 for dtype, peak in chip.peaks.items()},
        "vector_tflops": chip.vector / 1e12,
        "limit_gb": limit / 1e9,
        "capacity_gb": chip.memory_bytes / 1e9,
    }


def memory_gb(point: Point) -> dict[str, dict[str, float]]:
    """Memory of the fullest device by tier and use, GB, for a mesh of one point."""
    memory = Memory(point)
    empty = Memory(point)
    state = _number(empty.cache_at(np.zeros(1)))
    parts = {
        "weights_gb": _number(memory.weights),
        "kv_cache_gb": _number(memory.cache) - state,
        "state_gb": state,
        "activations_gb": _number(memory.activations),
        "workspace_gb": _number(memory.workspace),
        "total_gb": _number(memory.total),
        "limit_gb": _number(memory.limit),
        "capacity_gb": _number(memory.limit) / point.choices.memory_utilization,
    }
    parts["free_gb"] = parts["limit_gb"] - parts["total_gb"]
    return {"accelerator": {name: value / 1e9 for name, value in parts.items()}, "host": {"total_gb": 0.0}, "disk": {"total_gb": 0.0}}


def _layers(point: Point) -> list[dict[str, Any]]:
    """Distinct layers in order of first appearance, with the operators a decode step runs."""
    works, _ = point.works("decode")
    where = point.where
    seen: dict[tuple[int, ...], int] = {}
    for layer in range(len(point.model.layers)):
        parts = tuple(i for i, positions in enumerate(where) if layer in positions)
        seen[parts] = seen.get(parts, 0) + 1
    return [
        {
            "name": "+".join(point.parts[i].name for i in parts),
            "count": count,
            "operators": [work.name for i in parts for work in works[i]],
        }
        for parts, count in seen.items()
    ]


def _number(value: Any) -> float:
    return float(np.asarray(value, dtype=float).reshape(-1)[0])


def by_name(columns: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
    """One row of complete columns."""
    return {name: values[index] for name, values in columns.items()}
