"""Which deployments, and how many copies of each, for a demand: the words of the fleet problem.

Buckets of demand are shared among options, copies of an option are whole:

    f[b, o] >= 0   share of bucket b that option o serves, served up to 1
    y[o]    whole  copies (replicas) of option o

    sum_b f[b, o] rate_b / rates[o, b] <= (1 - headroom) (y[o] - spares where y[o] > 0)      the load of the copies

The load of a copy is additive: a replica that could serve 4 requests/s of one bucket or 2 of another serves half of
each. That is Mélange's assumption (2404.14527), stated here and checked by the simulator on the answers.

`dse.search.fleet_program` writes the program down and solves it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Device:
    """What one accelerator of a kind costs and draws."""

    name: str
    usd_per_hour: float
    watts: float = 0.0
    """Drawn when busy, its share of the host included."""
    capital_usd: float = 0.0
    """Paid at once; 0 where it is rented."""
    box: int = 1
    """Devices that can only be had together."""
    stock: int | None = None
    """Most devices of this kind there are; None for any number."""
    site: str = ""
    """Where it stands."""
    counted_as: str = ""
    """What it is where its name says more, as that of a box: devices of one chip are counted together."""

    @property
    def kind(self) -> str:
        """What it is counted as where there is a stock, or fleets are to differ in kind."""
        return self.counted_as or self.name


@dataclass(frozen=True, eq=False)
class Option:
    """A deployment the fleet may hold copies of."""

    name: str
    """Unique. Of equally good answers the one that is first by name is given."""
    device: str
    devices: int
    """Of one replica."""
    rates: Floats
    """Requests/s of one replica that serves one bucket and nothing else, within its SLO; 0 where it cannot. Shape
    (buckets,)."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Devices of other kinds that a replica has beside those."""

    @property
    def held(self) -> dict[str, int]:
        """Devices of one replica by kind."""
        return {self.device: self.devices, **self.others}

    @property
    def size(self) -> int:
        """All devices of one replica."""
        return self.devices + sum(self.others.values())


@dataclass(frozen=True, eq=False)
class Fleet:
    """A demand, what may serve it, and within which limits."""

    demand: Floats
    """Requests/s of each bucket at the peak the fleet is sized for. Shape (buckets,)."""
    options: tuple[Option, ...]
    devices: Mapping[str, Device]
    headroom: float = 0.0
    """Share of every replica's capacity that is left free."""
    spares: int = 0
    """Replicas of each option in use that may fail without loss: N + spares."""
    usd_per_hour: float | None = None
    """The most the fleet may cost."""
    capital_usd: float | None = None
    watts: float | None = None
    site_watts: Mapping[str, float] = field(default_factory=dict)
    """Site -> the most that may be drawn there."""
    slices: int | None = None
    """Shares are whole multiples of 1/slices (Mélange's form); None: any share."""
    weights: Floats | None = None
    """Worth of a served request of each bucket, where served demand is what is wanted; None: 1 each."""

    @cached_property
    def rates(self) -> Floats:
        """Requests/s of a replica. Shape (options, buckets)."""
        return np.array([option.rates for option in self.options]).reshape(len(self.options), len(self.demand))

    @cached_property
    def loads(self) -> Floats:
        """Replicas that all of a bucket needs, headroom included; infinite: cannot. Shape (options, buckets)."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            loads = self.demand / (self.rates * (1.0 - self.headroom))
        return np.where(self.rates > 0, loads, np.inf)

    @property
    def worths(self) -> Floats:
        """Requests/s of each bucket, by their worth. Shape (buckets,)."""
        return self.demand if self.weights is None else self.demand * self.weights

    @property
    def wanted(self) -> NDArray[np.intp]:
        """Buckets with any demand."""
        return np.flatnonzero(self.demand > 0)

    @property
    def unservable(self) -> NDArray[np.intp]:
        """Buckets with demand that no option can serve."""
        can = np.any(self.rates > 0, axis=0) if self.options else np.zeros(len(self.demand), dtype=bool)
        return np.flatnonzero((self.demand > 0) & ~can)

    @property
    def stocks(self) -> dict[str, int]:
        """The most there are, by kind of device."""
        found: dict[str, int] = {}
        for _, device in sorted(self.devices.items()):
            if device.stock is not None:
                found[device.kind] = min(device.stock, found.get(device.kind, device.stock))
        return found

    def kinds_of(self, devices: Iterable[str]) -> frozenset[str]:
        """The kinds among some devices, given by name."""
        return frozenset(self.devices[name].kind for name in devices)

    @property
    def coupled(self) -> bool:
        """Whether anything but the demand ties one option to another."""
        used = [self.devices[name] for option in self.options for name in option.held]
        limits = (self.usd_per_hour, self.capital_usd, self.watts)
        tied = any(d.box > 1 or d.stock is not None or d.site in self.site_watts for d in used)
        return tied or any(limit is not None for limit in limits)

    def of(self, options: Sequence[Option]) -> Fleet:
        """The same problem with other options."""
        return replace(self, options=tuple(options))

    def scaled(self, factor: float) -> Fleet:
        """The same problem with so much more demand."""
        return replace(self, demand=self.demand * factor)

    def usd_of(self, option: Option) -> float:
        """Dollars per hour of one replica."""
        return sum(count * self.devices[name].usd_per_hour for name, count in option.held.items())

    def slower(self, factor: float) -> Fleet:
        """The same problem with all throughputs times a factor."""
        return self.of([replace(option, rates=option.rates * factor) for option in self.options])

    def priced(self, factors: Mapping[str, float]) -> Fleet:
        """The same problem with the prices of some devices times a factor."""
        changed = {
            name: replace(device, usd_per_hour=device.usd_per_hour * factors.get(name, 1.0))
            for name, device in self.devices.items()
        }
        return replace(self, devices=changed)


@dataclass(frozen=True, eq=False)
class Answer:
    """A fleet, as good as its status says."""

    status: str
    """As `dse.search.milp.Status`."""
    gap: float
    bound: float
    """No fleet is cheaper than this (or, where served demand is wanted, serves more)."""
    options: tuple[Option, ...] = ()
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Replicas of each option, at least one."""
    shares: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """Share of each bucket per option. Shape (options, buckets)."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """Accelerators by name, the empty places of whole boxes included."""
    usd_per_hour: float = float("nan")
    capital_usd: float = 0.0
    watts: float = 0.0

    @property
    def found(self) -> bool:
        """Whether there is a fleet."""
        return self.status in ("optimal", "feasible")

    def utilisation(self, fleet: Fleet) -> Floats:
        """Share of each option's replicas, spares included, that the demand keeps busy. Shape (options,)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            busy = np.where(self.shares > 0, self.shares * fleet.demand / _rates(self.options), 0.0)
        return np.asarray(busy.sum(axis=1) / self.counts)

    def served(self, fleet: Fleet) -> float:
        """Requests/s served."""
        return float(np.sum(self.shares.sum(axis=0) * fleet.demand)) if len(self.options) else 0.0

    def worth(self, fleet: Fleet) -> float:
        """Requests/s served, by their worth."""
        return float(np.sum(self.shares.sum(axis=0) * fleet.worths)) if len(self.options) else 0.0


