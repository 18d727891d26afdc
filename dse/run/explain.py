"""Points, operator by operator: FLOPs, bytes, seconds, bound, share, and memory by tier.

Points of one model are computed together, as everywhere; each explanation then takes its own values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dse.cost.breakdown import ByBound, Timed, seconds_by_cause, timed_operators
from dse.cost.disaggregated import Disaggregated
from dse.cost.engine import Parts, prompt_parts, prompt_seconds, step_parts, step_seconds
from dse.cost.memory import Memory
from dse.cost.metrics import Scored
from dse.cost.phases import Point
from dse.cost.placement.affine import BELOW, STREAMS, Tier
from dse.cost.placement.placed import Placed
from dse.cost.serving import Pool
from dse.cost.setting import PHASES, Phase
from dse.cost.work import BYTE_KINDS, Operands, is_zero
from dse.run.placed import tier_gb
from dse.run.rows import Columns, Piece, complete, pieces, row, select
from dse.run.score import Engine
from dse.spec.model import FeedForward

_NO_STEPS = {"seconds": 0.0, "tokens": 1.0, "bound": "none", "operators": [], "time_by": {}, "engine": {}, "beside": {}}
"""The decode phase of a request that generates one token."""


def explain_points(
    engine: Engine, numbers: Sequence[int], known: Columns | None = None, held: Iterable[Piece] | None = None
) -> dict[int, dict[str, Any]]:
    """Everything about the points with these numbers, as plain values; figures per device.

    Args:
        engine: the resolved sweep.
        numbers: which points.
        known: complete columns that hold them, where there are.
        held: pieces that hold them, where they are kept.

    Returns:
        Per number: `point` (its row), `hardware`, `phases` (per phase: seconds, bound, operators and time by cause of
        the kernels, `engine`: what it adds to a pass, by cause, and `beside`: what the row's figure has beside the
        pass. Seconds and these make the row's: all of prefill its TTFT; of decode seconds and `engine` over the tokens
        gained, and `beside`, its TPOT), `memory` by tier, and `layers` (operators of each distinct layer in order);
        where serving is disaggregated also `pools`, and `hardware` and `memory` are of the decode workers.

    Raises:
        ValueError: a number lies outside the space.
    """
    columns = complete(engine, numbers) if known is None else select(known, numbers)
    place = {number: index for index, number in enumerate(columns["number"])}
    found: dict[int, dict[str, Any]] = {}
    for piece in pieces(engine, numbers) if held is None else held:
        explained = _Explained(piece.scored, len(piece.numbers))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for index, number in enumerate(piece.numbers.tolist()):
                if number in place:
                    found[number] = {"point": row(columns, place[number]), **explained.of(index)}
    return found


def memory_gb(scored: Scored, size: int) -> list[dict[str, float]]:
    """Memory of the fullest device of each point by use, GB; of several pools, of the one nearest to its limit."""
    of_pools = [pool_memory_gb(scored, pool, size) for pool in scored.served.pools]
    return [
        max(pools, key=lambda memory: memory["total_gb"] / memory["limit_gb"]) for pools in zip(*of_pools, strict=True)
    ]


def pool_memory_gb(scored: Scored, pool: Pool, size: int) -> list[dict[str, float]]:
    """Memory of the fullest device of a pool by use, GB."""
    point = pool.point
    if isinstance(point, Placed):
        return tier_gb(point, "accelerator", size)
    memory = Memory(point) if len(scored.served.pools) == 1 else pool.memory
    state = _column(memory.cache_at(np.zeros(1)), size)
    cache = _column(memory.cache, size)
    limit = _column(memory.limit, size)
    total = _column(memory.total, size)
    columns = {
        "weights_gb": _column(memory.weights, size),
        "kv_cache_gb": [whole - fixed for whole, fixed in zip(cache, state, strict=True)],
        "state_gb": state,
        "activations_gb": _column(memory.activations, size),
        "workspace_gb": _column(memory.workspace, size),
        "total_gb": total,
        "limit_gb": limit,
        "capacity_gb": [most / point.choices.memory_utilization for most in limit],
        "free_gb": [most - used for most, used in zip(limit, total, strict=True)],
    }
    return [{name: values[i] / 1e9 for name, values in columns.items()} for i in range(size)]


@dataclass
class _Explained:
    """Points of one model, explained together."""

    scored: Scored
    size: int

    @property
    def point(self) -> Point:
        """The workers that generate, which may be those that compute prompts."""
        return self.scored.worker("decode")

    def of(self, index: int) -> dict[str, Any]:
        """One of them."""
        phases: dict[Phase, dict[str, Any]] = {phase: self._phase(phase, index) for phase in PHASES}
        layers = self._layers(phases["decode"]["operators"])
        if self._outputs[index] == 1:
            phases["decode"] = dict(_NO_STEPS)
        return {
            "hardware": self._hardware(index),
            "phases": phases,
            "memory": {
                "accelerator": self._memory[index],
                "host": self._below["host"][index],
                "disk": self._below["disk"][index],
            },
            "layers": layers,
            **({"pools": [self._pool(place, index) for place in range(2)]} if len(self._pools) > 1 else {}),
        }

    @property
    def _pools(self) -> tuple[Pool, ...]:
        return self.scored.served.pools

    def _pool(self, place: int, index: int) -> dict[str, Any]:
        """What one pool of a point is, and what a device of it holds."""
        point, figures = self._pools[place].point, self._pool_figures[place]
        at = {axis: int(point.mesh.index[axis][index]) for axis in ("hardware", "precision", "layout", "batch")}
        layout = {name: int(figures[name][index]) for name in ("tp", "pp", "dp", "ep")}
        return {
            "pool": ("prefill", "decode")[place],
            "workers": _whole(figures["workers"][index]),
            "hardware": point.choices.hardware[at["hardware"]].name,
            "precision": point.choices.precision[at["precision"]].name,
            **layout,
            "batch": point.choices.batch[at["batch"]],
            "requests_per_s": figures["requests_per_s"][index],
            "memory": figures["memory"][index],
        }

    @cached_property
    def _pool_figures(self) -> list[dict[str, list[Any]]]:
        served = self.scored.served
        assert isinstance(served, Disaggregated), "others are one pool"
        return [
            {
                "workers": _column(pool.workers, self.size),
                "requests_per_s": _column(rate, self.size),
                **{name: _column(getattr(pool.point.degrees, name), self.size) for name in ("tp", "pp", "dp", "ep")},
                "memory": pool_memory_gb(self.scored, pool, self.size),
            }
            for pool, rate in zip(served.pools, served.full_rates, strict=True)
        ]

    @cached_property
    def _outputs(self) -> list[float]:
        return _column(self.point.output, self.size)

    @cached_property
    def _memory(self) -> list[dict[str, float]]:
        return pool_memory_gb(self.scored, self._pools[-1], self.size)

    @cached_property
    def _below(self) -> dict[Tier, list[dict[str, float]]]:
        """Host memory and disk of a device's share of the box."""
        if isinstance(self.point, Placed):
            return {tier: tier_gb(self.point, tier, self.size) for tier in BELOW}
        return {tier: [{"total_gb": 0.0}] * self.size for tier in BELOW}

    @cached_property
    def _phases(self) -> dict[Phase, _Phase]:
        return {phase: _Phase(self._worker(phase), phase, self.size) for phase in PHASES}

    def _worker(self, phase: Phase) -> Point:
        """Prompt passes are of the requests that enter together, decode steps of all that run."""
        served = self.scored.served
        return served.entering if phase == "prefill" else served.running

    @cached_property
    def _added(self) -> dict[Phase, tuple[dict[str, list[float]], dict[str, list[float]]]]:
        """Seconds that the engine adds to a pass, and that the row's figure has beside it, by cause."""
        served = self.scored.served
        entering, running, runtime = served.entering, served.running, served.runtime
        alone, step = prompt_seconds(entering, runtime), step_seconds(running, runtime)
        parts: dict[Phase, tuple[Parts, Parts]] = {
            "prefill": (
                prompt_parts(entering, runtime),
                {
                    "chunks_and_other_lengths": served.prompt - alone,
                    "server": served.server,
                    "waiting": served.ttft - served.prompt - served.server,
                },
            ),
            "decode": (step_parts(running, runtime), {"prompts_of_others": served.tpot - step}),
        }
        return {phase: (self._columns(engine), self._columns(beside)) for phase, (engine, beside) in parts.items()}

    def _columns(self, parts: Parts) -> dict[str, list[float]]:
        return {cause: _column(seconds, self.size) for cause, seconds in parts.items()}

    def _phase(self, phase: Phase, index: int) -> dict[str, Any]:
        found = self._phases[phase]
        seconds = found.seconds[index]
        operators = [operator.of(index, seconds) for operator in found.operators if operator.runs(index)]
        for operator in operators:
            operator["dtype"] = self._dtype(phase, operator.pop("operands"), index)
        streams = {"streams": {name: values[index] for name, values in found.streams.items()}} if found.streams else {}
        return {
            "seconds": seconds,
            "tokens": found.tokens,
            "bound": found.bounds[index],
            "operators": operators,
            "time_by": {cause: values[index] for cause, values in found.causes.items()},
            "engine": _some(self._added[phase][0], index, seconds),
            "beside": _some(self._added[phase][1], index, seconds),
            **streams,
        }

    def _dtype(self, phase: Phase, operands: Operands | None, index: int) -> str | None:
        """The type an operator computes in; None for a message."""
        if operands is None or operands == "vector":
            return operands
        worker = self._worker(phase)
        choices, mesh = worker.choices, worker.mesh
        key = (phase, int(mesh.index["hardware"][index]), int(mesh.index["precision"][index]), operands)
        if key not in self._types:
            chip, precision = choices.hardware[key[1]], choices.precision[key[2]]
            self._types[key] = choices.compute_type(chip, precision, operands)[1]
        return self._types[key]

    @cached_property
    def _types(self) -> dict[tuple[Phase, int, int, Operands], str]:
        return {}

    def _hardware(self, index: int) -> dict[str, Any]:
        chip = self.point.choices.hardware[int(self.point.mesh.index["hardware"][index])]
        return {
            "name": chip.name,
            "memory_bandwidth_gb_per_s": chip.bandwidth / 1e9,
            "peaks_tflops": {dtype: peak / 1e12 for dtype, peak in chip.peaks.items()},
            "vector_tflops": chip.vector / 1e12,
            "limit_gb": self._memory[index]["limit_gb"],
            "capacity_gb": chip.memory_bytes / 1e9,
        }

    @cached_property
    def _stack(self) -> dict[tuple[int, ...], int]:
        """Distinct layers, each as the parts it consists of, in order of appearance, with their counts."""
        seen: dict[tuple[int, ...], int] = {}
        for layer in range(len(self.point.model.layers)):
            held = [i for i, positions in enumerate(self.point.where) if layer in positions]
            # Parts are numbered as they first appear in the stack, but a layer runs its mixer first.
            parts = tuple(sorted(held, key=lambda i: isinstance(self.point.parts[i].component, FeedForward)))
            seen[parts] = seen.get(parts, 0) + 1
        return seen

    def _layers(self, operators: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Distinct layers with the operators a decode step runs in them."""
        works = (self.point.kernels if isinstance(self.point, Placed) else self.point).works("decode")
        runs = {operator["name"] for operator in operators}
        return [
            {
                "name": "+".join(self.point.parts[i].name for i in parts),
                "count": count,
                "operators": [work.name for i in parts for work in works[i] if work.name in runs],
            }
            for parts, count in self._stack.items()
        ]


class _Phase:
    """One phase of several points: a list per figure, one entry per point."""

    def __init__(self, point: Point, phase: Phase, size: int) -> None:
        self.seconds = _column(point.ttft if phase == "prefill" else point.iteration_seconds, size)
        self.tokens = 1.0 if phase == "prefill" else point.iteration.tokens
        timed = list(timed_operators(point, phase))
        causes, by_bound = seconds_by_cause(point, timed), ByBound(point)
        for operator in timed:
            by_bound.add(operator)
        self.bounds = [str(name) for name in np.broadcast_to(by_bound.names(point, phase), (size,))]
        self.causes = {cause: _column(value, size) for cause, value in causes.items()}
        self.streams = {}
        if isinstance(point, Placed):
            self.streams = {name: _column(point.placement.streams[phase, name], size) for name in STREAMS}
        self.operators = [_Operator(operator, size) for operator in timed]


class _Operator:
    """One operator at several points."""

    def __init__(self, timed: Timed, size: int) -> None:
        work, amount = timed.work, timed.amount
        self.timed = timed
        self.count = _column(timed.count, size)
        self.flops = _column(amount.flops, size)
        moved = {kind: getattr(amount, kind) for kind in BYTE_KINDS}
        moved["messages"] = work.message.bytes * work.times if work.message is not None else 0.0
        # Most operators move two or three kinds; the others would be a third of a report.
        self.bytes = {kind: _column(value, size) for kind, value in moved.items() if not is_zero(value)}
        self.all_bytes = _column(amount.bytes, size)
        self.compute = _column(timed.times.compute, size)
        self.memory = _column(timed.times.memory, size)
        self.roof = _column(timed.times.seconds, size)
        self.overhead = _column(timed.overhead, size)

    def runs(self, index: int) -> bool:
        """False for a message among ranks or stages this point does not have."""
        return self.timed.work.message is None or self.roof[index] * self.count[index] > 0

    def of(self, index: int, phase_seconds: float) -> dict[str, Any]:
        """The operator at one point."""
        work = self.timed.work
        seconds = self.roof[index] + self.overhead[index]
        return {
            "name": work.name,
            "kernel": work.kernel,
            "layer": self.timed.part,
            "count": self.count[index],
            "flops": self.flops[index],
            "bytes": {kind: values[index] for kind, values in self.bytes.items()},
            "intensity": self.flops[index] / self.all_bytes[index] if self.all_bytes[index] else None,
            "operands": work.operands if work.message is None else None,
            "dtype": None,
            "seconds": seconds,
            "compute_seconds": self.compute[index],
            "memory_seconds": self.memory[index],
            "overhead_seconds": self.overhead[index],
            "bound": self._bound(index),
            "share": self.count[index] * seconds / phase_seconds if phase_seconds else None,
        }

    def _bound(self, index: int) -> str:
        if self.overhead[index] > self.roof[index]:
            return "overhead"
        if self.timed.work.message is not None:
            return "network"
        return "compute" if self.compute[index] > self.memory[index] else "memory"


def _some(parts: dict[str, list[float]], index: int, phase_seconds: float) -> dict[str, float]:
    """Those causes that take any time: more than a last digit of the phase."""
    found = {cause: values[index] for cause, values in parts.items()}
    return {cause: seconds for cause, seconds in found.items() if abs(seconds) > 1e-12 * phase_seconds}


def _whole(number: float) -> int | None:
    return None if number != number else int(number)


def _column(value: Any, size: int) -> list[float]:
    """A figure of the cost model as one number per point."""
    if isinstance(value, float):
        return [float(value)] * size
    found: list[float] = np.broadcast_to(np.asarray(value, dtype=float), (size,)).tolist()
    return found
