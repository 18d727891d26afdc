"""Seconds per unit of work on the mesh's accelerators: each kind of work looked up once, as small tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices, Table
from dse.cost.efficiency import Fidelity
from dse.cost.forms import US, Law, Roofs, law
from dse.cost.mesh import Mesh
from dse.cost.work import Array, Form, Group, Launch, Operands, Quantity, Work
from dse.spec.calibration import Fitted, cache_key, product_key, scores_key
from dse.spec.hardware import HardwareSpec
from dse.spec.precision import Precision

RATE_AXES = ("hardware", "precision", "fidelity")

STANDINGS = ("ideal", "datasheet", "transferred", "calibrated")
"""What the time of an operator rests on, weakest first."""


class Kind(NamedTuple):
    """What decides the seconds per unit of an operator."""

    form: Form
    included: bool
    group: Group
    operands: Operands

    @classmethod
    def of(cls, work: Work) -> Kind:
        """That of an operator."""
        return cls(work.form, work.included, work.group, work.operands)


@dataclass(frozen=True, slots=True)
class LawTables:
    """Laws of all chips, precisions and fidelities: a table per quantity, without those that are all zero."""

    flops: Table | None
    bytes: Table | None
    rest: dict[Quantity, Table] = field(default_factory=dict)
    launch: dict[Launch, Table] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LawArrays:
    """The same on a mesh; a plain 0 for what is zero everywhere."""

    flops: Array
    bytes: Array
    rest: dict[Quantity, Array]
    launch: dict[Launch, Array]


@dataclass
class Rates:
    """Laws of the mesh's accelerators."""

    mesh: Mesh
    choices: Choices

    @cached_property
    def _found(self) -> dict[Kind, LawArrays]:
        return {}

    def of(self, work: Work) -> LawArrays:
        """Seconds per unit of each quantity of an operator, shapes over (hardware, precision, fidelity)."""
        kind = Kind.of(work)
        if kind not in self._found:
            tables: LawTables = self.choices.cached(kind, lambda: law_tables(self.choices, kind))
            self._found[kind] = LawArrays(
                self._taken(tables.flops),
                self._taken(tables.bytes),
                {name: self._taken(table) for name, table in tables.rest.items()},
                {name: self._taken(table) for name, table in tables.launch.items()},
            )
        return self._found[kind]

    def launch(self, work: Work) -> Array:
        """Seconds a kernel costs beside its work, given its first operator."""
        total: Array = 0.0
        for name, per_unit in self.of(work).launch.items():
            if name == "kernel":
                total = total + per_unit
            elif name in work.launch:
                total = total + per_unit * work.launch[name]
        return total

    def _taken(self, table: Table | None) -> Array:
        return 0.0 if table is None else self.mesh.take(table, *RATE_AXES)


def law_tables(choices: Choices, kind: Kind) -> LawTables:
    """The laws of one kind of work along the axes of the rates."""
    shape = (len(choices.hardware), len(choices.precision), len(choices.fidelity))
    laws = [_law(choices, kind, *at) for at in np.ndindex(shape)]

    def table(values: list[float]) -> Table | None:
        return np.array(values).reshape(shape) if any(values) else None

    rest: dict[Quantity, Table] = {}
    for quantity in dict.fromkeys(name for found in laws for name in found.rest):
        if (filled := table([found.rest.get(quantity, 0.0) for found in laws])) is not None:
            rest[quantity] = filled
    launch: dict[Launch, Table] = {}
    for unit in dict.fromkeys(name for found in laws for name in found.launch):
        if (filled := table([found.launch.get(unit, 0.0) for found in laws])) is not None:
            launch[unit] = filled
    return LawTables(table([found.flops for found in laws]), table([found.bytes for found in laws]), rest, launch)


def _law(choices: Choices, kind: Kind, h: int, p: int, f: int) -> Law:
    chip, precision, fidelity = choices.hardware[h], choices.precision[p], choices.fidelities[f]
    peak, used = choices.peak(chip, precision, kind.operands)
    fitted = fitted_set(choices, kind, chip, precision) if fidelity.fitted else None
    if fitted is not None:
        return law(kind.form, kind.included, fitted, Roofs.of(chip, peak))
    narrow = choices.weight_only(precision, kind.operands)
    return _default(fidelity, kind.group, chip, peak, used, narrow)


def _default(fidelity: Fidelity, group: Group, chip: HardwareSpec, peak: float, used: str, narrow: bool) -> Law:
    """The roofline with the default shares of a class."""
    of_class = fidelity.groups[group]
    compute, memory = of_class.compute * fidelity.compute_of.get(used, 1.0), of_class.memory
    if narrow:
        compute *= fidelity.weight_only_compute
        memory *= fidelity.weight_only_memory
    launch: dict[Launch, float] = {"kernel": of_class.fixed_us * US}
    return Law(1.0 / (peak * compute), 1.0 / (chip.bandwidth * memory), launch=launch)


def fitted_set(choices: Choices, kind: Kind, chip: HardwareSpec, precision: Precision) -> Fitted | None:
    """The fitted set an operator's time rests on; None where there is none."""
    if kind.form == "default" or chip.calibration is None:
        return None
    return chip.calibration.find(kind.form, _key(choices, kind, chip, precision))


def _key(choices: Choices, kind: Kind, chip: HardwareSpec, precision: Precision) -> str:
    if kind.form in ("decode", "latent_decode"):
        return cache_key(precision.kv_cache)
    if kind.form == "latent_prefill":
        return "bf16"
    # What stands inside the time of experts has no weights of its own.
    operands: Operands = "weights" if kind.included else kind.operands
    used = choices.compute_type(chip, precision, operands)[1]
    if kind.form == "prefill":
        return scores_key(used, precision.kv_cache)
    return product_key(getattr(precision, operands), used)


def standing(work: Work, rates: Rates) -> NDArray[np.int8]:
    """What an operator's time rests on, as an index into `STANDINGS`, on the mesh."""
    kind, choices = Kind.of(work), rates.choices
    table = choices.cached(("standing", kind), lambda: standings(choices, kind).astype(float))
    found: NDArray[np.int8] = rates.mesh.take(table, *RATE_AXES).astype(np.int8)
    return found if work.message is None else np.maximum(found, work.message.routes.standing)


def standings(choices: Choices, kind: Kind) -> NDArray[np.int8]:
    """What an operator's time rests on, as an index into `STANDINGS`: shape (hardware, precision, fidelity)."""
    shape = (len(choices.hardware), len(choices.precision), len(choices.fidelity))
    found: NDArray[np.int8] = np.empty(shape, dtype=np.int8)
    for h, p, f in np.ndindex(shape):
        fidelity = choices.fidelities[f]
        name = "ideal" if fidelity.name == "ideal" else "datasheet"
        if fidelity.fitted:
            fitted = fitted_set(choices, kind, choices.hardware[h], choices.precision[p])
            if fitted is not None:
                name = "transferred" if fitted.inherited else "calibrated"
        found[h, p, f] = STANDINGS.index(name)
    return found
