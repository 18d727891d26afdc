"""How many prefill and decode workers keep pace with each other: rate matching.

x prefill workers of R_p requests/s on g_p devices and y decode workers of R_d requests/s on g_d devices serve

    min(x R_p, y R_d)    requests/s    on    x g_p + y g_d    devices

(DistServe, 2401.09670 section 4.2; aiconfigurator's disaggregated mode). For given y the rate per device grows with x
until x R_p reaches y R_d and falls from there on: the best x is one of the two whole numbers beside y R_d / R_p, or
the most there may be.
"""

from __future__ import annotations

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


def match(rates: tuple[Array, Array], sizes: tuple[Array, Array], devices: Array, max_workers: int) -> Matched:
    """The pair of counts that serves most requests per device; of equal ones that with the fewest devices.

    Args:
        rates: requests/s of a prefill worker and of a decode worker.
        sizes: devices of each.
        devices: most devices of both pools; may be infinite.
        max_workers: most workers of a pool.
    """
    (of_prefill, of_decode), (g_p, g_d) = rates, sizes
    shape = np.broadcast_shapes(*map(np.shape, (of_prefill, of_decode, g_p, g_d, devices)))
    per_device, prefill, decode = np.zeros(shape), np.full(shape, np.nan), np.full(shape, np.nan)
    balance = of_decode / of_prefill
    most = np.minimum(np.floor((devices - g_p) / g_d), max_workers)
    for y in range(1, int(np.max(most, initial=0)) + 1):
        room = np.minimum(np.floor((devices - y * g_d) / g_p), max_workers)
        below = np.floor(y * balance)
        for x in (below, below + 1):
            workers = np.clip(x, 1, room)
            found = np.minimum(workers * of_prefill, y * of_decode) / (workers * g_p + y * g_d)
            better = (found > per_device * BETTER) & (room >= 1)
            per_device = np.where(better, found, per_device)
            prefill = np.where(better, workers, prefill)
            decode = np.where(better, y, decode)
    return Matched(prefill, decode, np.minimum(prefill * of_prefill, decode * of_decode), per_device)
