"""A plan file -> models, buckets of demand, accelerators with their prices, axes to choose from; or all its faults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dse.errors import Fault, InputError
from dse.run.axes import DEGREES, OPEN, POOLED, Axes
from dse.run.demand import Bucket, buckets_of
from dse.run.faults import Faults
from dse.run.hardware_keys import by_hardware, in_use
from dse.run.plan_axes import PAIR, candidate_axes, candidate_sweep
from dse.run.planned_table import competing, hardware_of, library_chip, misplaced, row_name
from dse.run.prices import PricedDevice, counted_as, priced, unlisted
from dse.run.resolve import Sweep, accuracy_of
from dse.search.space import Layout
from dse.spec.catalog import chip_names, load_precision
from dse.spec.composer import Steps
from dse.spec.hardware import HardwareSpec
from dse.spec.plan import CurrentEntry, PlanFile
from dse.spec.reading import Document, beside, build, show, suggest
from dse.spec.slo import Slo, load_slo
from dse.spec.sweep import NATIVE
from dse.spec.throughput import Measured, read_throughput


@dataclass(frozen=True)
class PlannedModel:
    """A model with what it is held to."""

    name: str
    slo: Slo
    weight: float
    growth: float
    """Of its demand per year."""
    sweep: Sweep | None
    """Every deployment to choose from, with its buckets as workloads; None where a table says what serves what."""


@dataclass(frozen=True)
class Today:
    """A part of today's fleet."""

    entry: CurrentEntry
    sweep: Sweep | None
    """Its deployment on the buckets of its model; None where a table says what it serves."""
    model: int


