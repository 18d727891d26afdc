"""Customers of c servers: how many wait and how long, with exponential and with constant service.

A batch that is full is such a queue: requests are customers, places are servers. With service of another squared
coefficient of variation s, both lie between those of constant (s = 0) and of exponential service (s = 1), by s
(Cosmetatos 1975, Tijms 1986); on one server this is the Pollaczek-Khinchine formula.
"""

from __future__ import annotations

from functools import cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.work import Array

NEAR = 1e-6
"""What lies so near to the last column of the table belongs to it."""

FIRST, NODES, TERMS = 4, 8, 30.0
"""Of Spitzer's sums: terms one by one, nodes of the integral over the others, and the logarithm of the last one."""

HALVINGS, DOUBLINGS, STEPS, LEAST = 7, 13, 32, 0.01
"""Extent of the table of constant service: servers from 2^-7 to 2^13, steps along the load, and the least load."""

MOST_REGULAR = 100.0
"""Shape of the gamma law of the gaps of arrivals that come like a clock."""


def variability_of_gaps(burstiness: float) -> float:
    """Squared coefficient of variation of the gamma distributed times between arrivals."""
    return max(burstiness**2, 1.0 / MOST_REGULAR)


def erlang_c(servers: Array, busy: Array) -> Array:
    """Share of customers of M/M/c that wait; servers need not be whole (Jagers and van Doorn 1986).

    Args:
        servers: at least 1.
        busy: load, above 0 and below 1.
    """
    from scipy.special import gammaincc, gammaln

    offered = servers * busy
    log = servers * np.log(offered) - offered - gammaln(servers + 1.0)
    blocked = np.exp(log) / gammaincc(servers + 1.0, offered)
    found: Array = blocked / (1.0 - busy * (1.0 - blocked))
    return found


def constant_service(servers: Array, busy: Array) -> tuple[Array, Array, Array]:
    """M/D/c: share of customers that wait; how long those do, in mean times between two that leave, and how unlike.

    Each server has every c-th customer, who comes after a gamma distributed time of shape c, so that its waits are the
    maxima of a random walk. By Spitzer's identity, with A the time of n c gaps and D the service, their cumulants are
    the sums over n >= 1 of E[((n D - A)^+)^k] / n, and none waits with probability exp(-sum of P(A < n D) / n).

    Gaps that are gamma distributed themselves, of squared coefficient of variation v, are those of c / v servers, in
    units of v gaps.

    Args:
        servers: above 0; need not be whole.
        busy: load, above 0 and below 1.

    Returns:
        Share, mean of the waits and their squared coefficient of variation.
    """
    from scipy.special import gammainc

    servers, busy = np.broadcast_arrays(np.asarray(servers, dtype=float), busy)
    # Terms fall as exp(-n c (busy - 1 - ln busy)): the first one by one, the rest as an integral over ln n.
    last = np.maximum(TERMS / (servers * (busy - 1.0 - np.log(busy))), FIRST + 1.0)
    span = np.log(last / (FIRST + 0.5)) / 2.0
    counts = [(np.full(servers.shape, float(n)), np.full(servers.shape, 1.0 / n)) for n in range(1, FIRST + 1)]
    for node, part in zip(*np.polynomial.legendre.leggauss(NODES), strict=True):
        counts.append(((FIRST + 0.5) * np.exp(span * (node + 1.0)), part * span))
    chance = mean = variance = cast(Array, 0.0)
    for count, weight in counts:
        gaps, service = count * servers, count * servers * busy
        none, one, two = (gammainc(gaps + k, service) for k in range(3))
        chance, mean = chance + weight * none, mean + weight * np.maximum(service * none - gaps * one, 0.0)
        square = service**2 * none - 2.0 * service * gaps * one + gaps * (gaps + 1.0) * two
        variance = variance + weight * np.maximum(square, 0.0)
    waits = -np.expm1(-chance)
    some = waits > 1e-250
    among = np.where(some, waits, 1.0)
    # With next to none, one waits for the first of c that end at any time of D.
    delay = np.where(some, mean / among, servers * busy / (servers + 1.0))
    unlike = np.where(some, (variance + mean**2) / among / delay**2 - 1.0, servers / (servers + 2.0))
    return waits, delay / busy, unlike


def bursts(work: Array, burstiness: float) -> tuple[Array, Array]:
    """What mean and variance of the waits for one server of constant service are above those of a Poisson process.

    In units of the service; gaps between arrivals are gamma distributed.

    Args:
        work: load, below 1.
        burstiness: coefficient of variation of the gaps.
    """
    work = np.clip(work, LEAST / 10.0, 1.0 - 1e-6)
    spread = variability_of_gaps(burstiness)
    waits, delay, unlike = constant_service(np.full(np.shape(work), 1.0 / spread), work)
    mean, poisson = waits * delay * spread, work / (1.0 - work) / 2.0
    square = (1.0 + unlike) * mean**2 / waits
    return mean - poisson, square - mean**2 - poisson**2 - work / (1.0 - work) / 3.0


@cache
def _constant_service() -> tuple[NDArray[np.float64], ...]:
    """By log2 of the servers in halves, and by y / (1 - y) = (1 - busy) sqrt(servers), in steps of 1/32.

    What `of_constant_service` finds: all of it is smooth there.
    """
    servers: NDArray[np.float64] = 2.0 ** (np.arange(-2.0 * HALVINGS, 2.0 * DOUBLINGS + 1.0) / 2.0)[:, None]
    spare = np.linspace(0.0, 1.0, STEPS + 1)[1:-1]
    busy = np.clip(1.0 - spare / (1.0 - spare) / np.sqrt(servers), LEAST, 1.0 - 1e-6)
    waits, delay, unlike = constant_service(servers, busy)
    exponential = erlang_c(servers, busy)
    few = np.where(exponential > 1e-250, waits / np.maximum(exponential, 1e-250), 1.0)
    found = []
    for column, saturated in ((few, 1.0), (delay * (1.0 - busy), 0.5), (unlike, 1.0)):
        values = np.asarray(column)
        edge = np.full((len(servers), 1), saturated)
        found.append(np.concatenate([edge, values, values[:, -1:]], axis=1))
    return tuple(found)


def of_constant_service(servers: Array, busy: Array) -> tuple[Array, Array, Array]:
    """M/D/c beside M/M/c: how many wait for each that does there, how long those do for each second there, how unlike.

    Args:
        servers: above 0; need not be whole.
        busy: load, below 1.

    Returns:
        Ratio of the shares that wait, of the mean waits of those that do, and their squared coefficient of variation.
    """
    spare = (1.0 - busy) * np.sqrt(servers)
    row = np.clip(2.0 * (np.log2(servers) + HALVINGS), 0.0, 2.0 * (HALVINGS + DOUBLINGS) - NEAR)
    column = np.clip(spare / (1.0 + spare) * STEPS, 0.0, STEPS - NEAR)
    # Of what is no number (a deployment that cannot run) any cell will do: the result is none either.
    i, j = (np.floor(np.nan_to_num(place)).astype(np.intp) for place in (row, column))
    right, up = column - j, row - i
    few, long, unlike = (
        (table[i, j] * (1.0 - right) + table[i, j + 1] * right) * (1.0 - up)
        + (table[i + 1, j] * (1.0 - right) + table[i + 1, j + 1] * right) * up
        for table in _constant_service()
    )
    return few, long, unlike
