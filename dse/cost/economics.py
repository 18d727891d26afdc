"""Dollars and joules.

Power model: a device draws TDP x (0.3 + 0.7 duty), duty the share of the time its kernels run at a roof rather
than wait for launches or the network. Fitted by eye to Splitwise's measurements (2311.18677; A100, Llama-2-70B
and BLOOM-176B): prompts draw 0.98-1.08 of the TDP; decode 0.74 at 2 devices, 0.60 at 4, 0.43 at 8, where the
bandwidth reached is 0.62, 0.38 and 0.19 of the peak. The board only: no host, cooling or conversion losses.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from dse.cost.phases import Point
from dse.cost.serving import Static, total
from dse.cost.setting import Phase
from dse.cost.work import Array

IDLE_SHARE = 0.3
"""Share of the TDP drawn while kernels wait."""


def duty(point: Point, phase: Phase, elapsed: Array) -> Array:
    """Share of the seconds `elapsed` of a phase that a device's kernels run at one of the roofs, 0 to 1."""
    return cast(Array, np.minimum(point.busy_seconds(phase) / elapsed, 1.0))


def joules(served: Static) -> Array:
    """Energy of all devices of a deployment in the time that finishes `served.finished` requests, joules."""
    found: Array = 0.0
    for pool, (spells, rest) in zip(served.pools, served.spells, strict=True):
        point, drawn = pool.point, cast(Array, 0.0)
        watts = point.mesh.take(point.choices.of_hardware("tdp_w"), "hardware") * point.degrees.devices * pool.workers
        for spell in spells:
            busy = duty(spell.point, spell.phase, spell.once)
            drawn = drawn + (IDLE_SHARE + (1 - IDLE_SHARE) * busy) * spell.seconds
        found = found + watts * (drawn + IDLE_SHARE * rest)
    return found


def usd_per_hour(served: Static) -> Array:
    """Rent of all devices of a deployment, NaN where no price of the chosen kind is known."""
    return total(
        pool.point.mesh.take(pool.point.choices.prices, "hardware") * pool.point.degrees.devices * pool.workers
        for pool in served.pools
    )
