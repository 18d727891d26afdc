"""A model as parts: each distinct mixer or feed-forward once, with where in the stack it occurs.

gpt-oss has two kinds of attention over one kind of experts: three parts, each evaluated once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.operators import works_of
from dse.cost.operators.linear import embedding, head, linear, norm, residual
from dse.cost.setting import WIDE, Setting
from dse.cost.work import Message, Work
from dse.spec.model import FeedForward, Mixer, ModelSpec, MoE


@dataclass(frozen=True, slots=True)
class Part:
    """A mixer or a feed-forward with the norms around it."""

    name: str
    """Tells it from the model's other parts: `Attention (window 128)`."""
    component: Mixer | FeedForward
    norms: int

    def works(self, model: ModelSpec, setting: Setting) -> list[Work]:
        """Norm, the component's operators, the all-reduce over tp ranks, the residual addition."""
        label = "attention" if not _is_ffn(self.component) else "mlp"
        before = [norm(f"{label}_norm", setting, model.hidden, model.norm_parameters)] if self.norms else []
        after = [
            norm(f"{label}_post_norm_{i}", setting, model.hidden, model.norm_parameters) for i in range(1, self.norms)
        ]
        kernel = f"{label}_norm" if before else f"{label}_add"
        return [
            *before,
            *works_of(self.component, model.hidden, setting),
            *_reduce(label, self.component, model.hidden, setting),
            *after,
            residual(f"{label}_add", setting, model.hidden, kernel),
        ]


def _is_ffn(component: Mixer | FeedForward) -> bool:
    return isinstance(component, FeedForward)


def _reduce(label: str, component: Mixer | FeedForward, hidden: int, setting: Setting) -> list[Work]:
    """Sum the partial results of the ranks that shared the part's matrices (Megatron, 1909.08053).

    Behind expert parallelism the combine has summed already: tp ranks gather each other's tokens. Shared experts
    leave partial sums all the same; reduced and gathered along, they make it an all-reduce.
    """
    degrees, links = setting.degrees, setting.links
    size = hidden * WIDE
    summed = isinstance(component, MoE) and not component.shared_width
    spread = (degrees.ep > 1) & summed
    ranks = np.where(spread, 1.0, degrees.tp)
    works = []
    if np.any(ranks > 1):
        message = Message(size, links.all_reduce(ranks))
        works.append(_collective(f"{label}_all_reduce", setting, message))
    gathering = np.where(spread, degrees.tp, 1.0)
    if np.any(gathering > 1):
        works.append(_collective(f"{label}_all_gather", setting, Message(size, links.all_gather(gathering))))
    return works


def _collective(name: str, setting: Setting, message: Message) -> Work:
    return Work(name, name, "collective", "vector", setting.tokens, message=message)


@lru_cache(maxsize=256)
def parts_of(model: ModelSpec) -> dict[Part, list[int]]:
    """Distinct parts in order of first appearance, each with the layers that contain it."""
    found: dict[Part, list[int]] = {}
    for position, layer in enumerate(model.layers):
        halves = [half for half in (layer.mixer, layer.ffn) if half is not None]
        for place, half in enumerate(halves):
            # Norms are shared out evenly, the first half first: 2 is one each, 4 is two each (Gemma-2).
            norms = (layer.norms + len(halves) - 1 - place) // len(halves)
            part = Part(type(half).__name__, half, norms)
            found.setdefault(part, []).append(position)
    return dict(zip(_named(list(found)), found.values(), strict=True))


def _named(parts: list[Part]) -> list[Part]:
    """Parts of one kind take the fields that tell them apart into their names."""
    named: dict[Part, Part] = {}
    for kind in dict.fromkeys(part.name for part in parts):
        same = [part for part in parts if part.name == kind]
        shapes = [{**dict(_shape(part.component)), "norms": part.norms} for part in same]
        keys = dict.fromkeys(key for shape in shapes for key in shape)
        differing = [key for key in keys if len({shape.get(key) for shape in shapes}) > 1]
        notes = [""] * len(same)
        while len(set(notes)) < len(same) and differing:
            key = differing.pop(0)
            added = [_note(key, shape.get(key)) for shape in shapes]
            notes = [", ".join(filter(None, both)) for both in zip(notes, added, strict=True)]
        named |= {
            part: replace(part, name=f"{kind} ({note})" if note else kind)
            for part, note in zip(same, notes, strict=True)
        }
    return [named[part] for part in parts]


def _shape(component: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of a component with its value, those of a nested one under its name."""
    for field in fields(component):
        value, key = getattr(component, field.name), prefix + field.name.replace("_", " ")
        if is_dataclass(value):
            yield from _shape(value, f"{key} ")
        else:
            yield key, value


def _note(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    return key if value is True else f"{key} {value}"


def embedding_works(model: ModelSpec, setting: Setting) -> list[Work]:
    """What the first stage runs before its layers."""
    degrees = setting.degrees
    works = [embedding(model, setting)]
    if np.any(degrees.tp > 1):
        message = Message(model.hidden * WIDE, setting.links.all_reduce(degrees.tp))
        works.append(_collective("embedding_all_reduce", setting, message))
    if model.joined:
        works.append(linear("join_proj", setting, model.joined * model.hidden, model.hidden))
    return works


def head_works(model: ModelSpec, setting: Setting) -> list[Work]:
    """What the last stage runs after its layers: the final norm, and the head."""
    degrees = setting.degrees
    works = []
    if model.extra_norms:
        works.append(norm("final_norm", setting, model.hidden, model.extra_norms * model.norm_parameters))
    works.append(head(model, setting))
    if np.any(degrees.tp > 1):
        message = Message(model.vocab * WIDE, setting.links.all_gather(degrees.tp))
        name = "logits_all_gather"
        works.append(Work(name, name, "collective", "vector", setting.logits, message=message))
    return works


@lru_cache(maxsize=4096)
def stage_counts(model: ModelSpec, stages: int) -> NDArray[np.float64]:
    """How many of each part the pipeline stages hold, for the stages that can be the slowest.

    Contiguous and as even as possible: stage j holds layers [jL/p, (j+1)L/p).

    Returns:
        Shape (s, parts + 2): one row per stage no other stage dominates; the last two columns are the
        embedding (first stage) and the head (last stage).
    """
    layers = len(model.layers)
    positions = list(parts_of(model).values())
    rows = set()
    for stage in range(stages):
        held = range(stage * layers // stages, (stage + 1) * layers // stages)
        counts = [sum(position in held for position in where) for where in positions]
        rows.add((*counts, int(stage == 0), int(stage == stages - 1)))
    kept = [row for row in rows if not any(_dominates(other, row) for other in rows)]
    return np.array(sorted(kept, reverse=True), dtype=float)


def _dominates(more: Sequence[int], less: Sequence[int]) -> bool:
    return more != less and all(a >= b for a, b in zip(more, less, strict=True))
