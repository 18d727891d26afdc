"""A plan file -> models, buckets of demand, accelerators with their prices, axes to choose from; or all its faults."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dse.cost.techniques import TECHNIQUES
from dse.errors import Fault, InputError
from dse.run.axes import DEGREES, OPEN, POOLED, Axes, read_axes
from dse.run.demand import Bucket, buckets_of
from dse.run.faults import Faults
from dse.run.hardware_keys import by_hardware
from dse.run.prices import PricedDevice, priced, unlisted
from dse.run.resolve import Sweep, accuracy_of, sweep_of
from dse.search.space import Layout, layouts_of
from dse.spec.catalog import hardware_names, load_precision
from dse.spec.composer import Steps
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec, MoE
from dse.spec.plan import CurrentEntry, PlanFile
from dse.spec.reading import Document, beside, build, show, suggest
from dse.spec.slo import Slo, load_slo
from dse.spec.sweep import NATIVE, PriceChoice, SweepFile
from dse.spec.throughput import Measured, read_throughput
from dse.spec.workload import Workload

BATCHES = [1, *sorted({step << doubling for doubling in range(9) for step in (2, 3)} - {768})]
"""Limits on the sequences in flight that are tried in a closed loop: 1, 2, 3, 4, 6, 8, 12 ... 512."""

OPEN_BATCHES = [512]
"""The same where requests arrive. There the rate decides how many run, and one limit will do: under it the highest rate
is that of the best of 18 limits less 1 %, mean over 450 cases, and at worst less 16 %."""


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
    sweep: Sweep
    """Its deployment on the buckets of its model."""
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
        faults.found += _misplaced(file, document)
    else:
        axes = _axes(file, document, any(slo.limits for slo in slos), faults)
    faults.check()
    file = _by_hardware(file, axes, table, document, faults)
    faults.found += _names(file, axes, table, document)
    faults.check()
    if axes is None:
        names = list(dict.fromkeys(row.hardware for row in table))
        devices, unpriced = unlisted(names, file, document)
    else:
        devices, unpriced = priced(axes.hardware, file)
    models = tuple(
        PlannedModel(
            axes.models[index].name if axes else _label(entry.model, index),
            slos[index],
            entry.weight,
            entry.demand.growth_per_year,
            _sweep(file, axes, index, buckets[index], devices) if axes else None,
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


# -- candidates ---------------------------------------------------------------------------------------


class _View(Document):
    """The plan's document as that of a sweep: faults stand where the plan says the same."""

    plan: Document
    places: Mapping[str, Steps]

    @classmethod
    def of(cls, plan: Document, value: Any, places: Mapping[str, Steps]) -> _View:
        """A view of the plan.

        Args:
            plan: the whole document.
            value: the fields of the sweep.
            places: field -> where it stands in the plan; a list gets its own index after the first star.
        """
        view = cls(plan.file, value, plan.text)
        view.__dict__ |= {"plan": plan, "places": places}
        return view

    def fault(self, path: Steps, message: str, *, key: bool = False) -> Fault:
        """A fault, at its place in the plan."""
        steps = list(path)
        known = self.places.get(str(steps[0]) if steps else "", ())
        place = [steps.pop(1) if step == "*" and len(steps) > 1 else step for step in known]
        return self.plan.fault((*place, *steps[1:]), message, key=key)


def _axes(file: PlanFile, document: Document, limited: bool, faults: Faults) -> Axes | None:
    """The axes of all candidates; models without a name are faults."""
    unnamed = [index for index, entry in enumerate(file.models) if entry.model is None]
    faults.found += [document.fault(("models", index), "missing field 'model'") for index in unnamed]
    if unnamed:
        return None
    fields = ("hardware", "precision", "parallel", "batch", "serving", "offload", "runtime", "fidelity")
    places: dict[str, Steps] = {name: ("candidates", name) for name in fields}
    places |= {name: ("candidates", "techniques", name) for name in TECHNIQUES}
    if wrong := list(_not_candidates(file, document)):
        faults.found += wrong
        return None
    own = _sweep_file(file, limited)
    view = _View.of(document, own.model_dump(), {**places, "models": ("models", "*", "model")})
    return read_axes(own, view, faults)


def _not_candidates(file: PlanFile, document: Document) -> Iterator[Fault]:
    """Techniques there are none of; pools, whose two kinds of worker no fleet problem counts yet."""
    for name in file.candidates.techniques:
        if name not in TECHNIQUES:
            hint = suggest(name, TECHNIQUES) or f"; expected one of {', '.join(TECHNIQUES)}"
            yield document.fault(("candidates", "techniques", name), f"unknown technique{hint}", key=True)
    if POOLED in _serving(file, limited=False):
        message = f"a plan counts replicas of one kind of worker; {POOLED!r} has two: look at it in a sweep"
        yield document.fault(("candidates", "serving"), message)


def _sweep_file(file: PlanFile, limited: bool) -> SweepFile:
    """The sweep over all candidates; its workloads are those of each model."""
    own, serving = file.candidates, _serving(file, limited)
    stated = {
        "name": file.name,
        "models": [entry.model for entry in file.models],
        "hardware": hardware_names() if own.hardware == "all" else own.hardware,
        "precision": own.precision,
        "workload": "1024x256",
        "parallel": own.parallel,
        "batch": own.batch if own.batch is not None else OPEN_BATCHES if serving == [OPEN] else BATCHES,
        "serving": serving,
        "rate": 1.0 if OPEN in serving else None,
        "offload": own.offload,
        "runtime": own.runtime,
        "fidelity": own.fidelity,
        **own.techniques,
        "max_prefill_tokens": own.max_prefill_tokens,
        "memory_utilization": own.memory_utilization,
        "price": PriceChoice(kind=file.price.kinds[0]),
        "objectives": ("requests_per_s",),
        "group_by": ("model",),
    }
    return SweepFile.model_construct(**{**_DEFAULTS, **stated})


