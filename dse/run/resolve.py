"""A sweep file -> models, hardware, precisions and axes: everything a name stood for, all faults at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from dse.cost import COST_MODEL
from dse.cost.choices import Choices
from dse.cost.evaluate import Question
from dse.cost.metrics import METRICS
from dse.errors import Fault, InputError
from dse.search.space import Layout, layouts, layouts_of
from dse.spec.accuracy import AccuracyDrop, accuracy_drop
from dse.spec.axis import integers, values
from dse.spec.catalog import expand_hardware, load_model, load_precision
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.reading import Document, build, show, suggest
from dse.spec.sweep import AXIS_VALUES, SweepFile
from dse.spec.workload import Workload, load_workload

GROUPABLE = (
    "model", "hardware", "precision", "workload", "input", "output", "tp", "pp", "dp", "ep", "devices", "batch",
    "serving", "offload", "runtime", "fidelity", "attention", "accuracy_drop_pct",
)  # fmt: skip
"""Columns that points may be grouped by: axes, and what follows from one axis alone."""


@dataclass(frozen=True)
class Sweep:
    """A sweep whose every name is resolved."""

    name: str
    models: tuple[ModelSpec, ...]
    hardware: tuple[HardwareSpec, ...]
    overrides: tuple[Mapping[str, float | str], ...]
    """What each accelerator's inline mapping changed."""
    choices: tuple[Choices, ...]
    """One per box: variants that differ in more than numbers (fused or unfused attention)."""
    question: Question
    group_by: tuple[str, ...]
    accuracy: Mapping[str, tuple[AccuracyDrop, ...]]
    """Model name -> published loss of quality per precision."""
    current: Mapping[str, Any] | None
    keep: str
    source: Mapping[str, Any] = field(default_factory=dict)
    """The file's fields as the user wrote them."""

    @property
    def hash(self) -> str:
        """Identity of the result: the resolved content and the cost model's version, not names or paths."""
        text = json.dumps(self.resolved(), sort_keys=True, default=_plain)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def resolved(self) -> dict[str, Any]:
        """Everything a result depends on, as plain values."""
        first = self.choices[0]
        return {
            "cost_model": COST_MODEL,
            "models": [_without(asdict(model), "name") for model in self.models],
            "hardware": [_without(chip.model_dump(), "notes", "aliases") for chip in self.hardware],
            "precision": [asdict(precision) for precision in first.precision],
            "workload": [asdict(workload) for workload in first.workload],
            "layout": [list(layout) for layout in first.layout],
            "batch": list(first.batch),
            "fidelity": list(first.fidelity),
            "attention": [choices.attention for choices in self.choices],
            "max_prefill_tokens": first.max_prefill_tokens if first.max_prefill_tokens != float("inf") else "unlimited",
            "kv_block_size": first.kv_block_size,
            "memory_utilization": first.memory_utilization,
            "price": {"kind": first.price_kind, "override": dict(first.price_override)},
            "accuracy": {name: [drop.pct for drop in drops] for name, drops in self.accuracy.items()},
            "constraints": {name: list(bound) for name, bound in self.question.constraints.items()},
            "objectives": list(self.question.objectives),
            "group_by": list(self.group_by),
            "current": self.current,
            "keep": self.keep,
        }


class _Faults:
    """Collects faults so that all of a layer are told at once."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the faults raised inside and go on."""
        try:
            yield
        except InputError as error:
            self.found += error.faults

    def check(self) -> None:
        """Raise what was collected, in the order of the file.

        Raises:
            InputError: there is any fault.
        """
        if self.found:
            raise InputError(sorted(self.found, key=lambda f: (f.file, f.line or 0, f.column or 0)))


