"""What one device must hold: weights, cache or state at the end of generation, activations, workspace.

Peak memory = weights + KV cache + the largest live activation (2402.16363 section 2.3) + workspace, on the
fullest pipeline stage. Weights are the `resident` bytes of the operators, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import cast

import numpy as np

from dse.cost.largest import largest
from dse.cost.operators.state import STATE_BYTES
from dse.cost.phases import Point
from dse.cost.roofline import Contexts
from dse.cost.setting import WIDE, Phase
from dse.cost.techniques import cached_tokens
from dse.cost.work import Amount, Array, Span, Work, is_zero
from dse.spec.model import Attention, DeltaNet, LatentAttention, Mamba2

COLLECTIVE_BUFFERS = 0.392e9
"""Bytes NCCL keeps for a group of 4 or 8 devices (aiconfigurator systems/*.yaml, nccl_mem; 0.342 GB for 2)."""

MOST = 2.0**24
"""Largest batch per rank that is looked at: the logits of as many, of a vocabulary of 32,000, fill a terabyte."""


@dataclass
class Memory:
    """Memory of one device, in bytes; arrays over the mesh."""

    point: Point

    @cached_property
    def weights(self) -> Array:
        """Weights of the fullest stage, embeddings and head included, and of what drafts."""
        own = self._weights()
        return own if self.draft is None else own + self.draft._weights(but=self.point.draft_shares)

    def _weights(self, but: Collection[str] = ()) -> Array:
        """Weights of the fullest stage, but for those of some operators."""
        # What a device holds does not depend on the workload: any prompt's operators say it.
        parts = self.point.prompts[0].works("prefill")
        return self.fullest([_resident(work for work in works if work.name not in but) for works in parts])

    @cached_property
    def draft(self) -> Memory | None:
        """Memory of what drafts, beside the model on every device; its activations are smaller than the model's."""
        return None if self.point.draft is None else Memory(self.point.draft)

    def fullest(self, sizes: list[Array]) -> Array:
        """Largest sum over the stages of count times size (of each part, the embedding and the head)."""
        fullest: Array = 0.0
        for counts in self.point.stages:
            stage: Array = 0.0
            for count, size in zip(counts, sizes, strict=True):
                if not (isinstance(size, float) and size == 0.0):
                    stage = stage + count * size
            fullest = np.maximum(fullest, stage)
        return fullest

    def cache_at(self, context: Array) -> Array:
        """KV cache and state of all sequences on the rank when each has `context` tokens, in pages."""
        if self._common or self.point.iteration.branches > 1:
            held = self.fullest([*(self._held_of(part.component, context) for part in self.point.parts), 0.0, 0.0])
        else:
            per_sequence = [self.cache_of(part.component, context) for part in self.point.parts]
            held = self.point.rank_batch * self.fullest([*per_sequence, 0.0, 0.0])
        return held if self.draft is None else held + self.draft.cache_at(context)

    @property
    def _common(self) -> bool:
        """True where requests share the first pages of their prompts."""
        return not is_zero(self.point.found.shared)

    @cached_property
    def common(self) -> Array:
        """Cache that all requests share, held once: whole pages, and the state at their end."""
        if not self._common:
            return 0.0
        prefix = self._whole_pages(self.point.found.once)
        held = self.fullest([*(self.cache_of(part.component, prefix) for part in self.point.parts), 0.0, 0.0])
        return held if self.draft is None else held + self.draft.common

    def _held_of(self, component: object, context: Array) -> Array:
        """Bytes one layer keeps: what all share once, the rest of each prompt once, what each branch adds."""
        point, branches = self.point, self.point.iteration.branches
        if not isinstance(component, Attention | LatentAttention):
            return (point.rank_batch * branches + self._common) * self.cache_of(component, context)
        prefix = np.minimum(self._whole_pages(point.found.shared), context)
        prompt = np.minimum(self._whole_pages(point.input), context) - prefix if branches > 1 else 0.0
        own = branches * self.cache_of(component, context - prefix - prompt)
        if branches > 1:
            own = own + self.cache_of(component, prompt)
        once = prefix if len(point.lengths) == 1 else self._whole_pages(point.found.once)
        return self.cache_of(component, once) + point.rank_batch * own

    def _whole_pages(self, tokens: Array) -> Array:
        """Tokens of the pages they fill: only these are shared."""
        block = self.point.choices.kv_block_size
        return cast(Array, np.floor(tokens / block) * block)

    @property
    def ahead(self) -> float:
        """Slots of a sequence for tokens that are being verified."""
        return self.point.iteration.queries - 1.0

    def largest_cache(self, context: Array) -> Array:
        """KV cache or state of one sequence of `context` tokens in the layer that keeps most."""
        most: Array = 0.0
        for part in self.point.parts:
            most = np.maximum(most, self.cache_of(part.component, context))
        return most

    def cache_of(self, component: object, context: Array) -> Array:
        """Bytes per sequence one layer keeps."""
        width, tp = self.point.widths.kv_cache, self.point.degrees.tp
        if isinstance(component, Attention):
            kv_heads = np.maximum(component.kv_heads / tp, 1.0)
            elements = kv_heads * (component.head_dim + component.value_dim)
            seen = context if component.span is None else np.minimum(context, component.span)
            seen = cached_tokens(seen, component, self.point.choices.techniques)
            return cast(Array, self._pages(seen) * (elements * width))
        if isinstance(component, LatentAttention):
            # One latent for all heads: every tp rank holds it.
            seen = cached_tokens(context, component, self.point.choices.techniques)
            return self._pages(seen) * ((component.kv_elements + component.index_elements) * width)
        if isinstance(component, DeltaNet):
            return self._states * (component.state_elements * STATE_BYTES + component.conv_elements * WIDE) / tp
        if isinstance(component, Mamba2):
            # Heads are sharded; B and C of a group lie on every rank that shares it.
            channels = component.inner / tp + 2.0 * np.maximum(component.groups / tp, 1.0) * component.state
            return self._states * (
                component.state_elements / tp * STATE_BYTES + channels * (component.conv_kernel * WIDE)
            )
        return 0.0

    @property
    def _states(self) -> float:
        """Recurrent states per sequence: one after each token that may be accepted."""
        return self.point.iteration.queries

    def _pages(self, tokens: Array) -> Array:
        """Tokens rounded up to whole pages."""
        block = self.point.choices.kv_block_size
        return np.ceil(tokens / block) * block

    @cached_property
    def cache(self) -> Array:
        """KV cache and state at the end of generation."""
        return self.cache_at(self.point.input + self.point.output + self.ahead)

    @cached_property
    def activations(self) -> Array:
        """Live activations at their peak: the residual stream beside the hungriest operator's inputs and outputs."""
        activations: Array = 0.0
        for peak in self.peaks.values():
            activations = np.maximum(activations, peak)
        return activations

    @cached_property
    def peaks(self) -> dict[Phase, Array]:
        """The same of each phase that runs here."""
        return {"prefill": self.prompt_activations, "decode": self.step_activations}

    @cached_property
    def prompt_activations(self) -> Array:
        """The same of a prompt pass."""
        point, back = self.point.prompts
        return back(Memory(point)._prompt_peak())

    @cached_property
    def step_activations(self) -> Array:
        """The same of a decode step."""
        return self._peak("decode")

    def _prompt_peak(self) -> Array:
        """Live activations of the largest prompt pass: times hold for passes of average size, memory may not."""
        return self._peak("prefill") * (self.point.fullest_pass / self.point.setting("prefill").sequences)

    def _peak(self, phase: Phase) -> Array:
        """Residual stream, and the most that one operator reads and writes, in a pass of average size."""
        # Operators with the same variable are compared by their coefficients first, which are small arrays.
        groups: dict[int, tuple[Array, Array]] = {}
        alone: Array = 0.0
        for work in chain.from_iterable(self.point.works(phase)):
            each, fixed = _live(work.each), _live(work.fixed)
            if not (isinstance(work.live, float) and work.live == 1.0):
                each, fixed = each * work.live, fixed * work.live
            if work.span is not None:
                # Fused attention holds no scores: then the axis of the contexts is not needed.
                alone = np.maximum(alone, fixed + each * self._last_seen(work.span) if np.any(each) else fixed)
            else:
                variable, most = groups.get(id(work.times), (work.times, 0.0))
                groups[id(work.times)] = (variable, np.maximum(most, each))
        for variable, most in groups.values():
            alone = np.maximum(alone, most * variable)
        return alone + self.point.setting(phase).tokens * (self.point.model.hidden * WIDE)

    def _last_seen(self, span: Span) -> Array:
        """Tokens a query may see in the last decode step."""
        last, widest = self.point.contexts.last, span.window or span.chunk
        return last if widest is None else np.minimum(last, widest)

    @cached_property
    def workspace(self) -> Array:
        """Buffers of the collectives."""
        return np.where(self.point.degrees.devices > 1, COLLECTIVE_BUFFERS, 0.0)

    @cached_property
    def total(self) -> Array:
        """Everything at the end of generation."""
        return self.total_with(self.activations)

    def total_with(self, activations: Array) -> Array:
        """The same with other activations."""
        return self.weights + self.workspace + activations + self.cache

    @cached_property
    def limit(self) -> Array:
        """Bytes the engine may use."""
        table = self.point.choices.of_hardware("memory_bytes") * self.point.choices.memory_utilization
        return self.point.mesh.take(table, "hardware")

    @property
    def over(self) -> Array:
        """What it takes as a share of what the engine may use."""
        return self.total / self.limit

    @property
    def passes(self) -> dict[Phase, Array]:
        """Tokens of the largest prompt pass and of a decode step, in proportion to which activations grow."""
        point, prompts = self.point, self.passing
        sequences = point.rank_sequences / point.micro_batches["decode"]
        return {"prefill": prompts.fullest_pass * prompts.computed, "decode": sequences * point.iteration.queries}

    @property
    def passing(self) -> Point:
        """Whose prompts run together."""
        return self.point

    @cached_property
    def max_context(self) -> Array:
        """Longest context that this batch could grow to in memory: its output behind a prompt that grows.

        Capped by what the model allows; 0 if not even one token fits. Prompts are of one token at least, whatever the
        output, and fill their passes to `max_prefill_tokens`, as far as there are so many: whole prompts of one length
        may leave some of it free.
        """
        return largest(self, self._at_context, float(self.point.model.max_context or 2**24))

    def _at_context(self, context: Array) -> Memory:
        """Memory of the same batch when each sequence ends with `context` tokens."""
        grown = self._with_prompt(np.maximum(context - self.point.output, 1.0))
        grown.__dict__["cache"] = grown.cache_at(context + self.ahead)
        grown.passing.__dict__["fullest_pass"] = grown.passing.filled_pass
        if not self._written_out:
            grown.__dict__["step_activations"] = self.step_activations
        return self._as_held(grown)

    def _with_prompt(self, tokens: Array) -> Memory:
        """Memory of the same batch with prompts of another length."""
        return type(self)(self._longer(tokens))

    def _longer(self, tokens: Array) -> Point:
        """The point with prompts of another length, and the contexts behind them."""
        before, more = self.point.contexts, tokens - self.point.input
        longer = self.point.with_input(tokens)
        longer.__dict__["contexts"] = Contexts(before.first + more, before.last + more)
        return longer

    @cached_property
    def _written_out(self) -> bool:
        """True where a decode step writes its scores out: then its activations grow with the context."""
        works = chain.from_iterable(self.point.works("decode"))
        return any(work.span is not None and bool(np.any(_live(work.each))) for work in works)

    def _as_held(self, other: Memory) -> Memory:
        """Memory of the same weights on the same devices."""
        other.__dict__ |= {"weights": self.weights, "workspace": self.workspace}
        return other

    @cached_property
    def max_batch(self) -> Array:
        """Largest batch per replica that fits at this workload; 0 if none does."""
        dp = self.point.degrees.dp

        def of(ranked: Array) -> Memory:
            return self._as_held(Memory(self.point.with_batch(ranked * dp)))

        known = self if type(self) is Memory else self._as_held(Memory(self.point))
        return largest(known, of, MOST) * dp


def _live(amount: Amount) -> Array:
    return amount.activations_in + amount.activations_out


def _resident(works: Iterable[Work]) -> Array:
    total: Array = 0.0
    for work in works:
        total = total + work.resident
    return total
