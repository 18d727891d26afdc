"""A mixed pass: one iteration that decodes a batch and computes a chunk of a prompt beside it (chunked prefill).

Sarathi (2308.16369), vLLM and TensorRT-LLM alike: layers that treat each token alone see the tokens of both, so their
weights are read once; attention is that of the chunk over what the cache holds of its prompt, and that of the decodes,
one after the other:

    seconds = linear(batch + chunk) + attention(batch, contexts) + attention(chunk, cached) + the engine's costs

Without a chunk it is the decode step, without decodes the prompt pass of one request (tests hold both).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import numpy as np

from dse.cost.engine import (
    decode_factor,
    decode_seconds,
    host_seconds,
    issued,
    prompt_factor,
    sequence_seconds,
    step_seconds,
    vector_excess,
)
from dse.cost.parts import embedding_works, head_works
from dse.cost.phases import Point, weighted
from dse.cost.roofline import times
from dse.cost.roofs import above_roofs
from dse.cost.setting import Setting
from dse.cost.techniques import rewrite_works
from dse.cost.work import Array, Work
from dse.spec.runtime import IDEAL, RuntimeSpec


def mixed_seconds(point: Point, runtime: RuntimeSpec, chunk: Array, cached: Array, carriers: Array = 1.0) -> Array:
    """Seconds of an iteration that decodes the point's batch and computes a chunk of one request's prompt.

    Args:
        point: its batch (0 for none) decodes, at the mean over its contexts.
        runtime: the serving engine.
        chunk: new prompt tokens on the fullest rank, at least 1 where the batch is 0.
        cached: tokens of the same prompt in the cache already.
        carriers: micro-batches that carry such a chunk, each of another request, at most one per pipeline stage.

    Returns:
        Any shape these broadcast to over the mesh. Where a step verifies drafts it is that of one token gained, as
        `step_seconds` is: an iteration's chunk beside a decode step.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        chunk, cached = np.asarray(chunk, dtype=float), np.asarray(cached, dtype=float)
        return MixedPass(point, runtime, chunk, cached, carriers).seconds


