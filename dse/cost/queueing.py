"""Queues in front of a continuous batch: iterations, sequences in flight, waits, percentiles. Arrays in, arrays out.

An engine alternates prompt passes with decode steps (`dse.cost.open_loop` says what they take). Requests arrive at
`rate`, with coefficient of variation c of the times between them:

    iterations   a pass takes all who came during the iteration before it, n requests in a + n s seconds; with nobody
                 waiting it is a decode step of t seconds. Moments of their length L follow from
                 N | L ~ Poisson(rate L), e.g. with p the share of the time in passes and g requests in one on average
                 E[L^2] / E[L] = ((1 - p) t + rate (a^2 / g + 2 a s + s^2)) / (1 - (rate s)^2). An arrival falls into
                 an iteration of this mean length: it waits for half of it, and for those who came before it in the
                 same one. With a = 0 this is the M/G/1 queue with vacations (Doshi 1986; Pollaczek-Khinchine).
    in flight    the number that decodes is a birth-death chain with death rates k / residence(k): for a processor
                 shared by all, only the means of residences matter (Kelly 1979, chapter 3). While prompts run nobody
                 decodes, and all prompts of a busy period join at once: in time that decodes, arrivals come in clumps
                 of X requests, E[X^2] / E[X] = (1 + rate t) / (1 - rate s) + rate s / (1 - rate s)^2 (the total
                 progeny of a branching process, Borel-Tanner).
    places       all who are in the engine, in prompt passes or decoding, are a chain of the same kind, whose death
                 rates are the throughputs of an engine that always holds so many (`dse.cost.waiting`); its highest
                 state stands for all who wait for a place. How long they do: `dse.cost.servers`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.servers import variability_of_gaps
from dse.cost.work import Array

ROUNDS = 12
"""Of the bisection of the requests of a pass: to 1/4000 of the most."""

RENEWALS = 40
"""Gaps looked at after an arrival."""

NEAR = 1e-6
"""Evenly spaced states that are this near to none are none."""

FULL = 1.0 - 1e-6
"""Most of its time that an engine which still decodes computes prompts."""

HALVINGS = 24
"""Of the bracket of a quantile: to a millionth of fifteen standard deviations."""

STATES = 49
"""Numbers that a chain is computed at: all of them, or evenly spaced ones around the mean."""


@dataclass(frozen=True)
class Passes:
    """What the iterations of an engine take, in seconds."""

    step: Array
    """A decode step."""
    grouped: Callable[[Array], Array]
    """A prompt pass of so many requests of mean length (at least one; need not be whole)."""
    spread: Array
    """Variance of the seconds that one request adds to a pass."""
    skew: Array
    """Third central moment of the same."""
    most: Array
    """Requests of the fullest pass."""
    again: Array
    """Share of a pass's own seconds that each request causes where many wait: one over those of a full pass."""
    carried: Array = 0.0
    """Decode steps that the passes of a prompt carry along: 0 where prompts and decodes take turns."""
    partial: Array = 0.0
    """Passes that are filled only by the next request, where one waits."""
    opening: Array = 0.0
    """Seconds of a prompt's passes before its last: who comes meanwhile fills that one."""
    filled: Array = 0.0
    """Seconds that the last pass of a prompt is longer where others fill it, on average."""


@dataclass(frozen=True)
class Iterations:
    """Moments of the lengths of an engine's iterations, as arrivals and running sequences meet them."""

    met: Array
    """Mean seconds of the iteration that an arrival falls into: E[L^2] / E[L]."""
    met_square: Array
    """Mean square of the same: E[L^3] / E[L]."""
    setup: Array
    """Seconds of a pass beside those of each request."""
    prompting: Array
    """Share of the time that prompt passes take."""
    each: Array
    """Seconds that each request adds."""
    group: Array
    """Requests that pass together, on average."""
    lone: Array
    """Share of the prompts whose last pass nobody else fills."""


