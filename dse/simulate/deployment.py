"""What is simulated: a model on an accelerator under an engine, and how the engine batches."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.serving import SteadyMemory
from dse.cost.techniques import Found, Iteration, found_in_cache, iteration_of
from dse.cost.work import is_zero
from dse.simulate.times import StepTimes
from dse.spec.model import ModelSpec
from dse.spec.workload import Workload


@dataclass(frozen=True, eq=False)
class Deployment:
    """One kind of replica."""

    model: ModelSpec
    choices: Choices
    """One value per axis; workload and batch do not matter, `max_prefill_tokens` is the budget of a prompt pass."""
    max_running: int | None = None
    """Most sequences at once per replica, beside what memory and the engine allow; None for no other limit."""
    chunk_tokens: int | None = None
    """Tokens of an iteration on a rank under chunked prefill; None: prompts are computed whole, before all else."""

    @property
    def ranks(self) -> int:
        """Attention-dp ranks, which share the sequences."""
        return self.choices.layout[0].dp

    @property
    def devices(self) -> int:
        """Accelerators of a replica."""
        layout = self.choices.layout[0]
        return layout.tp * layout.pp * layout.dp

    @cached_property
    def iteration(self) -> Iteration:
        """What a decode step does for each request."""
        return iteration_of(self.model, self.choices.techniques)

    @cached_property
    def shares_prefixes(self) -> bool:
        """True where the cache holds part of each prompt from before."""
        return not is_zero(found_in_cache(np.ones(1), self.choices.techniques).tokens)

    def cached(self, tokens: int) -> int:
        """Tokens of a prompt of this length that the cache holds from before."""
        return int(np.ravel(self._found(tokens).tokens)[0])

    def shared(self, tokens: int) -> int:
        """Those of them that all requests share, in whole blocks."""
        block = self.choices.kv_block_size
        return int(np.ravel(self._found(tokens).shared)[0]) // block * block

    def _found(self, tokens: int) -> Found:
        return found_in_cache(np.full(1, float(tokens)), self.choices.techniques) if self.shares_prefixes else Found()

    @property
    def budget(self) -> float:
        """Tokens of a pass on a rank."""
        return self.choices.max_prefill_tokens if self.chunk_tokens is None else float(self.chunk_tokens)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A deployment with its tables for requests of certain lengths."""

    deployment: Deployment
    times: StepTimes
    slots: int
    """Most sequences at once."""
    room: int
    """Bytes for the KV cache of all ranks, without what all sequences share."""
    held: list[int]
    """Bytes a sequence keeps by its number of blocks, on the fullest stage."""
    block: int
    """Tokens of a block."""
    shared: int = 0
    """Tokens of the longest prompt that all requests share; `held` is without them."""

    def holds(self, tokens: int, prompt: int) -> bool:
        """True where a sequence of so many tokens fits alone, on one rank."""
        return self.held[self.blocks(tokens + self.apart(prompt))] <= self.room // self.deployment.ranks

    def apart(self, prompt: int) -> int:
        """Tokens by which what a request shares is less: it keeps as much of its own as one with so many more."""
        return self.shared - self.deployment.shared(prompt) if self.shared else 0

    def blocks(self, tokens: int) -> int:
        """Blocks of so many tokens."""
        return -(-tokens // self.block)


def fitted(deployment: Deployment, shortest: Workload, longest: Workload) -> Fitted:
    """A deployment for requests between these lengths.

    Args:
        deployment: the replica.
        shortest: fewest tokens in and out.
        longest: most tokens in and out, not of the same request in general.
    """
    dp, block = deployment.ranks, deployment.choices.kv_block_size
    tokens = longest.input + longest.output
    with np.errstate(divide="ignore", invalid="ignore"):
        one = _alone(deployment, longest)
        contexts = np.arange(-(-tokens // block) + 2, dtype=float) * block
        memory = SteadyMemory(one, one, 0.0)
        held = _whole(np.broadcast_to(memory.cache_at(contexts) - memory.common, contexts.shape))
        free = memory.limit - memory.weights - memory.workspace - memory.common

        def left(sequences: int) -> int:
            """Bytes beside the activations of a decode step of so many sequences."""
            wide = SteadyMemory(one.with_batch(np.full(1, float(sequences * dp))), one, 0.0)
            return math.floor(float(np.ravel(free - wide.activations)[0]))

        # The more there are, the more their activations take of what their caches need.
        shared = deployment.shared(longest.input)
        apart = shared - deployment.shared(shortest.input)
        least = held[-(-(shortest.input + 1 + apart) // block)]
        most = _limit(deployment, left(1) // max(least, 1))
        slots = bisect_right(range(2, most + 1), 0, key=lambda n: int(left(n) < n * least)) + 1
        room = left(slots)
    most_tokens = int(max(min(deployment.budget, tokens * slots), tokens))
    times = StepTimes(deployment.model, deployment.choices, tokens, slots, most_tokens)
    most = slots * dp if deployment.max_running is None else min(slots * dp, deployment.max_running)
    return Fitted(deployment, times, most, room * dp, held, block, shared)


def _whole(held: NDArray[np.float64]) -> list[int]:
    """Whole bytes; where all blocks cost the same, the same whole number each."""
    growth = np.diff(held[1:])
    if len(growth) and np.allclose(growth, growth[0], rtol=1e-9):
        first, each = math.ceil(held[1]), math.ceil(growth[0])
        return [0, *(first + each * later for later in range(len(held) - 1))]
    return [math.ceil(size) for size in held.tolist()]


def _alone(deployment: Deployment, longest: Workload) -> Point:
    """The longest request on each rank; of its prompt as much as a pass takes, with the prefix of the whole one."""
    prompt = longest.input if deployment.chunk_tokens is None else min(longest.input, deployment.chunk_tokens)
    workload = Workload(prompt, max(longest.input + longest.output - prompt, 1))
    choices = replace(deployment.choices, workload=[workload], batch=[deployment.ranks])
    point = Point(deployment.model, choices, Mesh.points(AXES, [np.zeros(1, dtype=int)] * len(AXES)))
    point.__dict__["found"] = found_in_cache(np.full(1, float(longest.input)), deployment.choices.techniques)
    return point


def _limit(deployment: Deployment, memory: int) -> int:
    """Sequences on a rank: the least of what memory, the engine and the user allow, but one."""
    limits = [memory]
    if deployment.choices.runtime.max_batch is not None:
        limits.append(deployment.choices.runtime.max_batch)
    if deployment.max_running is not None:
        limits.append(math.ceil(deployment.max_running / deployment.ranks))
    return max(min(limits), 1)
