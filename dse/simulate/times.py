"""Seconds of the iterations of one replica, as tables made once from the cost model and then interpolated.

A simulation asks for millions of iterations one at a time, the cost model answers thousands at once. So it is asked
once, on grids fine enough for 1 % (tests hold the tables against it):

    step      rank batch x mean context                      decode steps
    prompt    tokens x prompts on a rank                     prompt passes
    mixed     all tokens x rank batch, + chunk attention     chunked prefill: what all tokens share, then the attention
              over tokens of the chunk x tokens cached       of the chunk, then what the contexts add to the decodes'

Grids follow what costs turn on: whole numbers while these are few, then a constant ratio; along tokens, where weights
stop to set the pace, the finest.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES, Choices
from dse.cost.engine import prompt_seconds, step_seconds
from dse.cost.mesh import Mesh
from dse.cost.mixed import MixedPass
from dse.cost.phases import Point
from dse.spec.model import Attention, ModelSpec
from dse.spec.workload import Workload

BATCH_RATIO, TOKEN_RATIO, CONTEXT_RATIO, COUNT_RATIO, CACHED_RATIO = 1.03, 1.02, 1.1, 1.1, 1.2
"""Next grid line over the one before: interpolation across a kink errs by a quarter of the distance at most."""

REFERENCE = 512
"""Context of the decodes in the table of mixed passes; the table of steps knows what other contexts add."""


def spaced(first: int, last: int, ratio: float, also: Sequence[int] = ()) -> list[int]:
    """Whole numbers from first to last, each at most `ratio` times the one before, or the next; `also` those."""
    found = [first]
    while found[-1] < last:
        found.append(min(max(found[-1] + 1, math.floor(found[-1] * ratio)), last))
    return sorted({*found, *(value for value in also if first < value < last)})


@dataclass(frozen=True, slots=True)
class Line:
    """Decode steps of one batch: seconds as a function of the mean context, affine between grid lines."""

    contexts: list[int]
    seconds: list[float]

    def at(self, context: float) -> float:
        """Seconds of one step."""
        return self._inside(self._cell(context), context)

    def total(self, context: float, steps: int) -> float:
        """Seconds of so many steps, the first at this context, each at one more than the one before."""
        x, last = self.contexts, len(self.contexts) - 2
        total = 0.0
        while steps > 0:
            i = self._cell(context)
            inside = steps if i == last else min(steps, math.floor(x[i + 1] - context) + 1)
            total += inside * (self._inside(i, context) + self._inside(i, context + inside - 1)) / 2
            context += inside
            steps -= inside
        return total

    def steps_until(self, seconds: float, context: float, most: int) -> int:
        """The fewest steps, at least one, at most `most`, that take so long."""
        low, high = 1, most
        while low < high:
            middle = (low + high) // 2
            if self.total(context, middle) >= seconds:
                high = middle
            else:
                low = middle + 1
        return low

    def _cell(self, context: float) -> int:
        return min(max(bisect_right(self.contexts, context) - 1, 0), len(self.contexts) - 2)

    def _inside(self, i: int, context: float) -> float:
        x, y = self.contexts, self.seconds
        return y[i] + (y[i + 1] - y[i]) * ((context - x[i]) / (x[i + 1] - x[i]))


@dataclass(frozen=True, slots=True)
class Surface:
    """A function of two variables on a grid, bilinear between its lines and beyond its edges."""

    xs: Sequence[float]
    ys: Sequence[float]
    values: list[list[float]]
    """Per x a list over y."""

    def at(self, x: float, y: float) -> float:
        """The function there."""
        xs, ys = self.xs, self.ys
        i = min(max(bisect_right(xs, x) - 1, 0), len(xs) - 2)
        j = min(max(bisect_right(ys, y) - 1, 0), len(ys) - 2)
        u, v = (x - xs[i]) / (xs[i + 1] - xs[i]), (y - ys[j]) / (ys[j + 1] - ys[j])
        low, high = self.values[i], self.values[i + 1]
        first = low[j] + (low[j + 1] - low[j]) * v
        return first + (high[j] + (high[j + 1] - high[j]) * v - first) * u


@dataclass
class StepTimes:
    """Iterations of one replica: a model on one point of the axes under its engine."""

    model: ModelSpec
    choices: Choices
    """One value per axis; workload and batch do not matter."""
    longest: int
    """Most tokens of a sequence, prompt and generated."""
    most_running: int
    """Most sequences on a rank."""
    most_tokens: int
    """Most tokens of a prompt or mixed pass on a rank."""

    # -- asked in every iteration -------------------------------------------------------------------

    def line(self, running: int) -> Line:
        """Decode steps of so many sequences on the fullest rank."""
        found = self._lines[running]
        if found is None:
            found = self._lines[running] = self._line(running)
        return found

    def prompts(self, tokens: int, squares: int) -> float:
        """Seconds of the prompt pass of whole prompts on a rank.

        Args:
            tokens: of all of them.
            squares: the sum of their squares.
        """
        return self._prompts.at(tokens, tokens * tokens / squares)

    def mixed(self, running: int, context: float, tokens: int, pairs: float) -> float:
        """Seconds of a pass that decodes and computes chunks of prompts.

        Args:
            running: decodes on the fullest rank.
            context: their mean context.
            tokens: of all chunks, at least 1.
            pairs: of a token of a chunk and one it sees: sum of tokens (cached + (tokens + 1) / 2).
        """
        cached = pairs / tokens - (tokens + 1) / 2  # as if all were one chunk; negative where they are many short ones
        seconds = self._shared.at(running + tokens, running) + self._chunks.at(tokens, cached)
        if running:
            line = self.line(running)
            seconds += line.at(context) - line.at(self._reference)
        return seconds

    # -- tables -------------------------------------------------------------------------------------

    @cached_property
    def _lines(self) -> list[Line | None]:
        return [None] * (self.most_running + 1)

    @cached_property
    def _reference(self) -> int:
        return min(REFERENCE, max(self.longest // 2, 2))

    @cached_property
    def _batches(self) -> list[int]:
        return spaced(1, max(self.most_running, 2), BATCH_RATIO)

    @cached_property
    def _contexts(self) -> list[int]:
        """Grid of contexts: spans of attention and budgets of the cache are lines of it."""
        spans = [part.component.span for part in self._point.parts if isinstance(part.component, Attention)]
        budget = self.choices.techniques.get("kv_budget")
        edges = [value for value in (*spans, budget) if isinstance(value, int)]
        return spaced(2, max(self.longest + 1, 4), CONTEXT_RATIO, edges)

    @cached_property
    def _steps(self) -> NDArray[np.float64]:
        """Seconds of decode steps: shape (batches, contexts)."""
        dp = self.choices.layout[0].dp
        chunks = [part.component.chunk for part in self._point.parts if isinstance(part.component, Attention)]
        widest = max((chunk for chunk in chunks if chunk), default=0)
        # Sequences stand anywhere in their chunk: the mean over one around the mean context.
        around = [min(context - 2, widest // 2) for context in self._contexts]
        workloads = [Workload(n - h - 1, 2 * h + 2) for n, h in zip(self._contexts, around, strict=True)]
        point = self._on(replace(self.choices, workload=workloads, batch=[b * dp for b in self._batches]))
        with np.errstate(divide="ignore", invalid="ignore"):
            seconds = step_seconds(point, self.choices.runtime)
        return np.broadcast_to(seconds, point.mesh.shape).reshape(len(workloads), len(self._batches)).T

    def _line(self, running: int) -> Line:
        i = min(max(bisect_right(self._batches, running) - 1, 0), len(self._batches) - 2)
        low, high = self._batches[i : i + 2]
        share = (running - low) / (high - low)
        return Line(self._contexts, (self._steps[i] + (self._steps[i + 1] - self._steps[i]) * share).tolist())

    @cached_property
    def _prompts(self) -> Surface:
        """Seconds of prompt passes by tokens and number of prompts."""
        tokens = spaced(1, max(self.most_tokens, 2), TOKEN_RATIO)
        counts = sorted(
            {*range(1, 9), *_ratios(max(self.most_running, 9), COUNT_RATIO)}
        )  # 1 to 8: stages of a pipeline
        sums, shares = _along("layout", tokens), _along("batch", counts)
        with np.errstate(divide="ignore", invalid="ignore"):
            point = self._point.with_prompts(shares, sums / shares)
            seconds = prompt_seconds(point, self.choices.runtime)
        return Surface(tokens, counts, _table(seconds, tokens, counts))

    @cached_property
    def _shared(self) -> Surface:
        """Seconds of mixed passes by tokens and decodes among them, without the attention of chunks."""
        running = [0, *self._batches]
        tokens = spaced(1, self.most_tokens + running[-1], TOKEN_RATIO)
        passed = self._mixed(running, np.maximum(_along("layout", tokens) - _along("batch", running), 1.0), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            seconds = passed.seconds - passed.chunk_attention
        return Surface(tokens, running, _table(seconds, tokens, running))

    @cached_property
    def _chunks(self) -> Surface:
        """Seconds of the attention of chunks, by their tokens and those cached before them."""
        tokens = spaced(1, max(self.most_tokens, 2), COUNT_RATIO)
        cached = [0, *spaced(16, max(self.longest, 32), CACHED_RATIO)]
        passed = self._mixed([0], _along("layout", tokens), _along("batch", cached))
        with np.errstate(divide="ignore", invalid="ignore"):
            seconds = passed.chunk_attention
        return Surface(tokens, cached, _table(seconds, tokens, cached))

    def _mixed(self, running: list[int], chunk: Any, cached: Any) -> MixedPass:
        point = self._point.with_batch(_along("batch", running) * self.choices.layout[0].dp)
        return MixedPass(point, self.choices.runtime, chunk, cached)

    @cached_property
    def _point(self) -> Point:
        """Of one workload and batch; its prompt passes take whatever enters them."""
        return self._on(replace(self.choices, workload=[Workload(self._reference - 1, 2)], batch=[1]))

    def _on(self, choices: Choices) -> Point:
        choices = replace(choices, max_prefill_tokens=math.inf)
        return Point(self.model, choices, Mesh.open(AXES, [slice(0, length) for length in choices.shape]))


def _ratios(last: int, ratio: float) -> list[float]:
    """Real numbers from 1 to at least `last`, each `ratio` times the one before."""
    return [ratio**power for power in range(math.ceil(math.log(last) / math.log(ratio)) + 1)]


def _along(axis: str, values: Sequence[float]) -> NDArray[np.float64]:
    """Values along one dimension of a mesh: the axis itself has one value only."""
    shape = [1] * len(AXES)
    shape[AXES.index(axis)] = len(values)
    return np.array(values, dtype=float).reshape(shape)


def _table(seconds: Any, rows: Sequence[float], columns: Sequence[float]) -> list[list[float]]:
    """What varies along layout and batch, as rows and columns."""
    shape = [len(rows), *[1] * (len(AXES) - 2), len(columns)]
    found: list[list[float]] = np.broadcast_to(seconds, shape).reshape(len(rows), len(columns)).tolist()
    return found
