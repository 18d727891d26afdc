"""What a serving engine adds to the kernels' time: host work, launches, slower kernels (`dse.spec.runtime`).

Its factors stand for all its kernels, beside default efficiencies. Some lie below 1 (0.914 x 0.749 on decode steps of
vLLM with packed weights), which kernels that are near a roof already cannot follow: no phase takes less than at the
roofs (`above_roofs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np

from dse.cost.phases import Point
from dse.cost.work import Array
from dse.spec.runtime import RuntimeSpec


def host_seconds(point: Point, runtime: RuntimeSpec) -> Array:
    """What a forward pass costs beside its kernels, whatever it computes."""
    total: Array = (runtime.step_us + runtime.layer_us * len(point.model.layers)) * 1e-6
    if runtime.collective_us:
        total = total + np.where(point.degrees.tp > 1, runtime.collective_us * 1e-6 * sum(point.counts[:-2]), 0.0)
    return total


def step_seconds(point: Point, runtime: RuntimeSpec) -> Array:
    """A decode step of the point's batch, per token that each sequence gains."""
    iteration = point.iteration
    seconds = decode_seconds(point, runtime) + sequence_seconds(point, runtime)
    if iteration.drafts is not None:
        seconds = seconds + runtime.speculation_us.get(iteration.drafts, 0.0) * 1e-6
    if point.draft is not None:
        seconds = seconds + point.draft_passes * decode_seconds(point.draft, runtime)
    return seconds / iteration.tokens


def decode_seconds(point: Point, runtime: RuntimeSpec) -> Array:
    """One decode pass of a model over its batch, without what the host does for each sequence."""
    factor = decode_factor(point, runtime)
    kernels = above_roofs(point, factor, point.step * factor, lambda roofs: roofs.step) + vector_excess(point, runtime)
    return issued(point, runtime, kernels, 1.0) + host_seconds(point, runtime)


def prompt_seconds(point: Point, runtime: RuntimeSpec) -> Array:
    """The prompt passes of the point's batch."""
    passes = point.micro_batches["prefill"]
    factor = prompt_factor(point, runtime)
    kernels = above_roofs(point, factor, point.ttft * factor, lambda roofs: roofs.ttft)
    if runtime.ubatch_tokens is not None:
        kernels = kernels * _overlapped(point, runtime.ubatch_tokens)
    seconds = issued(point, runtime, kernels, passes) + passes * host_seconds(point, runtime)
    if point.draft is not None:
        seconds = seconds + point.draft.micro_batches["prefill"] * host_seconds(point.draft, runtime)
    return seconds


def above_roofs(point: Point, factor: Array, kernels: Array, of: Callable[[Point], Array]) -> Array:
    """Seconds of an engine's kernels, at least those that the roofs allow.

    Args:
        point: whose kernels they are.
        factor: of the engine on them, the least if there are several.
        kernels: their seconds.
        of: the same of a point, without an engine; asked of `point.roofs` where the factor can bring kernels there.
    """
    most = point.mesh.take(np.array([fidelity.most for fidelity in point.choices.fidelities]), "fidelity")
    near = np.less(factor, most)
    if not np.any(near):
        return kernels
    return np.where(near, np.maximum(kernels, of(point.roofs)), kernels)


def prompt_factor(point: Point, runtime: RuntimeSpec) -> Array:
    """On the time of the kernels of prompt passes."""
    return _factor(point, runtime.prefill_slowdown, runtime.unpack_prefill)


def decode_factor(point: Point, runtime: RuntimeSpec) -> Array:
    """On the time of the kernels of decode steps."""
    factor = _factor(point, runtime.decode_slowdown, runtime.unpack_decode)
    return factor if runtime.core_gb_per_s is None else factor * _starved(point, runtime.core_gb_per_s)


def vector_excess(point: Point, runtime: RuntimeSpec) -> Array:
    """Seconds by which decode attention outside the matrix units exceeds the kernels' own time for it."""
    if runtime.attention_vector_share is None:
        return 0.0
    seconds, on_vector = point.decode_attention
    return cast(Array, np.maximum(on_vector / runtime.attention_vector_share - seconds, 0.0))


def sequence_seconds(point: Point, runtime: RuntimeSpec) -> Array:
    """What the host does for each sequence of a decode step."""
    return runtime.sequence_us * 1e-6 * point.rank_sequences


def _overlapped(point: Point, tokens: int) -> Array:
    """Time of prompts cut into parts that follow each other through the stages, over that of whole prompts.

    Of c parts each, m prompts that take t through all stages and s in the slowest take (t + (c m - 1) s) / c.
    """
    if all(layout.pp == 1 for layout in point.choices.layout):
        return 1.0
    through, slowest = point.stage_seconds("prefill")
    parts, passes = np.ceil(point.computed / tokens), point.micro_batches["prefill"]
    whole = through + (passes - 1) * slowest
    return cast(Array, (through + (parts * passes - 1) * slowest) / parts / whole)


def issued(point: Point, runtime: RuntimeSpec, kernels: Array, passes: Array) -> Array:
    """Kernels whose launches the host issues ahead of the device: the slower of the two sets the pace."""
    if runtime.launch_us is None:
        return kernels
    return cast(Array, np.maximum(kernels, passes * (runtime.launch_us * 1e-6 * len(point.model.layers))))


def _factor(point: Point, slowdown: float, unpack: float) -> Array:
    """On the time of kernels, shape over the axis precision."""
    if unpack == 1.0:
        return slowdown
    schemes = point.choices.precision
    packed = [scheme.weights.element_bits < scheme.activations.element_bits for scheme in schemes]
    return point.mesh.take(np.where(packed, slowdown * unpack, slowdown), "precision")


def _starved(point: Point, core_gb_per_s: float) -> Array:
    """How much longer the memory takes when its cores draw no more than this; chips without a count draw enough."""
    most = point.choices.of_hardware("cores") * core_gb_per_s * 1e9
    reached = 0.8 * point.choices.of_hardware("bandwidth")
    return point.mesh.take(np.maximum(np.nan_to_num(reached / most, nan=1.0), 1.0), "hardware")
