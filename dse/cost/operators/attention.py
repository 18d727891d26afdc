"""Softmax attention with grouped key/value heads, fused (flash) or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import cast

import numpy as np

from dse.cost.operators.linear import linear, pointwise
from dse.cost.operators.registry import operator
from dse.cost.setting import WIDE, Setting
from dse.cost.work import ROWS_OF_A_TILE, Amount, Array, Group, Operands, Span, Work, is_zero
from dse.spec.model import Attention

SOFTMAX_FLOPS = 5.0
"""Operations per score (2402.16363)."""


def causal_pairs(queries: Array, span: Span) -> Array:
    """Query-key pairs of a causal prompt of `queries` tokens: the sum of the context each token sees."""
    if span.window is not None:
        inside = np.minimum(queries, span.window)
        return cast(Array, inside * (inside + 1) / 2 + (queries - inside) * span.window)
    if span.chunk is not None:
        whole = np.floor(queries / span.chunk)
        rest = queries - whole * span.chunk
        return cast(Array, whole * (span.chunk * (span.chunk + 1) / 2) + rest * (rest + 1) / 2)
    return queries * (queries + 1) / 2


def new_pairs(setting: Setting, span: Span) -> Array:
    """Query-key pairs of the new tokens of a prompt, those before them cached (2308.16369 section 3)."""
    if setting.fresh:
        return causal_pairs(setting.queries, span)
    return causal_pairs(setting.cached + setting.queries, span) - causal_pairs(setting.cached, span)


def new_keys(setting: Setting, span: Span) -> Array:
    """Keys that the new tokens of a prompt read: their own, and of the cached ones those within reach."""
    if setting.fresh:
        return setting.queries
    reach = span.window or span.chunk
    seen = setting.cached if reach is None else np.minimum(setting.cached, reach)
    return seen + setting.queries


@dataclass(frozen=True)
class Scores:
    """Scores, softmax and weighted values of one sequence on one device.

    Every amount is linear in `pairs` (of a query and a key it sees), `keys` (read) and `queries`.
    """

    heads: Array
    """Query heads on the device."""
    key_dim: Array
    """Width of q and k."""
    value_dim: Array
    """Width of v and of the output."""
    per_key: Array
    """Bytes of k and v read per key token, all KV heads together."""
    width: Array
    """Bytes per element of q, of the scores and of the output."""
    items: Array
    """Sets of keys and values per sequence, each read for itself: KV heads; 1 where all heads share a latent."""
    cached: bool = True
    """Keys and values are read as KV cache; otherwise (expanded MLA) as activations."""
    latent: bool = False
    """Multi-head latent attention has kernels of its own."""

    def fused(self, pairs: Array, keys: Array, queries: Array) -> Amount:
        """Flash attention (2205.14135): scores stay on chip, K and V are read once (their tiles hit L2)."""
        return self._read(
            self.per_key * keys,
            flops=(2.0 * (self.key_dim + self.value_dim) + SOFTMAX_FLOPS) * self.heads * pairs,
            activations_in=self.key_dim * self.heads * self.width * queries,
            activations_out=self.value_dim * self.heads * self.width * queries,
        )

    def scores(self, pairs: Array, keys: Array, queries: Array) -> Amount:
        """Q K^T, written out."""
        return self._read(
            self.per_key * keys * (self.key_dim / (self.key_dim + self.value_dim)),
            flops=2.0 * self.key_dim * self.heads * pairs,
            activations_in=self.key_dim * self.heads * self.width * queries,
            activations_out=self.heads * self.width * pairs,
        )

    def softmax(self, pairs: Array, keys: Array, queries: Array) -> Amount:
        """Scores read, probabilities written."""
        passed = self.heads * self.width * pairs
        return Amount(flops=SOFTMAX_FLOPS * self.heads * pairs, activations_in=passed, activations_out=passed)

    def values(self, pairs: Array, keys: Array, queries: Array) -> Amount:
        """P V, the probabilities read back."""
        return self._read(
            self.per_key * keys * (self.value_dim / (self.key_dim + self.value_dim)),
            flops=2.0 * self.value_dim * self.heads * pairs,
            activations_in=self.heads * self.width * pairs,
            activations_out=self.value_dim * self.heads * self.width * queries,
        )

    def _read(self, keys: Array, *, flops: Array, activations_in: Array, activations_out: Array) -> Amount:
        if self.cached:
            return Amount(flops, 0.0, activations_in, activations_out, kv_read=keys)
        return Amount(flops, 0.0, activations_in + keys, activations_out)

    def works(self, setting: Setting, span: Span) -> list[Work]:
        """One fused operator, or the three it is made of."""
        if setting.fused_attention:
            work = context_work("attention", "attention", "attention", self.fused, setting, span)
            return [self._decoded(work, setting) if setting.decoding else self._prompted(work, setting, span)]
        return [
            context_work("qk_matmul", "attention", "attention", self.scores, setting, span, square=True),
            context_work("softmax", "vector", "vector", self.softmax, setting, span, square=True),
            context_work("sv_matmul", "attention", "attention", self.values, setting, span, square=True),
        ]

    def _decoded(self, work: Work, setting: Setting) -> Work:
        """A few new tokens per sequence: each sequence and set of keys is an item."""
        return replace(
            work,
            form="latent_decode" if self.latent else "decode",
            extra={"items": (setting.sequences * self.items, 0.0), "item_bytes": (0.0, self.per_key / self.items)},
            launch={"starts": 1.0},
        )

    def _prompted(self, work: Work, setting: Setting, span: Span) -> Work:
        """A prompt: tiles of 128 queries of a head, the longest of which sees the most keys."""
        queries, dims = setting.queries, self.key_dim + self.value_dim
        seen = [setting.cached + queries, *(float(reach) for reach in (span.window, span.chunk) if reach is not None)]
        tiles = self.heads * np.ceil(queries / ROWS_OF_A_TILE)
        return replace(
            work,
            form="latent_prefill" if self.latent else "prefill",
            extra={"items": (0.0, tiles), "scores": (0.0, self.heads * new_pairs(setting, span))},
            launch={"starts": 1.0, "longest": 2.0 * ROWS_OF_A_TILE * dims * reduce(np.minimum, seen)},
        )


def context_work(
    name: str,
    group: Group,
    operands: Operands,
    amount: Callable[[Array, Array, Array], Amount],
    setting: Setting,
    span: Span,
    square: bool = False,
) -> Work:
    """An operator over the context, from its amount per sequence as a function of pairs, keys and queries.

    In decode it grows with the context n: pairs = keys = n for one query; of q to be verified each sees those before it
    too, so pairs = q n + q (q - 1) / 2 (a chain; of a tree the mask is computed all the same) and keys = n + q - 1. In
    prefill it is what the causal prompt takes, or the whole `square`, where the mask comes after; keys that were cached
    are read and not computed.
    """
    queries = setting.queries
    if setting.decoding:
        fixed = scaled(amount(queries * (queries - 1.0) / 2.0, queries - 1.0, queries), setting.sequences)
        each = scaled(amount(queries, 1.0, 0.0), setting.sequences)
        return Work(name, name, group, operands, setting.sequences, each, fixed, span)
    pairs = queries * (setting.cached + queries) if square else new_pairs(setting, span)
    return Work(name, name, group, operands, setting.sequences, amount(pairs, new_keys(setting, span), queries))


def scaled(amount: Amount, by: Array) -> Amount:
    """An amount multiplied by an array, keeping plain zeros."""
    return Amount(
        *(
            0.0 if is_zero(value) else value * by
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

    project = partial(linear, setting=setting, operands="projections")
    works = [
        project("q_proj", ins=hidden, outs=query, kernel="qkv_proj", bias=bias * query),
        project("k_proj", ins=hidden, outs=key, kernel="qkv_proj", bias=bias * key, cached=True),
        project("v_proj", ins=hidden, outs=value, kernel="qkv_proj", bias=bias * value, cached=True),
    ]
    if mixer.qk_norm != "none":
        width = heads * mixer.head_dim + key
        held = 2.0 * mixer.head_dim if mixer.qk_norm == "head" else width
        works.append(pointwise("qk_norm", setting, width, width, 7.0 * width, resident=held * WIDE))
    span = Span(mixer.window, mixer.chunk)
    per_key = kv_heads * (mixer.head_dim + mixer.value_dim) * setting.widths.kv_cache
    scores = Scores(heads, mixer.head_dim, mixer.value_dim, per_key, setting.widths.activations, kv_heads)
    works += scores.works(setting, span)
    if mixer.gated:
        works.append(pointwise("attention_gate", setting, 2.0 * out, out, 4.0 * out))
    extra = hidden * mixer.out_bias + heads * mixer.sinks
    works.append(project("o_proj", ins=out, outs=hidden, bias=extra))
    return works
