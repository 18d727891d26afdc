"""A sweep file -> everything its names stood for, or all of its faults at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from dse.cost.choices import AXES, PREFILL, Choices, Pools
from dse.cost.evaluate import Question
from dse.cost.techniques import TECHNIQUES, active
from dse.run.axes import POOLED, Axes, read_axes, schemes_of
from dse.run.checks import check_names
from dse.run.current import current_axes
from dse.run.faults import Faults
from dse.run.hardware_keys import by_hardware
from dse.run.identity import content, digest
from dse.spec.accuracy import AccuracyDrop, accuracy_drop
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.reading import Document, build
from dse.spec.sweep import SweepFile

UNKNOWN = AccuracyDrop(math.nan, "unknown", "nobody has measured it")

Drops = tuple[tuple[AccuracyDrop, ...], ...]
"""Published loss of quality, per model and precision."""


@dataclass(frozen=True)
class Settings:
    """What holds for all points."""

    max_prefill_tokens: float
    """Tokens of one prompt pass; infinite for no limit."""
    kv_block_size: int
    memory_utilization: float
    host_utilization: float
    overlap: str
    price_kind: str
    price_override: Mapping[str, float]
    burstiness: float
    """Coefficient of variation of the times between arrivals."""
    slo: Mapping[str, float]
    """What a request must meet to count as goodput."""


@dataclass(frozen=True)
class Sweep:
    """A sweep whose every name is resolved."""

    name: str
    axes: Axes
    accuracy: Drops
    settings: Settings
    question: Question
    group_by: tuple[str, ...]
    keep: str
    prefill_accuracy: Drops = ()
    """The same of the precisions of prefill workers, where serving is disaggregated."""
    current: Sweep | None = None
    """The sweep whose points are today's deployment."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """The file's fields as the user wrote them."""

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The axis of models."""
        return self.axes.models

    @property
    def hardware(self) -> tuple[HardwareSpec, ...]:
        """The axis of accelerators."""
        return self.axes.hardware

    @cached_property
    def boxes(self) -> tuple[tuple[Choices, ...], ...]:
        """Per box (variants that differ in more than numbers) the choices of each model.

        All models share one object unless the axis of precisions holds `native`.
        """
        every = range(len(self.models))
        if self.axes.depend_on_model:
            return tuple(tuple(self._choices(box, model) for model in every) for box in range(len(self.variants)))
        return tuple((self._choices(box, 0),) * len(every) for box in range(len(self.variants)))

    @cached_property
    def variants(self) -> list[dict[str, Any]]:
        """Per box, the value of each axis that makes boxes."""
        return self.axes.variants

    def drops(self, box: int, model: int, pool: str = "decode") -> tuple[AccuracyDrop, ...]:
        """Published loss of quality per precision; unknown under a technique that changes what is computed."""
        known = (self.prefill_accuracy if pool == "prefill" else self.accuracy)[model]
        if all(technique.exact for technique, _ in active(self.variants[box])):
            return known
        return (UNKNOWN,) * len(known)

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Axes that a box of the sweep may have after the model, slowest first."""
        return AXES if self.axes.pools is None else (*PREFILL.values(), *AXES)

    @property
    def text_columns(self) -> frozenset[str]:
        """Columns of changed hardware fields that hold text."""
        changes = [change for changed in self.axes.changes for change in changed.items()]
        return frozenset(name for name, value in changes if isinstance(value, str))

    def choices_of(self, box: int, model: int) -> Choices:
        """What the points of a box and model choose from."""
        return self.boxes[box][model]

    def _choices(self, box: int, model: int) -> Choices:
        axes, pools = self.axes, self.axes.pools
        own = {"hardware": axes.hardware, "precision": axes.precision_of(axes.models[model]), "layout": axes.layout}
        if pools is None or self.variants[box]["serving"] != POOLED:
            return self._of_engine(box, "decode", **own, batch=axes.batch)
        prefill = self._of_engine(
            box, "prefill", hardware=pools.hardware, precision=schemes_of(pools.precision, axes.models[model]),
            layout=pools.layout, batch=pools.batch,
        )  # fmt: skip
        devices = math.inf if pools.devices is None else float(pools.devices)
        return replace(
            self._of_engine(box, "decode", **own, batch=pools.decode_batch),
            serving=POOLED, pools=Pools(prefill, devices, pools.max_workers, pools.fill),
        )  # fmt: skip

    def _of_engine(self, box: int, pool: str, **own: Any) -> Choices:
        """What one engine chooses from, given the axes of its pool."""
        axes, settings, variant = self.axes, self.settings, self.variants[box]
        serving = variant["serving"]
        return Choices(
            **own,
            workload=axes.workload,
            fidelity=axes.fidelity,
            rate=axes.rates_of(serving),
            burstiness=settings.burstiness,
            slo=settings.slo,
            techniques={name: value for name, value in variant.items() if name in TECHNIQUES},
            serving="static" if serving == POOLED else serving,
            runtime=variant["runtime"],
            offload=variant["offload"],
            overlap=settings.overlap,
            host_utilization=settings.host_utilization,
            max_prefill_tokens=settings.max_prefill_tokens,
            kv_block_size=settings.kv_block_size,
            memory_utilization=settings.memory_utilization,
            price_kind=settings.price_kind,
            price_override=settings.price_override,
            accuracy={
                spec.name: tuple(drop.pct for drop in self.drops(box, index, pool))
                for index, spec in enumerate(axes.models)
            },
        )

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """Everything a result depends on, as plain values; `dse.run.identity.restore` is its inverse."""
        return content(self)

    @cached_property
    def hash(self) -> str:
        """Identity of the result: the resolved content and the cost model's version, not names or paths."""
        return digest(self.resolved)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