def resolve(document: Document) -> Sweep:
    """The sweep a document describes.

    Raises:
        InputError: every fault of its shape, or else of its meaning, with file, line and column.
    """
    file = build(SweepFile, document)
    faults = _Faults()

    def each(key: str, load: Callable[[Any, Document, tuple[str | int, ...]], Any]) -> list[Any]:
        """Every entry of an axis, loaded."""
        loaded: list[Any] = []
        with faults.collected():
            for path, entry in values(document, (key,), getattr(file, key)):
                with faults.collected():
                    loaded += load(entry, document, path)
        return loaded

    models = each("models", lambda entry, doc, at: [load_model(entry, doc, at)])
    chips = each("hardware", expand_hardware)
    precisions = each("precision", lambda entry, doc, at: [load_precision(entry, doc, at)])
    workloads = each("workload", load_workload)
    words = {key: each(key, _word(key)) for key in AXIS_VALUES}
    batches: list[int] = []
    with faults.collected():
        batches = integers(document, ("batch",), file.batch)
    degrees: list[Layout] = []
    with faults.collected():
        degrees = _layouts(file, document)
    for key, names in (
        ("models", [model.name for model in models]),
        ("hardware", [chip.name for chip, _ in chips]),
        ("precision", [precision.name for precision in precisions]),
        ("workload", [workload.name for workload in workloads]),
        *((key, words[key]) for key in AXIS_VALUES),
    ):
        faults.found += _duplicates(document, key, names)
    faults.found += _metric_faults(document, file, chips)
    faults.check()

    accuracy = {model.name: tuple(accuracy_drop(model, precision) for precision in precisions) for model in models}
    shared = Choices(
        hardware=tuple(chip for chip, _ in chips),
        workload=tuple(workloads),
        precision=tuple(precisions),
        fidelity=tuple(words["fidelity"]),
        layout=tuple(degrees),
        batch=tuple(batches),
        max_prefill_tokens=float("inf") if file.max_prefill_tokens == "unlimited" else float(file.max_prefill_tokens),
        kv_block_size=file.kv_block_size,
        memory_utilization=file.memory_utilization,
        price_kind=file.price.kind,
        price_override=file.price.override,
        accuracy={name: tuple(drop.pct for drop in drops) for name, drops in accuracy.items()},
    )
    return Sweep(
        name=file.name,
        models=tuple(models),
        hardware=shared.hardware,  # type: ignore[arg-type]
        overrides=tuple(changed for _, changed in chips),
        choices=tuple(_replace(shared, attention=kind) for kind in words["attention"]),
        question=Question(
            tuple(file.objectives),
            {name: (bound.min, bound.max) for name, bound in file.constraints.items()},
        ),
        group_by=tuple(file.group_by),
        accuracy=accuracy,
        current=file.current,
        keep=file.keep,
        source=document.value,
    )


def _replace(choices: Choices, **changes: Any) -> Choices:
    fields = {name: getattr(choices, name) for name in Choices.__dataclass_fields__}
    return Choices(**(fields | changes))


def _word(axis: str) -> Callable[[Any, Document, tuple[str | int, ...]], list[str]]:
    def load(entry: Any, document: Document, at: tuple[str | int, ...]) -> list[str]:
        allowed = AXIS_VALUES[axis]
        if entry in allowed:
            return [entry]
        hint = suggest(entry, allowed) if isinstance(entry, str) else ""
        raise InputError(document.fault(at, f"expected {_one_of(allowed)}, got {show(entry)}{hint}"))

    return load


def _one_of(options: Sequence[str]) -> str:
    return options[0] if len(options) == 1 else f"one of {', '.join(options)}"


def _layouts(file: SweepFile, document: Document) -> list[Layout]:
    if file.devices is not None:
        if file.parallel is not None:
            raise InputError(document.fault(("devices",), "give either 'parallel' or 'devices', not both"))
        return list(layouts(integers(document, ("devices",), file.devices)))
    parallel = file.parallel
    if parallel is None:
        return [Layout()]
    tp, pp, dp = (
        integers(document, ("parallel", axis), getattr(parallel, axis)) for axis in ("tp", "pp", "dp")
    )
    ep = "auto" if parallel.ep == "auto" else integers(document, ("parallel", "ep"), parallel.ep)
    return list(layouts_of(tp, pp, dp, ep))


