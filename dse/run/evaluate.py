"""Points without a sweep file: a data frame of all combinations, or one point explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dse.errors import Fault, InputError
from dse.run.arrow import table
from dse.run.axes import DEGREES
from dse.run.explain import explain_points
from dse.run.folder import Run
from dse.run.resolve import Sweep
from dse.run.rows import complete
from dse.run.score import Engine
from dse.run.sweep import load_sweep
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.reading import Strict, suggest
from dse.spec.sweep import SweepFile

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 5_000_000
"""Beyond this a data frame is the wrong tool, and a sweep the right one."""

_NESTED = (*DEGREES, "input", "output")
_NOT_AXES = {"name", "models", "hardware", "parallel", "keep", "notes", "current"}


def evaluate(
    model: str | ModelSpec | list[Any],
    hardware: str | HardwareSpec | Mapping[str, Any] | list[Any],
    **axes: Any,
) -> pd.DataFrame:
    """Every combination of the axes, complete; infeasible points carry their reason in `status`.

    Args:
        model: a name, a path, a `ModelSpec`, or a list of them.
        hardware: a name, a path, a mapping with `base`, a `HardwareSpec`, or a list of them.
        **axes: scalars or lists: `precision, workload` (or `input, output`), `tp, pp, dp, ep` (or `devices`),
            `batch, fidelity, attention, ...`: the fields of a sweep file.

    Returns:
        One row per point, in the order of the axes: techniques, model, hardware, precision, fidelity,
        workload, layout, batch.

    Raises:
        InputError: an axis or a name is unknown, a value impossible, or there are over five million points.
    """
    engine = Engine(_sweep(model, hardware, axes))
    size = engine.space.size
    if size > MAX_ROWS:
        raise InputError(f"{size:,} points are too many for a data frame; write a sweep and use run_sweep")
    frame: pd.DataFrame = table(complete(engine, range(size)), engine.sweep.text_columns).to_pandas()
    return frame


def explain(model: str | ModelSpec, hardware: str | HardwareSpec | Mapping[str, Any], **axes: Any) -> dict[str, Any]:
    """One point, operator by operator, as `dse.run.explain.explain_points` says.

    Args:
        model: a name, a path, or a `ModelSpec`.
        hardware: a name, a path, a mapping with `base`, or a `HardwareSpec`.
        **axes: as in `evaluate`, one value each.

    Raises:
        InputError: an axis or a name is unknown, a value impossible, or there is more than one point.
    """
    return explain_points(Engine(point_sweep(model, hardware, axes)), [0])[0]


def point_sweep(model: Any, hardware: Any, axes: Mapping[str, Any]) -> Sweep:
    """The sweep of one point.

    Raises:
        InputError: an axis or a name is unknown, a value impossible, or there is more than one point.
    """
    sweep = _sweep(model, hardware, axes)
    if (size := Engine(sweep).space.size) != 1:
        raise InputError(f"expected one point, these axes make {size:,}")
    return sweep


def _sweep(model: Any, hardware: Any, axes: Mapping[str, Any]) -> Sweep:
    """A sweep of these axes.

    Raises:
        InputError: an axis is unknown, stands twice, or has an impossible value.
    """
    known = {*SweepFile.model_fields, *DEGREES, "input", "output"} - _NOT_AXES
    unknown = [name for name in axes if name not in known]
    if unknown:
        options = ", ".join(sorted(known))
        hints = [suggest(name, known) or f"; expected one of {options}" for name in unknown]
        raise InputError([Fault(f"unknown axis{hint}", name) for name, hint in zip(unknown, hints, strict=True)])
    fields: dict[str, Any] = {"name": "evaluate", "models": _listed(model), "hardware": _listed(hardware)}
    fields |= {name: _listed(value) for name, value in axes.items() if name not in _NESTED}
    degrees = {name: _listed(axes[name]) for name in DEGREES if name in axes}
    if degrees:
        fields["parallel"] = degrees
    if "workload" not in axes:
        fields["workload"] = {
            "input": _listed(axes.get("input", 1024)),
            "output": _listed(axes.get("output", 256)),
        }
    elif "input" in axes or "output" in axes:
        raise InputError(Fault("give either workload or input and output, not both", "workload"))
    sweep = load_sweep(fields)
    if "objectives" in fields or not any(workload.decodes_nothing for workload in sweep.axes.workload):
        return sweep
    # Nobody asked for TPOT: it is absent where there is none, and no reason not to run.
    asked = tuple(name for name in sweep.question.objectives if name != "tpot_ms")
    return replace(sweep, question=replace(sweep.question, objectives=asked))


def _listed(value: Any) -> Any:
    """Any series of values (a range, a tuple, an array) as the list a sweep file would have."""
    if isinstance(value, str | Mapping) or not hasattr(value, "__iter__") or isinstance(value, Strict):
        return value
    return list(value)


def explain_run(folder: str, number: int) -> dict[str, Any]:
    """A point of a finished run, recomputed.

    Raises:
        InputError: no finished run there, or no such point.
        CannotRun: the library has changed since, so that the point would not be the one of the run.
    """
    engine = Run.open(folder).engine()
    if not 0 <= number < engine.space.size:
        raise InputError(f"no point {number}; the run has the points 0 to {engine.space.size - 1:,}")
    return explain_points(engine, [number])[number]
