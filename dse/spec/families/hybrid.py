"""Stacks with constant-size state: Gated DeltaNet (Qwen3-Next, Qwen3.5) and Mamba-2 (Nemotron-H)."""

from __future__ import annotations

from collections.abc import Callable

from dse.spec.families.experts import sparse_steps
from dse.spec.families.fields import Fields
from dse.spec.families.parts import FULL, attention, biased, hidden_size, kinds, mlp, moe, stack, uniform
from dse.spec.families.registry import family
from dse.spec.model import DeltaNet, FeedForward, Layer, Mamba2, ModelSpec, MoE

LINEAR = "linear_attention"


@family("qwen3_next")
def _qwen3_next(f: Fields) -> ModelSpec:
    """Its config does not say that the checkpoint holds a next-token module (`mtp.layers.0`); engines take one."""
    count = f.layers()
    experts = _gated_experts(f, (512, 10, 512))
    sparse = sparse_steps(f, count)
    dense = experts if all(sparse) else mlp(f)
    f.ignore("intermediate_size")
    return _delta_stack(f, 2, [experts if routed else dense for routed in sparse], nextn=1)


@family("qwen3_5_text")
def _qwen3_5(f: Fields) -> ModelSpec:
    return _delta_stack(f, 4, [mlp(f)] * f.layers())


@family("qwen3_5_moe_text")
def _qwen3_5_moe(f: Fields) -> ModelSpec:
    f.ignore("intermediate_size")  # every layer is a mixture
    return _delta_stack(f, 2, [_gated_experts(f, (256, 8, 512))] * f.layers())


def _gated_experts(f: Fields, defaults: tuple[int, int, int]) -> MoE:
    shared = f.count("shared_expert_intermediate_size", default=512, least=0)
    return moe(f, ["num_experts", "num_local_experts"], shared_width=shared, shared_gate=shared > 0,
               defaults=defaults)  # fmt: skip


def _delta_stack(f: Fields, kv: int, ffns: list[FeedForward], nextn: int = 0) -> ModelSpec:
    """Three layers of linear attention to one of gated softmax attention."""
    f.expect("attn_output_gate", [True], "the output gate of full attention is always there")
    count = f.layers()
    period = f.count("full_attention_interval", default=4)
    default = [FULL if (index + 1) % period == 0 else LINEAR for index in range(count)]
    full = attention(f, kv, 256, gated=True, qk_norm="head", **biased(f))
    linear = DeltaNet(
        f.count("linear_num_key_heads", default=16), f.count("linear_num_value_heads", default=32),
        f.count("linear_key_head_dim", default=128), f.count("linear_value_head_dim", default=128),
        f.count("linear_conv_kernel_dim", default=4),
    )  # fmt: skip
    if linear.value_heads % linear.key_heads and not f.faults:
        f.fault("linear_num_value_heads", f"{linear.value_heads} is not a multiple of the "
                f"{linear.key_heads} key heads (linear_num_key_heads)")  # fmt: skip
    types = kinds(f, count, default, (FULL, LINEAR))
    return stack(f, [
        Layer(full if kind == FULL else linear, ffn) for kind, ffn in zip(types, ffns, strict=False)
    ], nextn=nextn)  # fmt: skip


@family("mamba2")
def _mamba2(f: Fields) -> ModelSpec:
    bias = f.flag("use_bias")
    mixer = Mamba2(
        f.count("num_heads", default=128), f.count("head_dim", default=64),
        f.count("state_size", default=128), f.count("n_groups", default=8), f.count("conv_kernel", default=4),
        conv_bias=f.flag("use_conv_bias", default=True), bias=bias,
    )  # fmt: skip
    _check_groups(f, mixer, "num_heads")
    expanded = f.count("expand", default=2) * hidden_size(f)
    if expanded != mixer.inner and not f.faults:
        f.fault("expand", f"expand x hidden_size is {expanded}, but num_heads x head_dim is {mixer.inner}")
    f.expect("intermediate_size", [mixer.inner], f"it repeats num_heads x head_dim, {mixer.inner}")
    f.activation()
    return uniform(f, mixer, None, norms=1)


