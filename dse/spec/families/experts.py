"""Mixtures of experts with softmax attention."""

from __future__ import annotations

from dataclasses import replace

from dse.spec.families.fields import Fields
from dse.spec.families.parts import (
    CHUNKED,
    FULL,
    SLIDING,
    attention,
    biased,
    check_groups,
    every,
    kinds,
    mlp,
    moe,
    optional_window,
    spans,
    stack,
    uniform,
    window,
)  # fmt: skip
from dse.spec.families.registry import family
from dse.spec.model import MLP, Attention, Layer, ModelSpec, MoE


@family("mixtral", "phimoe")
def _mixtral(f: Fields) -> ModelSpec:
    """Every layer a MoE whose experts are `intermediate_size` wide; Phi-3.5-MoE adds biases."""
    phi = f.family == "phimoe"
    mixer = attention(f, 8, window=window(f), **(biased(f) if phi else {}))
    ffn = moe(f, ["num_local_experts", "num_experts"], width="intermediate_size",
              defaults=(16 if phi else 8, 2, None))  # fmt: skip
    return uniform(f, mixer, ffn, norm_bias=phi, head_bias=phi and f.flag("lm_head_bias"))


@family("olmoe", "granitemoe")
def _small_experts(f: Fields) -> ModelSpec:
    olmoe = f.family == "olmoe"
    mixer = attention(f, qk_norm="full" if olmoe else "none", **biased(f))
    defaults = (64, 8, None) if olmoe else (8, 2, None)
    return uniform(
        f, mixer, moe(f, ["num_experts", "num_local_experts"], width="intermediate_size", defaults=defaults)
    )


@family("qwen2_moe")
def _qwen2_moe(f: Fields) -> ModelSpec:
    """Shared expert behind a sigmoid gate; windowed layers alternate (configuration_qwen2_moe.py)."""
    count, size = f.layers(), optional_window(f)
    last = f.count("max_window_layers", default=28, least=0)
    default = [
        SLIDING if size is not None and index % 2 == 0 and index < last else FULL for index in range(count)
    ]
    windows = spans(f, kinds(f, count, default), size)
    mixer = attention(f, 16, qkv_bias=f.flag("qkv_bias", default=True))
    shared = f.count("shared_expert_intermediate_size", default=5632, least=0)
    experts = moe(f, ["num_experts"], shared_width=shared, shared_gate=shared > 0, defaults=(60, 4, 1408))
    dense = mlp(f)
    sparse = sparse_steps(f, count)
    return stack(f, [
        Layer(replace(mixer, window=window), experts if routed else dense)
        for window, routed in zip(windows, sparse, strict=True)
    ])  # fmt: skip


@family("qwen3_moe", "qwen3_vl_moe_text")
def _qwen3_moe(f: Fields) -> ModelSpec:
    vision = f.family == "qwen3_vl_moe_text"
    f.expect("use_qk_norm", [True], "the reference code always norms q and k")
    size = None if vision else optional_window(f)  # all layers slide, or none
    mixer = attention(f, 16 if vision else 4, qk_norm="head", window=size, **biased(f))
    defaults = (60, 4, 1408) if vision else (128, 8, 768)
    experts = moe(f, ["num_experts", "num_local_experts"], defaults=defaults)
    sparse = sparse_steps(f, f.layers())
    dense = experts if all(sparse) else mlp(f)
    f.ignore("intermediate_size")
    return stack(f, [Layer(mixer, experts if routed else dense) for routed in sparse], tied=vision)


def sparse_steps(f: Fields, count: int) -> list[bool]:
    """Which layers are MoE: each `decoder_sparse_step`-th, but for `mlp_only_layers`."""
    step = f.count("decoder_sparse_step", default=1)
    dense = f.indices("mlp_only_layers", count) or []
    return [index not in dense and (index + 1) % step == 0 for index in range(count)]


