"""Layers with a constant state per sequence: gated DeltaNet and Mamba-2.

Their state is read and written once per pass, in fp32, and does not grow with the context.
"""

from __future__ import annotations

import numpy as np

from dse.cost.operators.linear import linear, pointwise
from dse.cost.operators.registry import operator
from dse.cost.setting import WIDE, Setting
from dse.cost.work import Amount, Array, Work
from dse.spec.model import DeltaNet, Mamba2

STATE_BYTES = 4.0
"""Recurrent state is kept in fp32 (transformers and vLLM)."""


def _recurrence(name: str, setting: Setting, flops: Array, reads: Array, writes: Array, state: Array) -> Work:
    """The scan: `flops` per token, activations per token, state once per sequence.

    Affine in the sequences: tokens per sequence enter through `queries`. A step that verifies several tokens writes the
    state after each, to go on from the last one accepted.
    """
    width = setting.widths.activations
    written = setting.queries if setting.decoding else 1.0
    return Work(
        name,
        name,
        "state",
        "attention",
        times=setting.sequences,
        each=Amount(
            flops=flops * setting.queries,
            activations_in=reads * width * setting.queries,
            activations_out=writes * width * setting.queries,
            kv_read=state * STATE_BYTES,
            kv_write=state * STATE_BYTES * written,
        ),
    )


@operator(DeltaNet)
def delta_net(mixer: DeltaNet, hidden: int, setting: Setting) -> list[Work]:
    """Gated DeltaNet (2412.06464): about 8 nv dk dv operations per token; heads sharded over tp."""
    tp = setting.degrees.tp
    value_heads = mixer.value_heads / tp
    value = value_heads * mixer.value_dim
    channels = mixer.conv_channels / tp
    conv = channels * mixer.conv_kernel
    return [
        linear("qkvz_proj", setting, hidden, channels + value, operands="projections"),
        linear("ba_proj", setting, hidden, 2.0 * value_heads, kernel="qkvz_proj", operands="projections"),
        pointwise("conv", setting, channels, channels, 2.0 * conv, resident=conv * WIDE),
        _recurrence(
            "delta_rule",
            setting,
            flops=8.0 * value_heads * mixer.key_dim * mixer.value_dim,
            reads=channels,
            writes=value,
            state=value_heads * mixer.key_dim * mixer.value_dim,
        ),
        pointwise(
            "gated_norm",
            setting,
            2.0 * value,
            value,
            12.0 * value,
            resident=(2.0 * value_heads + mixer.value_dim) * WIDE,
        ),
        linear("out_proj", setting, value, hidden, operands="projections"),
    ]


@operator(Mamba2)
def mamba2(mixer: Mamba2, hidden: int, setting: Setting) -> list[Work]:
    """Mamba-2 (2405.21060): about 6 di N operations per token; heads sharded, groups replicated beyond tp."""
    tp = setting.degrees.tp
    heads = mixer.heads / tp
    inner = heads * mixer.head_dim
    channels = inner + 2.0 * np.maximum(mixer.groups / tp, 1.0) * mixer.state
    project = inner + channels + heads
    conv = channels * mixer.conv_kernel
    bias = 1.0 * mixer.bias
    return [
        linear("in_proj", setting, hidden, project, operands="projections", bias=bias * project),
        pointwise("conv", setting, channels, channels, 2.0 * conv, resident=(conv + channels * mixer.conv_bias) * WIDE),
        _recurrence(
            "selective_scan",
            setting,
            flops=6.0 * inner * mixer.state,
            reads=channels + heads,
            writes=inner,
            state=inner * mixer.state,
        ),
        pointwise("gated_norm", setting, 2.0 * inner, inner, 12.0 * inner, resident=(3.0 * heads + inner) * WIDE),
        linear("out_proj", setting, inner, hidden, operands="projections", bias=bias * hidden),
    ]