def iterations(rate: Array, passes: Passes, idle: Array = 0.0) -> Iterations:
    """Lengths of iterations in the steady state; infinite where prompts alone overload the engine.

    Args:
        rate: requests per second.
        passes: what iterations take.
        idle: share of the time without prompts in which nobody decodes either: who arrives then waits for no step.
    """
    step = passes.step
    arrived = 1.0 - np.exp(-rate * step)
    first = passes.grouped(np.ones(1))
    low, high = np.ones(1), np.maximum(passes.most, 1.0)
    for _ in range(ROUNDS):
        group = (low + high) / 2.0
        each, setup, short = _parts(passes, first, rate, group)
        # Runs of passes per second, that begin after a decode step in which someone came and end after a pass in which
        # nobody did.
        begun = np.maximum(1.0 - rate * (each + setup / group), 0.0) / step * arrived
        ended = rate / group * np.exp(-rate * (setup + each * group))
        low, high = np.where(ended > begun, group, low), np.where(ended > begun, high, group)
    group = (low + high) / 2.0
    each, setup, short = _parts(passes, first, rate, group)
    prompting, begins = np.minimum(rate * (each + setup / group), FULL), rate / group
    alone = (1.0 - prompting) * (1.0 - idle)
    second = each**2 + passes.spread
    third = each**3 + 3.0 * each * passes.spread + passes.skew
    # Moments of the iteration that an arrival falls into, E[L^2] / E[L] and E[L^3] / E[L].
    square = (alone * step + begins * setup**2 + rate * (2.0 * setup * each + second)) / (1.0 - (rate * each) ** 2)
    pairs = rate + rate**2 * square
    cube = (
        alone * step**2
        + begins * setup**3
        + 3.0 * setup**2 * each * rate
        + 3.0 * setup * (each**2 * pairs + passes.spread * rate)
        + third * rate
        + 3.0 * rate**2 * square * each * second
    ) / (1.0 - (rate * each) ** 3)
    over = rate * each >= 1.0
    return Iterations(
        np.where(over, np.inf, square), np.where(over, np.inf, cube), setup, prompting, each, group, short
    )


def renewals(within: Array, burstiness: float) -> Array:
    """Arrivals expected within a time after an arrival, the time counted in mean gaps; gaps are gamma distributed.

    Sum over n of the chance that n gaps fit, the last of them beyond four gaps by the renewal theorem:
    m(x) = x + (c^2 - 1) / 2 for long x (Feller II, XI.3).
    """
    if burstiness == 1.0:
        return within
    from scipy.special import gammainc

    shape = 1.0 / variability_of_gaps(burstiness)
    near = np.minimum(within, 4.0)
    total: Array = 0.0
    for n in range(1, RENEWALS):
        total = total + gammainc(n * shape, shape * near)
    return np.maximum(total + within - near, 0.0)


def _parts(passes: Passes, first: Array, rate: Array, group: Array) -> tuple[Array, Array, Array]:
    """Seconds that each request adds to a pass of so many, those of the pass beside, and share of short last passes."""
    others = np.clip(group, 2.0, np.maximum(passes.most, 2.0))
    each = (passes.grouped(others) - first) / (others - 1.0)
    setup = np.maximum(first - each, 0.0)
    # Passes beyond the first count as the requests' own time.
    each = each + setup * passes.again
    short = lone(rate, passes, each, setup)
    return each, setup * (1.0 - passes.again) * short, short


def lone(rate: Array, passes: Passes, each: Array, setup: Array) -> Array:
    """Chance that nobody waits when the last pass of a prompt begins, which is a short one then; 1 if it is the only.

    Who leaves a single server leaves it empty as often as it is, and it begins `setup` earlier: with p the share of
    the time that prompts take, (1 - p) exp(rate setup), where p = rate (each + (1 - p) setup).
    """
    free = np.maximum(1.0 - rate * each, 0.0) / (1.0 + rate * setup)
    found = np.where(passes.opening > 0.0, np.minimum(free * np.exp(rate * setup), np.exp(-rate * passes.opening)), 1.0)
    return cast(Array, found)


