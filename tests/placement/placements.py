"""Blocks to place: choices by name, random plans of the whole problem, and one instance of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from properties.points import choices

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.placement.affine import Affine
from dse.cost.placement.plan import Plan
from dse.cost.placement.schedules import Schedule, plans, schedules_of
from dse.spec.catalog import load_model
from dse.spec.hardware import HardwareSpec

MODELS = ("opt-6.7b", "opt-175b", "llama-3.1-70b", "mixtral-8x7b", "deepseek-v3", "gemma-2-9b", "qwen3-next-80b-a3b")
CHIPS = ("t4", "rtx-4090", "l4", "a100-sxm-80gb", "h100-sxm", "mi300x", "gh200-96gb")
OVERLAPS = ("serial", "pairwise", "full")


def blocks(hardware: Any = "t4", **axes: Any) -> Choices:
    """One accelerator, offloading."""
    many = hardware if isinstance(hardware, list) else [hardware]
    return choices(hardware=many, offload="lp", **axes)


def machine(base: str = "t4", **changes: float) -> dict[str, Any]:
    """A chip with dotted fields changed, where `__` stands for the dot: `box__host_memory_gb=64`."""
    return {"base": base, **{name.replace("__", "."): value for name, value in changes.items()}}


def one_plan(model: str, chosen: Choices, schedule: Schedule | None = None) -> Plan:
    """The plan of a single point, by default as one GPU batch with nothing on the host's cores."""
    found = load_model(model)
    mesh = Mesh.open(AXES, [slice(0, 1) for _ in AXES])
    with np.errstate(all="ignore"):
        ((_, plan),) = plans(found, chosen, mesh, [schedule or schedules_of(found, (1,))[0]])
    return plan


def instance(plan: Plan, index: Any, shape: Any) -> Plan:
    """One instance of a plan over points of this shape, a list or a mesh."""

    def at(value: Any) -> Any:
        return np.broadcast_to(np.asarray(value, dtype=float), shape)[index]

    def affine(value: Affine) -> Affine:
        return Affine(at(value.constant), {key: at(slope) for key, slope in value.slopes.items()})

    return replace(
        plan,
        seconds={phase: {s: affine(value) for s, value in of.items()} for phase, of in plan.seconds.items()},
        bytes={key: affine(value) for key, value in plan.bytes.items()},
        capacity={tier: at(value) for tier, value in plan.capacity.items()},
        rhythm={phase: at(value) for phase, value in plan.rhythm.items()},
        steps=at(plan.steps),
    )


def random_chip(rng: np.random.Generator) -> HardwareSpec:
    """A chip of the library with memory, link, host and disk drawn anew over the ranges that are sold."""
    from dse.spec.catalog import load_hardware

    between = lambda low, high: float(np.exp(rng.uniform(np.log(low), np.log(high))))  # noqa: E731
    changes = {
        "memory.capacity_gb": between(8, 200),
        "host_link.gb_per_s": between(8, 450),
        "box.devices": 1,
        "box.host_memory_gb": between(32, 4000),
        "box.host_memory_bandwidth_gb_per_s": between(50, 800),
        "box.cpu_tflops": between(0.5, 30),
        "box.disk_gb": between(100, 30_000),
        "box.disk_read_gb_per_s": between(0.5, 50),
        "box.disk_write_gb_per_s": between(0.3, 25),
    }
    return load_hardware({"base": str(rng.choice(CHIPS)), "name": "drawn", **changes})


def random_plans(seed: int, points: int, draws: int) -> Iterator[tuple[Plan, int]]:
    """`draws` plans, each over a list of `points` random points: the plan, and how many instances it has."""
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        model = load_model(str(rng.choice(MODELS)))
        chosen = blocks(
            [random_chip(rng) for _ in range(8)],
            workload=[(int(rng.integers(16, 4096)), int(rng.integers(1, 512))) for _ in range(8)],
            precision=["bf16", "fp8", "w4a16-g128"],
            fidelity=["ideal", "datasheet"],
            layout=[(1,), (2,), (1, 2), (2, 2), (1, 1, 2, 0)],
            batch=sorted({int(2 ** rng.uniform(0, 10)) for _ in range(8)}),
            overlap=str(rng.choice(OVERLAPS)),
        )
        mesh = Mesh.points(AXES, [rng.integers(0, size, points) for size in chosen.shape])
        ways = schedules_of(model, (1, 2, 8, 16), every=True)
        with np.errstate(all="ignore"):
            ((_, plan),) = plans(model, chosen, mesh, [ways[int(rng.integers(len(ways)))]])
        yield plan, points
