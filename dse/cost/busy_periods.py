"""A single server that is now busy and now idle, and those it lets go: how many of them are still there meanwhile.

An engine with chunked prefill computes prompts in order, one busy period after the other. Each prompt that is done is
one more sequence that decodes for a while. So there are more of them the longer a busy period has lasted, and fewer
just after a prompt that took long.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dse.cost.lengths import Lengths, expected
from dse.cost.work import Array

NEWTON = 6
"""Steps from 0 to the least root of a convex function, each of which stays below it."""


def transform(lengths: Lengths, seconds: Sequence[Array], rate: Array, leave: Array) -> Array:
    """E[exp(-leave B)] of the busy periods B of M/G/1: the least root of b = E[exp(-(leave + rate (1 - b)) S)].

    Takacs 1962.

    Args:
        lengths: with the shares of the requests.
        seconds: of service, of each length.
        rate: arrivals per second.
        leave: per second, above 0.
    """
    found: Array = np.zeros(1)
    for _ in range(NEWTON):
        each = [np.exp(-service * (leave + rate * (1.0 - found))) for service in seconds]
        slope = rate * expected(lengths, [service * one for service, one in zip(seconds, each, strict=True)])
        found = np.clip(found + (expected(lengths, each) - found) / np.maximum(1.0 - slope, 1e-6), 0.0, 1.0)
    return found


def beside(lengths: Lengths, seconds: Sequence[Array], rate: Array, stay: Array, idle: Array) -> Array:
    """Mean number of those that were served and are still there, while there is work to wait for.

    They come at one per mean service while the server is busy, and stay exponentially long. As many are there as came
    in such a time before, so that what counts is how long it has been busy by then: of an alternating renewal process
    with busy periods B, residual R and idle times, looked at backwards,

        y = 1 - R* R* d / (d + i (1 - B*)),   R* = (1 - B*) / (d E[B])

    with d leaving and i beginning in a unit of time; R* twice, as who waits meets busy periods by the work in them, and
    once for the mean over busy time. As they come at the end of services only, fewer did during a long one:
    (1 - S*) / (d E[S]).

    Args:
        lengths: with the shares of the requests.
        seconds: of service, of each length.
        rate: arrivals per second; below one per mean service.
        stay: mean seconds that they stay while the server is busy.
        idle: busy periods that begin in the mean time that they stay while it is idle.
    """
    leave = 1.0 / stay
    busy = transform(lengths, seconds, rate, leave)
    mean = expected(lengths, seconds)
    period = mean / np.maximum(1.0 - rate * mean, 1e-6)
    residual = (1.0 - busy) / (leave * period)
    before = 1.0 - residual**2 / (1.0 + idle * (1.0 - busy))
    served = (1.0 - expected(lengths, [np.exp(-service * leave) for service in seconds])) / (leave * mean)
    found: Array = before * served * stay / mean
    return found


def work_in_front(rate: Array, each: Array, spread: Array, skew: Array) -> tuple[Array, Array]:
    """Mean and mean square of the work that arrivals find at M/G/1 (Pollaczek-Khinchine, Takacs).

    Args:
        rate: arrivals per second.
        each: mean service.
        spread: its variance.
        skew: its third central moment.
    """
    free = np.maximum(1.0 - rate * each, 1e-6)
    mean = rate * (each**2 + spread) / (2.0 * free)
    third = each**3 + 3.0 * each * spread + skew
    return mean, 2.0 * mean**2 + rate * third / (3.0 * free)
