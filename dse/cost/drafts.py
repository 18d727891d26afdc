"""How what drafts runs beside its target: the same accelerators, sequences and number formats, a layout of its own."""

from __future__ import annotations

from dataclasses import replace

from dse.cost.choices import Choices
from dse.spec.layout import Layout
from dse.spec.model import MLP, Attention, DeltaNet, LatentAttention, Mamba2, ModelSpec, MoE

_OF_TARGETS = ("prefix_hit", "kv_budget", "attention", "dequantization")
"""Techniques of the engine and its cache: what drafts has them too."""


def draft_choices(choices: Choices, model: ModelSpec) -> Choices:
    """The choices under which a model drafts for another that has these.

    It is sharded over the target's tp ranks where its heads and widths divide, else each rank runs it whole; it has one
    pipeline stage.
    """

    def make() -> Choices:
        techniques = {name: value for name, value in choices.techniques.items() if name in _OF_TARGETS}
        layouts = [draft_layout(layout, model) for layout in choices.layout]
        return replace(choices, layout=layouts, techniques=techniques)

    return choices.cached(("draft", model), make)


def draft_layout(layout: Layout, model: ModelSpec) -> Layout:
    """How a model that drafts is spread over the devices of its target."""
    parts = [half for layer in model.kinds for half in (layer.mixer, layer.ffn)]
    tp = layout.tp if all(_divides(layout.tp, part) for part in parts) else 1
    has_experts = any(isinstance(part, MoE) for part in parts)
    return Layout(tp, 1, layout.dp, layout.ep if has_experts and tp == layout.tp else 0)


def _divides(tp: int, part: object) -> bool:
    """Whether tp ranks can share a part."""
    match part:
        case Attention():
            return part.heads % tp == 0 and (part.kv_heads % tp == 0 or tp % part.kv_heads == 0)
        case LatentAttention() | Mamba2():
            return part.heads % tp == 0
        case DeltaNet():
            return part.key_heads % tp == 0 and part.value_heads % tp == 0
        case MLP():
            return part.width % tp == 0
        case MoE():
            return part.width % tp == 0 and part.shared_width % tp == 0
    return True