_DEFAULTS = {
    name: entry.get_default(call_default_factory=True)
    for name, entry in SweepFile.model_fields.items()
    if not entry.is_required()
}


def _serving(file: PlanFile, limited: bool) -> list[Any]:
    """The states deployments are judged in: what the user says, else what the latencies ask for."""
    stated = file.candidates.serving
    if stated is None:
        stated = OPEN if limited else "offline"
    found = list(stated) if isinstance(stated, list) else [stated]
    offloads = file.candidates.offload
    if "lp" in (offloads if isinstance(offloads, list) else [offloads]) and "static" not in found:
        found.append("static")  # placements run static blocks
    return found


def _sweep(
    file: PlanFile, axes: Axes, index: int, buckets: Sequence[Bucket], devices: Mapping[str, PricedDevice]
) -> Sweep:
    """The deployments of one model on its buckets, on accelerators with a price."""
    model = axes.models[index]
    own = replace(
        axes,
        models=(model,),
        workload=tuple(Workload(bucket.input, bucket.output) for bucket in buckets),
        layout=axes.layout if file.candidates.parallel is not None else _layouts(model, file.candidates.max_devices),
    )
    sweep = sweep_of(_sweep_file(file, limited=True), own)
    burstiness = file.models[index].demand.burstiness
    chips = {device.chip for device in devices.values()}
    return on_hardware(replace(sweep, settings=replace(sweep.settings, burstiness=burstiness)), chips)


def on_hardware(sweep: Sweep, names: Collection[str]) -> Sweep:
    """A sweep on some of its accelerators."""
    axes = sweep.axes
    kept = [place for place, chip in enumerate(axes.hardware) if chip.name in names]
    chips, changes = tuple(axes.hardware[place] for place in kept), tuple(axes.changes[place] for place in kept)
    return replace(sweep, axes=replace(axes, hardware=chips, changes=changes))


def _layouts(model: ModelSpec, most: int) -> tuple[Layout, ...]:
    """Every layout of powers of two up to so many devices; attention-dp and ep where there are experts to spread."""
    degrees = [1 << doubling for doubling in range(most.bit_length()) if 1 << doubling <= most]
    experts = any(isinstance(layer.ffn, MoE) for layer in model.layers)
    found = layouts_of(degrees, degrees, degrees if experts else [1], "auto")
    return tuple(layout for layout in found if layout.devices <= most)


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
                raise InputError(document.fault(at, "goes without 'throughput': a table does not say how today's runs"))
            found.append(Today(entry, _deployed(base, entry, document, at), names.index(label)))
    faults.check()
    return found


def _deployed(base: Sweep, entry: CurrentEntry, document: Document, at: Steps) -> Sweep:
    from dse.spec.catalog import load_hardware

    chip: HardwareSpec = load_hardware(entry.hardware, document, (*at, "hardware"))
    scheme = None if entry.precision == NATIVE else load_precision(entry.precision, document, (*at, "precision"))
    layout = Layout(*(0 if getattr(entry, name) == "auto" else getattr(entry, name) for name in DEGREES))
    axes = replace(base.axes, hardware=(chip,), changes=({},), precision=(scheme,), layout=(layout,))
    return replace(base, axes=axes, accuracy=accuracy_of(axes))


# -- names that mean nothing --------------------------------------------------------------------------


def _names(file: PlanFile, axes: Axes | None, table: Sequence[Measured], document: Document) -> Iterator[Fault]:
    """Metrics of the plan that are none of its own, models that stand twice or have no rows."""
    if axes is not None:
        models = [model.name for model in axes.models]
    else:
        models = [_label(entry.model, index) for index, entry in enumerate(file.models)]
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


def _by_hardware(
    file: PlanFile, axes: Axes | None, table: Sequence[Measured], document: Document, faults: Faults
) -> PlanFile:
    """The plan with its prices and stocks under the names its accelerators have here."""
    chips = [chip.name for chip in axes.hardware] if axes is not None else [row.hardware for row in table]
    known = list(dict.fromkeys(chips))

    def named(given: Mapping[str, Any], *at: str) -> dict[str, Any]:
        return by_hardware(given, known, "plan", document, at, faults)

    budget, price = file.budget, file.price
    regions = {
        name: region.model_copy(update={"stock": named(region.stock, "budget", "regions", name, "stock")})
        for name, region in budget.regions.items()
    }
    stock = named(budget.stock, "budget", "stock")
    prices = {field: named(getattr(price, field), "price", field) for field in ("override", "purchase")}
    return file.model_copy(update={
        "budget": budget.model_copy(update={"stock": stock, "regions": regions}),
        "price": price.model_copy(update=prices),
    })  # fmt: skip


def _misplaced(file: PlanFile, document: Document) -> list[Fault]:
    """What a plan with measured throughputs cannot say: the table already rests on it."""
    given = document.value if isinstance(document.value, Mapping) else {}
    return [
        document.fault((name,), "goes without 'throughput': the table's rows already rest on it", key=True)
        for name in ("candidates", "constraints", "current")
        if name in given
    ]
