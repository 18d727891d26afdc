"""How an engine composes its iterations: whole prompts first, or chunks of prompts beside the decodes.

Both are timed at a few numbers of running sequences, on the axes that passes depend on: neither the rate of arrivals
nor the most that may run. What lies between is interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dse.cost.engine import prompt_seconds, step_seconds
from dse.cost.lengths import expected, moments
from dse.cost.mixed import mixed_seconds
from dse.cost.phases import Point
from dse.cost.queueing import Passes, interpolate
from dse.cost.work import Array
from dse.spec.runtime import RuntimeSpec

FILLED = (0.0, 1 / 8, 1 / 3, 2 / 3, 1.0)
"""Shares of the room beside the decodes at which mixed passes are timed; 0 is the decode step."""


@dataclass
class Prefilling:
    """Prompts run whole, before all else: an iteration is a prompt pass, or a decode step where none waits."""

    point: Point
    runtime: RuntimeSpec
    widest: float
    """Most sequences on a rank that need to be known."""

    @cached_property
    def counts(self) -> tuple[float, ...]:
        """Running sequences per rank at which iterations are timed: powers of two, one beyond the most."""
        return _doubling(2.0 * self.widest)

    def _at(self, count: float) -> Point:
        return self.point.with_batch(count * self.point.degrees.dp)

    @cached_property
    def steps(self) -> NDArray[np.float64]:
        """Seconds of a decode step, shape (counts, ...)."""
        return stacked([step_seconds(self._at(count), self.runtime) for count in self.counts])

    @cached_property
    def _curve(self) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        return halved(self.counts, self.steps)

    def step(self, running: Array) -> Array:
        """Seconds of a decode step of so many sequences."""
        return interpolate(*self._curve, running / self.point.degrees.dp)

    @cached_property
    def _sizes(self) -> tuple[float, ...]:
        """Requests of a prompt pass, per rank, at which it is timed: powers of two, as far as passes go."""
        fullest = float(np.max(self.point.sequences_per_pass, initial=1.0))
        return _doubling(max(min(fullest, self.widest), 2.0))

    @cached_property
    def _groups(self) -> NDArray[np.float64]:
        """Seconds of a prompt pass of so many requests of mean length, shape (sizes, ...)."""
        return stacked([prompt_seconds(self._at(count), self.runtime) for count in self._sizes])

    @cached_property
    def _alone(self) -> list[Array]:
        """Seconds of the prompt pass of one request of each length."""
        one = self._at(1.0)
        return [prompt_seconds(one.with_input(tokens), self.runtime) for tokens, _, _ in self.point.lengths]

    @cached_property
    def _moments(self) -> tuple[Array, Array, Array]:
        """Mean, variance and third central moment of the seconds of a prompt."""
        return moments(self.point.lengths, self._alone)

    def alone(self, running: Array) -> list[Array]:
        """Seconds from the begin of a request's first pass to its first token, of each length."""
        return self._alone

    def grouped(self, count: Array) -> Array:
        """Seconds of the passes of so many requests."""
        # Requests of mean length take less than the mean: attention grows with the square.
        excess = self._moments[0] - self._groups[0]
        ranked = count / self.point.degrees.dp
        further = np.maximum(ranked / self._sizes[-1], 1.0)  # more passes like the largest
        found: Array = interpolate(self._sizes, self._groups, ranked) * further + excess * count
        return found

    @property
    def again(self) -> Array:
        """Seconds of an evicted prompt that is computed again, in a pass that is full."""
        fullest = self.point.sequences_per_pass * self.point.degrees.dp
        return self.grouped(fullest) / fullest

    def passes(self, running: Array) -> Passes:
        """Iterations while so many sequences run."""
        most = self.point.sequences_per_pass * self.point.degrees.dp
        _, spread, skew = self._moments
        return Passes(self.step(running), self.grouped, spread, skew, most, 1.0 / most)

    def decoding(self, slots: Array) -> Array:
        """Most sequences that decode at once."""
        return slots

    @property
    def sustained(self) -> Array:
        """Most sequences that can decode in the long run: no limit but their number."""
        return np.full(1, np.inf)

    def finished(self, slots: Array) -> Array:
        """Requests per second that a batch which is always full finishes."""
        steps = self.point.steps
        free = np.where(steps > 0, slots / np.maximum(steps, 1.0), slots)
        # Places that come free during a decode step are filled together: Poisson many, at least one.
        group = np.minimum(free / -np.expm1(-free), slots)
        both = slots / (steps * self.step(slots) + slots * self.grouped(group) / group)
        fullest = self.point.sequences_per_pass * self.point.degrees.dp
        return np.minimum(both, fullest / self.grouped(fullest))


