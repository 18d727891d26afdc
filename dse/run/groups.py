"""Comparison groups: which points compete. Points that serve different work do not.

A group is a combination of values of the `group_by` columns. Each column follows from one axis (or from the
model and one axis), so the group of a point is a mixed-radix number over small tables, one per axis: on an
open mesh it is a small array.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import PREFILL, Choices
from dse.cost.mesh import Mesh
from dse.cost.setting import Degrees
from dse.errors import Fault, InputError
from dse.run.axes import DEGREES, word_of
from dse.run.resolve import Sweep
from dse.spec.model import ModelSpec

MAX_GROUPS = 200_000

Labels = list[tuple[Any, ...]]
"""One tuple of column values per index of an axis."""


def axis_columns(sweep: Sweep, box: int, model: int) -> dict[str, dict[str, Sequence[Any]]]:
    """Columns that follow from each axis of a box for one model: axis -> column -> value per index."""
    axes, choices = sweep.axes, sweep.choices_of(box, model)
    return {
        **_prefill_columns(sweep, choices, model),
        "hardware": {
            "hardware": [chip.name for chip in axes.hardware],
            **{key: [_value(sweep, i, key) for i in range(len(axes.hardware))] for key in axes.changed},
        },
        "workload": {
            "workload": [shape.name for shape in axes.workload],
            "input": [shape.input for shape in axes.workload],
            "output": [shape.output for shape in axes.workload],
        },
        "precision": {
            "precision": [scheme.name for scheme in choices.precision],
            "accuracy_drop_pct": [drop.pct for drop in sweep.drops(box, model)],
        },
        "fidelity": {"fidelity": axes.fidelity},
        "layout": {
            **_degrees(choices, sweep.models[model]),
            "devices": [layout.devices for layout in axes.layout],
        },
        "rate": {"rate": [_same_nan(rate) for rate in choices.rate]},
        "batch": {"batch": choices.batch},
    }


def _degrees(choices: Choices, model: ModelSpec) -> dict[str, list[int]]:
    """Parallel degrees of each layout, for one model."""
    size = len(choices.layout)
    ep = Degrees.on(Mesh.points(["layout"], [np.arange(size)]), choices, model).ep
    degrees = {name: [getattr(layout, name) for layout in choices.layout] for name in ("tp", "pp", "dp")}
    return {**degrees, "ep": np.broadcast_to(ep, (size,)).astype(int).tolist()}


def _prefill_columns(sweep: Sweep, choices: Choices, model: int) -> dict[str, dict[str, Sequence[Any]]]:
    """Those of the axes of prefill workers: one blank per axis in a box that has none, nothing if no box has any."""
    if sweep.axes.pools is None:
        return {}
    if choices.pools is None:
        names = {**{axis: [axis] for axis in PREFILL.values()}, "prefill_layout": [f"prefill_{d}" for d in DEGREES]}
        return {axis: {name: [None] for name in columns} for axis, columns in names.items()}
    prefill = choices.pools.prefill
    return {
        "prefill_layout": {
            f"prefill_{name}": values for name, values in _degrees(prefill, sweep.models[model]).items()
        },
        "prefill_hardware": {"prefill_hardware": [chip.name for chip in prefill.hardware]},
        "prefill_precision": {"prefill_precision": [scheme.name for scheme in prefill.precision]},
        "prefill_batch": {"prefill_batch": prefill.batch},
    }


def box_columns(sweep: Sweep, box: int) -> dict[str, Any]:
    """Columns that are the same for all points of a box."""
    return {name: word_of(value) for name, value in sweep.variants[box].items()}


def _value(sweep: Sweep, index: int, key: str) -> Any:
    """The value of a changed field: what the mapping said, else what the accelerator has."""
    changes = sweep.axes.changes[index]
    if key in changes:
        return changes[key]
    value: Any = sweep.hardware[index].model_dump()
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


class Groups:
    """Group numbers of all points of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        # A label is a tuple of the grouping columns an axis has: labels[box][model][axis][index of the axis].
        labels = [[self._labels(box, model) for model in range(len(sweep.models))] for box in range(len(sweep.boxes))]
        self._distinct: dict[str, Labels] = {
            axis: list(dict.fromkeys(label for box in labels for of_model in box for label in of_model[axis]))
            for axis in sweep.axis_names
        }
        self._codes = [[self._coded(of_model) for of_model in box] for box in labels]
        box_labels = [box_columns(sweep, box) for box in range(len(sweep.boxes))]
        self._box_wanted = [name for name in sweep.group_by if name in box_labels[0]]
        self._of_box = [tuple(columns[name] for name in self._box_wanted) for columns in box_labels]
        self._boxes = list(dict.fromkeys(self._of_box))
        if self.count > MAX_GROUPS:
            raise InputError(Fault(f"makes {self.count:,} groups; at most {MAX_GROUPS:,}: drop a column", "group_by"))

    def _labels(self, box: int, model: int) -> dict[str, Labels]:
        found = {}
        for axis, columns in axis_columns(self.sweep, box, model).items():
            wanted = [columns[name] for name in self._wanted(columns)]
            size = len(next(iter(columns.values())))
            found[axis] = [tuple(_same_nan(column[i]) for column in wanted) for i in range(size)]
        return found

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        return {axis: self._wanted(columns) for axis, columns in axis_columns(self.sweep, 0, 0).items()}

    def _wanted(self, columns: Collection[str]) -> list[str]:
        return [name for name in self.sweep.group_by if name in columns]

    def _coded(self, labels: Mapping[str, Labels]) -> dict[str, NDArray[np.int64]]:
        """Labels as positions among the distinct ones."""
        coded = {}
        for axis, values in labels.items():
            position = {label: code for code, label in enumerate(self._distinct[axis])}
            coded[axis] = np.array([position[label] for label in values], dtype=np.int64)
        return coded

    @cached_property
    def _radix(self) -> list[int]:
        by_model = len(self.sweep.models) if "model" in self.sweep.group_by else 1
        return [len(self._boxes), by_model, *(len(self._distinct[axis]) for axis in self.sweep.axis_names)]

    @property
    def count(self) -> int:
        """Number of groups, empty ones included."""
        total = 1
        for size in self._radix:
            total *= size
        return total

    def numbers(self, box: int, model: int, mesh: Mesh) -> NDArray[np.int64]:
        """Group of each point of a mesh, broadcastable: length 1 on axes the grouping does not use."""
        number: Any = np.zeros((1,) * len(mesh.shape), dtype=np.int64)
        number = number + self._boxes.index(self._of_box[box])
        by_model = "model" in self.sweep.group_by
        number = number * self._radix[1] + (model if by_model else 0)
        for axis, size in zip(self.sweep.axis_names, self._radix[2:], strict=True):
            number = number * size
            if size > 1:  # a box without the axis has one blank along it
                number = number + self._codes[box][model][axis][mesh.index.get(axis, 0)]
        result: NDArray[np.int64] = number
        return result

    def key(self, number: int) -> dict[str, Any]:
        """Values of the `group_by` columns of a group."""
        found: dict[str, Any] = {}
        for axis, size in zip(reversed(self.sweep.axis_names), reversed(self._radix[2:]), strict=True):
            number, code = divmod(number, size)
            found |= dict(zip(self._names[axis], self._distinct[axis][code], strict=True))
        number, model = divmod(number, self._radix[1])
        if "model" in self.sweep.group_by:
            found["model"] = self.sweep.models[model].name
        found |= dict(zip(self._box_wanted, self._boxes[number], strict=True))
        return {name: found[name] for name in self.sweep.group_by}


def _same_nan(value: Any) -> Any:
    """None for NaN, so that unknown values are one group."""
    return None if isinstance(value, float) and value != value else value
