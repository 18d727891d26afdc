"""Dense decoders in the manner of LLaMA: gated feed-forward, rotary positions."""

from __future__ import annotations

from dataclasses import replace

from dse.spec.families.fields import Fields
from dse.spec.families.parts import (
    FULL,
    SLIDING,
    attention,
    biased,
    check_groups,
    every,
    head_dim,
    kinds,
    mlp,
    optional_window,
    spans,
    stack,
    uniform,
    window,
)  # fmt: skip
from dse.spec.families.registry import family
from dse.spec.model import MLP, Attention, Layer, ModelSpec


def windowed(f: Fields, mixer: Attention, windows: list[int | None], ffn: MLP, norms: int = 2,
             tied: bool = False, vocab: int | None = None) -> ModelSpec:  # fmt: skip
    """Equal layers but for the sliding window."""
    layers = [Layer(replace(mixer, window=size), ffn, norms) for size in windows]
    return stack(f, layers, tied, vocab=vocab)


@family("llama", "aquila", "granite", "smollm3")
def _llama(f: Fields) -> ModelSpec:
    kv, tied = (4, True) if f.family == "smollm3" else (None, False)
    mixer = attention(f, kv, **biased(f))
    if f.family != "smollm3":
        return uniform(f, mixer, mlp(f, bias=f.flag("mlp_bias")))
    f.ignore("no_rope_layers", "no_rope_layer_interval")
    count = f.layers()
    size = window(f) if f.flag("use_sliding_window") else None
    f.ignore("sliding_window")
    if size is not None and f.raw("layer_types") is None:
        f.fault("layer_types", "missing; a smollm3 model with use_sliding_window needs it")
    windows = spans(f, kinds(f, count, [FULL] * count), size)
    return windowed(f, mixer, windows, mlp(f, bias=f.flag("mlp_bias")), tied=tied)


@family("deci")
def _deci(f: Fields) -> ModelSpec:
    """DeciLM-7B: LLaMA with a KV head count of its own in each layer (variable GQA)."""
    count, query = f.layers(), f.count("num_attention_heads")
    size = head_dim(f, query)
    f.ignore("num_key_value_heads")
    per_layer = f.per_layer("num_key_value_heads_per_layer", count, _positive, "whole numbers of at least 1")
    if per_layer is None and not f.faults:
        f.fault("num_key_value_heads_per_layer", "missing; a 'deci' model needs it")
    for kv_heads in set(per_layer or ()):
        check_groups(f, query, kv_heads, "num_key_value_heads_per_layer")
    ffn = mlp(f)
    return stack(f, [Layer(Attention(query, kv_heads, size, size), ffn) for kv_heads in per_layer or [1]])