@dataclass(frozen=True)
class Chain:
    """How many there are of something, in the long run: states from the top down, and their probabilities."""

    states: Sequence[Array]
    """All numbers, or evenly spaced ones."""
    weights: Sequence[Array]
    full: Array
    """Share of the time in which all places are taken."""
    empty: Array
    """Share of the time in which there is none."""

    def expected(self, of: Callable[[Array], Array]) -> Array:
        """Mean over time of something that depends on the number."""
        total: Array = 0.0
        for state, weight in zip(self.states, self.weights, strict=True):  # in a fixed order
            total = total + weight * of(state)
        return total

    @cached_property
    def mean(self) -> Array:
        """Mean number."""
        return self.expected(lambda number: number)

    @cached_property
    def variance(self) -> Array:
        """Of the number."""
        return np.maximum(self.expected(lambda number: number**2) - self.mean**2, 0.0)

    def spread(self, pace: Callable[[Array], Array]) -> Array:
        """Variance over tokens of the seconds per token, `pace` of the number that decodes."""
        # Tokens come at a rate of k / pace(k).
        tokens = self.expected(lambda number: number / pace(np.maximum(number, 1.0)))
        square = self.expected(lambda number: number * pace(np.maximum(number, 1.0)))
        return np.maximum(square / tokens - (self.mean / tokens) ** 2, 0.0)

    def leaves(self, places: Array, others: Array) -> Array:
        """How many others there are where all have a place, over how many there are in any case.

        Args:
            places: for those that the chain counts and the others.
            others: mean of their number, which is geometric.
        """
        ratio = others / (1.0 + others)
        log = np.log(np.maximum(ratio, 1e-300))
        fit = inside = cast(Array, 0.0)
        for state, weight in zip(self.states, self.weights, strict=True):
            free = np.maximum(places - state, 0.0)
            none = np.exp(free * log)
            # Sum of j (1 - r) r^j below `free`, over r / (1 - r).
            inside = inside + weight * (1.0 - none - free * none / (1.0 + others) / np.maximum(ratio, 1e-300))
            fit = fit + weight * (1.0 - none)
        return np.clip(inside / np.maximum(fit, 1e-12), 0.0, 1.0)


def birth_death(
    rate: Array,
    places: Array,
    capacity: Array,
    finished: Callable[[Array], Array],
    clumps: Array,
    tail: Array,
    span: tuple[Array, Array],
) -> Chain:
    """The chain of requests that arrive at a rate and finish the faster the more there are, as far as places go.

    With births that come in clumps, the chain whose birth rate is (rate + (clumps - 1) finished(k)) / clumps: where no
    request slows another it is the negative binomial law, of mean rate x residence and `clumps` times that variance.
    Its highest state, all places taken, stands for all who wait for one as well.

    Args:
        rate: requests per second.
        places: the most that are served at once.
        capacity: requests per second that finish while all places are taken.
        finished: requests per second that so many finish.
        clumps: variance over mean of the number that join within a time, 1 for a Poisson process.
        tail: the same of those that join where all places are taken. With `clumps` as many leave as come.
        span: the least and the most that matter.
    """
    bottom, top = np.maximum(np.floor(span[0]), 0.0), np.minimum(places, np.ceil(span[1]))
    gap = np.maximum((top - bottom) / (STATES - 1), 1.0)
    busy = np.minimum(rate / capacity, 1.0 - 1e-9)
    least, upper = finished(np.ones(1)), finished(np.maximum(top, 0.0))
    states, logs = [top], [np.zeros(1)]
    for _ in range(STATES - 1):
        lower = finished(np.maximum(states[-1] - gap, 0.0))
        # From a state to one `gap` lower: the ratio at the middle of the way, as often as there are steps.
        middle, half = (upper + lower) / 2.0, (upper - lower) / (2.0 * gap)
        born = np.maximum(rate + (clumps - 1.0) * np.maximum(middle - half, 0.0), NEAR * rate)
        step = np.log(born / (clumps * np.maximum(middle + half, least)))
        # Nobody is joined by those who come alone.
        single = np.log(rate / (clumps * least)) - step
        logs.append(logs[-1] - gap * step - np.where(states[-1] - gap <= NEAR, single, 0.0))
        states.append(states[-1] - gap)
        upper = lower
    logs = [np.where(state < -NEAR, -np.inf, log) for state, log in zip(states, logs, strict=True)]
    most = logs[0]
    for log in logs[1:]:
        most = np.maximum(most, log)
    exact = [np.exp(log - most) for log in logs]
    # The highest and the lowest number stand for half of the way to the next one.
    lowest = 1.0 + (gap - 1.0) / 2.0 * np.minimum(rate / (clumps * least), 1.0)
    nobody = [np.abs(state) <= NEAR for state in states]
    weights = [one * np.where(none, lowest, gap) for one, none in zip(exact, nobody, strict=True)]
    # While all places are taken, who waits for one is there too.
    taken = exact[0] * np.minimum(finished(top) / capacity, 1.0 / busy) * tail / (1.0 - busy)
    full = np.where(top == places, taken, 0.0)
    weights[0] = exact[0] * (gap - 1.0) / 2.0 + np.where(top == places, taken, exact[0])
    total = empty = cast(Array, 0.0)
    for weight, one, none in zip(weights, exact, nobody, strict=True):
        total, empty = total + weight, empty + np.where(none, one, 0.0)
    return Chain(states, [weight / total for weight in weights], full / total, empty / total)


