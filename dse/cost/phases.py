"""The two phases of a request, over the stages of a pipeline: prompt pass and decode steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.drafts import draft_choices
from dse.cost.lengths import Lengths, contexts, found
from dse.cost.parts import embedding_works, head_works
from dse.cost.roofline import Contexts, launch_seconds, mean_amount, times, total_seconds
from dse.cost.setting import WIDE, Phase, Setting
from dse.cost.stack import Stack
from dse.cost.techniques import (
    Found,
    Iteration,
    found_in_cache,
    iteration_of,
    rewrite_setting,
    rewrite_works,
)
from dse.cost.work import Array, Message, Work, is_zero
from dse.spec.model import Attention, MoE


def _same(values: Array) -> Array:
    return values


_OF_MESH = ("degrees", "widths", "links", "rates", "_parts", "stages")
"""What follows from the model, the choices and the mesh, whatever the batch and the prompts."""

PartSeconds = list[tuple[int, Array]]
"""Index of a part, and seconds of it."""


def weighted(counts: Sequence[Array], seconds_of: PartSeconds) -> Array:
    """Seconds of parts run `counts` times each."""
    total: Array = 0.0
    for index, seconds in seconds_of:
        total = total + counts[index] * seconds
    return total


class Point(Stack):
    """A model on a mesh of choices: everything the phases, memory and metrics derive from."""

    @cached_property
    def input(self) -> NDArray[np.float64]:
        """Prompt tokens."""
        return self.mesh.take(self.choices.inputs, "workload")

    @cached_property
    def output(self) -> NDArray[np.float64]:
        """Generated tokens."""
        return self.mesh.take(self.choices.outputs, "workload")

    @cached_property
    def batch(self) -> NDArray[np.float64]:
        """Sequences in flight per replica."""
        return self.mesh.take(self.choices.batches, "batch")

    @cached_property
    def rate(self) -> NDArray[np.float64]:
        """Requests per second that arrive at a replica, NaN where nobody says."""
        return self.mesh.take(self.choices.rates, "rate")

    @cached_property
    def rank_batch(self) -> Array:
        """Requests on the fullest attention-dp rank: it sets the pace."""
        return cast(Array, np.ceil(self.batch / self.degrees.dp))

    @property
    def rank_sequences(self) -> Array:
        """Sequences they decode: one each, or several branches."""
        return self.rank_batch * self.iteration.branches if self.iteration.branches > 1 else self.rank_batch

    @cached_property
    def found(self) -> Found:
        """What of each prompt is cached already."""
        return found(self.lengths, self.choices.techniques)

    @cached_property
    def iteration(self) -> Iteration:
        """What a decode iteration does for each request."""
        return iteration_of(self.model, self.choices.techniques)

    @cached_property
    def draft(self) -> Point | None:
        """The passes of what drafts, for the same sequences; None where nothing does."""
        drafter = self.iteration.drafter
        if drafter is None:
            return None
        point = Point(drafter.model, draft_choices(self.choices, drafter.model), self.mesh).with_batch(self.batch)
        point.__dict__["iteration"] = Iteration(branches=self.iteration.branches, queries=drafter.queries)
        return point

    @cached_property
    def lengths(self) -> Lengths:
        """The lengths of requests: prompt tokens, generated tokens, and share of the requests of each."""
        return [
            (
                self.mesh.take(inputs, "workload"),
                self.mesh.take(outputs, "workload"),
                self.mesh.take(shares, "workload"),
            )
            for inputs, outputs, shares in self.choices.lengths
        ]

    @cached_property
    def contexts(self) -> Contexts:
        """Contexts of the decode steps."""
        return contexts(self.lengths)

    @cached_property
    def steps(self) -> Array:
        """Decode steps of a request: the prompt pass emits the first token."""
        return self.output - 1

    def with_batch(self, batch: Array) -> Point:
        """The same point with another batch, which may vary along any axis: nothing is shared along one."""
        other = Point(self.model, self.choices, self.mesh)
        other.__dict__ |= {name: self.__dict__[name] for name in _OF_MESH if name in self.__dict__}
        other.__dict__ |= {"batch": batch, "_prompts": (None, _same), "_shared": (None, _same)}
        return other

    def with_input(self, tokens: Array) -> Point:
        """The same point with prompts of another length."""
        other = self.with_batch(self.batch)
        other.__dict__ |= {"input": tokens, "found": found_in_cache(tokens, self.choices.techniques)}
        if self.draft is not None:
            other.__dict__["draft"] = self.draft.with_input(tokens)
        return other

    def with_prompts(self, sequences: Array, length: Array) -> Point:
        """The same point with so many prompts of so many tokens on each rank.

        Both may be fractions: prompts of unequal length l_i cost what sum(l)^2 / sum(l^2) prompts of
        sum(l^2) / sum(l) tokens do, which are as many tokens and as many pairs of attention.
        """
        other = self.with_batch(sequences * self.degrees.dp)
        cached = found_in_cache(length, self.choices.techniques)
        other.__dict__ |= {"rank_batch": sequences, "input": length, "found": cached}
        if self.draft is not None:
            other.__dict__["draft"] = self.draft.with_prompts(sequences, length)
        return other

    # -- micro-batches ------------------------------------------------------------------------------

    @cached_property
    def micro_batches(self) -> Mapping[Phase, Array]:
        """Micro-batches per rank: at least one per pipeline stage while there are sequences for it.

        Prompts run in passes of whole sequences; the passes in flight, one per stage, hold at most
        `max_prefill_tokens` tokens together.
        """
        return {
            "decode": np.minimum(self.degrees.pp, self.rank_sequences),
            "prefill": np.maximum(self._filled, np.ceil(self.rank_batch / self.sequences_per_pass)),
        }

    @cached_property
    def _filled(self) -> Array:
        """Stages that there are prompts for."""
        return np.minimum(self.degrees.pp, self.rank_batch)

    @cached_property
    def sequences_per_pass(self) -> Array:
        """Most sequences of one prompt pass."""
        return cast(Array, np.maximum(np.floor(self._tokens_per_pass / self.computed), 1.0))

    @property
    def _tokens_per_pass(self) -> Array:
        """Most tokens of one prompt pass of several prompts."""
        return self.choices.max_prefill_tokens / self.degrees.pp

    @property
    def computed(self) -> Array:
        """Tokens of each prompt that its pass computes."""
        return self.input if is_zero(self.found.tokens) else self.input - self.found.tokens

    @cached_property
    def fullest_pass(self) -> Array:
        """Sequences of the largest prompt pass; times are those of passes of average size."""
        return np.minimum(np.ceil(self.rank_batch / self._filled), self.sequences_per_pass)

    @property
    def filled_pass(self) -> Array:
        """The same where prompts may be cut: it grows in tokens with their length, as whole prompts need not."""
        most = np.ceil(self.rank_batch / self._filled)
        return cast(Array, np.clip(self._tokens_per_pass / self.computed, 1.0, np.maximum(most, 1.0)))

    def setting(self, phase: Phase) -> Setting:
        """One pass of one micro-batch."""
        prompts = phase == "prefill"
        sequences = (self.rank_batch if prompts else self.rank_sequences) / self.micro_batches[phase]
        queries = self.computed if prompts else self.iteration.queries
        return self.pass_setting(phase, sequences, queries, self.found.tokens if prompts else self.found.shared)

    def pass_setting(self, phase: Phase, sequences: Array, queries: Array, cached: Array) -> Setting:
        """A pass of any shape, as the techniques leave it."""
        setting = Setting(
            phase=phase,
            sequences=sequences,
            queries=queries,
            tokens=sequences * queries,
            degrees=self.degrees,
            widths=self.widths,
            links=self.links,
            cached=cached,
        )
        return rewrite_setting(setting, self.choices.techniques)

    @cached_property
    def _settings(self) -> dict[Phase, Setting]:
        return {}

    @cached_property
    def _part_works(self) -> dict[tuple[Phase, int], list[Work]]:
        return {}

    def part_works(self, phase: Phase, index: int) -> list[Work]:
        """Operators of the part with this index; the two after the parts are the embedding and the head."""
        if (phase, index) not in self._part_works:
            if phase not in self._settings:
                self._settings[phase] = self.setting(phase)
            setting = self._settings[phase]
            works_of = [*(part.works for part in self.parts), embedding_works, head_works][index]
            self._part_works[phase, index] = rewrite_works(
                works_of(self.model, setting), self.choices.techniques, setting
            )
        return self._part_works[phase, index]

    def works(self, phase: Phase) -> list[list[Work]]:
        """Operators of each part; the last two are the embedding and the head."""
        return [self.part_works(phase, index) for index in range(len(self.counts))]

    # Each holds None for the point itself: a reference to itself would keep its arrays until a garbage collection.

    @property
    def prompts(self) -> tuple[Point, Callable[[Array], Array]]:
        """The point with each prompt length once, for what does not depend on the output, and the way back."""
        point, back = self._prompts
        return point or self, back

    @cached_property
    def _prompts(self) -> tuple[Point | None, Callable[[Array], Array]]:
        mesh, back = self.mesh.collapsed("workload", self.choices.inputs)
        return (None if mesh is self.mesh else type(self)(self.model, self.choices, mesh)), back

    @property
    def shared(self) -> tuple[Point, Callable[[Array], Array]]:
        """The point with each (tp, pp, sequences on a rank) once, and the way back.

        All that a micro-batch costs follows from these, but for experts, which see the tokens of all ranks.
        """
        point, back = self._shared
        return point or self, back

    @cached_property
    def _shared(self) -> tuple[Point | None, Callable[[Array], Array]]:
        key: NDArray[np.int64] = np.zeros((), dtype=np.int64)
        for values in (self.degrees.tp, self.degrees.pp, self.rank_batch):
            distinct, place = np.unique(values, return_inverse=True)
            key = key * len(distinct) + place.reshape(np.shape(values))
        mesh, back = self.mesh.joined("layout", "batch", key)
        return (None if mesh is self.mesh else type(self)(self.model, self.choices, mesh)), back

    # -- seconds ------------------------------------------------------------------------------------

    def works_seconds(self, works: Sequence[Work]) -> Array:
        """One micro-batch through these operators, without launches of kernels."""
        return total_seconds(works, self.rates, self.contexts)

    def fixed_seconds(self, works: Sequence[Work]) -> Array:
        """Launches: one per distinct kernel."""
        return launch_seconds(works, self.rates)

    def part_seconds(self, phase: Phase) -> PartSeconds:
        """Seconds of one micro-batch through each part, as (index of the part, seconds).

        What grows with the context comes last and apart: it is the only share of a decode step with the axis of
        the workload, so all other sums stay small.
        """
        steady, growing = [], []
        for index in range(len(self.counts)):
            spread = index < len(self.parts) and isinstance(self.parts[index].component, MoE)
            point, back = (self, _same) if spread else self.shared
            works = point.part_works(phase, index)
            seconds = point.works_seconds([w for w in works if w.span is None]) + point.fixed_seconds(works)
            steady.append((index, back(seconds)))
            if grown := [work for work in works if work.span is not None]:
                growing.append((index, back(point.works_seconds(grown))))
        return steady + growing

    def phase_seconds(self, phase: Phase, seconds_of: PartSeconds | None = None) -> Array:
        """All micro-batches through all stages once: the prompt pass, or one mean decode step.

        A pipeline of p stages with m micro-batches takes sum(stages) + hops + (m - 1) max(stage); in decode
        the next token needs the last one, so a step takes max(m max(stage), sum(stages) + hops). Stages do not
        wait for each other within a request: the one with most work over all steps sets the pace.

        Args:
            phase: prompt pass or decode.
            seconds_of: what `part_seconds` says of it, where that is at hand.
        """
        through, slowest = self.stage_seconds(phase, seconds_of)
        passes = self.micro_batches[phase]
        if phase == "decode":
            return cast(Array, np.maximum(passes * slowest, through))
        return through + (passes - 1) * slowest

    def busy_seconds(self, phase: Phase) -> Array:
        """Seconds that the kernels of a device run at one of the roofs (mean over the stages).

        Of the prompt pass, or of decoding one token of each sequence.
        """
        busy: Array = 0.0
        for count, works in zip(self.counts, self.works(phase), strict=True):
            busy = busy + count * self.works_seconds([work for work in works if work.message is None])
        busy = busy * self.micro_batches[phase] / self.degrees.pp
        if self.draft is not None:
            busy = busy + (1.0 if phase == "prefill" else self.draft_passes) * self.draft.busy_seconds(phase)
        return busy / (1.0 if phase == "prefill" else self.iteration.tokens)

    def stage_seconds(self, phase: Phase, seconds_of: PartSeconds | None = None) -> tuple[Array, Array]:
        """One micro-batch through all stages, hops included, and through the slowest stage; arguments as above."""
        seconds_of = self.part_seconds(phase) if seconds_of is None else seconds_of
        through = weighted(self.counts, seconds_of)
        if all(layout.pp == 1 for layout in self.choices.layout):
            return through, through
        through = through + self.hops * times(self.hop(phase), self.rates, self.contexts).seconds
        slowest: Array = 0.0
        for held in self.stages:
            slowest = np.maximum(slowest, weighted(held, seconds_of))
        return through, slowest

    @cached_property
    def decode_attention(self) -> tuple[Array, Array]:
        """Seconds of a decode step's attention over the cache, and what its FLOPs would take on the vector units."""
        seconds: Array = 0.0
        flops: Array = 0.0
        for index, part in enumerate(self.parts):
            if isinstance(part.component, Attention):
                works = [work for work in self.part_works("decode", index) if work.span is not None]
                seconds = seconds + self.counts[index] * self.works_seconds(works)
                for work in works:
                    flops = flops + self.counts[index] * mean_amount(work, self.contexts).flops
        peak = self.mesh.take(self.choices.of_hardware("vector"), "hardware")
        share = self.micro_batches["decode"] / self.degrees.pp
        return seconds * share, flops / peak * share

    def hop(self, phase: Phase) -> Work:
        """Activations of a micro-batch from one stage to the next."""
        message = Message(self.model.hidden * WIDE, self.links.point_to_point(self.degrees.devices))
        return Work("stage_hop", "stage_hop", "collective", "vector", self.setting(phase).tokens, message=message)

    @cached_property
    def ttft(self) -> Array:
        """Seconds of the prompt pass over the whole batch, and of that of what drafts."""
        point, back = self.prompts
        seconds = point.phase_seconds("prefill")
        return back(seconds if point.draft is None else seconds + point.draft.phase_seconds("prefill"))

    @cached_property
    def step(self) -> Array:
        """Mean seconds per pass of the model in decode (meaningless where a request has none)."""
        return self.phase_seconds("decode")

    @property
    def draft_passes(self) -> float:
        """Passes of what drafts per iteration, one after the other."""
        return 0.0 if self.iteration.drafter is None else float(self.iteration.drafter.passes)

    @property
    def draft_shares(self) -> Collection[str]:
        """Operators of what drafts that use the model's own matrices."""
        return () if self.iteration.drafter is None else self.iteration.drafter.shares

    @cached_property
    def iteration_seconds(self) -> Array:
        """Mean seconds of a decode iteration: the drafts, and the model's pass."""
        return self.step if self.draft is None else self.step + self.draft_passes * self.draft.step

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token that each sequence gains."""
        return self.iteration_seconds / self.iteration.tokens

    @cached_property
    def latency(self) -> Array:
        """Seconds from the prompt to the last token."""
        return self.ttft + self.steps * self.tpot