@dataclass
class Chunking(Prefilling):
    """Every iteration decodes all running sequences, and computes chunks of prompts with the tokens that are left."""

    tokens: float = 0.0
    """Of an iteration, on each rank."""

    @property
    def again(self) -> Array:
        """None: a chunk is let in only where the step beside it fits as well."""
        return 0.0

    @cached_property
    def _computed(self) -> list[Array]:
        """Tokens of each length of prompt that are not in the cache already."""
        return [self.point.with_input(tokens).computed for tokens, _, _ in self.point.lengths]

    @cached_property
    def _prompt(self) -> Array:
        """Mean of these."""
        return expected(self.point.lengths, self._computed)

    @cached_property
    def _owner(self) -> Array:
        """Length of the prompt that a token belongs to, on average."""
        return expected(self.point.lengths, [tokens**2 for tokens in self._computed]) / self._prompt

    @cached_property
    def _mixed(self) -> NDArray[np.float64]:
        """Seconds of a mixed pass, shape (counts, FILLED, ...)."""
        found: list[list[Array]] = [[] for _ in FILLED]
        for count, step in zip(self.counts, self.steps, strict=True):
            room = max(self.tokens - count, 1.0)
            found[0].append(step)
            for share, values in zip(FILLED[1:], found[1:], strict=True):
                # A token sees what of its own prompt came before: on average half of the rest of it.
                chunk = np.full(1, share * room)
                seconds = mixed_seconds(
                    self._at(count), self.runtime, chunk, self.point.found.tokens + (self._owner - chunk) / 2.0
                )
                values.append(np.maximum(seconds, step))
        return np.moveaxis(stacked([stacked(values) for values in found]), 0, 1)

    @cached_property
    def _mixed_curve(self) -> tuple[tuple[float, ...], NDArray[np.float64]]:
        return halved(self.counts, self._mixed)

    def room(self, running: Array) -> Array:
        """Tokens of prompts that a rank has room for."""
        return np.maximum(self.tokens - running / self.point.degrees.dp, 1.0)

    def mixed(self, running: Array, tokens: Array) -> Array:
        """Seconds of a pass with so many tokens of prompts on a rank."""
        place = np.clip(tokens / self.room(running), 0.0, 1.0)
        at = np.asarray(running / self.point.degrees.dp)
        counts, table = self._mixed_curve
        shape = table.shape
        further = [1] * (at.ndim + 2 - len(shape))  # axes of `running` before those of the mesh
        values = interpolate(counts, table.reshape(*shape[:2], *further, *shape[2:]), at[None])
        seconds: Array = values[0]
        for left, right, low, high in zip(FILLED, FILLED[1:], values, values[1:], strict=False):
            seconds = seconds + np.clip((place - left) / (right - left), 0.0, 1.0) * (high - low)
        return seconds

    @cached_property
    def _deeper(self) -> NDArray[np.float64]:
        """Seconds that a full pass is longer per token in the cache before its chunk, shape (counts, ...)."""
        found = []
        for count, full in zip(self.counts, self._mixed[:, -1], strict=True):
            chunk = np.full(1, max(self.tokens - count, 1.0))
            before = self.point.found.tokens + (self._owner - chunk) / 2.0
            further = mixed_seconds(self._at(count), self.runtime, chunk, before + self._owner)
            found.append(np.maximum(further - full, 0.0) / self._owner)
        return stacked(found)

    def _attended(self, running: Array) -> list[Array]:
        """Seconds of a prompt of each length beside those of as many tokens of any: to each other, long ones attend."""
        if len(self.point.lengths) == 1:
            return [np.zeros(1)]
        deeper = interpolate(self.counts, self._deeper, running / self.point.degrees.dp) / self.room(running)
        return [deeper * tokens * (tokens - self._owner) / 2.0 for tokens in self._computed]

    def longest(self, running: Array) -> Array:
        """Seconds of a full pass over the longest prompt, on average over it."""
        full = self.mixed(running, self.room(running))
        if len(self.point.lengths) == 1:
            return full
        deeper = interpolate(self.counts, self._deeper, running / self.point.degrees.dp)
        return full + deeper * np.maximum(reduce(np.maximum, self._computed) - self._owner, 0.0) / 2.0

    def alone(self, running: Array) -> list[Array]:
        """Seconds from the begin of a request's first pass to its first token, of each length."""
        step = self.step(running)
        together = zip(self._level(running), self._attended(running), strict=True)
        return [np.maximum(level + attended, step) for level, attended in together]

    def _level(self, running: Array) -> list[Array]:
        """The same if tokens of all lengths took as long."""
        room = self.room(running)
        full = self.mixed(running, room)
        passes = [np.ceil(tokens / room) - 1.0 for tokens in self._computed]
        last = stacked([tokens - count * room for tokens, count in zip(self._computed, passes, strict=True)])
        rests = np.asarray(self.mixed(running, last))
        return [count * full + rest for count, rest in zip(passes, rests, strict=True)]

    def passes(self, running: Array) -> Passes:
        """Iterations while so many sequences run."""
        point, room = self.point, self.room(running)
        whole = room * point.degrees.dp
        share = self._prompt / whole
        full = self.mixed(running, room)
        first = expected(point.lengths, self.alone(running))
        pieces = zip(self._computed, self._attended(running), strict=True)
        _, spread, skew = moments(point.lengths, [tokens * full / whole + attended for tokens, attended in pieces])
        last = [np.ceil(t / room) * full - each for t, each in zip(self._computed, self._level(running), strict=True)]
        small = self._prompt < room

        lone = self.mixed(running, self._prompt)

        def grouped(count: Array) -> Array:
            together = first + self.mixed(running, count * self._prompt) - lone
            return np.where(small, together, first + (count - 1.0) * share * full)

        most = np.maximum(1.0 / share, 1.0)
        again = np.where(small, share, 0.0)
        opening, partial = np.floor(share) * full, self._chunks(room) - share
        filled = expected(point.lengths, last)
        return Passes(self.step(running), grouped, spread, skew, most, again, share, partial, opening, filled)

    def _chunks(self, room: Array) -> Array:
        """Passes of a prompt that has them for itself, on average."""
        return expected(self.point.lengths, [np.ceil(tokens / room) for tokens in self._computed])

    def decoding(self, slots: Array) -> Array:
        """Most sequences that decode at once, on average: the others' prompts run."""
        steps = np.maximum(self.point.steps, 1e-6)
        chunks = self._chunks(self.room(slots))
        found: Array = np.maximum(slots * steps / (steps + chunks), 1.0)
        return found

    @property
    def sustained(self) -> Array:
        """Sequences that decode while every iteration is full: prompts come too slowly to replace more."""
        steps = np.maximum(self.point.steps, 1e-6)
        return self.tokens * self.point.degrees.dp * steps / (self._prompt + steps)

    def _running(self, slots: Array) -> Array:
        """Decoding sequences of a batch that is always full: places are short, or tokens of an iteration."""
        return np.minimum(self.decoding(slots), self.sustained)

    def saturated(self, slots: Array) -> Array:
        """Mean seconds of an iteration of a batch that is always full."""
        decoding = self._running(slots)
        step, room = self.step(decoding), self.room(decoding)
        # Requests that finish in an iteration, and as many prompts that begin: each runs in its own passes ...
        finish = decoding / np.maximum(self.point.steps, 1e-6)
        chunks = self._chunks(room)
        apart = step + finish * (expected(self.point.lengths, self.alone(decoding)) - chunks * step)
        # ... or where all iterations carry prompts, in common ones.
        together = self.mixed(decoding, finish * self._prompt / self.point.degrees.dp)
        return np.where(finish * chunks < 1.0, apart, together)

    def finished(self, slots: Array) -> Array:
        """Requests per second that a batch which is always full finishes."""
        found: Array = self._running(slots) / (np.maximum(self.point.steps, 1e-6) * self.saturated(slots))
        return found


