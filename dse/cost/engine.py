"""What a serving engine adds to the kernels' time: host work, launches, slower kernels (`dse.spec.runtime`)."""

from __future__ import annotations

from typing import cast

import numpy as np

from dse.cost.phases import Point
from dse.cost.roofs import above_roofs
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
    kernels = decode_kernels(point, runtime) + vector_excess(point, runtime)
    return issued(point, runtime, kernels, 1.0) + host_seconds(point, runtime)


def prompt_seconds(point: Point, runtime: RuntimeSpec) -> Array:
    """The prompt passes of the point's batch."""
    passes = point.micro_batches["prefill"]
    kernels = prompt_kernels(point, runtime)
    if runtime.ubatch_tokens is not None:
        kernels = kernels * _overlapped(point, runtime.ubatch_tokens)
    seconds = issued(point, runtime, kernels, passes) + passes * host_seconds(point, runtime)
    if point.draft is not None:
        seconds = seconds + point.draft.micro_batches["prefill"] * host_seconds(point.draft, runtime)
    return seconds


# -- the same by cause, for points that are reported -------------------------------------------------------

Parts = dict[str, Array]
"""Cause -> seconds beside the kernels' own, in the order of the sum."""


def prompt_parts(point: Point, runtime: RuntimeSpec) -> Parts:
    """What `prompt_seconds` is beside the kernels of the passes, `point.ttft`."""
    passes = point.micro_batches["prefill"]
    slower = prompt_kernels(point, runtime)
    kernels = slower if runtime.ubatch_tokens is None else slower * _overlapped(point, runtime.ubatch_tokens)
    parts = {
        "kernel_speed": slower - point.ttft,
        "stages_overlap": kernels - slower,
        "launches": issued(point, runtime, kernels, passes) - kernels,
        **_times(passes, _host_parts(point, runtime)),
    }
    if point.draft is not None:
        parts = _together(parts, _times(point.draft.micro_batches["prefill"], _host_parts(point.draft, runtime)))
    return parts


def step_parts(point: Point, runtime: RuntimeSpec) -> Parts:
    """What a decode iteration is beside the kernels of its passes, `point.iteration_seconds`."""
    parts = _decode_parts(point, runtime)
    if point.draft is not None:
        parts = _together(parts, _times(point.draft_passes, _decode_parts(point.draft, runtime)))
    drafts = point.iteration.drafts
    checked = 0.0 if drafts is None else runtime.speculation_us.get(drafts, 0.0) * 1e-6
    return parts | {"per_sequence": sequence_seconds(point, runtime), "drafts_checked": checked}


def _decode_parts(point: Point, runtime: RuntimeSpec) -> Parts:
    slower, excess = decode_kernels(point, runtime), vector_excess(point, runtime)
    return {
        "kernel_speed": slower - point.step,
        "attention_on_vector_units": excess,
        "launches": issued(point, runtime, slower + excess, 1.0) - (slower + excess),
        **_host_parts(point, runtime),
    }


def _host_parts(point: Point, runtime: RuntimeSpec) -> Parts:
    """`host_seconds` by cause."""
    per_step, per_layer = runtime.step_us * 1e-6, runtime.layer_us * len(point.model.layers) * 1e-6
    return {
        "per_step": per_step,
        "per_layer": per_layer,
        "collectives": host_seconds(point, runtime) - per_step - per_layer,
    }


def _times(often: Array, parts: Parts) -> Parts:
    return {cause: often * seconds for cause, seconds in parts.items()}


def _together(parts: Parts, others: Parts) -> Parts:
    return {cause: seconds + others.get(cause, 0.0) for cause, seconds in parts.items()}


# -- factors ----------------------------------------------------------------------------------------------


def prompt_kernels(point: Point, runtime: RuntimeSpec) -> Array:
    """The engine's kernels of the prompt passes."""
    factor = prompt_factor(point, runtime)
    return above_roofs(point, factor, point.ttft * factor, lambda roofs: roofs.ttft)


def decode_kernels(point: Point, runtime: RuntimeSpec) -> Array:
    """The engine's kernels of a decode pass, but for attention outside the matrix units."""
    factor = decode_factor(point, runtime)
    return above_roofs(point, factor, point.step * factor, lambda roofs: roofs.step)


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
