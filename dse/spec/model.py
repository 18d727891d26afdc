"""A model's structure: a sequence of layers, each a token mixer and a feed-forward part.

Pure facts of the architecture. Parameter counts, cache and state sizes follow exactly from them;
what they cost on a device is the business of `dse.cost`. The parts of a layer are in `dse.spec.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dse.spec.layers import (
    MLP,
    Attention,
    DeltaNet,
    FeedForward,
    Indexer,
    LatentAttention,
    Layer,
    Mamba2,
    Mixer,
    MoE,
)
from dse.spec.precision import Precision

__all__ = [
    "MLP",
    "Attention",
    "DeltaNet",
    "FeedForward",
    "Indexer",
    "LatentAttention",
    "Layer",
    "Mamba2",
    "Mixer",
    "MoE",
    "ModelSpec",
]


@dataclass(frozen=True)
class ModelSpec:
    """A decoder-only language model: embedding, layers in order, final norm, head."""

    name: str
    family: str
    """The `model_type` of its config.json."""
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    tied: bool = False
    """The head shares the embedding matrix."""
    norm_bias: bool = False
    """LayerNorm with weight and bias instead of RMSNorm with weight only."""
    norm_weight: bool = True
    """False for norms without parameters (OLMo-1)."""
    extra_norms: int = 1
    """Norms outside the layers: the final one, BLOOM's embedding norm."""
    positions: int = 0
    """Rows of a learned position embedding (OPT, GPT-2), 0 for rotary or ALiBi."""
    embed_dim: int | None = None
    """Width of the embedding where it differs from `hidden` (OPT-350m), with two projections."""
    head_bias: bool = False
    joined: int = 0
    """Vectors of the hidden width that a projection joins into one ahead of the layers: 2 in a module that predicts
    the token after next (the hidden state and the next token's embedding), 0 in a model of its own."""
    nextn: int = 0
    """Modules that predict the tokens after the next one (MTP), published with the weights; `parameters()` leaves them
    out, as publishers do."""
    nextn_layer: Layer | None = None
    """The layer of such a module, where it is not like the model's last ones."""
    max_context: int | None = None
    """Longest context the config allows; None where it states none."""
    precision: Precision | None = field(default=None, compare=False)
    """What `quantization_config` or `torch_dtype` of the file says; None when it says nothing."""

    @cached_property
    def _hash(self) -> int:
        return hash((self.name, self.family, self.hidden, self.vocab, self.layers))

    def __hash__(self) -> int:
        """Computed once: a model of a hundred layers is a key of caches that every slice asks."""
        return self._hash

    @cached_property
    def kinds(self) -> Mapping[Layer, int]:
        """Distinct layers in order of first appearance, each with its count."""
        counts: dict[Layer, int] = {}
        for layer in self.layers:
            counts[layer] = counts.get(layer, 0) + 1
        return counts

    @property
    def norm_parameters(self) -> int:
        """Size of one norm over the hidden width."""
        return self.hidden * (1 + self.norm_bias) if self.norm_weight else 0

    @property
    def embedding_parameters(self) -> int:
        """Token and position embedding, with OPT-350m's two projections."""
        width = self.embed_dim or self.hidden
        project = 2 * width * self.hidden if width != self.hidden else 0
        return self.vocab * width + self.positions * self.hidden + project

    @property
    def head_parameters(self) -> int:
        """The head's own weights: 0 when tied, but for its bias."""
        width = self.embed_dim or self.hidden
        return (0 if self.tied else self.vocab * width) + self.head_bias * self.vocab

    @property
    def _outside_layers(self) -> int:
        norms = self.extra_norms * self.norm_parameters
        join = self.joined * self.hidden * self.hidden
        return self.embedding_parameters + self.head_parameters + norms + join

    def parameters(self) -> int:
        """All weights of the text model, to the last one (no vision encoder, no MTP layers)."""
        norm = self.norm_parameters
        return self._outside_layers + sum(
            count * layer.parameters(self.hidden, norm) for layer, count in self.kinds.items()
        )

    def active_parameters(self) -> int:
        """Weights one token touches, embedding and head included."""
        norm = self.norm_parameters
        return self._outside_layers + sum(
            count * layer.active_parameters(self.hidden, norm) for layer, count in self.kinds.items()
        )

    def kv_bytes_per_token(self, precision: str | Mapping[str, Any] | Precision = "bf16") -> float:
        """Bytes each further token adds to the cache: layers of unbounded context only.

        Args:
            precision: a name in the precision library, a scheme as a sweep writes it, or a `Precision`; its KV format
                counts.

        Raises:
            InputError: unknown name, or all faults of the scheme.
        """
        if not isinstance(precision, Precision):
            from dse.spec.catalog import load_precision

            precision = load_precision(precision)
        return self.kv_elements_per_token * precision.kv_cache.bytes

    @property
    def kv_elements_per_token(self) -> int:
        """Cached elements per token over all layers of unbounded context (indexer keys apart)."""
        return sum(
            count * layer.mixer.kv_elements
            for layer, count in self.kinds.items()
            if isinstance(layer.mixer, Attention | LatentAttention) and layer.mixer.span is None
        )

    @property
    def index_elements_per_token(self) -> int:
        """Indexer keys per token over all layers (DSA)."""
        return sum(
            count * layer.mixer.index_elements
            for layer, count in self.kinds.items()
            if isinstance(layer.mixer, LatentAttention)
        )

    @property
    def window_elements_per_sequence(self) -> int:
        """Cached elements per sequence of windowed and chunked layers at full window."""
        return sum(
            count * layer.mixer.kv_elements * layer.mixer.span
            for layer, count in self.kinds.items()
            if isinstance(layer.mixer, Attention) and layer.mixer.span is not None
        )

    @property
    def state_elements_per_sequence(self) -> int:
        """Recurrent state elements per sequence (linear attention, state-space layers)."""
        return sum(
            count * layer.mixer.state_elements
            for layer, count in self.kinds.items()
            if isinstance(layer.mixer, DeltaNet | Mamba2)
        )

    @property
    def conv_elements_per_sequence(self) -> int:
        """Convolution state elements per sequence."""
        return sum(
            count * layer.mixer.conv_elements
            for layer, count in self.kinds.items()
            if isinstance(layer.mixer, DeltaNet | Mamba2)
        )