def sparse_after(f: Fields, count: int, first: int) -> list[bool]:
    """DeepSeek's order: `first_k_dense_replace` dense layers, then each `moe_layer_freq`-th is MoE."""
    listed = f.layer_words("mlp_layer_types", count, {"dense": False, "sparse": True})
    dense = f.count("first_k_dense_replace", default=first, least=0)
    step = f.count("moe_layer_freq", default=1)
    return listed or [index >= dense and index % step == 0 for index in range(count)]


def shared_and_routed(f: Fields, shared: int | None, router_bias: bool, sizes: tuple[int | None, ...]) -> MoE:
    """Routed experts beside `n_shared_experts` that every token uses.

    Args:
        f: the fields.
        shared: shared experts of the configuration class; None: needed.
        router_bias: whether the router has a correction value per expert.
        sizes: experts, experts per token and width of the configuration class.
    """
    routed = moe(f, ["n_routed_experts", "num_experts", "num_local_experts"], defaults=sizes,
                 router_bias=router_bias)  # fmt: skip
    if f.null("n_shared_experts"):
        return routed
    number = f.count("n_shared_experts", least=0, **({} if shared is None else {"default": shared}))
    return replace(routed, shared_width=number * routed.width)


@family("glm4_moe")
def _glm4_moe(f: Fields) -> ModelSpec:
    """GLM-4.5: biases on q, k and v; a correction value per expert; its MTP layer is not counted."""
    norm = "head" if f.flag("use_qk_norm") else "none"
    mixer = attention(f, 8, qkv_bias=f.flag("attention_bias"), qk_norm=norm)
    return _deepseek_order(f, mixer, shared_and_routed(f, 1, True, (128, 8, 1408)), 1)


@family("dots1")
def _dots1(f: Fields) -> ModelSpec:
    f.expect("sliding_window", [], "only full attention is supported")
    mixer = attention(f, 32, qk_norm="head", **biased(f))
    f.layer_words("layer_types", f.layers(), {FULL: True})
    return _deepseek_order(f, mixer, shared_and_routed(f, None, True, (None, None, 1408)), 0)


def _deepseek_order(f: Fields, mixer: Attention, experts: MoE, first: int) -> ModelSpec:
    dense = mlp(f)
    sparse = sparse_after(f, f.layers(), first)
    return stack(f, [Layer(mixer, experts if routed else dense) for routed in sparse])


@family("minimax_m2")
def _minimax_m2(f: Fields) -> ModelSpec:
    """MiniMax-M2: q and k normed over all heads, a correction value per expert, no shared expert."""
    f.expect("qk_norm_type", ["per_layer"], "only a norm over all heads is supported")
    f.expect("shared_intermediate_size", [0], "shared experts are not supported")
    count = f.layers()
    f.per_layer("attn_type_list", count, lambda kind: 1 if kind == 1 else None, "1 (softmax)")
    norm = "full" if f.flag("use_qk_norm", default=True) else "none"
    mixer = attention(f, 8, 128, qk_norm=norm, window=window(f))
    experts = moe(f, ["num_local_experts", "num_experts"], width="intermediate_size", defaults=(256, 8, None),
                  router_bias=f.flag("use_routing_bias", default=True))  # fmt: skip
    return uniform(f, mixer, experts)


@family("gpt_oss")
def _gpt_oss(f: Fields) -> ModelSpec:
    """gpt-oss: windowed and full layers in turn, a sink logit per head, biases on everything."""
    mixer = attention(f, 8, 64, sinks=True, **biased(f, default=True))
    experts = moe(f, ["num_local_experts", "num_experts"], ["num_experts_per_tok", "experts_per_token"],
                  "intermediate_size", defaults=(128, 4, None), bias=True, router_bias=True)  # fmt: skip
    f.ignore("experts_per_token")
    count = f.layers()
    windows = spans(f, kinds(f, count, every(count, 2)), window(f, 128))
    return stack(f, [Layer(replace(mixer, window=size), experts) for size in windows])


