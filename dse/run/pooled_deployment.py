"""x prefill workers and y decode workers as one deployment of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.run.axes import BOXED, PoolAxes
from dse.run.deployment import Deployment, worker_facts
from dse.run.resolve import Sweep
from dse.search.space import Layout
from dse.spec.hardware import HardwareSpec

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class PooledDeployment(Deployment):
    """x prefill workers and y decode workers; what is inherited is of the decode workers."""

    prefill_layout: int = 0
    prefill_hardware: int = 0
    prefill_precision: int = 0
    workers: tuple[int, int] = (1, 1)
    """Of each pool."""

    @property
    def pools(self) -> PoolAxes:
        """Axes of the prefill workers."""
        assert self.sweep.axes.pools is not None
        return self.sweep.axes.pools

    @property
    def prefill_chip(self) -> HardwareSpec:
        """The accelerator of the prefill workers."""
        return self.pools.hardware[self.prefill_hardware]

    @property
    def chips(self) -> list[HardwareSpec]:
        """The accelerators of the workers of each pool."""
        return [self.prefill_chip, self.chip]

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        """Of a worker of each pool."""
        return self.pools.layout[self.prefill_layout], self.sweep.axes.layout[self.layout]

    @property
    def devices_of_pools(self) -> tuple[int, int]:
        """Accelerators of each pool."""
        prefill, decode = (count * layout.devices for count, layout in zip(self.workers, self.layouts, strict=True))
        return prefill, decode

    @property
    def held(self) -> dict[str, int]:
        """Accelerators of one deployment by name, those of the decode workers first."""
        prefill, decode = self.devices_of_pools
        found = {self.chip.name: decode}
        found[self.prefill_chip.name] = found.get(self.prefill_chip.name, 0) + prefill
        return found

    @property
    def prompt_devices(self) -> Mapping[str, int]:
        """Accelerators of the prefill workers."""
        return {self.prefill_chip.name: self.devices_of_pools[0]}

    @property
    def engines(self) -> int:
        """Workers of both pools."""
        return sum(self.workers)

    @property
    def pool_facts(self) -> list[dict[str, Any]]:
        """What the workers of each pool are."""
        sweep, mesh = self.points([0], [1.0])
        kinds = self.served(Point(sweep.models[0], sweep.choices_of(0, 0), mesh)).kinds
        names, chips = ("prefill", "decode"), (self.prefill_chip, self.chip)
        return [
            {"pool": name, "workers": count, "hardware": chip.name, **worker_facts(point), "devices": layout.devices}
            for name, count, chip, point, layout in zip(names, self.workers, chips, kinds, self.layouts, strict=True)
        ]

    def points(self, buckets: Sequence[int], rates: Sequence[float]) -> tuple[Sweep, Mesh]:
        """This deployment at some of the model's buckets: the points, and the sweep they are of."""
        axes, variant, pools = self.sweep.axes, self.sweep.variants[self.box], self.pools
        one: dict[str, Any] = {name: (variant[name],) for name in BOXED}
        one |= {"hardware": (self.chip,), "changes": (axes.changes[self.hardware],)}
        one |= {"layout": (axes.layout[self.layout],), "precision": (axes.precision[self.precision],)}
        one |= {"workload": tuple(axes.workload[bucket] for bucket in buckets), "rate": tuple(rates)}
        one["pools"] = replace(
            pools, hardware=(self.prefill_chip,), layout=(pools.layout[self.prefill_layout],),
            precision=(pools.precision[self.prefill_precision],),
        )  # fmt: skip
        sweep = replace(
            self.sweep, axes=replace(axes, **one),
            accuracy=((self.sweep.accuracy[0][self.precision],),),
            prefill_accuracy=((self.sweep.prefill_accuracy[0][self.prefill_precision],),),
        )  # fmt: skip
        zero, place = np.zeros(len(buckets), dtype=np.intp), np.arange(len(buckets))
        choices = sweep.choices_of(0, 0)
        index = {"workload": place, "rate": place, **widest(choices, zero)}
        return sweep, Mesh.points(choices.axes, [index.get(axis, zero) for axis in choices.axes])

    def most(self, bucket: int) -> int:
        """The limit on the sequences of a decode worker."""
        return max(self.pools.decode_batch)

    def served(self, point: Point) -> Pooled:
        """Its steady state at these points."""
        prefill, decode = (np.full(1, float(count)) for count in self.workers)
        return Pooled(point, point.choices.runtime).with_workers(prefill, decode)


def widest(choices: Choices, zero: Indices) -> dict[str, Indices]:
    """The largest limits: the rate decides how many run."""
    return {axis: zero + int(np.argmax(choices.along(axis))) for axis in ("batch", "prefill_batch")}
