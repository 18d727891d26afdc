"""What an operator does: FLOPs, bytes by kind and messages, all affine in one variable.

Every operator of a transformer is affine in something: a linear layer in the tokens it sees, decode
attention in the context, prefill attention in the sequences. Keeping the two coefficients apart keeps
them small on the open mesh (a linear layer's do not depend on the workload), and lets a decode phase be
summed over its growing context in closed form (`dse.cost.phases`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64] | float
"""A float64 array broadcastable over the mesh, or a plain number where nothing varies."""


def is_zero(value: Array) -> bool:
    """True for a plain zero: what a number is that nothing contributes to."""
    return isinstance(value, float) and value == 0.0


Group = Literal["gemm", "moe", "attention", "state", "vector", "embedding", "collective"]
"""Operator class: what shares an efficiency and a fixed cost."""

GROUPS: tuple[Group, ...] = ("gemm", "moe", "attention", "state", "vector", "embedding", "collective")

Operands = Literal["weights", "projections", "embeddings", "attention", "vector"]
"""Which formats of the precision scheme meet in the arithmetic: decides the peak it runs at."""

BYTE_KINDS = ("weights", "activations_in", "activations_out", "kv_read", "kv_write", "unpacked")


Form = Literal["default", "gemm", "prefill", "decode", "latent_prefill", "latent_decode", "moe"]
"""Class of kernels that efficiencies are fitted for (`dse.cost.forms`); `default`: none."""

Quantity = Literal["flops", "bytes", "inputs", "outputs", "scores", "items", "item_bytes", "padding", "routed_bytes"]
"""What seconds are counted in, beside the two of the roofline: elements read and written by a matrix product; scores,
tiles or (sequence, KV head) pairs of attention and the bytes of one such pair; FLOPs that fill up tiles of experts, and
bytes of routed activations."""

Launch = Literal["kernel", "starts", "depth", "longest", "routed"]
"""What the cost of a launch is counted in: 1 for each kernel; 1 for each kernel that is one as fitted; the inner
dimension of a product; FLOPs of the longest tile of attention; elements of the tokens that are routed."""

ROWS_OF_A_TILE = 128.0
"""Rows and columns of an output tile, and query rows of a block of flash attention."""
ROWS_OF_AN_EXPERT = 64.0
"""Rows to which the tokens of an expert are filled up, times the fitted share `padding`."""


@dataclass(frozen=True, slots=True)
class Amount:
    """FLOPs, and bytes of device memory by kind."""

    flops: Array = 0.0
    weights: Array = 0.0
    activations_in: Array = 0.0
    activations_out: Array = 0.0
    kv_read: Array = 0.0
    """KV cache or recurrent state read."""
    kv_write: Array = 0.0
    unpacked: Array = 0.0
    """Of quantised operands, expanded in memory where no kernel does it on the way (`techniques.dequantization`)."""

    @property
    def bytes(self) -> Array:
        """All bytes, whatever their kind."""
        return self.weights + self.activations_in + self.activations_out + self.kv_read + self.kv_write + self.unpacked


@dataclass(frozen=True, slots=True)
class Span:
    """How much of a context of n tokens a query sees: all of it, the last `window`, or its own `chunk`."""

    window: int | None = None
    chunk: int | None = None


@dataclass(frozen=True, slots=True)
class Routes:
    """Ways to send a message; the fastest is taken."""

    ways: tuple[tuple[Any, Any, Any], ...]
    """Of each algorithm seconds to start, per byte, and per root of a byte: arrays."""
    standing: NDArray[np.int8] | int = 0
    """Where its time was fitted, on what (index into `dse.cost.rates.STANDINGS`); 0 where it was not."""


@dataclass(frozen=True, slots=True)
class Message:
    """A collective over some ranks: bytes per unit of the work's variable, and the ways to send them."""

    bytes: Array
    routes: Routes


@dataclass(frozen=True, slots=True)
class Work:
    """One operator of one layer on one device: `fixed + each * times`."""

    name: str
    kernel: str
    """Operators of one name here are launched together and share one fixed cost."""
    group: Group
    operands: Operands
    times: Array
    """The variable: tokens, sequences, or the context when `span` is set."""
    each: Amount = field(default_factory=Amount)
    fixed: Amount = field(default_factory=Amount)
    span: Span | None = None
    """Set when the work grows with the context of a decode step; `times` is then not used."""
    resident: Array = 0.0
    """Bytes of weights the device holds for this operator (for experts: all, not just those read)."""
    live: Array = 1.0
    """Share of its inputs and outputs that live at once: less than 1 where it runs in chunks."""
    message: Message | None = None
    form: Form = "default"
    included: bool = False
    """The fitted time of its class includes it: it costs nothing of its own where there is one (`experts_act`)."""
    extra: Mapping[Quantity, tuple[Array, Array]] = field(default_factory=dict)
    """Further quantities, each (fixed, per unit of the variable)."""
    launch: Mapping[Launch, Array] = field(default_factory=dict)
    """What its launch is counted in, beside 1 per kernel; of the kernel's first operator."""
