"""How requests meet the batch: the steady states a deployment is judged in.

With B sequences running, input I, output O, a prompt pass of n requests and a decode step of B sequences:

    static        all B start and end together: ttft = prompt(B), latency = ttft + (O - 1) step(B)
    offline       a queue that never empties, B what the memory holds; each iteration admits B/O requests on average,
                  so tpot = step(B) + B/n prompt(n) / O, and B / tpot tokens per second
    closed-loop   C requests in flight, the next sent when one is answered: B = min(C, what the memory holds), tpot as
                  offline; C = rate x latency (Little 1961)
    open-loop     requests arrive at a rate, and B follows from it (`dse.cost.open_loop`)

With chunked prefill an iteration decodes and computes prompts at once, tpot is a mixed pass (`dse.cost.batching`).
A static batch of 1 is the single stream. What fits is counted at the average age of a running sequence:
input + occupancy x output tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, cast

import numpy as np

from dse.cost.engine import prompt_seconds, step_seconds
from dse.cost.lengths import expected, held
from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.placement.placed import memory_of
from dse.cost.setting import Phase
from dse.cost.work import Array, is_zero
from dse.spec.runtime import RuntimeSpec

if TYPE_CHECKING:
    from dse.cost.batching import Chunking


@dataclass(frozen=True)
class Pool:
    """Like workers of a deployment."""

    point: Point
    """One of them."""
    workers: Array
    memory: Memory
    """Of one of its devices."""


@dataclass(frozen=True)
class Spell:
    """Time that a worker spends in one phase."""

    point: Point
    phase: Phase
    once: Array
    """Seconds of one pass."""
    seconds: Array
    """Of all passes in the time at hand."""


Spells = tuple[tuple[Spell, ...], Array]
"""Those of a worker in the time at hand, and the seconds of it that it does neither."""


def total(parts: Iterable[Array]) -> Array:
    """A sum over pools, in their order."""
    found: Array = 0.0
    for part in parts:
        found = found + part
    return found


def slowest_share(point: Point) -> Array:
    """Share of a prompt pass that its slowest stage is busy: the next pass can begin behind it."""
    if all(layout.pp == 1 for layout in point.choices.layout):
        return 1.0
    _, slowest = point.stage_seconds("prefill")
    return point.micro_batches["prefill"] * slowest / point.ttft


@dataclass
class Static:
    """One batch, all its requests together; as memory sees it, at the end of generation."""

    point: Point
    """What was asked; its batch is the axis `batch`."""
    runtime: RuntimeSpec
    """The serving engine."""

    def under(self, runtime: RuntimeSpec) -> Static:
        """The same passes under an engine of other costs; it must fill the batch as this one does."""
        other = type(self)(self.point, runtime)
        other.__dict__ |= {name: self.__dict__[name] for name in _PASSES if name in self.__dict__}
        return other

    @property
    def running(self) -> Point:
        """The sequences of a decode step."""
        return self.point

    @property
    def entering(self) -> Point:
        """The requests of a prompt pass."""
        return self.point

    @cached_property
    def memory(self) -> Memory:
        """Memory of one device."""
        return memory_of(self.running)

    @cached_property
    def step(self) -> Array:
        """Seconds of decoding one token of each sequence: a step, or the share of an iteration that gains several."""
        return step_seconds(self.running, self.runtime)

    @cached_property
    def prompt(self) -> Array:
        """Seconds of the prompt passes of the requests that enter together."""
        return prompt_seconds(self.entering, self.runtime)

    @cached_property
    def host(self) -> Array:
        """Seconds of the server itself before the first token of a request."""
        return self.runtime.request_ms * 1e-3 + self.runtime.prompt_token_us * 1e-6 * self.point.input

    @property
    def server(self) -> Array:
        """Seconds of these that `ttft` counts: none where requests are not sent one by one."""
        return 0.0

    @cached_property
    def ttft(self) -> Array:
        """Seconds to the first token, mean over requests."""
        return self.prompt

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first."""
        return self.step

    @cached_property
    def latency(self) -> Array:
        """Seconds from the prompt to the last token."""
        return self.ttft + self.point.steps * self.tpot

    @cached_property
    def requests_per_s(self) -> Array:
        """Finished requests per second of one replica."""
        return self.point.batch / self.latency

    @property
    def spent(self) -> tuple[Array, Array, Array]:
        """Seconds of prompt passes, decode steps and neither, in the time that finishes one running batch."""
        return self.ttft, self.point.steps * self.tpot, 0.0

    # -- workers --------------------------------------------------------------------------------------

    @property
    def kinds(self) -> tuple[Point, ...]:
        """A worker of each pool, however many there are."""
        return (self.running,)

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """The workers of a deployment, those that compute prompts first: a replica is one that does all."""
        return (Pool(self.running, 1.0, self.memory),)

    @property
    def devices(self) -> Array:
        """Devices of a deployment."""
        return total(pool.workers * pool.point.degrees.devices for pool in self.pools)

    @property
    def spells(self) -> tuple[Spells, ...]:
        """What a worker of each pool does in the time that finishes `finished` requests."""
        of_prompt, of_decode, rest = self.spent
        prompt = Spell(self.entering, "prefill", self.prompt, of_prompt)
        decode = Spell(self.running, "decode", self.step, of_decode)
        return (((prompt, decode), rest),)

    @property
    def finished(self) -> Array:
        """Requests that the time of `spells` finishes: one running batch."""
        return self.running.batch


