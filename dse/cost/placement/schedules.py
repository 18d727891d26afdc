"""The best placement of each point: every way to cut the block and to share out the computing, one program each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices
from dse.cost.mesh import Mesh
from dse.cost.placement.affine import STREAMS, TIERS, Shares, Stream, Tensor, Tier
from dse.cost.placement.ledger import Ledger
from dse.cost.placement.plan import Devices, Overlap, Plan, device_choices, make_plan, sum_of
from dse.cost.placement.program import build, shares_of
from dse.cost.placement.tiers import Tiers
from dse.cost.setting import PHASES, Phase
from dse.cost.simplex import solve
from dse.cost.work import Array
from dse.spec.model import MLP, ModelSpec, MoE

NUM_BATCHES = (1, 2, 4, 8, 16)
"""GPU batches a block is cut into, at most so many cuts per point of a sweep; `dse place` tries more."""

Flat = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """One way to run a block."""

    num_batches: int
    devices: Devices


@dataclass(frozen=True)
class Placement:
    """The best placement of each point of a mesh; arrays of its shape."""

    schedules: Sequence[Schedule]
    schedule: NDArray[np.intp]
    """Which of them is best."""
    feasible: NDArray[np.bool_]
    """Whether any placement fits."""
    over: Array
    """Memory needed over memory there is, on the scarcest tier: above 1 where nothing fits."""
    shares: Shares
    """NaN where nothing fits, as all below."""
    streams: Mapping[tuple[Phase, Stream], Array]
    """Seconds of one pass over the block."""
    bounds: Mapping[Phase, Array]
    """The stream that sets the time of a pass, by its place in `STREAMS`."""
    seconds: Mapping[Phase, Array]
    """One pass over the block, in the rhythm of the pipeline."""
    peaks: Mapping[Tier, Array]
    """Bytes per device."""
    held: Mapping[tuple[Tier, Tensor], Array]
    """Of these, what lies there of each tensor in prefill; the rest are buffers and activations."""
    unfinished: int
    """Programs the batched solver left to HiGHS."""
    programs: int
    """Programs solved."""

    @cached_property
    def num_batches(self) -> NDArray[np.intp]:
        """GPU batches of each point's block."""
        return np.array([schedule.num_batches for schedule in self.schedules])[self.schedule]

    @cached_property
    def host_computes(self) -> NDArray[np.str_]:
        """What the host computes, in words."""
        return np.array([schedule.devices.text for schedule in self.schedules])[self.schedule]


def schedules_of(model: ModelSpec, num_batches: Sequence[int] = NUM_BATCHES, *, every: bool = False) -> list[Schedule]:
    """Ways to run a block of this model.

    Args:
        model: the model.
        num_batches: ways to cut the block.
        every: all homes of dense feed-forwards and experts; else at most the two that pay in most boxes: everything on
            the accelerator, or what holds most weights on the host in decode.
    """
    choices = device_choices(has_dense(model), has_experts(model))
    if not every:
        dominant = "experts" if has_experts(model) else "ffn"
        choices = [
            devices
            for devices in choices
            if getattr(devices, dominant) in ("accelerator", "decode")
            and (dominant == "ffn" or devices.ffn == "accelerator")
        ]
    return [Schedule(*chosen) for chosen in product(num_batches, choices)]


def has_dense(model: ModelSpec) -> bool:
    """Whether any layer has a dense feed-forward."""
    return any(isinstance(layer.ffn, MLP) for layer in model.layers)


def has_experts(model: ModelSpec) -> bool:
    """Whether any layer routes tokens to experts."""
    return any(isinstance(layer.ffn, MoE) for layer in model.layers)


def place(
    model: ModelSpec,
    choices: Choices,
    mesh: Mesh,
    schedules: Sequence[Schedule] | None = None,
    latency_limit: Array | None = None,
) -> Placement:
    """The fastest placement of every point of a mesh.

    Args:
        model: the model.
        choices: the values along the axes; `batch` is the block.
        mesh: the points.
        schedules: ways to run a block; by default those a sweep tries.
        latency_limit: seconds a block may take.
    """
    ways = schedules_of(model) if schedules is None else list(schedules)
    best = _Best(mesh.shape)
    for index, (schedule, plan) in enumerate(plans(model, choices, mesh, ways)):
        whole = _fills(mesh, choices, schedule.num_batches)
        best.take(index, plan, whole, latency_limit)
    return best.placement(ways)


def plans(
    model: ModelSpec, choices: Choices, mesh: Mesh, schedules: Sequence[Schedule]
) -> Iterator[tuple[Schedule, Plan]]:
    """The plan of each schedule; schedules of one cut share their ledger."""
    tiers = Tiers.on(mesh, choices)
    ledgers: dict[int, Ledger] = {}
    overlap: Overlap = choices.overlap  # type: ignore[assignment]
    for schedule in schedules:
        cut = schedule.num_batches
        if cut not in ledgers:
            ledgers = {cut: Ledger.of(model, choices, mesh, cut)}
        yield schedule, make_plan(ledgers[cut], tiers, schedule.devices, overlap)


