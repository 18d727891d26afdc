"""The search around the placement programs: GPU batch size, number of GPU batches, and what the host computes.

FlexGen tries sizes 1, 2, 3, 4, 8, 16 ... and numbers until throughput first drops, which loses up to 1.3 % to a coarse
grid. Here every pair of a coarse grid is solved, then every pair around the best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.placement.affine import TIERS, Shares, Tensor, Tier
from dse.cost.placement.plan import Devices, Plan
from dse.cost.placement.schedules import Schedule, place, plans
from dse.cost.setting import PHASES
from dse.cost.work import Array
from dse.search.pareto import non_dominated
from dse.spec.model import ModelSpec

COARSE = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Sizes and numbers of GPU batches tried first."""

MOST_SEQUENCES = 16_384
"""Largest block tried: beyond it latency is measured in hours."""


@dataclass(frozen=True)
class Candidate:
    """One placement that fits."""

    gpu_batch: int
    schedule: Schedule
    ttft_s: float
    tpot_s: float
    seconds: float
    """Prompt to last token of the block."""
    output_tokens_per_s: float
    shares: Shares
    """One number per share."""

    @property
    def batch(self) -> int:
        """Sequences of the block."""
        return self.gpu_batch * self.schedule.num_batches


@dataclass(frozen=True)
class Search:
    """What a search found."""

    candidates: list[Candidate]
    """The best of each (GPU batch, number of batches) that fits."""
    programs: int
    by_highs: int
    nearest: float
    """Memory needed over memory there is, where nothing fits; the least over all that was tried."""
    beyond: Sequence[Candidate] = ()
    """Of a policy given where nothing fits: what it would do with the memory it lacks."""

    @property
    def best(self) -> Candidate:
        """Highest throughput; of equals the lowest latency."""
        return min(self.candidates, key=lambda found: (-found.output_tokens_per_s, found.seconds))

    @property
    def frontier(self) -> list[Candidate]:
        """Undominated in throughput and latency, fastest answer first."""
        costs = np.array([[-found.output_tokens_per_s, found.seconds] for found in self.candidates])
        kept = np.flatnonzero(non_dominated(costs)).tolist()
        return sorted((self.candidates[i] for i in kept), key=lambda found: found.seconds)


def search(
    model: ModelSpec,
    choices: Choices,
    devices: Sequence[Devices],
    gpu_batch: int | None = None,
    num_batches: int | None = None,
    latency_limit: float | None = None,
) -> Search:
    """Every way to run a block of a model on one accelerator.

    Args:
        model: the model.
        choices: one value per axis; `batch` does not count.
        devices: what the host may be given to compute.
        gpu_batch: sequences of a GPU batch; None tries many.
        num_batches: GPU batches of a block; None tries many.
        latency_limit: seconds from prompt to last token that a block may take.
    """
    grid = _Grid(model, choices, devices, latency_limit)
    grid.solve((gpu_batch,) if gpu_batch else COARSE, (num_batches,) if num_batches else COARSE)
    if grid.found and not (gpu_batch and num_batches):
        best = grid.search().best
        grid.solve(
            (gpu_batch,) if gpu_batch else _around(best.gpu_batch),
            (num_batches,) if num_batches else _around(best.schedule.num_batches),
        )
    return grid.search()


def _around(value: int) -> Sequence[int]:
    """Whole numbers between the neighbours of a value of the coarse grid, at most 16 of them."""
    at = COARSE.index(value)
    low, high = COARSE[max(at - 1, 0)], COARSE[min(at + 1, len(COARSE) - 1)]
    return sorted({round(n) for n in np.linspace(low, high, min(high - low + 1, 16))})


@dataclass
class _Grid:
    """Pairs solved so far."""

    model: ModelSpec
    choices: Choices
    devices: Sequence[Devices]
    latency_limit: float | None

    def __post_init__(self) -> None:
        self.found: dict[tuple[int, int], Candidate] = {}
        self.programs = self.by_highs = 0
        self.nearest = np.inf

    def search(self) -> Search:
        """What was found so far."""
        return Search(list(self.found.values()), self.programs, self.by_highs, self.nearest)

    def solve(self, sizes: Sequence[int], numbers: Sequence[int]) -> None:
        """Solve the pairs of these sizes and numbers, all sizes of one number at once."""
        for number in numbers:
            wanted = [size for size in sizes if size * number <= max(MOST_SEQUENCES, min(sizes) * min(numbers))]
            if not wanted:
                continue
            choices = replace(self.choices, batch=[size * number for size in wanted])
            mesh = Mesh.open(AXES, [slice(0, length) for length in choices.shape])
            ways = [Schedule(number, devices) for devices in self.devices]
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                found = place(self.model, choices, mesh, ways, self.latency_limit)
            self.programs += found.programs
            self.by_highs += found.unfinished
            self.nearest = min(self.nearest, float(np.min(found.over)))
            steps = float(choices.outputs[0] - 1)
            for index in np.flatnonzero(found.feasible.ravel()).tolist():
                ttft, tpot = (float(np.ravel(found.seconds[phase])[index]) for phase in PHASES)
                seconds = ttft + steps * tpot
                self.found[wanted[index], number] = Candidate(
                    gpu_batch=wanted[index],
                    schedule=ways[int(found.schedule.ravel()[index])],
                    ttft_s=ttft,
                    tpot_s=tpot,
                    seconds=seconds,
                    output_tokens_per_s=wanted[index] * number * float(choices.outputs[0]) / seconds,
                    shares=_one(found.shares, index),
                )


