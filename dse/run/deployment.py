"""One way to run a model: what a plan chooses from, and how it is looked at again at the rate it runs at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES
from dse.cost.feasible import STRUCTURE
from dse.cost.mesh import Mesh
from dse.cost.modes import served
from dse.cost.open_loop import Capped, OpenLoop
from dse.cost.phases import Point
from dse.cost.serving import Static
from dse.cost.techniques import TECHNIQUES
from dse.run.axes import BOXED, DEGREES, OPEN
from dse.run.resolve import Sweep
from dse.search.fleet import Option
from dse.search.space import Layout
from dse.spec.hardware import HardwareSpec

Floats = NDArray[np.float64]

CODES = {reason: code for code, reason in enumerate(STRUCTURE, 1)}
"""Why a deployment cannot run, as codes."""


@dataclass(frozen=True, eq=False)
class Deployment:
    """One way to run a model on an accelerator."""

    name: str
    model: int
    sweep: Sweep
    box: int
    """Which of the sweep's variants: serving, offloading, engine."""
    layout: int
    hardware: int
    precision: int
    batch: NDArray[np.intp]
    """Index of the batch limit chosen for each of the model's buckets."""
    rates: Floats
    """Requests/s of each of the model's buckets; 0 where it cannot serve it."""

    @property
    def chip(self) -> HardwareSpec:
        """The accelerator."""
        return self.sweep.hardware[self.hardware]

    @property
    def devices(self) -> int:
        """Accelerators of a replica."""
        return self.sweep.axes.layout[self.layout].devices

    @property
    def held(self) -> Mapping[str, int]:
        """Accelerators of a replica by name."""
        return {self.chip.name: self.devices}

    def option(self, name: str, rates: Floats, site: str = "") -> Option:
        """It as an option of a fleet, at a site."""
        own, *others = [(f"{chip}@{site}" if site else chip, count) for chip, count in self.held.items()]
        return Option(name, *own, rates, dict(others))

    @property
    def prompt_devices(self) -> Mapping[str, int] | None:
        """Accelerators that compute prompts and nothing else; None where all do both."""
        return None

    @property
    def engines(self) -> int:
        """Engines of a replica."""
        return 1

    @property
    def pool_facts(self) -> list[dict[str, Any]]:
        """What the workers of each pool are, those that compute prompts first; nothing where there is one kind."""
        return []

    @property
    def chips(self) -> list[HardwareSpec]:
        """The accelerators of the workers of each kind, in the order of `pool_facts`."""
        return [self.chip]

    @property
    def offloaded(self) -> bool:
        """Whether its tensors are placed over accelerator, host and disk."""
        return bool(self.sweep.variants[self.box]["offload"] == "lp")

    @property
    def chunk_tokens(self) -> int | None:
        """Tokens of an iteration under chunked prefill; None where prompts run whole."""
        stated = self.sweep.variants[self.box]["chunk_tokens"]
        return stated if isinstance(stated, int) else None

    def most(self, bucket: int) -> int:
        """The limit on the sequences in flight."""
        return int(self.sweep.axes.batch[int(self.batch[bucket])])

    def points(self, buckets: Sequence[int], rates: Sequence[float]) -> tuple[Sweep, Mesh]:
        """This deployment at some of the model's buckets: the points, and the sweep they are of.

        Args:
            buckets: of the model's.
            rates: requests/s of one replica that serves the bucket alone, for serving that has arrivals.
        """
        axes, variant = self.sweep.axes, self.sweep.variants[self.box]
        arrivals = variant["serving"] == OPEN
        one: dict[str, Any] = {name: (variant[name],) for name in BOXED}
        one |= {"hardware": (self.chip,), "changes": (axes.changes[self.hardware],)}
        one |= {"layout": (axes.layout[self.layout],), "precision": (axes.precision[self.precision],)}
        one |= {"workload": tuple(axes.workload[bucket] for bucket in buckets)}
        one |= {"rate": tuple(rates) if arrivals else (), "pools": None}
        accuracy = ((self.sweep.accuracy[0][self.precision],),)
        sweep = replace(self.sweep, axes=replace(axes, **one), accuracy=accuracy, prefill_accuracy=())
        zero, place = np.zeros(len(buckets), dtype=np.intp), np.arange(len(buckets))
        index = {"workload": place, "rate": place if arrivals else zero, "batch": self.batch[list(buckets)]}
        return sweep, Mesh.points(AXES, [index.get(axis, zero) for axis in AXES])

    def served(self, point: Point) -> Static:
        """Its steady state at these points: an engine is told to run no more than its cache holds."""
        found = served(point)
        return Capped(found.point, found.runtime) if isinstance(found, OpenLoop) else found


def times_text(excess: float) -> str:
    """`1.35`; `1.23e+04`."""
    return f"{excess:.2f}" if excess < 1000 else f"{excess:.3g}"


@dataclass
class Miss:
    """The deployment that comes closest to serving a bucket."""

    excess: float = np.inf
    """By how much the worst limit is missed: 1.3 is 30 % too much."""
    limit: str = ""
    where: str = ""
    why: str = ""
    """Where nothing can run at all: what stands most often in the way."""

    @property
    def words(self) -> str:
        """What is lacking; empty where nobody knows."""
        if not np.isfinite(self.excess):
            return self.why
        if self.excess > 1.0:
            return f"{self.where} at {times_text(self.excess)} times the limit of {self.limit}"
        return f"{self.where}, where a request by itself keeps every limit, and no rate of arrivals does"

    def nearer(self, other: Miss) -> Miss:
        """The one that misses by less; of two that cannot run, the first that says why."""
        if other.excess < self.excess or (not self.why and not np.isfinite(self.excess)):
            return other
        return self


def worker_facts(point: Point) -> dict[str, Any]:
    """Precision and degrees of a worker, or of a replica, which is one that does all."""
    degrees = {name: int(np.ravel(getattr(point.degrees, name))[0]) for name in DEGREES}
    return {"precision": point.choices.precision[0].name, **degrees}


def degrees_text(layout: Layout) -> str:
    """`tp2 pp2`; `tp1` for one device."""
    return " ".join(f"{n}{getattr(layout, n)}" for n in DEGREES if getattr(layout, n) > 1) or "tp1"


def variant_words(sweep: Sweep, box: int) -> list[str]:
    """What tells a box from the others of the sweep."""
    axes, variant = sweep.axes, sweep.variants[box]
    return [
        variant["serving"] if len(axes.serving) > 1 else "",
        "offloaded" if variant["offload"] == "lp" else "",
        variant["runtime"].name if len(axes.runtime) > 1 else "",
        *(f"{name} {variant[name]}" for name in TECHNIQUES if len(getattr(axes, name)) > 1),
    ]
