"""Where an operator runs: the phase, how many tokens, how they are sharded, how wide each tensor is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from dse.cost.choices import Choices
from dse.cost.collectives import Links
from dse.cost.mesh import Mesh
from dse.cost.work import Array, is_zero
from dse.spec.model import ModelSpec, MoE

Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")

WIDE = 2.0
"""Bytes of the residual stream, norms, biases and router: 16 bit in every engine, whatever the scheme."""


@dataclass(frozen=True)
class Degrees:
    """Parallel degrees on the mesh, shapes over the axis layout; `ep` resolved for the model."""

    tp: Array
    pp: Array
    dp: Array
    ep: Array

    @classmethod
    def on(cls, mesh: Mesh, choices: Choices, model: ModelSpec) -> Degrees:
        """Degrees of the mesh's layouts, with `ep` 0 resolved (see `dse.spec.layout`)."""
        tp, pp, dp, ep = (mesh.take(choices.of_layout(field), "layout") for field in ("tp", "pp", "dp", "ep"))
        has_experts = any(isinstance(layer.ffn, MoE) for layer in model.layers)
        automatic = np.where((dp > 1) & has_experts, tp * dp, 1.0)
        return cls(tp, pp, dp, np.where(ep == 0, automatic, ep))

    @property
    def devices(self) -> Array:
        """Devices of one replica."""
        return self.tp * self.pp * self.dp

    @property
    def expert_tp(self) -> Array:
        """Ranks that share one expert's matrices."""
        return self.tp * self.dp / self.ep


@dataclass(frozen=True)
class Widths:
    """Effective bytes per element of each tensor, scales included: shapes over the axis precision."""

    weights: Array
    projections: Array
    activations: Array
    kv_cache: Array
    embeddings: Array

    @classmethod
    def on(cls, mesh: Mesh, choices: Choices) -> Widths:
        """Widths of the mesh's precisions."""
        return cls(**{name: mesh.take(choices.of_precision(name), "precision") for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Setting:
    """One pass of one micro-batch through the model, as seen by one device.

    Shapes: any that broadcast over the mesh; `tokens = sequences * queries`.
    """

    phase: Phase
    sequences: Array
    """Sequences of the micro-batch on one attention-dp rank."""
    queries: Array
    """New tokens per sequence: the prompt in prefill (what of it is computed), 1 in decode (more to verify a draft)."""
    tokens: Array
    degrees: Degrees
    widths: Widths
    links: Links
    fused_attention: bool = True
    cached: Array = 0.0
    """Tokens of each sequence whose keys and values lie in the cache before a prompt pass: attended to only."""

    @property
    def decoding(self) -> bool:
        """True in the decode phase, where work grows with the context."""
        return self.phase == "decode"

    @property
    def fresh(self) -> bool:
        """True where nothing is cached before the pass."""
        return is_zero(self.cached)

    @property
    def logits(self) -> Array:
        """Positions whose next token is wanted: the last of each prompt, or all that are decoded."""
        return self.tokens if self.decoding else self.sequences

    @property
    def attended(self) -> Array:
        """Tokens of a micro-batch of prompts whose keys are attended to: those computed, and those cached."""
        return self.tokens if self.fresh else self.tokens + self.sequences * self.cached
