"""Where the time of a point goes: per operator, per bound, per kind of byte. For points that are reported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dse.cost.phases import PartSeconds, Point, weighted
from dse.cost.placement.placed import Placed
from dse.cost.roofline import Times, mean_amount, times
from dse.cost.setting import Phase
from dse.cost.work import Amount, Array, Work

BOUNDS = ("compute", "memory", "network", "overhead")
CAUSES = ("weights", "activations", "kv_cache", "compute", "network", "overhead")


@dataclass(frozen=True)
class Timed:
    """One operator of one part, timed."""

    part: str
    count: Array
    """How often it runs in the time of the phase, one after the other; what other stages do meanwhile is hidden."""
    work: Work
    amount: Amount
    """FLOPs and bytes of one run (mean over the decode steps)."""
    times: Times
    overhead: Array
    """Launch of its kernel, charged to the kernel's first operator."""


def timed_operators(point: Point, phase: Phase) -> Iterator[Timed]:
    """Every operator of a phase in the order it runs: embedding, the distinct parts, head, hops between stages.

    Of decode an iteration's: what drafts comes first, as often as it runs. Where tensors are placed, those of a GPU
    batch, as often as the accelerator runs them for the whole block.
    """
    if point.draft is not None:
        often = 1.0 if phase == "prefill" else point.draft_passes
        for timed in timed_operators(point.draft, phase):
            yield replace(timed, part=f"draft {timed.part}", count=timed.count * often)
    placed = point if isinstance(point, Placed) else None
    kernels = placed.kernels if placed else point
    *of_parts, first, last, hops = placed_runs(placed, phase) if placed else runs(point, phase)
    *layers, embedding, head = kernels.works(phase)
    sections: list[tuple[str, object, Array, list[Work]]] = [
        ("embedding", None, first, embedding),
        *((p.name, p.component, count, of) for p, count, of in zip(point.parts, of_parts, layers, strict=True)),
        ("head", None, last, head),
        ("pipeline", None, hops, [kernels.hop(phase)]),
    ]
    for name, component, count, works in sections:
        seen: set[str] = set()
        for work in works:
            overhead = 0.0 if work.kernel in seen else kernels.rates.launch(work)
            seen.add(work.kernel)
            amount, seconds = mean_amount(work, kernels.contexts), times(work, kernels.rates, kernels.contexts)
            computed = placed.share_computed(component, phase, work) if placed else 1.0
            yield Timed(name, count * computed, work, amount, seconds, overhead)


def placed_runs(point: Placed, phase: Phase) -> list[Array]:
    """How often each part, the embedding, the head and a hop run in a pass over the block, on the slowest stage."""
    _, held = slowest_stage(point.kernels, point.kernels.part_seconds(phase))
    often = point.kernel_runs(phase)
    return [often * count for count in (*held, np.minimum(point.hops, 1.0))]


def slowest_stage(point: Point, seconds_of: PartSeconds) -> tuple[Array, list[Array]]:
    """Seconds of the slowest stage, and how many of each part it holds."""
    slowest = weighted(point.stages[0], seconds_of)
    held: list[Array] = list(point.stages[0])
    for stage in point.stages[1:]:
        seconds = weighted(stage, seconds_of)
        held = [np.where(seconds > slowest, new, old) for new, old in zip(stage, held, strict=True)]
        slowest = np.maximum(slowest, seconds)
    return slowest, held


def runs(point: Point, phase: Phase) -> list[Array]:
    """How often each part runs, one after the other, in the time `Point.phase_seconds` gives the phase.

    All stages once, and the slowest as often as it keeps further micro-batches waiting; in decode the slowest for
    every micro-batch, where that takes longer.

    Returns:
        Runs of each part, of the embedding, of the head, and of the hops from stage to stage.
    """
    seconds_of = point.part_seconds(phase)
    slowest, held = slowest_stage(point, seconds_of)
    passes = point.micro_batches[phase]
    if phase == "prefill":
        return [*(count + (passes - 1) * of for count, of in zip(point.counts, held, strict=True)), point.hops]
    waits = passes * slowest >= point.phase_seconds(phase, seconds_of)
    once = [*(np.where(waits, passes * of, count) for count, of in zip(point.counts, held, strict=True))]
    return [*once, np.where(waits, 0.0, point.hops)]


class ByBound:
    """Seconds of the operators of a phase by what bounds each, over all layers; arrays of the mesh's shape.

    An operator counts wholly for the roof it touches; fixed costs are `overhead`, collectives `network`.
    """

    def __init__(self, point: Point) -> None:
        self.seconds = {bound: np.zeros(point.mesh.shape) for bound in BOUNDS}

    def add(self, timed: Timed) -> None:
        """Count an operator."""
        self.seconds["overhead"] += timed.count * timed.overhead
        if timed.work.message is not None:
            self.seconds["network"] += timed.count * timed.times.network
            return
        by_compute = timed.times.compute > timed.times.memory
        seconds = timed.count * timed.times.seconds
        self.seconds["compute"] += np.where(by_compute, seconds, 0.0)
        self.seconds["memory"] += np.where(by_compute, 0.0, seconds)

    def names(self, point: Point, phase: Phase) -> NDArray[np.str_]:
        """The bound that holds most of the phase's time, as text."""
        names, codes = self.coded(point, phase)
        return np.array(names)[codes]

    def coded(self, point: Point, phase: Phase) -> tuple[Sequence[str], NDArray[np.intp]]:
        """The same as names, and the place of each point's among them."""
        if isinstance(point, Placed):
            texts = point.bounds(phase)
            names, codes = np.unique(texts, return_inverse=True)
            return names.tolist(), codes.reshape(np.shape(texts))
        return BOUNDS, np.argmax(np.stack([self.seconds[bound] for bound in BOUNDS]), axis=0)


def seconds_by_cause(point: Point, operators: Iterable[Timed]) -> dict[str, NDArray[np.float64]]:
    """Seconds by cause: a memory-bound operator's time is shared out by its bytes of each kind.

    Users of LLM-Viewer ask for exactly this split (weights, activations, KV cache, compute, network).
    """
    totals = {cause: np.zeros(point.mesh.shape) for cause in CAUSES}
    for timed in operators:
        totals["overhead"] += timed.count * timed.overhead
        if timed.work.message is not None:
            totals["network"] += timed.count * timed.times.network
            continue
        seconds, amount = timed.count * timed.times.seconds, timed.amount
        by_compute = timed.times.compute > timed.times.memory
        totals["compute"] += np.where(by_compute, seconds, 0.0)
        moved = np.where(by_compute, 0.0, seconds / np.maximum(amount.bytes, 1e-300))
        totals["weights"] += moved * amount.weights
        totals["activations"] += moved * (amount.activations_in + amount.activations_out + amount.unpacked)
        totals["kv_cache"] += moved * (amount.kv_read + amount.kv_write)
    return totals
