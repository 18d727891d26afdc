"""The first generations of decoders: feed-forwards without gate, LayerNorm, learned or ALiBi positions."""

from __future__ import annotations

from typing import Any

from dse.spec.families.fields import Fields
from dse.spec.families.parts import (
    FULL,
    SLIDING,
    check_groups,
    head_dim,
    hidden_size,
    mlp,
    stack,
    uniform,
)  # fmt: skip
from dse.spec.families.registry import family
from dse.spec.model import MLP, Attention, Layer, ModelSpec


def _heads(f: Fields, name: str, kv_heads: int | None = None, qkv_bias: bool = False,
           out_bias: bool = False) -> Attention:  # fmt: skip
    query = f.count(name, "num_attention_heads")
    size = head_dim(f, query)
    return Attention(query, kv_heads or query, size, size, qkv_bias=qkv_bias, out_bias=out_bias)


def _wide(f: Fields, *fields: str, bias: bool = True) -> MLP:
    """Two matrices, four times the hidden size wide unless a field says otherwise."""
    f.activation()
    return MLP(f.count(*fields, default=4 * hidden_size(f)), gated=False, bias=bias)


@family("opt")
def _opt(f: Fields) -> ModelSpec:
    """OPT: two more position rows than positions; OPT-350m embeds in 512 and has no final norm."""
    bias = f.flag("enable_bias", default=True)
    affine = f.flag("layer_norm_elementwise_affine", default=True)
    final = f.flag("do_layer_norm_before", default=True) and not f.flag("_remove_final_layer_norm")
    layer = Layer(_heads(f, "num_attention_heads", qkv_bias=bias, out_bias=bias),
                  mlp(f, "ffn_dim", gated=False, bias=bias))  # fmt: skip
    embed = f.count("word_embed_proj_dim", default=hidden_size(f))
    return stack(
        f, [layer] * f.layers(), tied=True, norm_bias=True, norm_weight=affine, extra_norms=int(final),
        positions=f.count("max_position_embeddings", default=2048) + 2,
        embed_dim=embed if embed != hidden_size(f) else None,
    )  # fmt: skip


@family("gpt2", "gpt_bigcode")
def _gpt2(f: Fields) -> ModelSpec:
    """GPT-2; StarCoder-1 (`gpt_bigcode`) shares one KV head."""
    f.expect("add_cross_attention", [False], "cross attention is not supported")
    one = f.family == "gpt_bigcode" and f.flag("multi_query", default=True)
    mixer = _heads(f, "n_head", 1 if one else None, qkv_bias=True, out_bias=True)
    layer = Layer(mixer, _wide(f, "n_inner"))
    positions = f.count("n_positions", "max_position_embeddings", default=1024)
    f.ignore("n_ctx", "num_key_value_heads")  # follow from n_positions and multi_query
    return stack(f, [layer] * f.layers("n_layer", "num_hidden_layers"), tied=True, norm_bias=True,
                 positions=positions)  # fmt: skip


@family("gptj")
def _gptj(f: Fields) -> ModelSpec:
    """GPT-J: attention and MLP in parallel after one norm, no attention biases, a bias on the head."""
    layer = Layer(_heads(f, "n_head"), _wide(f, "n_inner"), norms=1)
    return stack(f, [layer] * f.layers("n_layer", "num_hidden_layers"), norm_bias=True, head_bias=True)


@family("gpt_neo")
def _gpt_neo(f: Fields) -> ModelSpec:
    """GPT-Neo: full and local layers (window 256) in turn, as `attention_types` repeats them."""
    count = f.layers("num_layers", "num_hidden_layers")
    kinds = _repeated(f.raw("attention_types") or [[["global", "local"], count // 2]])
    f.ignore("attention_layers")
    if len(kinds) != count or set(kinds) - {FULL, SLIDING}:
        f.fault("attention_types", f"expected 'global' and 'local' for each of the {count} layers")
    size = f.count("window_size", default=256)
    query = f.count("num_heads", "num_attention_heads")
    dim = head_dim(f, query)
    ffn = _wide(f, "intermediate_size")
    layers = [
        Layer(Attention(query, query, dim, dim, window=size if kind == SLIDING else None, out_bias=True), ffn)
        for kind in kinds
    ]
    positions = f.count("max_position_embeddings", default=2048)
    return stack(f, layers, tied=True, norm_bias=True, positions=positions)


def _repeated(types: Any) -> list[str]:
    """`[[["global", "local"], 12]]` written out."""
    names = {"global": FULL, "local": SLIDING}
    try:
        return [names.get(kind, "") for group, times in types for kind in list(group) * times]
    except (TypeError, ValueError):
        return []


@family("gpt_neox")
def _gpt_neox(f: Fields) -> ModelSpec:
    bias = f.flag("attention_bias", default=True)
    mixer = _heads(f, "num_attention_heads", qkv_bias=bias, out_bias=bias)
    return uniform(f, mixer, mlp(f, gated=False, bias=True), norm_bias=True)


@family("bloom")
def _bloom(f: Fields) -> ModelSpec:
    """BLOOM: ALiBi positions, and a norm after the embedding."""
    layer = Layer(_heads(f, "n_head", qkv_bias=True, out_bias=True), _wide(f, "n_inner"))
    count = f.layers("n_layer", "num_hidden_layers")
    return stack(f, [layer] * count, tied=True, norm_bias=True, extra_norms=2)


@family("falcon")
def _falcon(f: Fields) -> ModelSpec:
    """Falcon: one KV head (7B) or groups (40B, 180B: `new_decoder_architecture`), parallel blocks."""
    query, bias = f.count("num_attention_heads"), f.flag("bias")
    grouped, multi = f.flag("new_decoder_architecture"), f.flag("multi_query", default=True)
    given = f.count("num_kv_heads", default=query)
    kv_heads = given if grouped else 1 if multi else query
    check_groups(f, query, kv_heads, "num_kv_heads")
    norms = f.count("num_ln_in_parallel_attn", default=2 if grouped else 1)
    mixer = _heads(f, "num_attention_heads", kv_heads, qkv_bias=bias, out_bias=bias)
    parallel = f.flag("parallel_attn", default=True)
    layer = Layer(mixer, _wide(f, "ffn_hidden_size", bias=bias), norms=norms if parallel else 2)
    return stack(f, [layer] * f.layers(), tied=True, norm_bias=True)


@family("mpt")
def _mpt(f: Fields) -> ModelSpec:
    """MPT: ALiBi positions, no biases, norms without bias."""
    f.expect("no_bias", [True], "biases are not supported")
    query = f.count("n_heads")
    dim = head_dim(f, query)
    ratio = f.count("expansion_ratio", default=4)
    extra = f.raw("attn_config") or {}
    plain = isinstance(extra, dict) and extra.get("alibi", True) is True and not extra.get("qk_ln")
    if not plain or extra.get("attn_type", "multihead_attention") != "multihead_attention":
        f.fault("attn_config", "only multi-head attention with ALiBi and without qk_ln is supported")
    layer = Layer(Attention(query, query, dim, dim), MLP(ratio * hidden_size(f), gated=False))
    return stack(f, [layer] * f.layers("n_layers"), tied=True)
