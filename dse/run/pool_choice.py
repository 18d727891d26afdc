"""Which deployments of two pools a plan needs to know: those that replicas, or few others, cannot stand in for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Held = Mapping[str, int]

ENOUGH = 0.93
"""Share of the most requests per dollar that stands in for it: counts of workers differ by little, and each deployment
more is a whole number more for the program to find."""


@dataclass
class Rivals:
    """What there is to choose from beside: rates of replicas, and what they hold."""

    held: list[Held]
    rates: Floats
    """Shape (rivals, sizes)."""

    def copies(self, held: Sequence[Held]) -> Floats:
        """Of each rival (column) how many stand on the accelerators of each deployment (row)."""
        names = sorted({name for each in (*held, *self.held) for name in each})
        ours, theirs = (np.array([[one.get(n, 0) for n in names] for one in each]) for each in (held, self.held))
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(theirs[None] > 0, ours[:, None] // theirs[None], np.inf)
        return np.asarray(times.min(axis=2))

    def beat(self, held: Sequence[Held], most: Floats) -> NDArray[np.bool_]:
        """Which deployments cannot serve more of any size than rivals in their place."""
        if not self.held or not len(held):
            return np.zeros(len(held), dtype=bool)
        copies = self.copies(held)
        out = np.zeros(len(held), dtype=bool)
        for place, (times, rates) in enumerate(zip(copies, most, strict=True)):
            near = times >= 1
            out[place] = np.any(np.all(times[near, None] * self.rates[near] >= rates[None], axis=1))
        return out

    def of(self, names: frozenset[str]) -> Rivals:
        """Those that hold no other accelerators."""
        chosen = [place for place, held in enumerate(self.held) if held.keys() <= names]
        return Rivals([self.held[place] for place in chosen], self.rates[chosen])

    def with_(self, held: Sequence[Held], rates: Floats) -> Rivals:
        """They and more."""
        return Rivals([*self.held, *held], np.concatenate([self.rates, rates]))


def needed(
    held: Sequence[Held], rates: Floats, rivals: Rivals, caps: Sequence[int], usd: Mapping[str, float], *, scarce: bool
) -> list[int]:
    """Few deployments that, beside the rivals, come near the most requests per dollar of every size, large and small.

    Args:
        held: what each holds.
        rates: requests/s, shape (deployments, sizes).
        rivals: what there is beside.
        caps: accelerators that a deployment may hold: for each of these limits some come near the best.
        usd: dollars per accelerator and hour.
        scarce: whether something but money is limited: then what is cheaper does not stand in for an unlike pair.
    """
    found: list[int] = []
    kinds = [frozenset(each) for each in held]
    for names in sorted(dict.fromkeys(kinds), key=lambda names: (len(names), sorted(names))):
        mine = [place for place, each in enumerate(kinds) if each == names]
        beside = rivals.of(names).with_([held[place] for place in found], rates[found]).of(names)
        if len(names) > 1 and scarce:
            beside = beside.of(frozenset())
        found += [mine[place] for place in _covering([held[p] for p in mine], rates[mine], beside, caps, usd)]
    return sorted(found)


def _covering(
    held: Sequence[Held], rates: Floats, beside: Rivals, caps: Sequence[int], usd: Mapping[str, float]
) -> list[int]:
    """A cover of limits and sizes, the deployment first that comes near the best of most of them."""
    near, near_beside = _near([*held, *beside.held], np.concatenate([rates, beside.rates]), len(held), caps, usd)
    open_ = near.any(axis=0) & ~near_beside.any(axis=0)
    chosen = []
    while np.any(open_):
        most = int(np.argmax((near & open_).sum(axis=1)))
        chosen.append(most)
        open_ &= ~near[most]
    return chosen


def _near(
    held: Sequence[Held], rates: Floats, own: int, caps: Sequence[int], usd: Mapping[str, float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where each comes near the best under each limit and of each size: the first `own`, and the others."""
    one_kind = len({name for each in held for name in each}) == 1
    cost = np.array([sum(n * (1.0 if one_kind else usd[name]) for name, n in each.items()) for each in held])
    devices = np.array([sum(each.values()) for each in held])
    worth = rates / cost[:, None]
    columns = []
    for cap in caps:
        within = np.where((devices <= cap)[:, None], worth, 0.0)
        columns.append((within > 0) & (within >= ENOUGH * within.max(axis=0)))
    near = np.concatenate(columns, axis=1)
    return near[:own], near[own:]
