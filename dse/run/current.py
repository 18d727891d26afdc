"""Today's deployment: the point, or one per comparison group, that `current` of a sweep names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from dse.errors import InputError
from dse.run.axes import (
    DEGREES,
    MAX_BATCH,
    MAX_DEGREE,
    MAX_RATE,
    NAMED,
    POOLED,
    PREFILL_COLUMNS,
    Axes,
    Load,
    PoolAxes,
    model_entry,
    named,
    precision_entry,
    split,
)  # fmt: skip
from dse.run.faults import Faults
from dse.search.space import Layout
from dse.spec.axis import integers, reals
from dse.spec.catalog import expand_hardware
from dse.spec.reading import Document, suggest
from dse.spec.sweep import SweepFile
from dse.spec.workload import load_workload

AXIS_OF = {
    "model": "models",
    "hardware": "hardware",
    **dict.fromkeys(("workload", "input", "output"), "workload"),
    **dict.fromkeys(("precision", "accuracy_drop_pct"), "precision"),
    **dict.fromkeys((*DEGREES, "devices"), "layout"),
    "rate": "rate",
    "batch": "batch",
    **{name: name for name in NAMED},
}
"""The axis each column of points follows from; changed fields of the hardware, from the hardware."""

CURRENT = ("model", "hardware", "precision", "workload", "input", "output", *DEGREES, "rate", "batch", *NAMED)
"""What `current` may say."""


def current_axes(file: SweepFile, axes: Axes, document: Document, faults: Faults) -> Axes | None:
    """Axes whose points are today's deployment in every comparison group, or None.

    An axis that `current` leaves open takes the sweep's first value, or each of them where points are grouped
    by it.
    """
    stated = file.current
    if stated is None:
        return None
    for name in stated:
        if name not in CURRENT:
            hint = suggest(name, CURRENT) or f"; expected one of {', '.join(CURRENT)}"
            faults.found.append(document.fault(("current", name), f"not an axis{hint}", key=True))
    grouped = {AXIS_OF.get(name, "hardware") for name in file.group_by if name not in PREFILL_COLUMNS}
    chosen: dict[str, Any] = {}
    for axis in dict.fromkeys(AXIS_OF.values()):
        every = slice(None) if axis in grouped else slice(1)
        chosen[axis] = getattr(axes, axis)[every]
        if axis == "hardware":
            chosen["changes"] = axes.changes[every]
    for axis, load in _CURRENT_LOADERS.items():
        with faults.collected():
            chosen |= load(axis, stated, document)
    return replace(axes, **chosen, pools=_current_pools(axes, chosen, "batch" in stated))


def _current_pools(axes: Axes, chosen: Mapping[str, Any], batch_stated: bool) -> PoolAxes | None:
    """Of disaggregated serving: the first prefill worker of the sweep beside the decode worker that is stated."""
    if axes.pools is None or POOLED not in chosen["serving"]:
        return None
    pools = axes.pools
    first = {name: getattr(pools, name)[:1] for name in ("hardware", "precision", "layout", "batch", "decode_batch")}
    return replace(pools, **first | ({"decode_batch": chosen["batch"]} if batch_stated else {}))


def _current_entry(load: Load) -> Callable[[str, Mapping[str, Any], Document], dict[str, Any]]:
    """A loader of one value of `current`."""

    def chosen(name: str, stated: Mapping[str, Any], document: Document) -> dict[str, Any]:
        if name not in stated:
            return {}
        path = ("current", name)
        if isinstance(stated[name], list):
            raise InputError(document.fault(path, "expected one value, got a list"))
        found = load(stated[name], document, path)
        if len(found) != 1:
            raise InputError(document.fault(path, f"stands for {len(found)} values; expected one"))
        return {AXIS_OF[name]: tuple(found)}

    return chosen


def _current_hardware(name: str, stated: Mapping[str, Any], document: Document) -> dict[str, Any]:
    chosen = _current_entry(expand_hardware)(name, stated, document) if name in stated else {}
    chips, changes = split(chosen.get("hardware", ()))
    return {"hardware": chips, "changes": changes} if chips else {}


def _current_lengths(_: str, stated: Mapping[str, Any], document: Document) -> dict[str, Any]:
    lengths = {name: stated[name] for name in ("input", "output") if name in stated}
    if not lengths:
        return {}
    if "workload" in stated:
        raise InputError(document.fault(("current",), "give either workload or input and output, not both"))
    found = load_workload(lengths, document, ("current",))
    if len(found) != 1:
        raise InputError(document.fault(("current",), f"{len(found)} request shapes; expected one"))
    return {"workload": tuple(found)}


def _current_layout(_: str, stated: Mapping[str, Any], document: Document) -> dict[str, Any]:
    faults = Faults()
    degrees = {"ep": 0}
    for name in DEGREES:
        if name in stated and not (name == "ep" and stated[name] == "auto"):
            with faults.collected():
                degrees[name] = _one(document, name, stated[name], MAX_DEGREE)
    faults.check()
    return {"layout": (Layout(**degrees),)} if any(name in stated for name in DEGREES) else {}


def _current_batch(name: str, stated: Mapping[str, Any], document: Document) -> dict[str, Any]:
    return {"batch": (_one(document, name, stated[name], MAX_BATCH),)} if name in stated else {}


def _current_rate(name: str, stated: Mapping[str, Any], document: Document) -> dict[str, Any]:
    if name not in stated:
        return {}
    found = reals(document, ("current", name), stated[name], most=MAX_RATE)
    if len(found) != 1:
        raise InputError(document.fault(("current", name), f"expected one value, got {len(found)}"))
    return {"rate": tuple(found)}


def _one(document: Document, name: str, raw: Any, most: int) -> int:
    found = integers(document, ("current", name), raw, most=most)
    if len(found) != 1:
        raise InputError(document.fault(("current", name), f"expected one value, got {len(found)}"))
    return found[0]


_CURRENT_LOADERS: dict[str, Callable[[str, Mapping[str, Any], Document], dict[str, Any]]] = {
    "model": _current_entry(model_entry),
    "hardware": _current_hardware,
    "precision": _current_entry(precision_entry),
    "workload": _current_entry(load_workload),
    "input": _current_lengths,
    "tp": _current_layout,
    "rate": _current_rate,
    "batch": _current_batch,
    **{name: _current_entry(named(name)) for name in NAMED},
}
