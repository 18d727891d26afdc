"""What a serving engine adds to the kernels' time: host work, launches, slower kernels (`dse.spec.runtime`)."""

from __future__ import annotations

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
    seconds = _decode_pass(point, runtime) + runtime.sequence_us * 1e-6 * point.rank_sequences
    iteration = point.iteration
    if iteration.drafts is not None:
        seconds = seconds + runtime.speculation_us.get(iteration.drafts, 0.0) * 1e-6
    if point.draft is not None:
        seconds = seconds + point.draft_passes * _decode_pass(point.draft, runtime)
    return seconds / iteration.tokens


def _decode_pass(point: Point, runtime: RuntimeSpec) -> Array:
    """One pass of a model over its batch, host work included."""
    kernels = point.step * _factor(point, runtime.decode_slowdown, runtime.unpack_decode)
    if runtime.core_gb_per_s is not None:
        kernels = kernels * _starved(point, runtime.core_gb_per_s)
    if runtime.attention_vector_share is not None:
        seconds, on_vector = point.decode_attention
        kernels = kernels + np.maximum(on_vector / runtime.attention_vector_share - seconds, 0.0)
    return _issued(point, runtime, kernels, 1.0) + host_seconds(point, runtime)


def prompt_seconds(point: Point, runtime: RuntimeSpec) -> Array:
    """The prompt passes of the point's batch."""
    kernels = point.ttft * _factor(point, runtime.prefill_slowdown, runtime.unpack_prefill)
    passes = point.micro_batches["prefill"]
    if runtime.ubatch_tokens is not None:
        kernels = kernels * _overlapped(point, runtime.ubatch_tokens)
    seconds = _issued(point, runtime, kernels, passes) + passes * host_seconds(point, runtime)
    if point.draft is not None:
        seconds = seconds + point.draft.micro_batches["prefill"] * host_seconds(point.draft, runtime)
    return seconds


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


def _issued(point: Point, runtime: RuntimeSpec, kernels: Array, passes: Array) -> Array:
    """Kernels whose launches the host issues ahead of the device: the slower of the two sets the pace."""
    if runtime.launch_us is None:
        return kernels
    issued = passes * (runtime.launch_us * 1e-6 * len(point.model.layers))
    return cast(Array, np.maximum(kernels, issued))


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