@family("llama4_text")
def _llama4(f: Fields) -> ModelSpec:
    """Llama-4: layers with rotary positions attend inside chunks; q and k are normed without weights.

    `intermediate_size` is the width of one expert and of the shared one, `intermediate_size_mlp` that
    of the dense layers.
    """
    count = f.layers()
    f.ignore("use_qk_norm")  # a norm without weights
    mixer = attention(f, 8, 128, **biased(f))
    width = f.count("intermediate_size")
    experts = moe(f, ["num_local_experts", "num_experts"], width="intermediate_size", defaults=(16, 1, None),
                  shared_width=width)  # fmt: skip
    dense = MLP(f.count("intermediate_size_mlp", default=16384))
    step = f.count("interleave_moe_layer_step", default=1)
    listed = f.indices("moe_layers", count)
    sparse = range(step - 1, count, step) if listed is None else listed
    chunks = _llama4_chunks(f, count)
    return stack(f, [
        Layer(replace(mixer, chunk=chunk), experts if index in sparse else dense)
        for index, chunk in enumerate(chunks)
    ])  # fmt: skip


def _llama4_chunks(f: Fields, count: int) -> list[int | None]:
    """Chunk length per layer; None where the layer sees the whole context."""
    size = f.count("attention_chunk_size", default=None if f.null("attention_chunk_size") else 8192)
    period = f.count("no_rope_layer_interval", default=4)
    given = f.switches("no_rope_layers", count) if f.raw("no_rope_layers") else None  # [] is the default too
    rotary = given or [(index + 1) % period != 0 for index in range(count)]
    listed = f.layer_words("layer_types", count, {CHUNKED: True, FULL: False})
    return [size if local else None for local in listed or rotary]


@family("mimo_v2_flash")
def _mimo_v2(f: Fields) -> ModelSpec:
    """MiMo-V2-Flash: windowed layers have KV heads and sinks of their own, values narrower than keys.

    `sliding_window` is how many earlier tokens are cached; transformers adds the query itself. Three next-token modules
    of a windowed and dense layer, 0.33 B each, come with the weights and are not in the config (2601.02780).
    """
    count, size = f.layers(), window(f, 128)
    f.ignore("sliding_window_size", "attention_chunk_size")  # repeats of sliding_window
    listed = f.switches("hybrid_layer_pattern", count)
    default = [FULL if index == 0 or (index + 1) % 6 == 0 else SLIDING for index in range(count)]
    local = listed or [kind == SLIDING for kind in kinds(f, count, default)]
    mixers = {False: _mimo_v2_attention(f, ""), True: replace(_mimo_v2_attention(f, "swa_"), window=size)}
    routed = f.switches("moe_layer_freq", count)
    typed = f.layer_words("mlp_layer_types", count, {"dense": False, "sparse": True})
    sparse = routed or typed or [index > 0 for index in range(count)]
    experts, dense = shared_and_routed(f, 0, True, (256, 8, 2048)), mlp(f)
    return stack(f, [
        Layer(mixers[near], experts if moe_layer else dense)
        for near, moe_layer in zip(local, sparse, strict=True)
    ], nextn=3, nextn_layer=Layer(mixers[True], dense))  # fmt: skip


def _mimo_v2_attention(f: Fields, prefix: str) -> Attention:
    """Full attention by the plain fields, windowed attention by those that begin with `swa_`."""
    query = f.count(prefix + "num_attention_heads", "num_attention_heads")
    full = f.count("num_key_value_heads", default=4)
    kv_heads = f.count(prefix + "num_key_value_heads", default=2 * full if prefix else full)
    check_groups(f, query, kv_heads, prefix + "num_key_value_heads")
    sinks = f.flag("add_swa_attention_sink_bias", default=True) if prefix \
        else f.flag("add_full_attention_sink_bias")  # fmt: skip
    return Attention(
        query, kv_heads, f.count(prefix + "head_dim", "head_dim", default=192),
        f.count(prefix + "v_head_dim", "v_head_dim", default=128),
        qkv_bias=f.flag("attention_bias"), sinks=sinks,
    )  # fmt: skip