class SteadyMemory(Memory):
    """Memory of a batch whose sequences are of all ages, and whose prompts come a few at a time."""

    def __init__(self, point: Point, entering: Point, occupancy: float) -> None:
        super().__init__(point)
        self._entering = entering
        self._occupancy = occupancy

    @cached_property
    def cache(self) -> Array:
        """KV cache and state at the average age."""
        return self.cache_at(held(self.point.lengths, self._occupancy) + self.ahead)

    @cached_property
    def prompt_activations(self) -> Array:
        """Those of the largest pass of the prompts that come: of the longest, or of a chunk."""
        entering, chunk = self._entering, self.point.choices.techniques.get("chunk_tokens", "none")
        if len(entering.lengths) > 1:
            lengths = [np.where(share > 0.0, tokens, 0.0) for tokens, _, share in entering.lengths]
            entering = entering.with_input(reduce(np.maximum, lengths, entering.input))
        if chunk != "none" and is_zero(entering.found.tokens):
            entering = entering.with_input(np.minimum(entering.input, float(chunk)))
        return Memory(entering)._prompt_peak()

    @property
    def passing(self) -> Point:
        """Whose prompts run together: those that come."""
        return self._entering

    def _with_prompt(self, tokens: Array) -> Memory:
        """Memory of the same batch with prompts of another length."""
        return SteadyMemory(self._longer(tokens), self._entering.with_input(tokens), self._occupancy)


def fits(point: Point, occupancy: float) -> Array:
    """Requests per replica that memory holds when each has so much of its output; at least one per rank."""
    dp = point.degrees.dp
    one = point.with_batch(dp)
    memory = SteadyMemory(one, one, occupancy)
    free = memory.limit - memory.weights - memory.workspace - memory.common
    each = memory.cache - memory.common
    # The activations of a decode step grow with the batch: those of the batch that would fit without are enough.
    most = np.maximum(np.floor((free - memory.activations) / each), 1.0)
    wide = SteadyMemory(point.with_batch(most * dp), one, occupancy)
    return cast(Array, np.maximum(np.floor((free - wide.activations) / each), 1.0) * dp)