def _check_groups(f: Fields, mixer: Mamba2, field: str) -> None:
    if mixer.heads % mixer.groups and not f.faults:
        f.fault(field, f"{mixer.heads} heads are not a multiple of the {mixer.groups} groups (n_groups)")


@family("nemotron_h")
def _nemotron_h(f: Fields) -> ModelSpec:
    """Nemotron-H: each block is one of Mamba-2 (M), attention (*), MLP (-) or MoE (E), after one norm."""
    build: dict[str, Callable[[Fields], Layer]] = {
        "M": lambda f: Layer(_nemotron_mamba(f), None, 1),
        "*": lambda f: Layer(attention(f, 8, 128), None, 1),
        "-": lambda f: Layer(None, mlp(f, gated=False, bias=f.flag("mlp_bias")), 1),
        "E": lambda f: Layer(None, _nemotron_experts(f), 1),
    }
    f.activation("mlp_hidden_act")
    f.expect("sliding_window", [], "windowed attention is not supported")
    f.expect("mamba_proj_bias", [False], "the reference code has no such bias")
    f.ignore(
        "attention_head_dim", "expand", "intermediate_size", "mlp_bias", "conv_kernel", "n_groups",
        "ssm_state_size", "mamba_num_heads", "mamba_head_dim", "use_bias", "use_conv_bias", "moe_latent_size",
        "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts",
        "moe_shared_expert_intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    )  # fmt: skip  # fields of kinds of block that the pattern may not have
    pattern = _nemotron_pattern(f)
    blocks = {kind: build[kind](f) for kind in dict.fromkeys(pattern)}
    return stack(f, [blocks[kind] for kind in pattern])


def _nemotron_pattern(f: Fields) -> str:
    """One letter per block, from `hybrid_override_pattern` or `layers_block_type`."""
    text = f.raw("hybrid_override_pattern")
    words = f.raw("layers_block_type") or f.raw("layer_types")
    f.ignore("num_hidden_layers", "layers_block_type", "layer_types")
    if text is None and words is None:
        f.fault("hybrid_override_pattern", "missing (or layers_block_type); a 'nemotron_h' model needs it")
        return ""
    if text is None:
        field = "layers_block_type" if f.raw("layers_block_type") else "layer_types"
        letters = f.layer_words(field, len(words) if isinstance(words, list) else 0, {
            "mamba": "M", LINEAR: "M", "attention": "*", FULL: "*", "mlp": "-", "moe": "E",
        })  # fmt: skip
        text = "".join(letters or [])
    wrong = sorted(set(text) - set("M*-E")) if isinstance(text, str) else ["?"]
    if wrong or (not text and not f.faults):
        got = " ".join(wrong) or "none"
        f.fault("hybrid_override_pattern", f"expected M, *, - and E, one per block; got {got}")
        return ""
    count = f.count("num_hidden_layers", default=len(text))
    if count != len(text) and not f.faults:
        f.fault("hybrid_override_pattern", f"has {len(text)} blocks, but num_hidden_layers is {count}")
    return str(text)


def _nemotron_mamba(f: Fields) -> Mamba2:
    mixer = Mamba2(
        f.count("mamba_num_heads", default=128), f.count("mamba_head_dim", default=64),
        f.count("ssm_state_size", default=128), f.count("n_groups", "mamba_n_groups", default=8),
        f.count("conv_kernel", "mamba_d_conv", default=4),
        conv_bias=f.flag("use_conv_bias", default=True), bias=f.flag("use_bias"),
    )  # fmt: skip
    _check_groups(f, mixer, "mamba_num_heads")
    return mixer


def _nemotron_experts(f: Fields) -> MoE:
    """Experts without gate, on a latent projection in Super and Ultra; one shared expert."""
    f.expect("mlp_bias", [False], "biases in experts are not supported")
    f.expect("n_shared_experts", [1], "the reference code has one shared expert")
    return moe(
        f, ["n_routed_experts", "num_local_experts"], defaults=(8, 2, 7688), gated=False, router_bias=True,
        shared_width=f.count("moe_shared_expert_intermediate_size", default=7688),
        latent=f.count("moe_latent_size", default=None),
    )  # fmt: skip
