"""Comparison groups: which points compete. Points that serve different work do not.

A group is a combination of values of the `group_by` columns. Each column follows from one axis (or from the
model and one axis), so the group of a point is a mixed-radix number over small tables, one per axis: on an
open mesh it is a small array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.setting import Degrees
from dse.errors import InputError
from dse.run.resolve import Sweep

MAX_GROUPS = 200_000

Labels = list[tuple[Any, ...]]
"""One tuple of column values per index of an axis."""


def axis_columns(sweep: Sweep, choices: Choices, model: int) -> dict[str, dict[str, Sequence[Any]]]:
    """Columns that follow from each axis of a box for one model: axis -> column -> value per index."""
    changed = sorted({key for change in sweep.overrides for key in change})
    degrees = Degrees.on(Mesh.points(["layout"], [np.arange(len(choices.layout))]), choices, sweep.models[model])
    return {
        "hardware": {
            "hardware": [chip.name for chip in choices.hardware],
            **{key: [_original(sweep, i, key) for i in range(len(choices.hardware))] for key in changed},
        },
        "workload": {
            "workload": [workload.name for workload in choices.workload],
            "input": [workload.input for workload in choices.workload],
            "output": [workload.output for workload in choices.workload],
        },
        "precision": {
            "precision": [precision.name for precision in choices.precision],
            "accuracy_drop_pct": [drop.pct for drop in sweep.accuracy[sweep.models[model].name]],
        },
        "fidelity": {"fidelity": list(choices.fidelity)},
        "layout": {
            **{name: [getattr(layout, name) for layout in choices.layout] for name in ("tp", "pp", "dp")},
            "ep": np.broadcast_to(degrees.ep, (len(choices.layout),)).astype(int).tolist(),
            "devices": [layout.devices for layout in choices.layout],
        },
        "batch": {"batch": list(choices.batch)},
    }


def box_columns(choices: Choices) -> dict[str, Any]:
    """Columns that are the same for all points of a box."""
    return {"serving": "static", "offload": "none", "runtime": "ideal", "attention": choices.attention}


def _original(sweep: Sweep, index: int, key: str) -> Any:
    """The value of an overridden field: what the mapping said, else what the accelerator has."""
    if key in sweep.overrides[index]:
        return sweep.overrides[index][key]
    value: Any = sweep.hardware[index].model_dump()
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


class Groups:
    """Group numbers of all points of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        tables = [
            [axis_columns(sweep, choices, model) for model in range(len(sweep.models))] for choices in sweep.choices
        ]
        self._wanted = {axis: [name for name in sweep.group_by if name in tables[0][0][axis]] for axis in AXES}
        self._box_wanted = [name for name in sweep.group_by if name in box_columns(sweep.choices[0])]
        self._of_box = [tuple(box_columns(choices)[name] for name in self._box_wanted) for choices in sweep.choices]
        self._boxes = list(dict.fromkeys(self._of_box))
        labels = [
            [{axis: self._labels(columns[axis], axis) for axis in AXES} for columns in per_model] for per_model in tables
        ]
        self._distinct: dict[str, Labels] = {
            axis: list(dict.fromkeys(label for box in labels for model in box for label in model[axis])) for axis in AXES
        }
        self._codes = [
            [
                {
                    axis: np.array([self._distinct[axis].index(label) for label in model[axis]], dtype=np.int64)
                    for axis in AXES
                }
                for model in box
            ]
            for box in labels
        ]
        if self.count > MAX_GROUPS:
            raise InputError(f"group_by makes {self.count} groups; at most {MAX_GROUPS}: drop a column")

    def _labels(self, columns: Mapping[str, Sequence[Any]], axis: str) -> Labels:
        wanted = self._wanted[axis]
        length = len(next(iter(columns.values())))
        return [tuple(_same_nan(columns[name][i]) for name in wanted) for i in range(length)]

    @cached_property
    def _radix(self) -> list[int]:
        by_model = len(self.sweep.models) if "model" in self.sweep.group_by else 1
        return [len(self._boxes), by_model, *(len(self._distinct[axis]) for axis in AXES)]

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
        for axis, size in zip(AXES, self._radix[2:], strict=True):
            number = number * size
            if size > 1:
                number = number + self._codes[box][model][axis][mesh.index[axis]]
        result: NDArray[np.int64] = number
        return result

    def key(self, number: int) -> dict[str, Any]:
        """Values of the `group_by` columns of a group."""
        found: dict[str, Any] = {}
        for axis, size in zip(reversed(AXES), reversed(self._radix[2:]), strict=True):
            number, code = divmod(number, size)
            found |= dict(zip(self._wanted[axis], self._distinct[axis][code], strict=True))
        number, model = divmod(number, self._radix[1])
        if "model" in self.sweep.group_by:
            found["model"] = self.sweep.models[model].name
        found |= dict(zip(self._box_wanted, self._boxes[number], strict=True))
        return {name: found[name] for name in self.sweep.group_by}


def _same_nan(value: Any) -> Any:
    """None for NaN, so that unknown values are one group."""
    return None if isinstance(value, float) and value != value else value