@dataclass(frozen=True)
class Plan:
    """A plan whose every name is resolved."""

    file: PlanFile
    models: tuple[PlannedModel, ...]
    buckets: tuple[Bucket, ...]
    devices: Mapping[str, PricedDevice]
    """By name, those with a price."""
    unpriced: tuple[str, ...]
    """Accelerators without a quote of the kinds wanted: no candidates."""
    table: tuple[Measured, ...] = ()
    """Measured throughputs, where they stand in for the cost model."""
    today: tuple[Today, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    """The file's fields as the user wrote them."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.file.name


def is_plan(value: Any) -> bool:
    """Whether the content of a file is meant as a plan, and not as a sweep: its models have a demand."""
    models = value.get("models") if isinstance(value, Mapping) else None
    return isinstance(models, list) and any(isinstance(entry, Mapping) and "demand" in entry for entry in models)


def resolve_plan(document: Document) -> Plan:
    """The plan a document describes.

    Raises:
        InputError: every fault of its shape, or else of its meaning, with file, line and column.
    """
    file = build(PlanFile, document)
    if not file.models:
        raise InputError(document.fault(("models",), "needs at least one model with its demand"))
    faults = Faults()
    slos = _slos(file, document, faults)
    buckets = [buckets_of(index, entry.demand, document, faults) for index, entry in enumerate(file.models)]
    table: tuple[Measured, ...] = ()
    axes = None
    if file.throughput is not None:
        with faults.collected(), document.at(("throughput",)):
            table = tuple(read_throughput(beside(document, file.throughput)))
        faults.found += misplaced(file, table, document)
    else:
        axes = candidate_axes(file, document, any(slo.limits for slo in slos), faults)
    faults.check()
    file = _by_hardware(file, axes, table, document, faults)
    faults.found += _names(file, axes, table, document)
    faults.check()
    if axes is None:
        devices, unpriced = unlisted(competing(file, table, document), file, document)
    else:
        priced(axes.hardware, file)  # one at least, beside those for prompts alone
        devices, unpriced = priced(_chips(axes), file)
    models = tuple(
        PlannedModel(
            axes.models[index].name if axes else _label(entry.model, index),
            slos[index],
            entry.weight,
            entry.demand.growth_per_year,
            candidate_sweep(file, axes, index, buckets[index], devices) if axes else None,
        )
        for index, entry in enumerate(file.models)
    )
    plan = Plan(
        file,
        models,
        tuple(bucket for each in buckets for bucket in each),
        devices,
        unpriced,
        table,
        source=document.value,
    )
    return replace(plan, today=tuple(_today(plan, document)))


def _chips(axes: Axes) -> list[HardwareSpec]:
    """All accelerators, those of prefill workers included."""
    chips = [*axes.hardware, *(axes.pools.hardware if axes.pools is not None else ())]
    return list({chip.name: chip for chip in chips}.values())


def _label(model: Any, index: int) -> str:
    return str(model) if model is not None else f"model-{index + 1}"


def _slos(file: PlanFile, document: Document, faults: Faults) -> list[Slo]:
    found = []
    for index, entry in enumerate(file.models):
        slo = Slo()
        with faults.collected():
            if entry.slo is not None:
                slo = load_slo(entry.slo, document, ("models", index, "slo"))
            elif file.slo is not None:
                slo = load_slo(file.slo, document, ("slo",))
        found.append(slo)
    return found


# -- today --------------------------------------------------------------------------------------------


def _today(plan: Plan, document: Document) -> list[Today]:
    """Today's deployments on the plan's buckets."""
    faults, found = Faults(), []
    names = [model.name for model in plan.models]
    for place, entry in enumerate(plan.file.current):
        with faults.collected():
            at = ("current", place)
            if entry.model is None and len(names) > 1:
                raise InputError(document.fault(at, "missing field 'model': the plan has several"))
            label = entry.model or names[0]
            if label not in names:
                raise InputError(
                    document.fault((*at, "model"), f"{label!r} is no model of this plan{suggest(label, names)}")
                )
            base = plan.models[names.index(label)].sweep
            if base is None:
                entry = entry.model_copy(update={"hardware": row_name(entry.hardware, plan.table, document)})
            sweep = None if base is None else _deployed(base, entry, document, at)
            found.append(Today(entry, sweep, names.index(label)))
    faults.check()
    return found


def _deployed(base: Sweep, entry: CurrentEntry, document: Document, at: Steps) -> Sweep:
    from dse.spec.catalog import load_hardware

    chip: HardwareSpec = load_hardware(entry.hardware, document, (*at, "hardware"))
    scheme = None if entry.precision == NATIVE else load_precision(entry.precision, document, (*at, "precision"))
    layout = Layout(*(0 if getattr(entry, name) == "auto" else getattr(entry, name) for name in DEGREES))
    servings = tuple(serving for serving in base.axes.serving if serving != POOLED) or (OPEN,)
    axes = replace(
        base.axes, hardware=(chip,), changes=({},), precision=(scheme,), layout=(layout,), serving=servings, pools=None
    )
    return replace(base, axes=axes, accuracy=accuracy_of(axes))


# -- names that mean nothing --------------------------------------------------------------------------


def _names(file: PlanFile, axes: Axes | None, table: Sequence[Measured], document: Document) -> Iterator[Fault]:
    """Metrics of the plan that are none of its own, models that stand twice or have no rows, pools without a pair."""
    models = [_label(entry.model, index) for index, entry in enumerate(file.models)]
    if axes is not None:
        models = [model.name for model in axes.models]
    if axes is not None and axes.serving == (POOLED,) and not file.budget.regions:
        held = sum(file.budget.stock.get(name, PAIR) for name in {counted_as(chip.name, chip) for chip in _chips(axes)})
        if held < PAIR:
            message = f"{POOLED} serving needs {PAIR} accelerators at least, one for prompts and one to decode; there"
            yield document.fault(("budget", "stock"), f"{message} {'is 1' if held else 'are none'}")
    for index, name in enumerate(models):
        if name in models[:index]:
            yield document.fault(("models", index), f"{name!r} stands twice; give it one demand")
    for name in file.constraints:
        if name != "accuracy_drop_pct":
            hint = "; latencies stand under 'slo', costs under 'budget'"
            yield document.fault(("constraints", name), f"a plan knows only accuracy_drop_pct{hint}", key=True)
    if file.budget.capital_usd is not None and "purchase" not in file.price.kinds:
        yield document.fault(("budget", "capital_usd"), "nothing is bought; add price: {kind: purchase}")
    meant = models if len(models) > 1 else [*models, ""]
    strange = [row.model for row in table if row.model not in meant]
    if strange:
        wanted = f"expected one of {', '.join(models)} in its column 'model', got {show(strange[0])}"
        yield document.fault(("throughput",), wanted)


def _known_hardware(file: PlanFile, axes: Axes | None, table: Sequence[Measured]) -> dict[str, str]:
    """Accelerator -> the chip it is counted as, for all that the plan may name."""
    if axes is not None:
        return {chip.name: counted_as(chip.name, chip) for chip in _chips(axes)}
    chips = {name: library_chip(name) for name in hardware_of(table)}
    known = {name: counted_as(name, chip) for name, chip in chips.items()}
    if file.candidates.hardware == "all":  # of the library, with or without rows
        meant = {chip.name for chip in chips.values() if chip is not None}
        known |= {name: name for name in chip_names() if name not in meant}
    return known


def _by_hardware(
    file: PlanFile, axes: Axes | None, table: Sequence[Measured], document: Document, faults: Faults
) -> PlanFile:
    """The plan with its prices and stocks under the names its accelerators have here."""
    known = _known_hardware(file, axes, table)
    names = list(dict.fromkeys([*known, *known.values()]))

    def named(given: Mapping[str, Any], *at: str) -> dict[str, Any]:
        return by_hardware(given, names, "plan", document, at, faults)

    def stocked(given: Mapping[str, int], *at: str) -> dict[str, int]:
        for word in given:
            name = in_use(word, names, document)
            if name is not None and name not in known.values():
                message = f"{word!r} is a box of {known[name]}; give the stock of {known[name]}"
                faults.found.append(document.fault((*at, word), message, key=True))
        return named(given, *at)

    budget, price = file.budget, file.price
    regions = {
        name: region.model_copy(update={"stock": stocked(region.stock, "budget", "regions", name, "stock")})
        for name, region in budget.regions.items()
    }
    stock = stocked(budget.stock, "budget", "stock")
    prices = {field: named(getattr(price, field), "price", field) for field in ("override", "purchase")}
    return file.model_copy(update={
        "budget": budget.model_copy(update={"stock": stock, "regions": regions}),
        "price": price.model_copy(update=prices),
    })  # fmt: skip
