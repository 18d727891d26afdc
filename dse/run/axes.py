"""The axes of a sweep: what the user wrote -> models, chips, schemes, request shapes, layouts, words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from typing import Any

from dse.cost.techniques import TECHNIQUES
from dse.errors import Fault, InputError
from dse.run.faults import Faults
from dse.search.space import Layout, layouts, layouts_of
from dse.spec.axis import Path, integers, reals, values
from dse.spec.catalog import expand_hardware, load_model, load_precision
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.precision import Precision
from dse.spec.prefix import Prefix
from dse.spec.reading import Document, show, suggest
from dse.spec.runtime import RuntimeSpec, load_runtime
from dse.spec.sampling import Sampling
from dse.spec.speculation import Speculation
from dse.spec.sweep import AXIS_VALUES, NATIVE, Disaggregation, Parallel, PrefillWorkers, SweepFile
from dse.spec.workload import Workload, load_workload

DEGREES = ("tp", "pp", "dp", "ep")
MAX_DEGREE = 100_000
"""Devices of one replica, and each parallel degree: more is surely a slip."""

MAX_LAYOUTS = 100_000
NAMED = ("serving", "offload", "runtime", "fidelity", *TECHNIQUES)
"""Axes of words, of engines and of techniques."""

BOXED = ("serving", "offload", "runtime", *TECHNIQUES)
"""Axes of which each combination of values is a box of its own."""

POOLED = "disaggregated"
"""The serving that has prefill workers with axes of their own."""

PREFILL_COLUMNS = ("prefill_hardware", "prefill_precision", *(f"prefill_{name}" for name in DEGREES), "prefill_batch")
"""Columns of the axes of prefill workers, where serving is disaggregated."""
OPEN = "open-loop"
"""The serving that has the axis `rate`."""

ARRIVING = (OPEN, POOLED)
"""Those that may have it."""

MAX_BATCH = 10**9
MAX_RATE = 1e9
"""Requests per second at one replica."""


@dataclass(frozen=True)
class PoolAxes:
    """Where serving is disaggregated: axes of the prefill workers, and what decode workers have of their own."""

    hardware: tuple[HardwareSpec, ...]
    precision: tuple[Precision | None, ...]
    layout: tuple[Layout, ...]
    batch: tuple[int, ...]
    """Requests of a prompt pass."""
    decode_batch: tuple[int, ...]
    devices: int | None
    """Most devices of both pools."""
    max_workers: int
    fill: bool
    """Whether replicas must use all devices."""


@dataclass(frozen=True)
class Axes:
    """The values along every axis, names resolved."""

    models: tuple[ModelSpec, ...]
    hardware: tuple[HardwareSpec, ...]
    changes: tuple[Mapping[str, float | str], ...]
    """What each accelerator's inline mapping changed, by dotted key."""
    precision: tuple[Precision | None, ...]
    """None: the model's own."""
    workload: tuple[Workload, ...]
    layout: tuple[Layout, ...]
    batch: tuple[int, ...]
    serving: tuple[str, ...]
    offload: tuple[str, ...]
    runtime: tuple[RuntimeSpec, ...]
    fidelity: tuple[str, ...]
    attention: tuple[str, ...]
    kv_budget: tuple[int | str, ...]
    weight_sparsity: tuple[float | str, ...]
    dequantization: tuple[float | str, ...]
    prefix_hit: tuple[Prefix | str, ...]
    sampling: tuple[Sampling | str, ...]
    speculation: tuple[Speculation | str, ...]
    chunk_tokens: tuple[int | str, ...]
    rate: tuple[float, ...] = ()
    """Requests per second at one replica; open-loop serving has such an axis, and disaggregated serving may."""
    pools: PoolAxes | None = None
    """Of disaggregated serving, where it is on the axis of servings."""

    def rates_of(self, serving: str) -> tuple[float, ...]:
        """The axis of arrival rates under a serving: one unknown where it has none."""
        return self.rate if serving in ARRIVING and self.rate else (math.nan,)

    def precision_of(self, model: ModelSpec) -> tuple[Precision, ...]:
        """The axis of precisions for one model."""
        return schemes_of(self.precision, model)

    @property
    def depend_on_model(self) -> bool:
        """Whether a model's own precision is on an axis."""
        return None in self.precision or (self.pools is not None and None in self.pools.precision)

    @property
    def changed(self) -> list[str]:
        """Hardware fields that any accelerator's inline mapping changed: columns of their own."""
        return sorted(set(chain.from_iterable(self.changes)))

    @property
    def variants(self) -> list[dict[str, Any]]:
        """Combinations of what differs in more than numbers, one box each."""
        every = product(*(getattr(self, name) for name in BOXED))
        return [dict(zip(BOXED, values, strict=True)) for values in every]

    @property
    def points(self) -> int:
        """Size of the product of all axes."""
        apart = math.prod(len(getattr(self, axis)) for axis in ("layout", "hardware", "precision", "batch"))
        shared = math.prod(len(getattr(self, axis)) for axis in ("models", "workload", *NAMED) if axis != "serving")
        found = shared * apart * sum(len(self.rates_of(serving)) for serving in self.serving if serving != POOLED)
        if self.pools is None:
            return found
        pools = self.pools
        of_prefill = math.prod(map(len, (pools.layout, pools.hardware, pools.precision, pools.batch)))
        of_decode = (apart // max(len(self.batch), 1)) * len(pools.decode_batch) * len(self.rates_of(POOLED))
        return found + shared * of_prefill * of_decode


def schemes_of(axis: Sequence[Precision | None], model: ModelSpec) -> tuple[Precision, ...]:
    """An axis of precisions for one model."""
    return tuple(scheme or native(model) for scheme in axis)


def native(model: ModelSpec) -> Precision:
    """The precision a model is published in: what its file says, else bf16."""
    return model.precision or load_precision("bf16")


def read_axes(file: SweepFile, document: Document, faults: Faults) -> Axes:
    """All axes of a sweep file; what is wrong goes to `faults`, and the axis comes out short."""

    def axis(key: str, load: Load, name: Callable[[Any], str] = str) -> list[Any]:
        return _axis(document, (key,), getattr(file, key), load, name, faults)

    chips = axis("hardware", expand_hardware, lambda chip: chip[0].name)
    words = {key: tuple(axis(key, named(key), word_of)) for key in NAMED}
    models = axis("models", model_entry, lambda model: model.name)
    precision = axis("precision", precision_entry, _scheme_name)
    workload = axis("workload", load_workload, lambda shape: shape.name)
    batch: list[int] = []
    with faults.collected():
        batch = integers(document, ("batch",), file.batch, most=MAX_BATCH)
    found: list[Layout] = []
    with faults.collected():
        found = _layouts(file, document)
    rate = read_rates(file.rate, words["serving"], document, faults)
    axes = Axes(
        tuple(models), *split(chips), tuple(precision), tuple(workload), tuple(found), tuple(batch), rate=rate,
        pools=None, **words,
    )  # fmt: skip
    faults.found += _native_twice(axes.precision, axes.models, document, ("precision",))
    return replace(axes, pools=_pools(file, axes, document, faults))


def _pools(file: SweepFile, axes: Axes, document: Document, faults: Faults) -> PoolAxes | None:
    """The axes of disaggregated serving; None where the sweep has none."""
    at, asked = (POOLED,), file.disaggregated
    if POOLED not in axes.serving:
        if asked is not None and axes.serving:
            message = f"only disaggregated serving has pools; add it to 'serving' ({', '.join(axes.serving)})"
            faults.found.append(document.fault(at, f"{message}, or leave them out", key=True))
        return None
    asked = asked or Disaggregation()
    if asked.fill and asked.devices is None:
        faults.found.append(document.fault((*at, "fill"), "there is nothing to fill; give 'devices' as well"))
    workers, here = asked.prefill, (*at, "prefill")
    hardware, precision, layout, decode = axes.hardware, axes.precision, axes.layout, axes.batch
    batch: tuple[int, ...] = ()
    if workers.hardware is not None:
        chips = _axis(document, (*here, "hardware"), workers.hardware, expand_hardware, lambda c: c[0].name, faults)
        hardware = split(chips)[0]
    if workers.precision is not None:
        path = (*here, "precision")
        precision = tuple(_axis(document, path, workers.precision, precision_entry, _scheme_name, faults))
        faults.found += _native_twice(precision, axes.models, document, path)
    with faults.collected():
        if workers.parallel is not None or workers.devices is not None:
            layout = tuple(_layouts(workers, document, here))
    with faults.collected():
        batch = tuple(integers(document, (*here, "batch"), workers.batch, most=MAX_BATCH))
    with faults.collected():
        if asked.decode.batch is not None:
            decode = tuple(integers(document, (*at, "decode", "batch"), asked.decode.batch, most=MAX_BATCH))
    return PoolAxes(hardware, precision, layout, batch, decode, asked.devices, asked.max_workers, asked.fill)


def read_rates(raw: Any, serving: Sequence[str], document: Document, faults: Faults) -> tuple[float, ...]:
    """The axis of arrival rates: open-loop serving needs one, disaggregated may have it, and no other takes one."""
    if raw is None:
        if OPEN in serving:
            message = "open-loop serving needs 'rate': the requests per second that arrive at one replica"
            faults.found.append(document.fault(("serving",), message))
        return ()
    found: list[float] = []
    with faults.collected():
        found = reals(document, ("rate",), raw, most=MAX_RATE)
    if serving and not {*serving} & {*ARRIVING}:
        message = f"only open-loop serving has arrivals; add it to 'serving' ({', '.join(serving)}) or leave out 'rate'"
        faults.found.append(document.fault(("rate",), message, key=True))
    return tuple(found)


Load = Callable[[Any, Document, Path], Sequence[Any]]
"""Turns one entry of an axis, with where it stands, into the values it means."""


def _axis(
    document: Document, path: Path, raw: Any, load: Load, name: Callable[[Any], str], faults: Faults
) -> list[Any]:
    """Every entry of an axis, loaded; a value that stands twice is a fault."""
    found: dict[str, Any] = {}
    with faults.collected():
        for place, entry in values(document, path, raw):
            with faults.collected():
                for value in load(entry, document, place):
                    if name(value) in found:
                        message = f"{name(value)!r} stands twice on this axis; keep one"
                        if value != found[name(value)]:
                            message = f"another {name(value)!r} stands on this axis; rename one (or its file or folder)"
                        raise InputError(document.fault(place, message))
                    found[name(value)] = value
    return list(found.values())


def model_entry(entry: Any, document: Document, at: Path) -> list[ModelSpec]:
    """The model of one entry."""
    return [load_model(entry, document, at)]


def precision_entry(entry: Any, document: Document, at: Path) -> list[Precision | None]:
    """The scheme of one entry, None for `native`."""
    return [None if entry == NATIVE else load_precision(entry, document, at)]


def named(axis: str) -> Load:
    """The loader of an axis of words, of engines, or of a technique."""
    if axis == "runtime":
        return lambda entry, document, at: [load_runtime(entry, document, at)]
    return technique(axis) if axis in TECHNIQUES else word(axis)


def word_of(value: Any) -> str:
    """A value of such an axis as its column says it."""
    return value.name if isinstance(value, RuntimeSpec) else str(value)


def technique(axis: str) -> Load:
    """A loader of a technique's values."""

    def load(entry: Any, document: Document, at: Path) -> list[Any]:
        with document.at(at):
            try:
                return [TECHNIQUES[axis].parse(entry)]
            except ValueError as error:
                raise InputError(f"{error}, got {show(entry)}") from None

    return load


def word(axis: str) -> Load:
    """A loader of words, of which this version knows some."""
    known = AXIS_VALUES[axis]

    def load(entry: Any, document: Document, at: Path) -> list[str]:
        if entry in known:
            return [entry]
        wanted = f"only {known[0]!r}" if len(known) == 1 else f"{', '.join(known[:-1])} and {known[-1]}"
        hint = suggest(entry, known) if isinstance(entry, str) else ""
        raise InputError(document.fault(at, f"this version knows {wanted}, got {show(entry)}{hint}"))

    return load


def split(
    chips: Sequence[tuple[HardwareSpec, dict[str, float | str]]],
) -> tuple[tuple[HardwareSpec, ...], tuple[dict[str, float | str], ...]]:
    """Accelerators, and what was changed in each."""
    return tuple(chip for chip, _ in chips), tuple(changed for _, changed in chips)


def _scheme_name(scheme: Precision | None) -> str:
    return scheme.name if scheme else NATIVE


def _native_twice(
    axis: Sequence[Precision | None], models: Sequence[ModelSpec], document: Document, at: Path
) -> Iterator[Fault]:
    """`native` beside the scheme it means for every model: each point would stand twice."""
    if None not in axis or not models:
        return
    own = [native(model) for model in models]
    if all(scheme in axis for scheme in own):
        names = " and ".join(dict.fromkeys(scheme.name for scheme in own))
        message = f"'native' means {names} here, which stands on this axis as well; keep one"
        yield document.fault((*at, axis.index(None)), message)


def _layouts(stated: SweepFile | PrefillWorkers, document: Document, at: Path = ()) -> list[Layout]:
    """The axis of layouts that `parallel` and `devices` say, at a place."""
    if stated.devices is None:
        return _combined(stated.parallel, document, (*at, "parallel"))
    path = (*at, "devices")
    counts = integers(document, path, stated.devices, most=MAX_DEGREE)
    found: list[Layout] = []
    if stated.parallel is not None:
        combined = _combined(stated.parallel, document, (*at, "parallel"))
        found = [one for one in combined if one.devices in counts and one.tp * one.dp % max(one.ep, 1) == 0]
        if not found:
            raise InputError(document.fault(path, "no layout of the degrees of 'parallel' has so many devices"))
        return found
    for count in counts:
        found += layouts([count])
        _check_count(len(found), document, path)
    return found


def _combined(parallel: Parallel | None, document: Document, at: Path) -> list[Layout]:
    """Every combination of the degrees of `parallel`."""
    if parallel is None:
        return [Layout()]
    faults = Faults()
    degrees: dict[str, list[int]] = {"ep": [0]}
    for name in DEGREES:
        raw = getattr(parallel, name)
        if not (name == "ep" and raw == "auto"):
            with faults.collected():
                degrees[name] = integers(document, (*at, name), raw, most=MAX_DEGREE)
    faults.check()
    total = 1
    for numbers in degrees.values():
        total *= len(numbers)
    _check_count(total, document, at)
    return layouts_of(degrees["tp"], degrees["pp"], degrees["dp"], degrees["ep"])


def _check_count(count: int, document: Document, at: Path) -> None:
    if count > MAX_LAYOUTS:
        raise InputError(document.fault(at, f"makes more than {MAX_LAYOUTS:,} layouts, the most there may be"))