def _fills(mesh: Mesh, choices: Choices, num_batches: int) -> NDArray[np.bool_]:
    """Where each of the GPU batches has a sequence at least."""
    batch = mesh.take(choices.batches, "batch")
    return np.broadcast_to(np.ceil(batch / num_batches) * (num_batches - 1) < batch, mesh.shape)


class _Best:
    """The best so far at each point, schedule by schedule; the first of equals stays."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.total = np.full(shape, np.inf)
        self.schedule = np.zeros(shape, dtype=np.intp)
        self.over: Array = np.full(shape, np.inf)
        self.tensors: tuple[Tensor, ...] = ()
        self._kept: dict[Any, Flat] = {}
        self.unfinished = self.programs = 0

    def kept(self, *key: Any) -> Flat:
        """A figure of the best placements, NaN where there is none."""
        return self._kept.setdefault(key, np.full(self.shape, np.nan))

    def take(self, index: int, plan: Plan, whole: NDArray[np.bool_], latency_limit: Array | None) -> None:
        """Solve one schedule's programs, and keep what is better."""
        self.tensors = plan.tensors
        scarce = scarcity(plan)
        self.over = np.where(whole, np.minimum(self.over, scarce), self.over)
        # What lacks memory however it is placed, or could at its fastest not beat the best so far, is not placed.
        least = sum_of(plan.repeats[phase] * plan.least(phase) for phase in PHASES)
        where = np.nonzero(whole & (scarce <= 1.0) & (least < self.total))
        size = len(where[0])
        if size == 0:
            return
        limit = None if latency_limit is None else np.broadcast_to(latency_limit, self.shape)[where]
        plan = plan.take(where, self.shape)
        found = solve(build(plan, (size,), limit))
        self.programs += size
        self.unfinished += int(np.count_nonzero(~found.finished))
        shares = shares_of(plan, found.x, (size,))
        total = np.where(found.feasible, plan.seconds_of(shares), np.inf)
        better = total < self.total[where]
        place = tuple(axis[better] for axis in where)
        self.total[place] = total[better]
        self.schedule[place] = index
        for key, values in _figures(plan, shares):
            self.kept(*key)[place] = np.broadcast_to(values, (size,))[better]

    def placement(self, schedules: Sequence[Schedule]) -> Placement:
        """What was found."""
        feasible = np.isfinite(self.total)
        return Placement(
            schedules=schedules,
            schedule=self.schedule,
            feasible=feasible,
            # Each tier may have room where the sum of their needs has none: then what is missing is not known.
            over=np.where(feasible, np.minimum(self.over, 1.0), np.maximum(self.over, np.nextafter(1.0, 2.0))),
            shares={tensor: {tier: self.kept("share", tensor, tier) for tier in TIERS} for tensor in self.tensors},
            streams={(phase, stream): self.kept("stream", phase, stream) for phase in PHASES for stream in STREAMS},
            bounds={phase: self.kept("bound", phase) for phase in PHASES},
            seconds={phase: self.kept("seconds", phase) for phase in PHASES},
            peaks={tier: self.kept("peak", tier) for tier in TIERS},
            held={(tier, tensor): self.kept("held", tier, tensor) for tier in TIERS for tensor in self.tensors},
            unfinished=self.unfinished,
            programs=self.programs,
        )


def _figures(plan: Plan, shares: Shares) -> Iterator[tuple[Any, Array]]:
    """What is kept of a placement."""
    for tensor in plan.tensors:
        for tier in TIERS:
            yield ("share", tensor, tier), shares[tensor][tier]
    rhythm = plan.rhythm
    for phase in PHASES:
        yield ("seconds", phase), rhythm[phase] * plan.phase_seconds(phase, shares)
        yield ("bound", phase), plan.bound(phase, shares)
        for stream in STREAMS:
            yield ("stream", phase, stream), plan.seconds[phase][stream].at(shares)
    for tier in TIERS:
        yield ("peak", tier), plan.peak(tier, shares)
        for tensor in plan.tensors:
            slope = plan.bytes[tier, "prefill"].slopes.get((tensor, tier), 0.0)
            yield ("held", tier, tensor), slope * shares[tensor][tier]


def scarcity(plan: Plan) -> Array:
    """Least memory needed over memory there is: of the accelerator alone, and of all tiers together."""
    scarcest: Array = 0.0
    capacity = plan.capacity["accelerator"]
    everywhere = capacity + plan.capacity["host"] + plan.capacity["disk"]
    for phase in PHASES:
        near = plan.bytes["accelerator", phase]
        held = near.constant
        for tensor in plan.tensors:
            held = held + near.slopes.get((tensor, "accelerator"), 0.0)
        scarcest = np.maximum(scarcest, np.maximum(near.least() / capacity, held / everywhere))
    return scarcest