def resolve(document: Document) -> Sweep:
    """The sweep a document describes.

    Raises:
        InputError: every fault of its shape, or else of its meaning, with file, line and column.
    """
    file = build(SweepFile, document)
    faults = Faults()
    axes = read_axes(file, document, faults)
    faults.found += check_names(file, axes, document)
    file = _priced(file, axes, document, faults)
    current = current_axes(file, axes, document, faults)
    faults.check()
    sweep = sweep_of(file, axes, document.value)
    if current is not None:
        today = replace(sweep, axes=current, accuracy=accuracy_of(current), prefill_accuracy=_prefill_accuracy(current))
        sweep = replace(sweep, current=today)
    return sweep


def _priced(file: SweepFile, axes: Axes, document: Document, faults: Faults) -> SweepFile:
    """The sweep with its prices under the names its accelerators have here."""
    names = [chip.name for chip in (*axes.hardware, *(axes.pools.hardware if axes.pools else ()))]
    if not names:  # the axis itself is at fault
        return file
    override = by_hardware(file.price.override, names, "sweep", document, ("price", "override"), faults)
    return file.model_copy(update={"price": file.price.model_copy(update={"override": override})})


def sweep_of(file: SweepFile, axes: Axes, source: Mapping[str, Any] | None = None) -> Sweep:
    """The sweep of a file whose axes are resolved."""
    return Sweep(
        name=file.name,
        axes=axes,
        accuracy=accuracy_of(axes),
        prefill_accuracy=_prefill_accuracy(axes),
        settings=_settings(file),
        question=Question(
            _objectives(file, axes),
            {name: (bound.min, bound.max) for name, bound in file.constraints.items()},
        ),
        group_by=tuple(file.group_by),
        keep=file.keep,
        source=source or {},
    )


def _objectives(file: SweepFile, axes: Axes) -> tuple[str, ...]:
    """What the file asks for; where it says nothing, and no request has a second token, TTFT in the place of TPOT."""
    if "objectives" in file.model_fields_set or not all(workload.decodes_nothing for workload in axes.workload):
        return tuple(file.objectives)
    return tuple("ttft_ms" if name == "tpot_ms" else name for name in file.objectives)


def accuracy_of(axes: Axes) -> Drops:
    """Published loss of quality of every model and precision."""
    return tuple(tuple(accuracy_drop(model, scheme) for scheme in axes.precision_of(model)) for model in axes.models)


def _prefill_accuracy(axes: Axes) -> Drops:
    if axes.pools is None:
        return ()
    schemes = axes.pools.precision
    return tuple(tuple(accuracy_drop(model, scheme) for scheme in schemes_of(schemes, model)) for model in axes.models)


def _settings(file: SweepFile) -> Settings:
    limit = file.max_prefill_tokens
    return Settings(
        max_prefill_tokens=math.inf if limit == "unlimited" else float(limit),
        kv_block_size=file.kv_block_size,
        memory_utilization=file.memory_utilization,
        host_utilization=file.host_utilization,
        overlap=file.overlap,
        price_kind=file.price.kind,
        price_override=file.price.override,
        burstiness=file.burstiness,
        slo=file.slo.model_dump(exclude_none=True),
    )
