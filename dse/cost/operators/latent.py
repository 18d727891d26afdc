"""Multi-head latent attention (MLA) and the DSA indexer.

The cache holds one latent of r + dr elements per token, the same for all heads, so tensor parallelism does
not shard it. Prefill expands the latent into keys and values per head (of cached tokens too); decode absorbs the
expansion into the query and the output, so that it attends over the latent itself (DeepSeek-V2, 2405.04434 section
2.1).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from dse.cost.operators.attention import Scores, context_work
from dse.cost.operators.linear import linear, pointwise
from dse.cost.operators.registry import operator
from dse.cost.setting import WIDE, Setting
from dse.cost.work import Amount, Array, Span, Work
from dse.spec.model import Indexer, LatentAttention


@operator(LatentAttention)
def latent_attention(mixer: LatentAttention, hidden: int, setting: Setting) -> list[Work]:
    """MLA: heads sharded over tp, down-projections and the latent cache on every rank."""
    heads = mixer.heads / setting.degrees.tp
    qk, r, dr = mixer.nope_dim + mixer.rope_dim, mixer.kv_rank, mixer.rope_dim
    bias = 1.0 * mixer.bias
    works = _query(mixer, hidden, setting)
    works += [
        linear(
            "kv_a_proj",
            setting,
            hidden,
            r + dr,
            kernel="a_proj",
            operands="projections",
            bias=bias * (r + dr),
            cached=True,
        ),
        pointwise("kv_norm", setting, r, r, 7.0 * r, resident=r * WIDE),
    ]
    if mixer.indexer is not None and not mixer.indexer.shared:
        works += _indexer(mixer.indexer, hidden, mixer.q_rank or hidden, setting)
    span = Span(window=mixer.indexer.top_k) if mixer.indexer is not None else Span()
    # Both phases hold one matrix r x heads (dn + dv); decode reads it in two parts around the attention.
    act = setting.widths.activations
    if setting.decoding:
        works.append(_per_head("q_absorb", setting, heads, mixer.nope_dim, r))
        per_key = (r + dr) * setting.widths.kv_cache
        works += Scores(heads, r + dr, r, per_key, act, items=1.0, latent=True).works(setting, span)
        works.append(_per_head("v_absorb", setting, heads, r, mixer.value_dim))
    else:
        expanded = heads * (mixer.nope_dim + mixer.value_dim)
        per_key = heads * (qk + mixer.value_dim) * act
        scores = Scores(heads, qk, mixer.value_dim, per_key, act, items=heads, cached=False, latent=True)
        # Latents that were cached are expanded a pass's worth of tokens at a time, attended to, and forgotten (vLLM).
        live = 1.0 if setting.fresh else setting.tokens / setting.attended
        works += [
            replace(work, live=live)
            for work in (
                linear("kv_b_proj", setting, r, expanded, operands="projections", rows=setting.attended),
                *scores.works(setting, span),
            )
        ]
    works.append(linear("o_proj", setting, heads * mixer.value_dim, hidden, operands="projections", bias=bias * hidden))
    return works


def _query(mixer: LatentAttention, hidden: int, setting: Setting) -> list[Work]:
    """The query, through its own latent where there is one."""
    heads, qk = mixer.heads / setting.degrees.tp, mixer.nope_dim + mixer.rope_dim
    if mixer.q_rank is None:
        return [linear("q_proj", setting, hidden, heads * qk, operands="projections")]
    rank = mixer.q_rank
    return [
        linear(
            "q_a_proj", setting, hidden, rank, kernel="a_proj", operands="projections", bias=1.0 * mixer.bias * rank
        ),
        pointwise("q_norm", setting, rank, rank, 7.0 * rank, resident=rank * WIDE),
        linear("q_b_proj", setting, rank, heads * qk, operands="projections"),
    ]


def _per_head(name: str, setting: Setting, heads: Array, ins: int, outs: int) -> Work:
    """A batched product: each head has its own `ins x outs` matrix."""
    widths = setting.widths
    matrix = heads * ins * outs * widths.projections
    return Work(
        name,
        name,
        "gemm",
        "projections",
        times=setting.tokens,
        fixed=Amount(weights=matrix),
        each=Amount(
            flops=2.0 * heads * ins * outs,
            activations_in=heads * ins * widths.activations,
            activations_out=heads * outs * widths.activations,
        ),
        resident=matrix,
        form="gemm",
        extra={"inputs": (0.0, heads * ins), "outputs": (0.0, heads * outs)},
        launch={"starts": 1.0, "depth": ins},
    )


def _indexer(indexer: Indexer, hidden: int, q_rank: int, setting: Setting) -> list[Work]:
    """The lightning indexer (DeepSeek-V3.2): its heads score every cached token, on every rank."""
    wide, dim = indexer.heads * indexer.dim, indexer.dim

    def scores(pairs: Array, keys: Array, queries: Array) -> Amount:
        return Amount(
            flops=2.0 * wide * pairs,
            activations_in=wide * setting.widths.activations * queries,
            kv_read=dim * setting.widths.kv_cache * keys,
        )

    project = partial(linear, setting=setting, operands="projections")
    return [
        project("index_q_proj", ins=q_rank, outs=wide),
        project("index_k_proj", ins=hidden, outs=dim, kernel="index_k", bias=2.0 * dim, cached=True),
        project("index_head_weights", ins=hidden, outs=indexer.heads, kernel="index_k"),
        context_work("index_scores", "attention", "attention", scores, setting, Span()),
    ]
