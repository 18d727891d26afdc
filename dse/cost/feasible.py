"""Which points cannot run, and why: structure first, then memory, then the user's constraints.

A status is an int8 code into `reasons`: 0 is ok. Each rule says where it is violated; the first rule in the
order of `STRUCTURE` that applies names the point's reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices, Pools, Table
from dse.cost.compatible import RULES
from dse.cost.matching import fills
from dse.cost.phases import Point
from dse.cost.work import Array
from dse.spec.hardware import HardwareSpec
from dse.spec.model import MLP, Attention, DeltaNet, LatentAttention, Mamba2, MoE

Mask = NDArray[np.bool_]
"""True where a rule is violated; as small as the axes the rule depends on."""

NONE: Mask = np.zeros(1, dtype=bool)

OK = "ok"


def _divides(degree: Array, size: Array) -> Mask:
    return np.equal(np.mod(size, degree), 0)


def _components(point: Point, *kinds: type) -> Iterator[Any]:
    return (part.component for part in point.parts if isinstance(part.component, kinds))


def _any(masks: Iterable[Mask]) -> Mask:
    result: Mask = np.zeros(1, dtype=bool)
    for mask in masks:
        result = result | mask
    return result


def _heads(point: Point) -> Mask:
    tp = point.degrees.tp
    heads = [c.heads for c in _components(point, Attention, LatentAttention, Mamba2)]
    heads += [h for c in _components(point, DeltaNet) for h in (c.key_heads, c.value_heads)]
    return _any(~_divides(tp, h) for h in heads)


def _kv_heads(point: Point) -> Mask:
    tp = point.degrees.tp
    shared = [c.kv_heads for c in _components(point, Attention)] + [c.groups for c in _components(point, Mamba2)]
    return _any(~(_divides(tp, h) | _divides(h, tp)) for h in shared)


def _widths(point: Point) -> Mask:
    degrees = point.degrees
    dense = [c.width for c in _components(point, MLP)] + [c.shared_width for c in _components(point, MoE)]
    experts = [c.width for c in _components(point, MoE)]
    return _any(~_divides(degrees.tp, w) for w in dense) | _any(~_divides(degrees.expert_tp, w) for w in experts)


def _experts(point: Point) -> Mask:
    return _any(~_divides(point.degrees.ep, c.experts) for c in _components(point, MoE))


def _not_moe(point: Point) -> Mask:
    dense = next(_components(point, MoE), None) is None
    return np.greater(point.degrees.ep, 1) & dense


def _context(point: Point) -> Mask:
    limit = point.model.max_context
    return point.mesh.take(point.choices.longest, "workload") > (np.inf if limit is None else limit)


def _links(point: Point) -> Mask:
    alone = np.isnan(point.mesh.take(point.choices.of_hardware("scale_out_bandwidth"), "hardware"))
    return alone & (point.degrees.devices > point.mesh.take(point.choices.of_hardware("domain"), "hardware"))


def _runtime(point: Point) -> Mask:
    supports = point.choices.runtime.supports
    kinds = {type(part.component).__name__ for part in point.parts}
    if supports.layers and not kinds <= set(supports.layers):
        return np.ones(1, dtype=bool)
    choices = point.choices
    lacks = np.array([[not supports.runs(chip, scheme) for scheme in choices.precision] for chip in choices.hardware])
    if lacks.all() or not lacks.any():  # no mask over the mesh where all are alike
        return np.full(1, lacks.all())
    return point.mesh.take(lacks.astype(float), "hardware", "precision") > 0


def _placed(point: Point) -> Mask:
    choices = point.choices
    return np.full(1, choices.offload == "lp" and choices.serving != "static")


def _batches(point: Point) -> Mask:
    if point.choices.serving != "offline":
        return np.zeros(1, dtype=bool)
    return point.mesh.index["batch"] > 0


def _one_length(point: Point) -> Mask:
    if point.choices.serving != "static":
        return NONE
    several = np.array([len(workload.requests) > 1 for workload in point.choices.workload], dtype=float)
    return point.mesh.take(several, "workload") > 0


def _chunks(point: Point) -> Mask:
    choices = point.choices
    return np.full(1, choices.serving == "static" and choices.techniques.get("chunk_tokens", "none") != "none")


# -- pairs of workers; the decode worker of a pair has the axes of both --------------------------------


def _pair_devices(point: Point, pools: Pools) -> Array:
    of_prefill = point.mesh.take(pools.prefill.of_layout("devices"), "prefill_layout")
    return of_prefill + point.degrees.devices


def _pair_cache(point: Point) -> Mask:
    pools = point.choices.pools
    if pools is None:
        return NONE
    ours, theirs = ([p.kv_cache for p in each.precision] for each in (point.choices, pools.prefill))
    table = np.array([[float(their != our) for our in ours] for their in theirs])
    return point.mesh.take(table, "prefill_precision", "precision") > 0


def _pair_budget(point: Point) -> Mask:
    pools = point.choices.pools
    return NONE if pools is None else np.greater(_pair_devices(point, pools), pools.devices)


def _pair_fill(point: Point) -> Mask:
    pools = point.choices.pools
    if pools is None or not pools.fill:
        return NONE
    table = point.choices.cached("fills", lambda: _fill_table(point.choices, pools))
    return np.equal(point.mesh.take(table, "prefill_layout", "layout"), 0)


def _fill_table(choices: Choices, pools: Pools) -> Table:
    """Where some counts of two workers take all devices: shape (prefill layout, layout)."""
    sizes = pools.prefill.of_layout("devices")[:, None], choices.of_layout("devices")[None]
    return fills(int(pools.devices), sizes, pools.max_workers).astype(float)


def _pair_link(point: Point) -> Mask:
    pools = point.choices.pools
    if pools is None:
        return NONE
    room = [
        [_common_domain(prefill, decode) for decode in point.choices.hardware] for prefill in pools.prefill.hardware
    ]
    return np.greater(_pair_devices(point, pools), point.mesh.take(np.array(room), "prefill_hardware", "hardware"))


def _common_domain(prefill: HardwareSpec, decode: HardwareSpec) -> float:
    """Most devices among which a cache can travel."""
    if prefill.scale_out is not None and decode.scale_out is not None:
        return math.inf
    return float(decode.domain) if prefill == decode else 0.0


def _engine_batch(point: Point) -> Mask:
    most = point.choices.runtime.max_batch
    if point.choices.pools is None or most is None or not np.all(np.isnan(point.choices.rates)):
        return NONE  # where requests arrive, the engine's limit is one of those on the sequences that run
    return np.greater(point.batch, most * point.degrees.dp)


STRUCTURE: dict[str, tuple[Callable[[Point], Mask], str]] = {
    "ep_not_divisor": (
        lambda p: ~_divides(p.degrees.ep, p.degrees.tp * p.degrees.dp),
        "ep must divide tp x dp: expert parallelism reuses those ranks",
    ),
    "not_moe": (_not_moe, "the model has no experts to spread over ep ranks"),
    "experts_not_divisible": (_experts, "ep must divide the number of experts"),
    "heads_not_divisible": (_heads, "tp must divide the number of heads"),
    "kv_heads_not_divisible": (_kv_heads, "tp must divide the KV heads, or be a multiple of them"),
    "width_not_divisible": (_widths, "tp must divide the feed-forward width"),
    "too_few_layers": (lambda p: np.greater(p.degrees.pp, len(p.model.layers)), "there are more stages than layers"),
    "batch_below_dp": (lambda p: np.less(p.batch, p.degrees.dp), "some attention-dp ranks would have no sequence"),
    "context_exceeds_model": (_context, "input + output is longer than the model's longest context"),
    "no_link_between_boxes": (_links, "the replica spans boxes and the accelerator has no scale-out link"),
    "runtime_unsupported": (_runtime, "the runtime does not run this accelerator, number format or kind of layer"),
    "offload_is_static": (_placed, "a placement runs static blocks: offload lp goes with serving static"),
    "kv_cache_differs": (_pair_cache, "both pools must keep the KV cache in one format: it is sent as it lies"),
    "exceeds_devices": (_pair_budget, "one prefill and one decode worker need more than disaggregated.devices"),
    "devices_not_filled": (_pair_fill, "no counts of these workers use all of disaggregated.devices"),
    "no_link_between_pools": (
        _pair_link,
        "the caches cannot reach the decode workers: an accelerator has no scale-out link",
    ),
    "batch_beyond_engine": (_engine_batch, "the engine runs fewer sequences at once (max_batch of the runtime)"),
    **RULES,
    "batch_set_by_engine": (_batches, "offline serving sets the batch itself: only the sweep's first value counts"),
    "static_needs_one_length": (
        _one_length,
        "a static batch ends with its longest request, and pools are matched for one pair: a distribution of lengths "
        "goes with offline, closed-loop or open-loop serving",
    ),
    "chunks_are_continuous": (
        _chunks,
        "a static batch and a prefill worker have no decodes beside their prompts: chunk_tokens goes with offline, "
        "closed-loop or open-loop serving",
    ),
}
"""Reason -> (where it holds, in words). In order of precedence."""

MEMORY = "exceeds_memory"
OVERLOADED = "overloaded"
"""More requests arrive than the replica finishes: queues grow without end."""


def structure_status(workers: Sequence[Point], code_of: dict[str, int]) -> NDArray[np.int8]:
    """Codes of the structural reasons, 0 where there is none; shape as small as the rules allow.

    Args:
        workers: one of each pool; a reason of one is a reason of all.
        code_of: reason -> code.
    """
    status: NDArray[np.int8] = np.zeros(1, dtype=np.int8)
    for reason, (violated, _) in reversed(STRUCTURE.items()):
        mask = _any(violated(point) for point in workers)
        if np.any(mask):
            status = np.where(mask, np.int8(code_of[reason]), status)
    return status


def reasons(constraints: Sequence[str], objectives: Sequence[str]) -> list[str]:
    """All reasons a sweep can meet, by code, in order of precedence."""
    undefined = [f"undefined:{name}" for name in dict.fromkeys((*objectives, *constraints))]
    return [OK, *STRUCTURE, MEMORY, OVERLOADED, *undefined, *(f"constraint:{name}" for name in constraints)]
