"""Rows of kernel timings -> the operators they ran, as the cost model writes them: one definition of every quantity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.forms import Roofs
from dse.cost.operators.attention import Scores
from dse.cost.operators.linear import linear
from dse.cost.operators.moe import grouped_experts
from dse.cost.setting import Degrees, Phase, Setting, Widths
from dse.cost.work import Array, Span, Work
from dse.spec.calibration import Form, cache_key, product_key, scores_key
from dse.spec.compute import operand_type, supported_type
from dse.spec.formats import Format, parse_format
from dse.spec.hardware import HardwareSpec

Column = NDArray[np.float64]
Columns = Mapping[str, Any]

TableKind = Literal["gemm", "context_attention", "generation_attention", "moe", "mla", "collective"]

SHAPES: Mapping[TableKind, tuple[str, ...]] = {
    "moe": ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size"),
    "mla": ("phase", "num_heads", "batch_size", "isl", "step"),
    "collective": ("op_name", "num_gpus", "message_size"),
    "context_attention": ("batch_size", "isl", "step", "num_heads", "num_key_value_heads", "head_dim"),
    "gemm": ("m", "n", "k"),
}
"""Columns by which a table is told; attention is prefill or decode by `isl` (1 in decode)."""

SKEW = 1.5
"""Coefficient of variation of the popularity of experts in timings under a power law: a truncated 1/x law over 1..n has
sqrt(ln(n) / 2 - 1), 1.6 at n = 1000. A scan on 6,260 timings is flat above 1.5 (22.2 % MAPE; 25.2 at 0)."""

_FORMATS: Mapping[str, tuple[Any, Any]] = {
    "bfloat16": ("bf16", "bf16"), "bf16": ("bf16", "bf16"), "float16": ("fp16", "fp16"), "fp16": ("fp16", "fp16"),
    "half": ("fp16", "fp16"), "fp8": ("fp8", "fp8"), "fp8_static": ("fp8", "fp8"), "fp8_block": ("fp8-block", "fp8"),
    "nvfp4": ("nvfp4", "nvfp4"), "mxfp4": ("mxfp4", "mxfp4"), "int8_wo": ("int8", "bf16"),
    "int4_wo": ({"dtype": "int4", "group_size": 128}, "bf16"), "sq": ("int8", "int8"), "int8": ("int8", "int8"),
    "w4a16_mxfp4": ("mxfp4", "bf16"), "w4a8_mxfp4_mxfp8": ("mxfp4", "mxfp8"),
    "w4afp8": ({"dtype": "int4", "group_size": 128}, "fp8"),
}  # fmt: skip
"""Type names of the tables -> formats of weights and activations."""

_MESSAGES = {"bfloat16": 2.0, "bf16": 2.0, "half": 2.0, "float16": 2.0, "fp16": 2.0}
"""Bytes per element of the messages that engines send; others are left out."""

_COLLECTIVES = {"all_reduce": "all_reduce", "all_gather": "all_gather", "alltoall": "all_to_all"}


@dataclass(frozen=True)
class Batch:
    """Rows of one class and number type on one accelerator, as quantities."""

    form: Form
    key: str
    rows: NDArray[np.int64]
    """Where they stand in the table."""
    quantities: Mapping[str, Column]
    """Of each call: those of `dse.cost.work`, or of a collective `wire` seconds and `ranks`."""
    roofs: Roofs
    sites: Sequence[str]
    """What is held out together."""
    scope: NDArray[np.bool_]
    """Shapes a model runs; the rest is not fitted."""


class Made(NamedTuple):
    """Operators of some rows."""

    form: Form
    key: str
    roofs: Roofs
    quantities: dict[str, Column]
    sites: list[str]
    scope: NDArray[np.bool_]


def known_type(name: str) -> bool:
    """Whether a dtype of a table is understood."""
    return name in _FORMATS


def formats(name: str) -> tuple[Format, Format]:
    """Formats of weights and activations of a dtype of the tables."""
    weights, activations = _FORMATS[name]
    return parse_format(weights), parse_format(activations)


def _setting(phase: Phase, sequences: Column, queries: Array, weights: float, act: float, kv: float,
             degrees: Degrees | None = None) -> Setting:  # fmt: skip
    """A pass of as many settings as there are rows."""
    alone = Degrees(np.array(1.0), np.array(1.0), np.array(1.0), np.array(1.0))
    widths = Widths(weights, weights, act, kv, weights)
    return Setting(phase, sequences, queries, sequences * queries, degrees or alone, widths, cast(Any, None))


def _quantities(works: Sequence[Work], context: Array = 0.0) -> dict[str, Column]:
    """Sums over the operators of a call."""
    found: dict[str, Any] = {}
    for work in works:
        if work.included:
            continue
        variable = work.times if work.span is None else context
        lines: dict[str, tuple[Array, Array]] = {
            "flops": (work.fixed.flops, work.each.flops),
            "bytes": (work.fixed.bytes, work.each.bytes),
        }
        lines.update((str(name), line) for name, line in work.extra.items())
        for name, (fixed, each) in lines.items():
            found[name] = found.get(name, 0.0) + fixed + each * variable
        for unit, amount in work.launch.items():
            found[unit] = found.get(unit, 0.0) + amount
    return found


def gemm(table: Columns, chip: HardwareSpec, dtype: str) -> Made:
    """Matrix products of one dtype."""
    weights, act = formats(dtype)
    used = _used(chip, weights, act)
    m, n, k = (table[name].astype(float) for name in ("m", "n", "k"))
    setting = _setting("prefill", m, 1.0, weights.bytes, act.bytes, 2.0)
    found = _quantities([linear("timed", setting, k, n)])
    sites = [f"{a:.0f}x{b:.0f}" for a, b in zip(n, k, strict=True)]
    return Made("gemm", product_key(weights, used), _roofs(chip, used), found, sites, (n >= 512) & (k >= 512))


def _used(chip: HardwareSpec, weights: Format, activations: Format) -> str:
    return supported_type(operand_type(weights, activations), {"fp32": chip.vector} | chip.peaks)


def _roofs(chip: HardwareSpec, used: str) -> Roofs:
    return Roofs.of(chip, chip.peaks.get(used, chip.vector))


def prompt_attention(table: Columns, chip: HardwareSpec, attention: str, cache: str) -> Made:
    """Attention of prompts without a cached prefix."""
    form, kv = formats(attention)[0], formats(cache)[0]
    used = _used(chip, form, form)
    batch, queries, heads, kv_heads, dim = _heads(table)
    setting = _setting("prefill", batch, queries, 2.0, 2.0, kv.bytes)
    scores = Scores(heads, dim, dim, 2.0 * kv_heads * dim * kv.bytes, 2.0, kv_heads)
    found = _quantities(scores.works(setting, Span()))
    sites = _joined(heads, kv_heads, dim, batch)
    return Made("prefill", scores_key(used, kv), _roofs(chip, used), found, sites, found["flops"] > 0.05e9)


def decode_attention(table: Columns, chip: HardwareSpec, attention: str, cache: str) -> Made:
    """Attention of one new token over a cache."""
    form, kv = formats(attention)[0], formats(cache)[0]
    batch, _, heads, kv_heads, dim = _heads(table)
    context = table["isl"].astype(float) + table["step"].astype(float)
    setting = _setting("decode", batch, 1.0, 2.0, 2.0, kv.bytes)
    scores = Scores(heads, dim, dim, 2.0 * kv_heads * dim * kv.bytes, 2.0, kv_heads)
    found = _quantities(scores.works(setting, Span()), context)
    sites = _joined(heads, kv_heads, dim, batch)
    return Made("decode", cache_key(kv), _roofs(chip, _used(chip, form, form)), found, sites, found["bytes"] > 1e6)


def _heads(table: Columns) -> tuple[Column, Column, Column, Column, Column]:
    names = ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim")
    batch, queries, heads, kv_heads, dim = (table[name].astype(float) for name in names)
    return batch, queries, heads, np.where(kv_heads == 0, heads, kv_heads), dim


def latent_attention(table: Columns, chip: HardwareSpec, phase: Phase, cache: str) -> Made:
    """DeepSeek's latent attention: 512 + 64 elements per token; expanded to 192 and 128 per head in a prompt."""
    kv = formats(cache)[0]
    batch, heads, isl, step = (table[name].astype(float) for name in ("batch_size", "num_heads", "isl", "step"))
    sites = _joined(heads, batch)
    roofs = _roofs(chip, _used(chip, parse_format("bf16"), parse_format("bf16")))
    if phase == "prefill":
        setting = _setting("prefill", batch, isl, 2.0, 2.0, kv.bytes)
        scores = Scores(heads, 192, 128, heads * 320 * 2.0, 2.0, heads, cached=False, latent=True)
        found = _quantities(scores.works(setting, Span()))
        return Made("latent_prefill", "bf16", roofs, found, sites, found["flops"] > 0.05e9)
    setting = _setting("decode", batch, 1.0, 2.0, 2.0, kv.bytes)
    scores = Scores(heads, 576, 512, np.full_like(heads, 576 * kv.bytes), 2.0, 1.0, latent=True)
    found = _quantities(scores.works(setting, Span()), isl + step)
    return Made("latent_decode", cache_key(kv), roofs, found, sites, found["bytes"] > 1e6)