def _rates(options: Sequence[Option]) -> Floats:
    return np.array([option.rates for option in options])


WHOLE = 1e-6
"""Distance of a bucket's total share from one that is the solver's noise."""

HELD_DIGITS = 9
"""Decimals of a share in an answer."""


def tidied(shares: Floats) -> Floats:
    """Shares without the noise of a solver: rounded, and those of a bucket that is served in full sum to one.

    Args:
        shares: of each bucket per option. Shape (options, buckets).
    """
    shares = np.round(shares, HELD_DIGITS)
    totals = shares.sum(axis=0)
    return np.asarray(np.where(np.abs(totals - 1) < WHOLE, shares / np.where(totals > 0, totals, 1.0), shares))


def canonical(fleet: Fleet) -> Fleet:
    """The options by name: HiGHS may answer rows in another order with another of equally good fleets."""
    return fleet.of(sorted(fleet.options, key=lambda option: option.name))


def pruned(fleet: Fleet) -> Fleet:
    """The problem without options that whole copies of another do as well, for no more of anything that is scarce.

    Option a rules out b where k copies of a cost no more than one of b (dollars, and watts, capital, devices of a
    kind where these are limited), and serve at least as much of every bucket.
    """
    options = [option for option in fleet.options if np.any(option.rates[fleet.wanted] > 0)]
    if len(options) < 2:
        return fleet.of(options)
    cost = _scarce(fleet, options)
    rates = np.array([option.rates for option in options])[:, fleet.wanted]
    keep = np.ones(len(options), dtype=bool)
    for b in range(len(options)):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(cost > 0, cost[b] / cost, np.where(cost[b] >= cost, np.inf, 0.0))
        # The smallest float below a whole number of copies is that number: prices are sums of decimals.
        copies = np.floor(ratio.min(axis=1) * (1 + 1e-12))
        copies = np.where(np.isfinite(copies), copies, 1e9)
        beats = keep & (copies >= 1) & np.all(copies[:, None] * rates >= rates[b], axis=1)
        beats[b] = False
        equal = (copies == 1) & np.all(rates == rates[b], axis=1) & np.all(cost == cost[b], axis=1)
        beats &= ~equal | (np.arange(len(options)) < b)  # of twins the first by name stays
        keep[b] = not np.any(beats)
    return fleet.of([option for option, kept in zip(options, keep, strict=True) if kept])


def _scarce(fleet: Fleet, options: Sequence[Option]) -> Floats:
    """What a replica of each option takes of everything that is limited or paid for. Shape (options, things)."""
    names = sorted({name for option in options for name in option.held})
    counts = np.array([[option.held.get(name, 0) for name in names] for option in options], dtype=float)
    of = [fleet.devices[name] for name in names]
    per_device = [[device.usd_per_hour for device in of]]
    if fleet.watts is not None:
        per_device.append([device.watts for device in of])
    if fleet.capital_usd is not None:
        per_device.append([device.capital_usd for device in of])
    per_device += [[each.watts if each.site == site else 0.0 for each in of] for site in sorted(fleet.site_watts)]
    per_device += [[float(each.kind == kind) for each in of] for kind in fleet.stocks]
    for place, device in enumerate(of):
        if device.box > 1:
            per_device.append([float(place == other) for other in range(len(of))])
    things = []
    for each in per_device:
        taken = np.zeros(len(options))
        for place, amount in enumerate(each):  # in a fixed order: equal prices must be equal to the last bit
            taken = taken + counts[:, place] * amount
        things.append(taken)
    return np.array(things).T
