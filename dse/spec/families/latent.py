"""Multi-head latent attention: DeepSeek-V2 (2405.04434), V3, Kimi-K2; with an indexer V3.2 and GLM-5."""

from __future__ import annotations

from dataclasses import replace

from dse.spec.families.experts import shared_and_routed, sparse_after
from dse.spec.families.fields import Fields
from dse.spec.families.parts import mlp, stack
from dse.spec.families.registry import family
from dse.spec.model import Indexer, LatentAttention, Layer, ModelSpec, MoE


@family("deepseek_v2")
def _deepseek_v2(f: Fields) -> ModelSpec:
    experts = shared_and_routed(f, 2, False, (64, None, 1407))
    return _latent_stack(f, _latent(f, (1536, 512, 128, 64, 128)), experts, 0)


@family("deepseek_v3", "kimi_k2")
def _deepseek_v3(f: Fields) -> ModelSpec:
    """The router of `noaux_tc` adds a correction value per expert."""
    return _latent_stack(f, _latent(f, (1536, 512, 128, 64, 128)), _corrected(f), 3)


@family("deepseek_v32")
def _deepseek_v32(f: Fields) -> ModelSpec:
    """DeepSeek-V3.2: every layer runs its own indexer."""
    mixer = replace(_latent(f, (1536, 512, 128, 64, 128)), indexer=_indexer(f, 64))
    return _latent_stack(f, mixer, _corrected(f), 3)


@family("glm_moe_dsa")
def _glm_moe_dsa(f: Fields) -> ModelSpec:
    """GLM-5: like V3.2; GLM-5.2 lets layers reuse the choice of an earlier indexer."""
    mixer = _latent(f, (2048, 512, 192, 64, 256))
    indexer = _indexer(f, 32)
    return _latent_stack(f, mixer, _corrected(f), 3, [
        replace(mixer, indexer=replace(indexer, shared=shared)) for shared in _shared_indexers(f)
    ])  # fmt: skip


def _latent(f: Fields, defaults: tuple[int, int, int, int, int]) -> LatentAttention:
    """Ranks and head parts; an explicit null `q_lora_rank` projects the query directly."""
    q_rank, kv_rank, nope, rope, value = defaults
    f.ignore("head_dim", "num_key_value_heads", "qk_head_dim")  # follow from the parts
    f.expect("mlp_bias", [False], "biases in the feed-forward are not supported")
    return LatentAttention(
        heads=f.count("num_attention_heads"),
        q_rank=f.count("q_lora_rank", default=None if f.null("q_lora_rank") else q_rank),
        kv_rank=f.count("kv_lora_rank", default=kv_rank),
        nope_dim=f.count("qk_nope_head_dim", default=nope),
        rope_dim=f.count("qk_rope_head_dim", default=rope),
        value_dim=f.count("v_head_dim", default=value),
        bias=f.flag("attention_bias"),
    )


def _corrected(f: Fields) -> MoE:
    corrected = f.word("topk_method", ("noaux_tc", "group_limited_greedy", "greedy"), "noaux_tc")
    return shared_and_routed(f, 1, corrected == "noaux_tc", (256, 8, 2048))


def _indexer(f: Fields, heads: int) -> Indexer:
    if f.null("q_lora_rank"):
        f.fault("q_lora_rank", f"null; the indexer of a {f.family!r} model works on the compressed query")
    return Indexer(
        f.count("index_n_heads", default=heads),
        f.count("index_head_dim", default=128),
        f.count("index_topk", default=2048),
    )


def _shared_indexers(f: Fields) -> list[bool]:
    """Per layer whether it reuses an earlier choice: listed, as a pattern of F and S, or by frequency."""
    count = f.layers()
    listed = f.layer_words("indexer_types", count, {"full": False, "shared": True})
    pattern = f.raw("index_topk_pattern")
    step = f.count("index_topk_freq", default=1)
    offset = f.count("index_skip_topk_offset", default=2, least=0)
    if listed is None and pattern is not None:
        if not isinstance(pattern, str) or len(pattern) != count or set(pattern) - {"F", "S"}:
            f.fault("index_topk_pattern", f"expected {count} letters, F (full) or S (shared)")
            return [False] * count
        listed = [letter == "S" for letter in pattern]
    shared = listed or [max(index - offset + 1, 0) % step != 0 for index in range(count)]
    if shared[0] and not f.faults:
        f.fault("indexer_types", "the first layer is shared, but there is no earlier indexer to reuse")
    return shared


def _latent_stack(f: Fields, mixer: LatentAttention, experts: MoE, first: int,
                  mixers: list[LatentAttention] | None = None) -> ModelSpec:  # fmt: skip
    count = f.layers()
    f.layer_words("layer_types", count, dict.fromkeys(
        ("full_attention", "deepseek_sparse_attention", "indexed_attention"), True
    ))  # fmt: skip
    dense = mlp(f)
    sparse = sparse_after(f, count, first)
    return stack(f, [
        Layer(one, experts if routed else dense)
        for one, routed in zip(mixers or [mixer] * count, sparse, strict=True)
    ])  # fmt: skip