# -- percentiles -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """A duration: a least value and gamma distributed excess, nothing above a most."""

    least: Array
    mean: Array
    variance: Array
    most: Array = np.inf

    def below(self, limit: Array) -> Array:
        """Probability of at most `limit`."""
        from scipy.special import gammainc

        excess, room = self.mean - self.least, limit - self.least
        certain = (self.variance <= 1e-12 * self.mean**2) | (excess <= 0.0)
        safe = np.where(certain, 1.0, excess)
        shape = safe**2 / np.where(certain, 1.0, self.variance)
        found = gammainc(shape, np.maximum(room, 0.0) * shape / safe)
        found = np.where(certain, np.where(limit >= self.mean, 1.0, 0.0), np.where(room > 0.0, found, 0.0))
        return cast(Array, np.where(limit >= self.most, 1.0, found))


Cases = Sequence[tuple[Array, Spread]]
"""A mixture of durations: probability and distribution of each."""


def quantile(cases: Cases, share: float) -> Array:
    """The value that `share` of a mixture of durations lies below, by bisection.

    Args:
        cases: the mixture.
        share: between 0 and 1.
    """
    chances, spread = _joined(cases)
    low: Array = np.zeros(1)
    high: Array = np.max(np.where(chances > 0.0, spread.mean + 15.0 * np.sqrt(spread.variance), 0.0), axis=0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        enough = _below(chances, spread, middle) >= share
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return (low + high) / 2.0


def at_most(cases: Cases, limit: Array) -> Array:
    """Probability that a mixture of durations is at most `limit`."""
    return _below(*_joined(cases), limit)


def _joined(cases: Cases) -> tuple[NDArray[np.float64], Spread]:
    """Probabilities and distributions along an axis before all others."""
    columns = [[chance, spread.least, spread.mean, spread.variance, spread.most] for chance, spread in cases]
    wide = np.broadcast_arrays(*(value for column in columns for value in column))
    chances, *fields = (np.stack(wide[place :: len(columns[0])]) for place in range(len(columns[0])))
    return chances, Spread(*fields)


def _below(chances: NDArray[np.float64], spread: Spread, limit: Array) -> Array:
    found = spread.below(limit)
    total: Array = 0.0
    for chance, below in zip(chances, cast("NDArray[np.float64]", found), strict=True):  # in a fixed order
        total = total + np.where(chance == 0.0, 0.0, chance * below)
    return total


def interpolate(grid: Sequence[float], table: NDArray[np.float64], at: Array) -> NDArray[np.float64]:
    """Values between those at the points of a grid, linearly; constant beyond its ends.

    Args:
        grid: increasing.
        table: shape (grid, ...), broadcastable with `at` from its second axis on.
        at: where.
    """
    inside = np.clip(np.asarray(at, dtype=float), grid[0], grid[-1])
    further = [1] * (inside.ndim + 1 - table.ndim)
    table = table.reshape(len(grid), *further, *table.shape[1:])
    shape = np.broadcast_shapes(table.shape[1:], inside.shape)
    wide = np.broadcast_to(table, (len(grid), *shape))
    if len(grid) == 1:
        return cast("NDArray[np.float64]", wide[0])
    places = np.asarray(grid)
    segment = np.clip(np.searchsorted(places, inside, side="right") - 1, 0, len(grid) - 2)
    share = (inside - places[segment]) / (places[segment + 1] - places[segment])
    index = np.broadcast_to(segment, shape)[None]
    left, right = (np.take_along_axis(wide, each, axis=0)[0] for each in (index, index + 1))
    found: NDArray[np.float64] = left + share * (right - left)
    return found