def _positive(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None


@family("mistral", "ministral3")
def _mistral(f: Fields) -> ModelSpec:
    size, dim = (4096, None) if f.family == "mistral" else (None, 128)
    return uniform(f, attention(f, 8, dim, window=window(f, size)), mlp(f))


@family("qwen")
def _qwen(f: Fields) -> ModelSpec:
    """Qwen-1: `intermediate_size` counts gate and up together (remote code modeling_qwen.py)."""
    query = f.count("num_attention_heads")
    size = head_dim(f, query, field="kv_channels")
    f.expect("no_bias", [True], "biases outside c_attn are not supported")
    ffn = mlp(f)
    return uniform(f, Attention(query, query, size, size, qkv_bias=True), MLP(ffn.width // 2))


@family("qwen2", "qwen2_vl_text", "qwen2_5_vl_text")
def _qwen2(f: Fields) -> ModelSpec:
    return _qwen_dense(f, attention(f, 32, qkv_bias=True))


@family("mimo")
def _mimo(f: Fields) -> ModelSpec:
    """MiMo-7B: Qwen2 with an explicit head dimension; its MTP layer is not counted."""
    return _qwen_dense(f, attention(f, qkv_bias=f.flag("attention_bias", default=True)))


@family("qwen3", "qwen3_vl_text")
def _qwen3(f: Fields) -> ModelSpec:
    return _qwen_dense(f, attention(f, 32, 128, qk_norm="head", **biased(f)))


def _qwen_dense(f: Fields, mixer: Attention) -> ModelSpec:
    """Layers from `max_window_layers` (28) on slide, if `use_sliding_window`."""
    count, size = f.layers(), optional_window(f)
    first = f.count("max_window_layers", default=28, least=0)
    default = [SLIDING if size is not None and index >= first else FULL for index in range(count)]
    return windowed(f, mixer, spans(f, kinds(f, count, default), size), mlp(f))


@family("phi")
def _phi(f: Fields) -> ModelSpec:
    """Attention and MLP in parallel after one LayerNorm; biases everywhere, on the head too."""
    f.expect("qk_layernorm", [False], "LayerNorm on q and k is not supported")
    return uniform(f, attention(f, qkv_bias=True, out_bias=True), mlp(f, gated=False, bias=True), 1,
                   norm_bias=True, head_bias=True)  # fmt: skip


@family("phi3")
def _phi3(f: Fields) -> ModelSpec:
    f.ignore("attention_bias")  # Phi3Attention has no biases whatever the field says
    f.expect("full_attn_mod", [1], "every layer has the same window")
    return uniform(f, attention(f, window=window(f)), mlp(f))


@family("gemma", "gemma2", "gemma3_text")
def _gemma(f: Fields) -> ModelSpec:
    """Gemma 2 and 3 norm before and after each sub-block and alternate windowed and full layers."""
    f.ignore("hidden_act")  # superseded by hidden_activation; both only name a GELU
    f.expect("use_bidirectional_attention", [False], "only causal attention is supported")
    if f.family == "gemma":
        return uniform(f, attention(f, 16, 256, **biased(f)), mlp(f), tied=True)
    third = f.family == "gemma3_text"
    if third:  # text_config of Gemma 3 leaves out what equals the class (8 heads, vocabulary 262208)
        f.config = {"num_attention_heads": 8, **f.config}
    mixer = attention(f, 4, 256, qk_norm="head" if third else "none", **biased(f))
    period = f.count("sliding_window_pattern", "_sliding_window_pattern", default=6) if third else 2
    count = f.layers()
    windows = spans(f, kinds(f, count, every(count, period)), window(f, 4096))
    return windowed(f, mixer, windows, mlp(f), 4, tied=True, vocab=262_208 if third else None)


@family("starcoder2")
def _starcoder2(f: Fields) -> ModelSpec:
    f.expect("mlp_type", ["default"], "only the feed-forward without gate is supported")
    bias = f.flag("use_bias", default=True)
    mixer = attention(f, 2, qkv_bias=bias, out_bias=bias, window=window(f))
    return uniform(f, mixer, mlp(f, gated=False, bias=bias), norm_bias=True, tied=True)


@family("olmo", "olmo2", "olmo3")
def _olmo(f: Fields) -> ModelSpec:
    """OLMo-1 norms without weights; OLMo-2 norms q and k over all heads; OLMo-3 adds windows."""
    mixer = attention(f, qk_norm="none" if f.family == "olmo" else "full", **biased(f))
    if f.family != "olmo3":
        return uniform(f, mixer, mlp(f), norm_weight=f.family != "olmo")
    count = f.layers()
    return windowed(f, mixer, spans(f, kinds(f, count, every(count, 4)), window(f, 4096)), mlp(f))


@family("stablelm")
def _stablelm(f: Fields) -> ModelSpec:
    norm = "full" if f.flag("qk_layernorm") else "none"  # one LayerNorm weight per head and dimension
    mixer = attention(f, 32, qkv_bias=f.flag("use_qkv_bias"), qk_norm=norm)
    return uniform(f, mixer, mlp(f), 1 if f.flag("use_parallel_residual") else 2, norm_bias=True)


@family("cohere", "cohere2")
def _cohere(f: Fields) -> ModelSpec:
    """Attention and MLP in parallel after one LayerNorm without bias."""
    if f.family == "cohere":
        norm = "full" if f.flag("use_qk_norm") else "none"
        return uniform(f, attention(f, qk_norm=norm, **biased(f)), mlp(f), 1, tied=True)
    f.expect("use_parallel_block", [True], "attention and feed-forward are parallel")
    f.expect("use_gated_activation", [True], "the feed-forward is gated")
    f.expect("order_of_interleaved_layers", ["local_attn_first"], "windowed layers come first")
    f.ignore("use_parallel_embedding", "use_embedding_sharing")  # the latter is tie_word_embeddings
    count = f.layers()
    period = f.count("sliding_window_pattern", "_sliding_window_pattern", default=4)
    f.expect("layer_switch", [period], f"it repeats sliding_window_pattern, {period}")
    windows = spans(f, kinds(f, count, every(count, period)), window(f, 4096))
    return windowed(f, attention(f, **biased(f)), windows, mlp(f), 1, tied=True)


@family("glm", "glm4")
def _glm(f: Fields) -> ModelSpec:
    """GLM-4: biases on q, k and v only; GLM-4-0414 norms after each sub-block as well."""
    mixer = attention(f, 2, 128, qkv_bias=f.flag("attention_bias", default=True))
    return uniform(f, mixer, mlp(f), 4 if f.family == "glm4" else 2)


@family("internlm2", "internlm")
def _internlm(f: Fields) -> ModelSpec:
    bias = f.flag("bias", default=f.family == "internlm")
    return uniform(f, attention(f, qkv_bias=bias, out_bias=bias), mlp(f))


@family("baichuan")
def _baichuan(f: Fields) -> ModelSpec:
    return uniform(f, attention(f), mlp(f))


@family("nemotron")
def _nemotron(f: Fields) -> ModelSpec:
    """Nemotron-4: LayerNorm with bias and a squared ReLU without gate."""
    ffn = mlp(f, gated=False, bias=f.flag("mlp_bias"))
    return uniform(f, attention(f, **biased(f)), ffn, norm_bias=True)


@family("seed_oss")
def _seed_oss(f: Fields) -> ModelSpec:
    mixer = attention(f, 8, 128, qkv_bias=f.flag("attention_bias", default=True),
                      out_bias=f.flag("attention_out_bias"))  # fmt: skip
    return uniform(f, mixer, mlp(f, bias=f.flag("mlp_bias")))


@family("ernie4_5")
def _ernie(f: Fields) -> ModelSpec:
    f.expect("compression_ratio", [1], "a compressed cache is not supported")
    bias = f.flag("use_bias")
    return uniform(f, attention(f, 2, 128, qkv_bias=bias, out_bias=bias), mlp(f, bias=bias), tied=True)


@family("hunyuan_v1_dense")
def _hunyuan(f: Fields) -> ModelSpec:
    f.expect("use_qk_norm", [True], "the reference code always norms q and k")
    f.ignore("attention_head_dim")  # a repeat of head_dim
    f.expect("use_cla", [False], "a cache that layers share (cross-layer attention) is not supported")
    f.ignore("cla_share_factor")  # of use_cla
    f.expect("use_mla", [False], "latent attention is not supported")
    return uniform(f, attention(f, qk_norm="head", **biased(f)), mlp(f))
