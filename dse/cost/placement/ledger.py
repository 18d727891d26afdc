"""What one block computes and moves, by kind of work: read off the operators of one GPU batch.

The ledger knows no tiers and no shares. It says, per phase, how long each kind of work would take on the accelerator,
what it would ask of the host instead, and how many bytes of each tensor it touches. A pass over the block runs
`num_batches` GPU batches, each in as many passes as a long prompt needs; weights are counted once per block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, cast

import numpy as np

from dse.cost.choices import Choices
from dse.cost.memory import Memory
from dse.cost.mesh import Mesh
from dse.cost.operators.linear import FEED_FORWARD
from dse.cost.operators.moe import ROUTED
from dse.cost.phases import Point
from dse.cost.placement.affine import Tensor
from dse.cost.roofline import mean_amount, times
from dse.cost.setting import WIDE, Phase
from dse.cost.work import Amount, Array, Work
from dse.spec.model import MLP, FeedForward, ModelSpec, MoE

Kind = Literal["cache", "ffn", "experts", "other"]
"""What the host may compute instead of the accelerator: attention over the cache (in decode), a dense feed-forward,
the routed experts; and all else, which it may not."""
KINDS: tuple[Kind, ...] = ("cache", "ffn", "experts", "other")


class GpuBatch(Point):
    """A point whose batch is one GPU batch: it goes through a stage as a whole, and other GPU batches fill the rest."""

    @cached_property
    def micro_batches(self) -> Mapping[Phase, Array]:
        """Passes of one GPU batch: one in decode, as many as its prompts need in prefill."""
        return {"decode": 1.0, "prefill": np.maximum(1.0, np.ceil(self.rank_batch / self.sequences_per_pass))}

    @cached_property
    def fullest_pass(self) -> Array:
        """Sequences of the largest prompt pass."""
        return np.minimum(self.rank_batch, self.sequences_per_pass)


def gpu_batch(model: ModelSpec, choices: Choices, mesh: Mesh, num_batches: int) -> GpuBatch:
    """The point of one GPU batch where the block of `batch` sequences is cut into so many."""
    sizes = [-(-batch // num_batches) for batch in choices.batch]
    return GpuBatch(model, replace(choices, batch=sizes), mesh)


def kind_of(component: object, phase: Phase, work: Work) -> Kind:
    """The kind of an operator of a mixer or feed-forward; None for the embedding and the head."""
    if isinstance(component, MLP) and work.name in FEED_FORWARD:
        return "ffn"
    if isinstance(component, MoE) and work.name in ROUTED:
        return "experts"
    return "cache" if phase == "decode" and _reads_cache(work) else "other"


TENSOR_OF: Mapping[Kind, Tensor] = {"cache": "cache", "experts": "experts", "ffn": "weights", "other": "weights"}
"""Where this tensor lies, the work can be done."""


@dataclass(frozen=True)
class Entry:
    """One kind of work in one phase, for the whole block on one device; arrays over the mesh."""

    seconds: Array = 0.0
    """On the accelerator."""
    host_flops: Array = 0.0
    """On the host instead: operations, and bytes of host memory."""
    host_bytes: Array = 0.0
    down: Array = 0.0
    """Bytes of activations that cross to the host when it computes this, and back."""
    up: Array = 0.0


@dataclass
class Ledger:
    """A block on a mesh, as one device of the fullest pipeline stage sees it."""

    point: GpuBatch
    """One GPU batch."""
    block: GpuBatch
    """The whole block in one pass: which experts it hits."""
    num_batches: int

    @classmethod
    def of(cls, model: ModelSpec, choices: Choices, mesh: Mesh, num_batches: int) -> Ledger:
        """The ledger of blocks cut into `num_batches` GPU batches."""
        whole = GpuBatch(model, replace(choices, max_prefill_tokens=np.inf), mesh)
        return cls(gpu_batch(model, choices, mesh, num_batches), whole, num_batches)

    def runs(self, phase: Phase) -> Array:
        """Passes per block."""
        return self.num_batches * self.point.micro_batches[phase]

    # -- kinds of work ------------------------------------------------------------------------------

    def kinds(self, phase: Phase, index: int) -> dict[Kind, list[Work]]:
        """The operators of a part, by kind."""
        found: dict[Kind, list[Work]] = {}
        for work in self.point.part_works(phase, index):
            found.setdefault(self._kind(phase, index, work), []).append(work)
        return found

    def _kind(self, phase: Phase, index: int, work: Work) -> Kind:
        return kind_of(self.point.parts[index].component if index < len(self.point.parts) else None, phase, work)

    def entries(self, phase: Phase) -> dict[Kind, Entry]:
        """All kinds of work of a phase."""
        found = self._entries
        if phase not in found:
            found[phase] = {kind: self._entry(phase, kind) for kind in self._present(phase)}
        return found[phase]

    @cached_property
    def _entries(self) -> dict[Phase, dict[Kind, Entry]]:
        return {}

    def _present(self, phase: Phase) -> list[Kind]:
        every = {kind for index in range(len(self.point.counts)) for kind in self.kinds(phase, index)}
        return [kind for kind in KINDS if kind in every]

    def _entry(self, phase: Phase, kind: Kind) -> Entry:
        works = [self.kinds(phase, index).get(kind, []) for index in range(len(self.point.counts))]
        runs = self.runs(phase)
        seconds = runs * self.fullest([self.point.works_seconds(w) + self.point.fixed_seconds(w) for w in works])
        if kind == "other":
            hop = times(self.point.hop(phase), self.point.rates, self.point.contexts).seconds
            return Entry(seconds + runs * np.minimum(self.point.hops, 1.0) * hop)
        amounts = [[self._amount(work) for work in of_part] for of_part in works]
        down, up = self._crossing(phase, kind, amounts)
        return Entry(
            seconds,
            runs * self.fullest([_total(a.flops for a in of_part) for of_part in amounts]),
            runs * self.fullest([_total(a.bytes for a in of_part) for of_part in amounts]),
            down,
            up,
        )

    def _amount(self, work: Work) -> Amount:
        """FLOPs and bytes of one run (mean over the decode steps)."""
        return mean_amount(work, self.point.contexts)

    def _crossing(self, phase: Phase, kind: Kind, amounts: list[list[Amount]]) -> tuple[Array, Array]:
        """Activations to the host and back.

        The residual stream around a feed-forward; around attention what it reads and did not write itself (the
        queries), and what it writes last.
        """
        runs = self.runs(phase)
        if kind != "cache":
            stream = runs * self.point.setting(phase).tokens * (self.point.model.hidden * WIDE)
            both = self.fullest([1.0 * bool(of_part) for of_part in amounts]) * stream
            return both, both
        inner = [_total(a.activations_out for a in of_part[:-1]) for of_part in amounts]
        reads = [_total(a.activations_in for a in of_part) for of_part in amounts]
        last = [of_part[-1].activations_out if of_part else 0.0 for of_part in amounts]
        down = [read - own for read, own in zip(reads, inner, strict=True)]
        return runs * self.fullest(down), runs * self.fullest(last)

    # -- bytes of tensors ---------------------------------------------------------------------------

    def touched(self, phase: Phase) -> dict[Kind, Array]:
        """Bytes of weights a pass over the block reads, by kind of work, each matrix once per block.

        Experts: those that any token of the block hits. Of the embedding, the rows looked up.
        """
        counts = range(len(self.point.counts))
        found: dict[Kind, Array] = {}
        for kind in self._present(phase):
            sizes: list[Array] = []
            for index in counts:
                works = [w for w in self.block.part_works(phase, index) if self._kind(phase, index, w) == kind]
                sizes.append(_total(mean_amount(work, self.block.contexts).weights for work in works))
            found[kind] = self.fullest(sizes)
        return found

    def cache_read(self) -> Array:
        """Bytes of KV cache and state a decode step over the block reads."""
        return self._cache_bytes("decode", "kv_read")

    def cache_written(self, phase: Phase) -> Array:
        """Bytes of KV cache and state a pass over the block writes."""
        return self._cache_bytes(phase, "kv_write")

    def _cache_bytes(self, phase: Phase, kind: Literal["kv_read", "kv_write"]) -> Array:
        parts = [self.point.part_works(phase, index) for index in range(len(self.point.counts))]
        return self.runs(phase) * self.fullest([_total(getattr(self._amount(w), kind) for w in p) for p in parts])

    def hidden_bytes(self, phase: Phase) -> Array:
        """Bytes of the residual stream of the block between two layers."""
        return self.num_batches * self.hidden_of_gpu_batch(phase)

    def hidden_of_gpu_batch(self, phase: Phase) -> Array:
        """The same of one GPU batch."""
        queries = self.point.input if phase == "prefill" else 1.0
        return self.point.rank_batch * queries * (self.point.model.hidden * WIDE)

    @property
    def stage_layers(self) -> Array:
        """Layers of the longest stage."""
        return cast(Array, np.ceil(len(self.point.model.layers) / self.point.degrees.pp))

    # -- bytes held ---------------------------------------------------------------------------------

    @cached_property
    def memory(self) -> Memory:
        """Memory of one GPU batch."""
        return Memory(self.point)

    @cached_property
    def cache_bytes(self) -> Array:
        """KV cache and state of the block at the end of generation."""
        return self.num_batches * self.memory.cache

    @cached_property
    def layer_cache_bytes(self) -> Array:
        """Those of one GPU batch and layer: what is staged at once."""
        return self.point.rank_batch * self.memory.largest_cache(self.point.input + self.point.output)

    @cached_property
    def held(self) -> dict[Tensor, Array]:
        """Bytes of weights of the fullest stage, routed experts apart."""
        parts = self._resident
        found: dict[Tensor, Array] = {"weights": self.fullest([own for own, _ in parts])}
        if self.has_experts:
            found["experts"] = self.fullest([routed for _, routed in parts])
        return found

    @cached_property
    def layer(self) -> dict[Tensor, Array]:
        """Bytes of one layer's weights, the largest mixer with the largest feed-forward, or of the head if larger."""
        *parts, _, head = self._resident
        halves: list[Array] = [0.0, 0.0]
        routed: Array = 0.0
        for part, (own, experts) in zip(self.point.parts, parts, strict=True):
            half = isinstance(part.component, FeedForward)
            halves[half] = np.maximum(halves[half], own)
            routed = np.maximum(routed, experts)
        return {"weights": np.maximum(halves[0] + halves[1], head[0]), "experts": routed}

    @property
    def has_experts(self) -> bool:
        """Whether the model routes tokens to experts."""
        return any(isinstance(part.component, MoE) for part in self.point.parts)

    @cached_property
    def _resident(self) -> list[tuple[Array, Array]]:
        """Bytes each part holds: all but routed experts, and those."""
        found: list[tuple[Array, Array]] = []
        for index in range(len(self.point.counts)):
            kinds = self.kinds("decode", index)
            own = [work for kind, works in kinds.items() if kind != "experts" for work in works]
            found.append((_total(w.resident for w in own), _total(w.resident for w in kinds.get("experts", []))))
        return found

    def fullest(self, values: list[Array]) -> Array:
        """Largest sum over the pipeline stages of count times value (of each part, the embedding and the head)."""
        return self.memory.fullest(values)


def _reads_cache(work: Work) -> bool:
    return work.span is not None or not (isinstance(work.each.kv_read, float) and work.each.kv_read == 0.0)


def _total(values: Iterator[Array]) -> Array:
    total: Array = 0.0
    for value in values:
        total = total + value
    return total
