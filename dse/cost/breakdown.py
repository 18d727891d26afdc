"""Where the time of a point goes: per operator, per bound, per kind of byte. For points that are reported."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.cost.phases import Point
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
    """How often it runs in the phase on the path of one request batch: layers x micro-batches."""
    work: Work
    amount: Amount
    """FLOPs and bytes of one run (mean over the decode steps)."""
    times: Times
    overhead: Array
    """Fixed cost of its kernel, charged to the kernel's first operator."""


def timed_operators(point: Point, phase: Phase) -> Iterator[Timed]:
    """Every operator of a phase in the order it runs: embedding, the distinct parts, head."""
    layers, edges = point.works(phase)
    passes = point.micro_batches[phase] if phase == "prefill" else np.float64(1.0)
    contexts = point.contexts if phase == "decode" else None
    names = [f"{part.name} x{len(where)}" for part, where in zip(point.parts, point.where, strict=True)]
    counts = [len(where) for where in point.where]
    first, last = edges.items()
    groups = [(first[0], 1, first[1]), *zip(names, counts, layers, strict=True), (last[0], 1, last[1])]
    for name, count, works in groups:
        seen: set[str] = set()
        for work in works:
            overhead = 0.0 if work.kernel in seen else point.rates.fixed(work.group)
            seen.add(work.kernel)
            yield Timed(
                name,
                count * passes,
                work,
                mean_amount(work, contexts),
                times(work, point.rates, contexts),
                overhead,
            )


def seconds_by_bound(point: Point, phase: Phase) -> dict[str, NDArray[np.float64]]:
    """Seconds of the operators by what bounds each, over all layers; arrays of the mesh's shape.

    An operator counts wholly for the roof it touches; fixed costs are `overhead`, collectives `network`.
    """
    totals = {bound: np.zeros(point.mesh.shape) for bound in BOUNDS}
    for timed in timed_operators(point, phase):
        totals["overhead"] += timed.count * timed.overhead
        if timed.work.message is not None:
            totals["network"] += timed.count * timed.times.network
            continue
        by_compute = timed.times.compute > timed.times.memory
        seconds = timed.count * timed.times.seconds
        totals["compute"] += np.where(by_compute, seconds, 0.0)
        totals["memory"] += np.where(by_compute, 0.0, seconds)
    return totals


def bound_names(point: Point, phase: Phase) -> NDArray[np.str_]:
    """The bound that holds most of the phase's time, as text; shape of the mesh."""
    totals = seconds_by_bound(point, phase)
    largest = np.argmax(np.stack([totals[bound] for bound in BOUNDS]), axis=0)
    names: NDArray[np.str_] = np.array(BOUNDS)[largest]
    return names


def seconds_by_cause(point: Point, phase: Phase) -> dict[str, NDArray[np.float64]]:
    """Seconds by cause: a memory-bound operator's time is shared out by its bytes of each kind.

    Users of LLM-Viewer ask for exactly this split (weights, activations, KV cache, compute, network).
    """
    totals = {cause: np.zeros(point.mesh.shape) for cause in CAUSES}
    for timed in timed_operators(point, phase):
        totals["overhead"] += timed.count * timed.overhead
        if timed.work.message is not None:
            totals["network"] += timed.count * timed.times.network
            continue
        seconds, amount = timed.count * timed.times.seconds, timed.amount
        by_compute = timed.times.compute > timed.times.memory
        totals["compute"] += np.where(by_compute, seconds, 0.0)
        moved = np.where(by_compute, 0.0, seconds / np.maximum(amount.bytes, 1e-300))
        totals["weights"] += moved * amount.weights
        totals["activations"] += moved * (amount.activations_in + amount.activations_out)
        totals["kv_cache"] += moved * (amount.kv_read + amount.kv_write)
    return totals
