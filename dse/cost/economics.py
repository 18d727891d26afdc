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
from dse.cost.serving import Static
from dse.cost.setting import Phase
from dse.cost.work import Array

IDLE_SHARE = 0.3
"""Share of the TDP drawn while kernels wait."""


def duty(point: Point, phase: Phase, elapsed: Array) -> Array:
    """Share of the seconds `elapsed` of a phase that a device's kernels run at one of the roofs, 0 to 1."""
    return cast(Array, np.minimum(point.busy_seconds(phase) / elapsed, 1.0))


def joules_per_batch(served: Static) -> Array:
    """Energy of all devices of a replica in the time that finishes one running batch of requests, joules."""
    point, entering = served.running, served.entering
    watts = point.mesh.take(point.choices.of_hardware("tdp_w"), "hardware") * point.degrees.devices
    of_prompt, of_decode, rest = served.spent
    prompt = (IDLE_SHARE + (1 - IDLE_SHARE) * duty(entering, "prefill", served.prompt)) * of_prompt
    decode = (IDLE_SHARE + (1 - IDLE_SHARE) * duty(point, "decode", served.step)) * of_decode
    return cast(Array, watts * (prompt + decode + IDLE_SHARE * rest))


def usd_per_hour(point: Point) -> Array:
    """Rent of all devices of a replica, NaN where no price of the chosen kind is known."""
    return cast(Array, point.mesh.take(point.choices.prices, "hardware") * point.degrees.devices)
