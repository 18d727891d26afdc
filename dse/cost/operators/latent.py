"""Multi-head latent attention (MLA) and the DSA indexer.

The cache holds one latent of r + dr elements per token, the same for all heads, so tensor parallelism does
not shard it. Prefill expands the latent into keys and values per head; decode absorbs the expansion into the
query and the output, so that it attends over the latent itself (DeepSeek-V2, 2405.04434 section 2.1).
"""

from __future__ import annotations


from dse.cost.operators.attention import causal_pairs, scaled, score_works
from dse.cost.operators.linear import linear, pointwise
from dse.cost.operators.registry import operator
from dse.cost.setting import WIDE, Setting
from dse.cost.work import Amount, Span, Work
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
            "kv_a_proj", setting, hidden, r + dr, kernel="a_proj", operands="projections", bias=bias * (r + dr), cached=True
        ),
        pointwise("kv_norm", setting, r, r, 7.0 * r, resident=r * WIDE),
    ]
    if mixer.indexer is not None and not mixer.indexer.shared:
        works += _indexer(mixer.indexer, hidden, mixer.q_rank or hidden, setting)
    span = Span(window=mixer.indexer.top_k) if mixer.indexer is not None else Span()
    # Both phases hold one matrix r x heads (dn + dv); decode reads it in two parts around the attention.
    if setting.decoding:
        absorbed = {"group": "gemm", "operands": "projections"}
        works.append(_per_head("q_absorb", setting, heads, mixer.nope_dim, r, **absorbed))
        works += score_works(
            setting, span, heads=heads, key_dim=r + dr, value_dim=r, kv_elements=r + dr, kv_bytes=setting.widths.kv_cache
        )
        works.append(_per_head("v_absorb", setting, heads, r, mixer.value_dim, **absorbed))
    else:
        works.append(
            linear("kv_b_proj", setting, r, heads * (mixer.nope_dim + mixer.value_dim), operands="projections")
        )
        works += score_works(
            setting,
            span,
            heads=heads,
            key_dim=qk,
            value_dim=mixer.value_dim,
            kv_elements=heads * (qk + mixer.value_dim),
            kv_bytes=setting.widths.activations,
            cached=False,
        )
    works.append(
        linear("o_proj", setting, heads * mixer.value_dim, hidden, operands="projections", bias=bias * hidden)
    )
    return works


def _query(mixer: LatentAttention, hidden: int, setting: Setting) -> list[Work]:
    """The query, through its own latent where there is one."""
    heads, qk = mixer.heads / setting.degrees.tp, mixer.nope_dim + mixer.rope_dim
    if mixer.q_rank is None:
        return [linear("q_proj", setting, hidden, heads * qk, operands="projections")]
    rank = mixer.q_rank
    return [
        linear("q_a_proj", setting, hidden, rank, kernel="a_proj", operands="projections", bias=1.0 * mixer.bias * rank),
        pointwise("q_norm", setting, rank, rank, 7.0 * rank, resident=rank * WIDE),
        linear("q_b_proj", setting, rank, heads * qk, operands="projections"),
    ]


def _per_head(name: str, setting: Setting, heads: object, ins: int, outs: int, **options: object) -> Work:
    """A batched product: each head has its own `ins x outs` matrix."""
    widths = setting.widths
    matrix = heads * ins * outs * widths.projections  # type: ignore[operator]
    return Work(
        name,
        name,
        times=setting.tokens,
        fixed=Amount(weights=matrix),
        each=Amount(
            flops=2.0 * heads * ins * outs,  # type: ignore[operator]
            activations_in=heads * ins * widths.activations,  # type: ignore[operator]
            activations_out=heads * outs * widths.activations,  # type: ignore[operator]
        ),
        resident=matrix,
        **options,  # type: ignore[arg-type]
    )


def _indexer(indexer: Indexer, hidden: int, q_rank: int, setting: Setting) -> list[Work]:
    """The lightning indexer (DeepSeek-V3.2): its heads score every cached token, on every rank."""
    wide = indexer.heads * indexer.dim
    key_bytes = indexer.dim * setting.widths.kv_cache

    def scores(pairs: object, keys: object, queries: object) -> Amount:
        return Amount(
            flops=2.0 * wide * pairs,  # type: ignore[operator]
            activations_in=wide * setting.widths.activations * queries,  # type: ignore[operator]
            kv_read=key_bytes * keys,  # type: ignore[operator]
        )

    if setting.decoding:
        fixed, each = (scaled(scores(n, n, q), setting.sequences) for n, q in ((0.0, 1.0), (1.0, 0.0)))
        score = Work("index_scores", "index_scores", "attention", "attention", setting.sequences, each, fixed, Span())
    else:
        each = scores(causal_pairs(setting.queries, Span()), setting.queries, setting.queries)
        score = Work("index_scores", "index_scores", "attention", "attention", setting.sequences, each)
    return [
        linear("index_q_proj", setting, q_rank, wide, operands="projections"),
        linear(
            "index_k_proj", setting, hidden, indexer.dim, kernel="index_k", operands="projections", bias=2.0 * indexer.dim, cached=True
        ),
        linear("index_head_weights", setting, hidden, indexer.heads, kernel="index_k", operands="projections"),
        score,
    ]