def experts(table: Columns, chip: HardwareSpec, dtype: str) -> Made:
    """Routed experts of the busiest rank."""
    weights, act = formats(dtype)
    used = _used(chip, weights, act)
    tokens, hidden, inner, top_k, count, tp, ep = (table[name].astype(float) for name in SHAPES["moe"])
    picks = tokens * top_k
    skew = np.where(np.char.startswith(table["distribution"].astype(str), "power_law"), SKEW, 0.0)
    rows = picks / ep * busiest(ep, picks, count, top_k, skew)
    hit = count / ep * (1.0 - (1.0 - top_k / count) ** tokens)
    ones = np.ones_like(tokens)
    setting = _setting("prefill", tokens, 1.0, weights.bytes, act.bytes, 2.0, Degrees(tp * ep, ones, ones, ep))
    ffn: Any = SimpleNamespace(width=inner, experts=count, gated=True, bias=False)
    found = _quantities(grouped_experts(ffn, cast(Any, hidden), setting, rows, hit))
    sites = _joined(hidden, inner, top_k, count, tp, ep)
    return Made("moe", product_key(weights, used), _roofs(chip, used), found, sites, ones > 0)


def busiest(ranks: Column, picks: Column, experts: Column, top_k: Column, skew: Column) -> Column:
    """Load of the busiest of the ranks over the mean, where experts differ in popularity by `skew`.

    1 + sqrt(2 ln e * e (1/picks + skew^2/E)): the maximum of e near-normal loads, whose variance is that of random
    picks and of the popularity of a rank's E/e experts; never more than all picks, on distinct experts, on one rank.
    """
    excess = 1.0 + np.sqrt(2.0 * np.log(ranks) * ranks * (1.0 / picks + skew * skew / experts))
    return np.minimum(excess, np.minimum(ranks, experts / top_k))


def collective(table: Columns, chip: HardwareSpec, operation: str, custom: bool) -> Made:
    """Collectives of one box; alternate sizes are two sites."""
    ranks, elements = (table[name].astype(float) for name in ("num_gpus", "message_size"))
    passes = 2.0 if operation == "all_reduce" else 1.0
    width = np.array([_MESSAGES[name] for name in table["dtype"]])
    wire = passes * (ranks - 1.0) / ranks * elements * width / chip.domain_bandwidth
    sites = [f"{int(np.log2(size)) % 2}" for size in np.maximum(elements, 1.0)]
    key = _COLLECTIVES[operation] + ("_custom" if custom else "")
    return Made("collective", key, Roofs.of(chip, 1.0), {"wire": wire, "ranks": ranks}, sites, ranks > 1)


def _joined(*columns: Column) -> list[str]:
    return ["-".join(f"{value:.0f}" for value in values) for values in zip(*columns, strict=True)]