@dataclass
class MixedPass:
    """Seconds of one mixed pass, by what they are spent on."""

    point: Point
    runtime: RuntimeSpec
    chunk: Array
    cached: Array
    carriers: Array = 1.0

    @cached_property
    def micro_batches(self) -> Array:
        """Decodes are split among the stages of a pipeline as in a decode step."""
        return np.maximum(np.minimum(self.point.degrees.pp, self.point.rank_sequences), self.carriers)

    @cached_property
    def decodes(self) -> Setting:
        """The decoding sequences of a micro-batch."""
        point = self.point
        sequences = point.rank_sequences / self.micro_batches
        return point.pass_setting("decode", sequences, point.iteration.queries, point.found.shared)

    @cached_property
    def chunks(self) -> Setting:
        """The chunk of a micro-batch that carries one."""
        return self.point.pass_setting("prefill", 1.0, self.chunk, self.cached)

    @cached_property
    def together(self) -> Setting:
        """All tokens of such a micro-batch, for what does not care whose they are.

        As a prompt pass, whose logits are one per sequence: those of each token decoded, and of the chunk's last one.
        """
        prompted = self.chunk > 0
        tokens = self.decodes.tokens + np.where(prompted, self.chunks.tokens, 0.0)
        sequences = self.decodes.tokens + np.where(prompted, self.chunks.sequences, 0.0)
        return replace(self.chunks, sequences=sequences, tokens=tokens)

    @cached_property
    def share(self) -> Array:
        """Of its tokens, those of the prompt."""
        return np.where(self.chunk > 0, self.chunks.tokens, 0.0) / self.together.tokens

    @cached_property
    def seconds(self) -> Array:
        """The whole iteration, less the steps in which its decodes gain their tokens after the first."""
        point, runtime, iteration = self.point, self.runtime, self.point.iteration
        seconds = self._whole
        if iteration.drafts is not None:
            drafted: Array = runtime.speculation_us.get(iteration.drafts, 0.0) * 1e-6
            if point.draft is not None:
                drafted = drafted + point.draft_passes * decode_seconds(point.draft, runtime)
                seconds = seconds + np.where(self.chunk > 0, self._draft_chunk(point.draft), 0.0)
            later = (iteration.tokens - 1.0) * step_seconds(point, runtime)
            seconds = seconds + np.where(point.rank_batch > 0, drafted - later, 0.0)
        return seconds

    def _draft_chunk(self, draft: Point) -> Array:
        """Seconds of the chunk through what drafts; it is small, and its attention to earlier chunks is left out."""
        prompt = draft.with_prompts(1.0, np.maximum(self.chunk, 1.0))
        factor = prompt_factor(draft, self.runtime)
        seconds = prompt.phase_seconds("prefill") * factor
        kernels = above_roofs(prompt, factor, seconds, lambda roofs: roofs.phase_seconds("prefill"))
        return kernels + host_seconds(draft, self.runtime)

    @cached_property
    def _whole(self) -> Array:
        """The model's pass: micro-batches with a chunk and without follow each other through the stages."""
        point, runtime = self.point, self.runtime
        kernels = self._above_roofs(self.kernels, lambda roofs: roofs.kernels)
        kernels = kernels + np.where(point.rank_batch > 0, vector_excess(point, runtime), 0.0)
        return issued(point, runtime, kernels, 1.0) + host_seconds(point, runtime) + sequence_seconds(point, runtime)

    @cached_property
    def kernels(self) -> Array:
        """Of that, the kernels as the engine's factors have them."""
        through, slowest = self._stages
        return cast(Array, np.maximum(self.carriers * slowest + self._others, through))

    def _above_roofs(self, kernels: Array, of: Callable[[MixedPass], Array]) -> Array:
        """Seconds of kernels, at least those of the same pass at the roofs."""
        factor = np.minimum(decode_factor(self.point, self.runtime), prompt_factor(self.point, self.runtime))
        return above_roofs(
            self.point,
            factor,
            kernels,
            lambda roofs: of(MixedPass(roofs, IDEAL, self.chunk, self.cached, self.carriers)),
        )

    @cached_property
    def _others(self) -> Array:
        """Seconds that the micro-batches without a chunk keep the slowest stage."""
        if all(layout.pp == 1 for layout in self.point.choices.layout):
            return 0.0
        others = self.micro_batches - self.carriers
        plain = self.point.stage_seconds("decode")[1] * decode_factor(self.point, self.runtime)
        return np.where(others > 0, others * plain, 0.0)

    @cached_property
    def _stages(self) -> tuple[Array, Array]:
        """One micro-batch through all stages, and through the slowest."""
        seconds_of = [(index, self._part(index)) for index in range(len(self.point.counts))]
        through = weighted(self.point.counts, seconds_of)
        if all(layout.pp == 1 for layout in self.point.choices.layout):
            return through, through
        hop = replace(self.point.hop("decode"), times=self.together.tokens)
        hops = self.point.hops * times(hop, self.point.rates, self.point.contexts).seconds * self._factor
        slowest: Array = 0.0
        for held in self.point.stages:
            slowest = np.maximum(slowest, weighted(held, seconds_of))
        return through + hops, slowest

    @cached_property
    def chunk_attention(self) -> Array:
        """Of all that, the attention of a chunk: what grows with the tokens cached before it."""
        return self._above_roofs(self._chunk_kernels, lambda roofs: roofs._chunk_kernels)

    @cached_property
    def _chunk_kernels(self) -> Array:
        parts = range(len(self.point.parts))
        return weighted(self.point.counts, [(index, self._of_chunk(self._works(index)[2])) for index in parts])

    @cached_property
    def _factor(self) -> Array:
        """Of the engine on kernels both phases share: that of each phase by its tokens."""
        decode, prompt = decode_factor(self.point, self.runtime), prompt_factor(self.point, self.runtime)
        return decode + self.share * (prompt - decode)

    def _part(self, index: int) -> Array:
        """Seconds of a micro-batch through one part of the model."""
        shared, of_decodes, of_chunk = self._works(index)
        point = self.point
        # What depends on the contexts comes last: it is the only share with the axis of the workload.
        total = self._time(shared) * self._factor
        total = total + self._of_chunk(of_chunk)
        decoding = np.where(point.rank_batch > 0, self._time(of_decodes), 0.0)
        return cast(Array, total + decoding * decode_factor(point, self.runtime))

    def _of_chunk(self, works: Sequence[Work]) -> Array:
        return np.where(self.chunk > 0, self._time(works), 0.0) * prompt_factor(self.point, self.runtime)

    def _time(self, works: Sequence[Work]) -> Array:
        return self.point.works_seconds(works) + self.point.fixed_seconds(works)

    def _works(self, index: int) -> tuple[list[Work], list[Work], list[Work]]:
        """Operators of a part: those all tokens share, of the decodes alone, of the chunk alone."""
        point = self.point
        works_of = [*(part.works for part in point.parts), embedding_works, head_works][index]
        together, decodes, chunk = (
            rewrite_works(works_of(point.model, setting), point.choices.techniques, setting)
            for setting in (self.together, self.decodes, self.chunks)
        )
        own = {work.name for work in decodes if _is_of_sequences(work)}
        shared = {work.name for work in decodes} & {work.name for work in chunk} - own
        return (
            [work for work in together if work.name in shared],
            [work for work in decodes if work.name not in shared],
            [work for work in chunk if work.name not in shared],
        )


def _is_of_sequences(work: Work) -> bool:
    """True for attention and recurrences: what one sequence computes, another cannot share."""
    return work.span is not None or work.group in ("attention", "state")
