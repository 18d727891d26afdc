"""Softmax attention with grouped key/value heads, fused (flash) or not."""

from __future__ import annotations

import numpy as np

from dse.cost.operators.linear import linear, pointwise
from dse.cost.operators.registry import operator
from dse.cost.setting import WIDE, Setting
from dse.cost.work import Amount, Array, Span, Work
from dse.spec.model import Attention

SOFTMAX_FLOPS = 5.0
"""Operations per score (2402.16363)."""


def causal_pairs(queries: Array, span: Span) -> Array:
    """Query-key pairs of a causal prompt of `queries` tokens: the sum of the context each token sees."""
    if span.window is not None:
        inside = np.minimum(queries, span.window)
        return inside * (inside + 1) / 2 + (queries - inside) * span.window
    if span.chunk is not None:
        whole = np.floor(queries / span.chunk)
        rest = queries - whole * span.chunk
        return whole * (span.chunk * (span.chunk + 1) / 2) + rest * (rest + 1) / 2
    pairs: Array = queries * (queries + 1) / 2
    return pairs


def score_works(
    setting: Setting,
    span: Span,
    *,
    heads: Array,
    key_dim: Array,
    value_dim: Array,
    kv_elements: Array,
    kv_bytes: Array,
    cached: bool = True,
) -> list[Work]:
    """Scores, softmax and weighted values of one layer, linear in pairs, keys read and queries.

    Args:
        setting: the pass.
        span: how far a query sees.
        heads: query heads on the device.
        key_dim: width of q and k.
        value_dim: width of v and of the output.
        kv_elements: elements read per key token (all KV heads on the device).
        kv_bytes: bytes per such element.
        cached: keys and values are read as KV cache; otherwise (expanded MLA) as activations.
    """
    act = setting.widths.activations
    per_key = kv_elements * kv_bytes

    def fused(pairs: Array, keys: Array, queries: Array) -> Amount:
        return Amount(
            flops=(2.0 * (key_dim + value_dim) + SOFTMAX_FLOPS) * heads * pairs,
            activations_in=key_dim * heads * act * queries + (0.0 if cached else per_key * keys),
            activations_out=value_dim * heads * act * queries,
            kv_read=per_key * keys if cached else 0.0,
        )

    def scores(pairs: Array, keys: Array, queries: Array) -> Amount:
        share = key_dim / (key_dim + value_dim)
        return Amount(
            flops=2.0 * key_dim * heads * pairs,
            activations_in=key_dim * heads * act * queries + (0.0 if cached else share * per_key * keys),
            activations_out=heads * act * pairs,
            kv_read=share * per_key * keys if cached else 0.0,
        )

    def softmax(pairs: Array, keys: Array, queries: Array) -> Amount:
        return Amount(
            flops=SOFTMAX_FLOPS * heads * pairs,
            activations_in=heads * act * pairs,
            activations_out=heads * act * pairs,
        )

    def values(pairs: Array, keys: Array, queries: Array) -> Amount:
        share = value_dim / (key_dim + value_dim)
        return Amount(
            flops=2.0 * value_dim * heads * pairs,
            activations_in=heads * act * pairs + (0.0 if cached else share * per_key * keys),
            activations_out=value_dim * heads * act * queries,
            kv_read=share * per_key * keys if cached else 0.0,
        )

    if setting.fused_attention:
        parts = [("attention", "attention", fused)]
    else:
        parts = [("qk_matmul", "attention", scores), ("softmax", "vector", softmax), ("sv_matmul", "attention", values)]
    works = []
    for name, operands, amount in parts:
        group = "vector" if operands == "vector" else "attention"
        if setting.decoding:
            # Linear in the context n with pairs = keys = n, scaled by the sequences of the micro-batch.
            per_sequence = (amount(0.0, 0.0, 1.0), amount(1.0, 1.0, 0.0))
            fixed, each = (scaled(part, setting.sequences) for part in per_sequence)
            works.append(Work(name, name, group, operands, setting.sequences, each, fixed, span))  # type: ignore[arg-type]
        else:
            pairs = causal_pairs(setting.queries, span)
            if not setting.fused_attention:
                # Without fusion the whole square is computed, written and read: the mask comes after.
                pairs = setting.queries * setting.queries
            each = amount(pairs, setting.queries, setting.queries)
            works.append(Work(name, name, group, operands, setting.sequences, each))  # type: ignore[arg-type]
    return works


def scaled(amount: Amount, by: Array) -> Amount:
    """An amount multiplied by an array, keeping plain zeros."""
    return Amount(
        *(
            0.0 if isinstance(value, float) and value == 0.0 else value * by
            for value in (getattr(amount, name) for name in Amount.__dataclass_fields__)
        )
    )


@operator(Attention)
def attention(mixer: Attention, hidden: int, setting: Setting) -> list[Work]:
    """MHA, GQA or MQA: heads sharded over tp, KV heads replicated once tp exceeds them (2305.13245)."""
    tp = setting.degrees.tp
    heads = mixer.heads / tp
    kv_heads = np.maximum(mixer.kv_heads / tp, 1.0)
    query = heads * mixer.head_dim * (2 if mixer.gated else 1)
    key, value, out = kv_heads * mixer.head_dim, kv_heads * mixer.value_dim, heads * mixer.value_dim
    bias = 1.0 * mixer.qkv_bias

    def project(name: str, ins: Array, outs: Array, **options: object) -> Work:
        return linear(name, setting, ins, outs, operands="projections", **options)  # type: ignore[arg-type]

    works = [
        project("q_proj", hidden, query, kernel="qkv_proj", bias=bias * query),
        project("k_proj", hidden, key, kernel="qkv_proj", bias=bias * key, cached=True),
        project("v_proj", hidden, value, kernel="qkv_proj", bias=bias * value, cached=True),
    ]
    if mixer.qk_norm != "none":
        width = heads * mixer.head_dim + key
        held = 2.0 * mixer.head_dim if mixer.qk_norm == "head" else width
        works.append(pointwise("qk_norm", setting, width, width, 7.0 * width, resident=held * WIDE))
    span = Span(mixer.window, mixer.chunk)
    works += score_works(
        setting,
        span,
        heads=heads,
        key_dim=mixer.head_dim,
        value_dim=mixer.value_dim,
        kv_elements=kv_heads * (mixer.head_dim + mixer.value_dim),
        kv_bytes=setting.widths.kv_cache,
    )
    if mixer.gated:
        works.append(pointwise("attention_gate", setting, 2.0 * out, out, 4.0 * out))
    extra = hidden * mixer.out_bias + heads * mixer.sinks
    works.append(project("o_proj", out, hidden, bias=extra))
    return works
