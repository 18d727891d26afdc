"""How many prefill and decode workers keep pace with each other: rate matching.

x prefill workers of R_p requests/s on g_p devices and y decode workers of R_d requests/s on g_d devices serve

    min(x R_p, y R_d)    requests/s    on    x g_p + y g_d    devices

(DistServe, 2401.09670 section 4.2; aiconfigurator's disaggregated mode). For given y the rate per device grows with x
until x R_p reaches y R_d and falls from there on: the best x is one of the two whole numbers beside y R_d / R_p, or
the most there may be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.cost.work import Array

Mask = NDArray[np.bool_]

BETTER = 1.0 + 1e-12
"""By how much more workers must serve more per device to be preferred: rounding must not make a pair beat its half."""


@dataclass(frozen=True)
class Matched:
    """Workers of both pools; NaN where the devices do not hold one of each."""

    prefill: Array
    decode: Array
    requests_per_s: Array
    per_device: Array
    """Requests per second and device; 0 where there are no workers."""

    def beats(self, other: Matched) -> Mask:
        """Where it serves more per device than another."""
        return np.greater(self.per_device, other.per_device * BETTER)

    def where(self, chosen: Mask, other: Matched) -> Matched:
        """It where `chosen`, else another."""
        fields = self.__dataclass_fields__
        return Matched(*(np.where(chosen, getattr(self, name), getattr(other, name)) for name in fields))


def match(
    rates: tuple[Array, Array], sizes: tuple[Array, Array], devices: Array, max_workers: int, fill: float | None = None
) -> Matched:
    """The pair of counts that serves most requests per device; of equal ones that with the fewest devices.

    Args:
        rates: requests/s of a prefill worker and of a decode worker.
        sizes: devices of each.
        devices: most devices of both pools; may be infinite.
        max_workers: most workers of a pool.
        fill: a number of devices of which both pools must be a whole part, so that replicas of them use all.
    """
    (of_prefill, of_decode), (g_p, g_d) = rates, sizes
    shape = np.broadcast_shapes(*map(np.shape, (of_prefill, of_decode, g_p, g_d, devices)))
    per_device, prefill, decode = np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.nan)
    if fill is None:
        counts = _balanced(of_decode / of_prefill, sizes, devices, max_workers)
    else:
        counts = _filling(int(fill), sizes, devices, max_workers)
    for x, y, there in counts:
        found = np.minimum(x * of_prefill, y * of_decode) / (x * g_p + y * g_d)
        better = (found > per_device * BETTER) & there
        per_device = np.where(better, found, per_device)
        prefill = np.where(better, x, prefill)
        decode = np.where(better, y, decode)
    return Matched(prefill, decode, np.minimum(prefill * of_prefill, decode * of_decode), per_device)


def fills(whole: int, sizes: tuple[Array, Array], max_workers: int) -> Mask:
    """Where some counts of workers of these sizes take a whole part of the devices."""
    found = np.zeros(np.broadcast_shapes(*map(np.shape, sizes)), dtype=bool)
    for _, _, there in _filling(whole, sizes, whole, max_workers):
        found |= there
    return found


Counts = Iterator[tuple[Array, Array, Mask]]
"""Workers of both pools, and where there may be so many; those on fewer devices come first."""


def _balanced(balance: Array, sizes: tuple[Array, Array], devices: Array, max_workers: int) -> Counts:
    """For every number of decode workers the whole numbers beside the prefill workers that would keep pace."""
    g_p, g_d = sizes
    most = np.minimum(np.floor((devices - g_p) / g_d), max_workers)
    for y in range(1, int(np.max(most, initial=0)) + 1):
        room = np.minimum(np.floor((devices - y * g_d) / g_p), max_workers)
        below = np.floor(y * balance)
        for x in (below, below + 1):
            yield np.clip(x, 1, np.maximum(room, 1)), float(y), np.greater_equal(room, 1)


def _filling(whole: int, sizes: tuple[Array, Array], devices: Array, max_workers: int) -> Counts:
    """Every pair of counts that takes a whole part of the devices."""
    g_p, g_d = sizes
    for part in range(1, whole + 1):
        if whole % part:
            continue
        for y in range(1, min(part, max_workers) + 1):
            x = (part - y * g_d) / g_p
            there = (x >= 1) & (x <= max_workers) & (np.mod(x, 1.0) == 0) & (part <= devices)
            if np.any(there):
                yield x, float(y), there