def engine_of(point: Point, runtime: RuntimeSpec, slots: Array) -> Prefilling:
    """The engine that a point asks for, with at most so many sequences."""
    widest = float(np.max(slots / point.degrees.dp, initial=1.0))
    chunk = point.choices.techniques.get("chunk_tokens", "none")
    if chunk == "none":
        return Prefilling(point, runtime, widest)
    return Chunking(point, runtime, widest, float(chunk))


def _doubling(most: float) -> tuple[float, ...]:
    """1, 2, 4, ... up to at least `most`."""
    return tuple(2.0**power for power in range(int(np.ceil(np.log2(max(most, 1.0)))) + 1))


def halved(grid: tuple[float, ...], table: NDArray[np.float64]) -> tuple[tuple[float, ...], NDArray[np.float64]]:
    """A table with a point more in the middle of each two: on the line between them, or above it where the curve bends.

    What is read of experts grows ever more slowly with the tokens, 3 % above the line between two powers of two. Kinks
    of rooflines bend upwards, and lie on the grid or not at all.

    Args:
        grid: increasing.
        table: shape (grid, ...).
    """
    if len(grid) < 3:
        return grid, table
    gaps = [right - left for left, right in pairwise(grid)]
    slopes = [(right - left) / gap for left, right, gap in zip(table, table[1:], gaps, strict=False)]
    bends = [
        np.maximum(before - after, 0.0) / (left + right)
        for before, after, left, right in zip(slopes, slopes[1:], gaps, gaps[1:], strict=False)
    ]
    points, rows = [grid[0]], [table[0]]
    for index, gap in enumerate(gaps):
        one, other = bends[max(index - 1, 0)], bends[min(index, len(bends) - 1)]
        both = 2.0 * one * other / np.maximum(one + other, 1e-300)  # the harmonic mean: none where either has none
        points += [grid[index] + gap / 2.0, grid[index + 1]]
        rows += [(table[index] + table[index + 1]) / 2.0 + both * gap**2 / 4.0, table[index + 1]]
    return tuple(points), np.stack(rows)


def stacked(values: Sequence[Array]) -> NDArray[np.float64]:
    """Arrays along a first axis of their own."""
    return np.stack(np.broadcast_arrays(*values))
