"""How many bits each kind of tensor takes, and in which number type it is multiplied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Format:
    """A stored number format: an element type plus the overhead of its scales."""

    dtype: str
    """Element type: fp32, bf16, fp16, fp8, fp6, fp4, or int1 ... int16."""
    element_bits: float
    """Bits of one element without scales (q4_k_m: the published average)."""
    kind: Literal["float", "int"]
    group_size: int = 0
    """Elements that share a scale; 0: per tensor or per channel, no overhead counted."""
    scale_bits: float = 0
    """Bits of scale (and zero point) per group."""

    @property
    def bits(self) -> float:
        """Effective bits per element, scales included."""
        return self.element_bits + (self.scale_bits / self.group_size if self.group_size else 0.0)

    @property
    def bytes(self) -> float:
        """Effective bytes per element, scales included."""
        return self.bits / 8


@dataclass(frozen=True, slots=True)
class Precision:
    """One precision scheme: a format for each kind of tensor."""

    name: str
    weights: Format
    activations: Format
    kv_cache: Format
    embeddings: Format
    """Embedding and lm_head."""
    attention: Format
    """Type in which attention scores and values are multiplied."""