def _duplicates(document: Document, key: str, names: Sequence[str]) -> list[Fault]:
    twice = [name for position, name in enumerate(names) if name in names[:position]]
    return [document.fault((key,), f"{name!r} stands twice on this axis; keep one") for name in dict.fromkeys(twice)]


def _metric_faults(
    document: Document, file: SweepFile, chips: Sequence[tuple[HardwareSpec, Mapping[str, Any]]]
) -> list[Fault]:
    """Names in objectives, constraints, group_by, price.override and current that mean nothing."""
    faults = []
    for position, name in enumerate(file.objectives):
        if name not in METRICS:
            faults.append(document.fault(("objectives", position), f"unknown objective {name!r}{_near(name, METRICS)}"))
        elif name in file.objectives[:position]:
            faults.append(document.fault(("objectives", position), f"{name!r} stands twice; keep one"))
    for name, bound in file.constraints.items():
        path = ("constraints", name)
        if name not in METRICS:
            faults.append(document.fault(path, f"unknown metric {name!r}{_near(name, METRICS)}", key=True))
        elif bound.min is None and bound.max is None:
            faults.append(document.fault(path, "a constraint needs 'min' or 'max'"))
        elif bound.min is not None and bound.max is not None and bound.min > bound.max:
            faults.append(document.fault(path, f"no value is at least {bound.min:g} and at most {bound.max:g}"))
        elif bound.max is not None and (bound.max < 0 or (bound.max == 0 and name != "accuracy_drop_pct")):
            faults.append(document.fault((*path, "max"), f"{name} is never below 0; nothing could meet {bound.max:g}"))
    overridden = {key for _, changed in chips for key in changed}
    known = (*GROUPABLE, *overridden)
    for position, name in enumerate(file.group_by):
        if name not in known:
            faults.append(document.fault(("group_by", position), f"cannot group by {name!r}{_near(name, known)}"))
    names = [chip.name for chip, _ in chips]
    for name in file.price.override:
        if names and name not in names:
            message = f"{name!r} is not in this sweep's hardware{suggest(name, names)}"
            faults.append(document.fault(("price", "override", name), message, key=True))
    for name in file.current or ():
        if name not in known:
            faults.append(document.fault(("current", name), f"not an axis{_near(name, known)}", key=True))
    return faults


def _near(name: str, options: Sequence[str] | Mapping[str, Any]) -> str:
    return suggest(name, options) or f"; expected one of {', '.join(options)}"


def _without(mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def set_value(document: Document, assignments: Sequence[str]) -> Document:
    """The document with `KEY=VALUE` assignments of the command line applied; keys are dotted, values YAML.

    Raises:
        InputError: an assignment has no `=`, or its value is not YAML.
    """
    if not assignments:
        return document
    from dse.spec.composer import compose

    value = json.loads(json.dumps(document.value)) if isinstance(document.value, dict) else document.value
    for text in assignments:
        key, equals, raw = text.partition("=")
        if not equals or not key:
            raise InputError(Fault(f"expected KEY=VALUE, got {text!r}", "--set"))
        node = compose(raw, f"--set {key}") if raw.strip() else None
        target = value
        *parents, last = key.split(".")
        for step in parents:
            target = target.setdefault(step, {})
            if not isinstance(target, dict):
                raise InputError(Fault(f"{step!r} holds no fields to set", f"--set {key}"))
        target[last] = None if node is None else node.value
    return Document(document.file, value, document.text)


def combinations(sweep: Sweep) -> int:
    """Number of points of a sweep."""
    return sum(len(sweep.models) * _product(choices.shape) for choices in sweep.choices)


def _product(lengths: Sequence[int]) -> int:
    total = 1
    for length in lengths:
        total *= length
    return total
