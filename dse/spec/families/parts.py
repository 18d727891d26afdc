"""Parts that many families share: attention with its windows, feed-forwards, the stack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dse.spec.families.fields import Fields
from dse.spec.model import MLP, Attention, FeedForward, Layer, Mixer, ModelSpec, MoE

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


def heads(f: Fields, kv: int | None = None, dim: int | None = None) -> tuple[int, int, int]:
    """Query heads, KV heads and head dimension.

    Args:
        f: the fields.
        kv: KV heads of the configuration class; None: as many as query heads.
        dim: head dimension of the configuration class; None: hidden size / heads.
    """
    query = f.count("num_attention_heads")
    absent = query if kv is None or f.null("num_key_value_heads") else kv
    kv_heads = f.count("num_key_value_heads", default=absent)
    check_groups(f, query, kv_heads, "num_key_value_heads")
    if kv_heads != query:
        f.expect("use_gqa", [True], f"{query} query heads on {kv_heads} KV heads are grouped")
    f.ignore("use_gqa")
    return query, kv_heads, head_dim(f, query, dim)


def check_groups(f: Fields, query: int, kv_heads: int, field: str) -> None:
    """Query heads are shared out evenly among KV heads."""
    if not f.faults and query % kv_heads:
        f.fault(field, f"{kv_heads} KV heads do not divide the {query} query heads")


def head_dim(f: Fields, query: int, default: int | None = None, field: str = "head_dim") -> int:
    """`head_dim` where it is given, else that of the configuration class, else hidden size / heads."""
    given: int | None = f.count(field, default=default)
    if given is not None:
        return given
    hidden = hidden_size(f)
    if hidden % query and not f.faults:
        f.fault("hidden_size", f"{hidden} is not divisible by {query} heads; give head_dim")
    return max(hidden // query, 1)


def hidden_size(f: Fields) -> int:
    """The hidden size, whatever the family calls it."""
    size: int = f.count("hidden_size", "n_embd", "n_embed", "d_model")
    return size


def attention(f: Fields, kv: int | None = None, dim: int | None = None, **facts: Any) -> Attention:
    """Softmax attention with the usual fields; `facts` are further fields of `Attention`."""
    query, kv_heads, size = heads(f, kv, dim)
    return Attention(query, kv_heads, size, size, **facts)


def biased(f: Fields, default: bool = False) -> dict[str, bool]:
    """`attention_bias` that covers all four projections, as in LLaMA."""
    bias = f.flag("attention_bias", default)
    return {"qkv_bias": bias, "out_bias": bias}


def mlp(f: Fields, field: str = "intermediate_size", gated: bool = True, bias: bool = False) -> MLP:
    """A dense feed-forward of the width in `field`."""
    f.activation()
    return MLP(f.count(field), gated, bias)


def moe(f: Fields, experts: Sequence[str], top_k: Sequence[str] = ("num_experts_per_tok",),
        width: str = "moe_intermediate_size", **facts: Any) -> MoE:  # fmt: skip
    """A mixture of experts; `experts` and `top_k` are the names these counts go by.

    `facts` are further fields of `MoE`, and `defaults`: (experts, top_k, width) of the configuration class.
    """
    f.activation()
    number, chosen, size = facts.pop("defaults", (None, None, None))
    count = f.count(*experts, **({} if number is None else {"default": number}))
    k = f.count(*top_k, **({} if chosen is None else {"default": chosen}))
    wide = f.count(width, **({} if size is None else {"default": size}))
    if not f.faults and k > count:
        field = next((name for name in top_k if f.raw(name) is not None), top_k[0])
        f.fault(field, f"{k} experts per token, but there are only {count} experts")
    return MoE(count, k, wide, **facts)


def window(f: Fields, default: int | None = None) -> int | None:
    """Length of the sliding window, None for none; an explicit null is none."""
    size: int | None = f.count("sliding_window", default=None if f.null("sliding_window") else default)
    return size


def optional_window(f: Fields) -> int | None:
    """The window of Qwen configs: counts only with `use_sliding_window` (default false, 4096)."""
    if f.flag("use_sliding_window"):
        return window(f, 4096)
    f.ignore("sliding_window")
    return None


def kinds(f: Fields, count: int, default: Sequence[str], names: Sequence[str] = (FULL, SLIDING)) -> list[str]:
    """`layer_types`, or those of the configuration class."""
    given = f.layer_words("layer_types", count, {name: name for name in names})
    return list(default) if given is None else given


def spans(f: Fields, types: Sequence[str], size: int | None) -> list[int | None]:
    """Per layer the window, or None for the layers that see everything."""
    if SLIDING in types and size is None:
        f.fault("sliding_window", "missing; layer_types has sliding_attention layers, which need it")
    return [size if kind == SLIDING else None for kind in types]


def every(count: int, period: int) -> list[str]:
    """Sliding layers with a full one after each `period` - 1 of them."""
    return [FULL if (index + 1) % period == 0 else SLIDING for index in range(count)]


def stack(f: Fields, layers: Sequence[Layer], tied: bool = False, **facts: Any) -> ModelSpec:
    """The whole model around its layers.

    Args:
        f: the fields.
        layers: in order.
        tied: `tie_word_embeddings` of the configuration class.
        facts: further fields of `ModelSpec`.
    """
    given = f.count("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx",
                    "max_seq_len", default=None)  # fmt: skip
    vocab = facts.pop("vocab", None)
    return ModelSpec(
        name=f.name, family=f.family, hidden=hidden_size(f),
        vocab=f.count("vocab_size") if vocab is None else f.count("vocab_size", default=vocab),
        layers=tuple(layers), tied=f.flag("tie_word_embeddings", tied), max_context=given, **facts,
    )  # fmt: skip


def uniform(f: Fields, mixer: Mixer, ffn: FeedForward | None, norms: int = 2, **facts: Any) -> ModelSpec:
    """A stack of equal layers."""
    return stack(f, [Layer(mixer, ffn, norms)] * f.layers(), **facts)