def _one(shares: Shares, index: int) -> Shares:
    """The shares of one point."""
    return {tensor: {tier: float(np.ravel(on[tier])[index]) for tier in TIERS} for tensor, on in shares.items()}


def forced(
    model: ModelSpec,
    choices: Choices,
    devices: Sequence[Devices],
    policy: Shares,
    gpu_batch: int | None = None,
    num_batches: int | None = None,
    latency_limit: float | None = None,
) -> Search:
    """Every block of a policy given that fits, with the fastest home of the host's work.

    Args:
        model: the model.
        choices: one value per axis; `batch` does not count.
        devices: what the host may be given to compute.
        policy: shares of weights, cache and hidden activations; experts lie as the weights do.
        gpu_batch: sequences of a GPU batch; None tries many.
        num_batches: GPU batches of a block; None tries many.
        latency_limit: seconds from prompt to last token that a block may take.
    """
    found, beyond, nearest = [], [], math.inf
    for number in (num_batches,) if num_batches else COARSE:
        for size in (gpu_batch,) if gpu_batch else COARSE:
            fitting = []
            for home in devices:
                one, over = _at(model, choices, policy, size, Schedule(number, home))
                nearest = min(nearest, over)
                if over > 1:
                    beyond.append(one)
                elif latency_limit is None or one.seconds <= latency_limit:
                    fitting.append(one)
            if fitting:
                found.append(min(fitting, key=lambda one: one.seconds))
    return Search(found, 0, 0, nearest, [] if found else beyond)


def _at(
    model: ModelSpec, choices: Choices, policy: Shares, gpu_batch: int, schedule: Schedule
) -> tuple[Candidate, float]:
    """A policy at one block, and memory needed over memory there is."""
    plan = plan_of(model, choices, gpu_batch, schedule)
    shares: Shares = {tensor: policy.get(tensor, policy["weights"]) for tensor in plan.tensors}
    over = 0.0
    for tier in TIERS:
        used, capacity = (float(np.ravel(value)[0]) for value in (plan.peak(tier, shares), plan.capacity[tier]))
        over = max(over, used / capacity if capacity else (math.inf if used > 0 else 0.0))
    seconds = float(np.ravel(plan.seconds_of(shares))[0])
    ttft, tpot = (float(np.ravel(plan.rhythm[phase] * plan.phase_seconds(phase, shares))[0]) for phase in PHASES)
    tokens = gpu_batch * schedule.num_batches * float(choices.outputs[0])
    return Candidate(gpu_batch, schedule, ttft, tpot, seconds, tokens / seconds, shares), over


def plan_of(model: ModelSpec, choices: Choices, gpu_batch: int, schedule: Schedule) -> Plan:
    """The plan of one block: every array has one element."""
    choices = replace(choices, batch=[gpu_batch * schedule.num_batches])
    mesh = Mesh.open(AXES, [slice(0, 1) for _ in AXES])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ((_, plan),) = plans(model, choices, mesh, [schedule])
    return plan


# -- what a runtime can really do -------------------------------------------------------------------------


def rounded(plan: Plan, shares: Shares, layers: int) -> Shares | None:
    """The best shares near these in which every tier holds whole layers of each tensor; None where none fits.

    Runtimes place layers, not fractions of them. Accelerator and host shares are rounded down or up, each tensor apart,
    and the fastest combination that fits is taken.

    Args:
        plan: of one block.
        shares: an optimum.
        layers: of the model.
    """
    options = [_roundings(on, layers) for on in shares.values()]
    every = np.array(list(np.ndindex(*(len(option) for option in options))))
    tried: dict[Tensor, dict[Tier, NDArray[np.float64]]] = {
        tensor: {tier: np.array([option[i][tier] for i in every[:, place]]) for tier in TIERS}
        for place, (tensor, option) in enumerate(zip(shares, options, strict=True))
    }
    fits = np.ones(len(every), dtype=bool)
    for tier in TIERS:
        fits &= np.ravel(plan.peak(tier, tried)) <= np.ravel(plan.capacity[tier]) * (1 + 1e-12)
    if not fits.any():
        return None
    seconds = np.where(fits, np.ravel(plan.seconds_of(tried)), np.inf)
    return _one(tried, int(np.argmin(seconds)))


def _roundings(on: Mapping[Tier, Array], layers: int) -> list[dict[Tier, float]]:
    """Shares of one tensor in whole layers: accelerator and host each rounded down and up, disk takes the rest."""
    near, host = (float(np.ravel(on[tier])[0]) * layers for tier in TIERS[:2])
    found = {
        (a, h): None
        for a in (np.floor(near + 1e-9), np.ceil(near - 1e-9))
        for h in (np.floor(host + 1e-9), np.ceil(host - 1e-9), layers - a)
        if 0 <= a <= layers and 0 <= h <= layers - a
    }
    return [{"accelerator": a / layers, "host": h / layers, "disk": (layers - a - h) / layers} for a, h in found]