class Steady(Static):
    """Requests come and go; prompt passes interleave with decode steps."""

    @cached_property
    def held(self) -> Array:
        """Sequences per replica that memory holds at once."""
        return fits(self.point, self.runtime.occupancy)

    @cached_property
    def fits(self) -> Array:
        """Those that the engine allows as well."""
        most = self.held
        if self.runtime.max_batch is not None:
            requests = max(self.runtime.max_batch // self.point.iteration.branches, 1)
            most = np.minimum(most, requests * self.point.degrees.dp)
        return most

    @cached_property
    def batch(self) -> Array:
        """Sequences that run at once."""
        return self.fits

    @cached_property
    def running(self) -> Point:
        """The sequences of a decode step."""
        return self.point.with_batch(self.batch)

    @cached_property
    def arriving(self) -> Array:
        """Requests of one prompt pass: as many as an iteration frees slots, at most what a pass takes."""
        most = self.point.sequences_per_pass * self.point.degrees.dp
        return np.floor(np.clip(self.batch * self.point.iteration.tokens / self.point.output, 1.0, most))

    @cached_property
    def entering(self) -> Point:
        """The requests of a prompt pass."""
        return self.point.with_batch(self.arriving)

    @cached_property
    def memory(self) -> Memory:
        """Memory of one device."""
        return SteadyMemory(self.running, self.point.with_batch(self.point.degrees.dp), self.runtime.occupancy)

    @cached_property
    def prompt(self) -> Array:
        """Seconds of the prompt passes of the requests that enter together, mean over lengths."""
        if self.chunking is not None:
            return expected(self.point.lengths, self.chunking.alone(self.chunking.decoding(self.batch)))
        lengths = self.point.lengths
        if len(lengths) == 1:
            return prompt_seconds(self.entering, self.runtime)
        return expected(
            lengths, [prompt_seconds(self.entering.with_input(tokens), self.runtime) for tokens, _, _ in lengths]
        )

    @cached_property
    def chunking(self) -> Chunking | None:
        """The mixed passes of chunked prefill; None where prompts run whole."""
        from dse.cost.batching import Chunking, engine_of

        found = engine_of(self.point, self.runtime, self.batch)
        return found if isinstance(found, Chunking) else None

    @cached_property
    def step(self) -> Array:
        """Seconds of one decode step: of what decodes while others' prompts run beside it."""
        if self.chunking is not None:
            return self.chunking.step(self.chunking.decoding(self.batch))
        return step_seconds(self.running, self.runtime)

    @cached_property
    def slowest_stage(self) -> Array:
        """Share of a prompt pass that its slowest stage is busy."""
        return slowest_share(self.entering)

    @cached_property
    def interruption(self) -> Array:
        """Seconds by which a prompt pass delays the running batch: the slowest stage's, less what it hides."""
        slot = self.prompt * self.slowest_stage
        return np.maximum(slot - self.runtime.hidden * self.step * self.point.iteration.tokens, 0.0)

    @cached_property
    def interrupted(self) -> Array:
        """Seconds of prompt passes while one request decodes: one for every request that takes a slot meanwhile.

        Of mixed passes, what they take beyond a decode step.
        """
        if self.chunking is not None:
            return self.point.output * (self.chunking.saturated(self.batch) - self.step)
        return self.batch / self.arriving * self.interruption

    @cached_property
    def ttft(self) -> Array:
        """Seconds of the prompt pass: a queue that never empties has no arrival to count from."""
        return self.prompt

    @cached_property
    def tpot(self) -> Array:
        """Mean seconds per token after the first, interruptions by the prompts of others included."""
        return self.step + self.interrupted / self.point.output

    @cached_property
    def requests_per_s(self) -> Array:
        """Finished requests per second of one replica."""
        if self.chunking is not None:
            return self.runtime.busy * self.chunking.finished(self.batch)
        return self.runtime.busy * self.batch / (self.point.output * self.tpot)

    @cached_property
    def latency(self) -> Array:
        """Seconds in a slot of the batch (Little's law)."""
        return self.batch / self.requests_per_s

    @property
    def spent(self) -> tuple[Array, Array, Array]:
        """Seconds of prompt passes, decode steps and neither, in the time that finishes one running batch."""
        prompts, steps = self.interrupted, self.point.output * self.step
        return prompts, steps, np.maximum(self.batch / self.requests_per_s - prompts - steps, 0.0)


class ClosedLoop(Steady):
    """`batch` requests in flight, the next sent when one is answered."""

    @cached_property
    def batch(self) -> Array:
        """Sequences that run at once; the others wait."""
        return np.minimum(self.point.batch, self.fits)

    @property
    def server(self) -> Array:
        """Every request is sent by itself."""
        return self.host

    @cached_property
    def admission(self) -> Array:
        """Seconds of the iterations before a request's own, with the prompts of others that interrupt them."""
        return self.runtime.admission_steps * self.tpot * self.point.iteration.tokens

    @cached_property
    def ttft(self) -> Array:
        """Seconds from sending to the first token.

        The server's; the prompt pass behind the whole batch's (lock-step) or an iteration; a slot's if none is free.
        """
        locked = self.runtime.lockstep
        together = (prompt_seconds(self.running, self.runtime) + self.prompt) / 2
        apart = self.prompt + np.where(self.batch > 1, self.admission, 0.0)
        if self.chunking is not None:
            # Where iterations are full, prompts wait in their places for their turn.
            apart = np.maximum(apart, self.batch / self.chunking.finished(self.batch) - self.point.steps * self.tpot)
        queued = (self.point.batch - self.batch) * (self.point.output * self.tpot) / self.batch
        return self.host + locked * together + (1 - locked) * apart + queued

    @cached_property
    def latency(self) -> Array:
        """Seconds from sending a request to its last token."""
        return self.ttft + self.point.steps * self.tpot

    @cached_property
    def requests_per_s(self) -> Array:
        """Finished requests per second of one replica (Little's law)."""
        return self.point.batch / self.latency


_PASSES = ("fits", "batch", "arriving", "running", "entering", "memory", "slowest_stage")
"""What does not depend on the engine's costs, but for how it fills the batch."""
