"""Matrix products with weights, dense feed-forward, embedding and head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dse.cost.operators.registry import operator
from dse.cost.setting import WIDE, Setting
from dse.cost.work import Amount, Array, Group, Operands, Work
from dse.spec.model import MLP, ModelSpec


def linear(
    name: str,
    setting: Setting,
    ins: Array,
    outs: Array,
    *,
    kernel: str = "",
    operands: Operands = "weights",
    group: Group = "gemm",
    rows: Array | None = None,
    bias: Array = 0.0,
    cached: bool = False,
) -> Work:
    """A product of `rows` activations of width `ins` with a matrix `ins x outs` (2402.16363 section 2.2).

    FLOPs 2 M ins outs; the matrix is read once, M ins activations in, M outs out. `cached` outputs (k and v)
    go to the KV cache instead of memory for activations.
    """
    widths = setting.widths
    matrix = ins * outs * getattr(widths, operands)
    # What is not quantised (head, router) meets activations that are not either.
    act = WIDE if operands == "embeddings" else widths.activations
    out = outs * (widths.kv_cache if cached else act)
    return Work(
        name,
        kernel or name,
        group,
        operands,
        times=setting.tokens if rows is None else rows,
        fixed=Amount(weights=matrix),
        each=Amount(
            flops=2.0 * ins * outs,
            activations_in=ins * act,
            activations_out=0.0 if cached else out,
            kv_write=out if cached else 0.0,
        ),
        resident=matrix + bias * WIDE,
        form="gemm",
        extra={"inputs": (0.0, ins), "outputs": (0.0, outs)},
        launch={"starts": 1.0, "depth": ins},
    )


def pointwise(
    name: str,
    setting: Setting,
    reads: Array,
    writes: Array,
    flops: Array,
    *,
    kernel: str = "",
    rows: Array | None = None,
    resident: Array = 0.0,
    width: Array | None = None,
) -> Work:
    """An element-wise operator: `reads`, `writes` elements and `flops` per token, on the vector units.

    Elements are as wide as activations unless `width` (bytes) says otherwise.
    """
    width = setting.widths.activations if width is None else width
    return Work(
        name,
        kernel or name,
        "vector",
        "vector",
        times=setting.tokens if rows is None else rows,
        each=Amount(flops=flops, activations_in=reads * width, activations_out=writes * width),
        resident=resident,
    )


def norm(name: str, setting: Setting, hidden: int, parameters: int) -> Work:
    """RMSNorm or LayerNorm, 7 operations per element (2402.16363); its few weights stay in cache."""
    return pointwise(name, setting, hidden, hidden, 7.0 * hidden, resident=parameters * WIDE)


def residual(name: str, setting: Setting, hidden: int, kernel: str) -> Work:
    """Residual addition in 16 bit: two operands read, one written (LLM-Viewer reads one). Fused with the next norm."""
    return pointwise(name, setting, 2.0 * hidden, hidden, 1.0 * hidden, kernel=kernel, width=WIDE)


def activation(name: str, setting: Setting, width: Array, gated: bool, *, rows: Array | None = None) -> Work:
    """SiLU(gate) * up over the FFN width: about 5 operations per element (LLM-Viewer issue #16)."""
    return pointwise(name, setting, (2.0 if gated else 1.0) * width, width, (5.0 if gated else 4.0) * width, rows=rows)


FEED_FORWARD = frozenset({"gate_proj", "up_proj", "mlp_act", "down_proj"})
"""Operators of a dense feed-forward."""


@operator(MLP)
def mlp(ffn: MLP, hidden: int, setting: Setting) -> list[Work]:
    """Dense feed-forward, its width sharded over tp."""
    width = ffn.width / setting.degrees.tp
    bias = width * ffn.bias
    gate = [linear("gate_proj", setting, hidden, width, kernel="gate_up", bias=bias)] if ffn.gated else []
    return [
        *gate,
        linear("up_proj", setting, hidden, width, kernel="gate_up", bias=bias),
        activation("mlp_act", setting, width, ffn.gated),
        linear("down_proj", setting, width, hidden, bias=hidden * ffn.bias),
    ]


def embedding(model: ModelSpec, setting: Setting) -> Work:
    """Rows of the embedding looked up, one per token; the table is sharded over the vocabulary."""
    width = model.embed_dim or model.hidden
    table = model.vocab * width / setting.degrees.tp + model.positions * model.hidden
    project = model.embedding_parameters - model.vocab * width - model.positions * model.hidden
    row = width * setting.widths.embeddings
    return Work(
        "embedding",
        "embedding",
        "embedding",
        "vector",
        times=setting.tokens,
        each=Amount(weights=row, activations_out=model.hidden * setting.widths.activations),
        resident=(table + project) * setting.widths.embeddings,
    )


def head(model: ModelSpec, setting: Setting) -> Work:
    """The vocabulary-parallel head: logits of the last position of a prompt, and of every position decoded.

    A tied head reads the embedding's matrix and holds no bytes of its own, except on the last of several pipeline
    stages, which needs a copy.
    """
    width = model.embed_dim or model.hidden
    work = linear(
        "lm_head",
        setting,
        width,
        model.vocab / setting.degrees.tp,
        operands="embeddings",
        group="embedding",
        rows=setting.logits,
    )
    held = np.where(setting.degrees.pp > 1, work.resident, 0.0) if model.tied else work.resident
    bias = model.head_bias * model.vocab / setting.degrees.tp * WIDE
    return replace(work, resident=held + bias)
