"""`dse place`: the best placement of one model on one machine, or what a given one would do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dse.cost.choices import AXES, Choices
from dse.cost.feasible import OK, structure_status
from dse.cost.mesh import Mesh
from dse.cost.metrics import Scored
from dse.cost.phases import Point
from dse.cost.placement.affine import TIERS, Shares, Tensor, Tier
from dse.cost.placement.plan import Devices, device_choices
from dse.cost.placement.schedules import has_dense, has_experts
from dse.cost.work import Array
from dse.errors import Fault, InputError
from dse.run.evaluate import point_sweep
from dse.run.explain_placement import explain_placement
from dse.run.resolve import Sweep
from dse.search.place import Search, forced, search
from dse.search.whole_tensors import whole_tensors as in_whole_tensors
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec

HOST_WORK = ("attention", "ffn", "experts")

PLAIN_BATCHES = tuple(2**power for power in range(13))
"""Batches tried where the model fits without offloading."""


def place(
    model: str | ModelSpec,
    hardware: str | HardwareSpec | Mapping[str, Any],
    *,
    gpu_batch: int | None = None,
    num_batches: int | None = None,
    policy: Sequence[float] | None = None,
    whole_tensors: bool = False,
    host: Iterable[str] | None = None,
    latency_s: float | None = None,
    **axes: Any,
) -> dict[str, Any]:
    """Where weights, KV cache and activations should lie, with which GPU batch and block, for the highest throughput.

    Args:
        model: a name, a path, or a `ModelSpec`.
        hardware: a name, a path, a mapping with `base`, or a `HardwareSpec`; its box has the host and the disk.
        gpu_batch: sequences of a GPU batch; searched for where it is not given.
        num_batches: GPU batches of a block; likewise.
        policy: percent of weights, cache and hidden activations on accelerator and host (wg, wc, cg, cc, hg, hc),
            the rest on disk, instead of the best; fractions where none is above one.
        whole_tensors: place the policy's weights in whole tensors, as FlexGen does (`dse.search.whole_tensors`).
        host: what the host computes (`attention`, `ffn`, `experts`; empty: nothing), instead of the best.
        latency_s: seconds a block may take from prompt to last token.
        **axes: as in `dse.evaluate`, one value each: `precision, tp, pp, dp, ep, input, output, overlap, fidelity,
            memory_utilization, host_utilization, max_prefill_tokens, dequantization`.

    Returns:
        `status` (`ok`, or why nothing fits: a policy given is told all the same), `shares` by tensor and tier,
        `gpu_batch`, `num_batches`,
        `output_tokens_per_s`, `latency_s`, `ttft_ms`, `tpot_ms`, `times` by phase and stream (seconds of a pass over
        the block), `memory` by tier (GB per device), `binding` constraints, `shadow_prices` (tokens/s per GB more of a
        tier), `rounded` (whole layers), `frontier`, `without_offloading`, and more.

    Raises:
        InputError: an axis or a name is unknown, a value impossible, or there is more than one point.
    """
    sweep = point_sweep(model, hardware, axes)
    _check(gpu_batch, num_batches, latency_s)
    if whole_tensors and policy is None:
        raise InputError(Fault("rounds the weights of a policy; give one", "whole-tensors"))
    chosen, choices = sweep.models[0], replace(sweep.choices_of(0, 0), offload="lp")
    asked = _asked(chosen, choices)
    if (reason := _structure(sweep, choices)) != OK:
        return {"status": reason, **asked}
    given, homes = None if policy is None else _policy(policy), _homes(host, chosen)
    if whole_tensors and given is not None:
        given = in_whole_tensors(chosen, choices, given)

    def tried(limit: float | None) -> Search:
        if given is None:
            return search(chosen, choices, homes, gpu_batch, num_batches, limit)
        return forced(chosen, choices, homes, given, gpu_batch, num_batches, limit)

    found = tried(latency_s)
    counted = {"programs": found.programs, "programs_by_highs": found.by_highs}
    if not found.candidates and found.beyond:
        lacking = replace(found, candidates=list(found.beyond))
        told = explain_placement(chosen, choices, lacking, optimal=False)
        return {"status": "exceeds_memory", "needed_over_available": found.nearest, **asked, **told, **counted}
    if not found.candidates:
        return {**_missed(found, None if latency_s is None else tried(None)), **counted, **asked}
    return {
        "status": OK,
        **asked,
        **explain_placement(chosen, choices, found, optimal=given is None, latency_limit=latency_s),
        **_compared(chosen, choices, found, latency_s),
        **counted,
    }


def _check(gpu_batch: int | None, num_batches: int | None, latency_s: float | None) -> None:
    faults = [
        Fault(f"expected a whole number of at least 1, got {value}", name)
        for name, value in (("gpu-batch", gpu_batch), ("num-batches", num_batches))
        if value is not None and value < 1
    ]
    if latency_s is not None and not latency_s > 0:
        faults.append(Fault(f"expected seconds above 0, got {latency_s:g}", "latency"))
    if faults:
        raise InputError(faults)


def _policy(values: Sequence[float]) -> Shares:
    """Shares of weights, cache and hidden from six numbers, percent or fractions."""
    if len(values) != 6 or not all(np.isfinite(values)) or min(values) < 0:
        given = ",".join(f"{value:g}" for value in values)
        raise InputError(Fault(f"expected six percentages wg,wc,cg,cc,hg,hc, got {given}", "policy"))
    scale = 1.0 if max(values) <= 1 else 100.0
    found: dict[Tensor, dict[Tier, Array]] = {}
    tensors: tuple[Tensor, ...] = ("weights", "cache", "hidden")
    for tensor, near, host in zip(tensors, values[::2], values[1::2], strict=True):
        if near + host > scale * (1 + 1e-9):
            message = f"{near:g} and {host:g} are more than all of {tensor}: the two are at most {scale:g}"
            raise InputError(Fault(message, "policy"))
        rest = max(scale - near - host, 0.0)
        found[tensor] = dict(zip(TIERS, (near / scale, host / scale, rest / scale), strict=True))
    return found


def _homes(host: Iterable[str] | None, model: ModelSpec) -> list[Devices]:
    """What the host may be given to compute."""
    every = device_choices(has_dense(model), has_experts(model))
    if host is None:
        return every
    wanted = set(host)
    unknown = sorted(wanted - set(HOST_WORK))
    if unknown:
        raise InputError(Fault(f"expected any of {', '.join(HOST_WORK)}, or none; got {', '.join(unknown)}", "host"))
    fitting = [devices for devices in every if devices.on_host_at_all == wanted]
    if not fitting:
        raise InputError(Fault(f"{model.name} has no such layers for {', '.join(sorted(wanted))}", "host"))
    return fitting


def _missed(found: Search, unlimited: Search | None) -> dict[str, Any]:
    """Why there is no placement: too little memory, or with more time there would be one."""
    if unlimited is not None and unlimited.candidates:
        return {"status": "constraint:latency_s", "least_latency_s": min(one.seconds for one in unlimited.candidates)}
    return {"status": "exceeds_memory", "needed_over_available": found.nearest}


def _structure(sweep: Sweep, choices: Choices) -> str:
    """Why the layout is impossible, or ok."""
    mesh = Mesh.open(AXES, [slice(0, 1) for _ in AXES])
    # Every attention-dp rank gets a sequence: the block is chosen later.
    point = Point(sweep.models[0], replace(choices, batch=[choices.layout[0].dp]), mesh)
    reasons = sweep.question.reasons
    status = structure_status([point], {reason: code for code, reason in enumerate(reasons)})
    return reasons[int(np.ravel(status)[0])]


def _asked(model: ModelSpec, choices: Choices) -> dict[str, Any]:
    layout = choices.layout[0]
    return {
        "model": model.name,
        "hardware": choices.hardware[0].name,
        "precision": choices.precision[0].name,
        "workload": choices.workload[0].name,
        "tp": layout.tp,
        "pp": layout.pp,
        "dp": layout.dp,
        "devices": layout.devices,
        "overlap": choices.overlap,
        "fidelity": choices.fidelity[0],
    }


def _compared(model: ModelSpec, choices: Choices, found: Search, latency_s: float | None) -> dict[str, Any]:
    """The frontier of blocks, and whether offloading was needed at all."""
    plain = _without(model, choices, latency_s)
    dominated = plain is not None and plain["output_tokens_per_s"] >= found.best.output_tokens_per_s
    note = "does not fit without offloading"
    if plain is not None:
        note = "fits without offloading" + (", which is at least as fast: offloading is dominated" if dominated else "")
    return {
        "frontier": [
            {
                "gpu_batch": one.gpu_batch,
                "num_batches": one.schedule.num_batches,
                "host_computes": one.schedule.devices.text,
                "output_tokens_per_s": one.output_tokens_per_s,
                "latency_s": one.seconds,
            }
            for one in found.frontier
        ],
        "without_offloading": plain,
        "offloading_dominated": dominated,
        "note": note,
    }


def _without(model: ModelSpec, choices: Choices, latency_s: float | None) -> dict[str, Any] | None:
    """The best batch without offloading, if the model fits."""
    choices = replace(choices, offload="none", batch=list(PLAIN_BATCHES))
    mesh = Mesh.open(AXES, [slice(0, length) for length in choices.shape])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scored = Scored.of(model, choices, mesh)
        latency = np.broadcast_to(scored.point.latency, mesh.shape).ravel()
        fits = np.broadcast_to(scored.memory.total <= scored.memory.limit, mesh.shape).ravel()
        if latency_s is not None:
            fits = fits & (latency <= latency_s)
        speed = np.where(fits, np.broadcast_to(scored.tokens_per_s, mesh.shape).ravel(), 0.0)
    if not fits.any():
        return None
    at = int(np.argmax(speed))
    return {"batch": PLAIN_BATCHES[at], "output_tokens_per_s": float(speed[at]), "latency_s": float(latency[at])}
