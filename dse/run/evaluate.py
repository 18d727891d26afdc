"""Points without a sweep file: a data frame of all combinations, or one point explained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dse.errors import Fault, InputError
from dse.run.explain import explain_point
from dse.run.resolve import Sweep
from dse.run.rows import complete
from dse.run.score import Engine
from dse.run.store import table
from dse.run.sweep import load_sweep
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.reading import suggest
from dse.spec.sweep import SweepFile

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 5_000_000
"""Beyond this a data frame is the wrong tool, and a sweep the right one."""

DEGREES = ("tp", "pp", "dp", "ep")


def evaluate(model: str | ModelSpec | list[Any], hardware: str | HardwareSpec | Mapping[str, Any] | list[Any], **axes: Any) -> pd.DataFrame:
    """Every combination of the axes, complete; infeasible points carry their reason in `status`.

    Args:
        model: a name, a path, a `ModelSpec`, or a list of them.
        hardware: a name, a path, a mapping with `base`, a `HardwareSpec`, or a list of them.
        **axes: scalars or lists: `precision, workload` (or `input, output`), `tp, pp, dp, ep` (or `devices`),
            `batch, fidelity, attention, ...`: the fields of a sweep file.

    Returns:
        One row per point, in the order of the axes: model, hardware, workload, precision, fidelity, layout, batch.

    Raises:
        InputError: an axis or a name is unknown, a value impossible, or there are over five million points.
    """
    engine = Engine(_sweep(model, hardware, axes))
    size = engine.space.size
    if size > MAX_ROWS:
        raise InputError(f"{size:,} points are too many for a data frame; write a sweep and use run_sweep")
    return table(complete(engine, range(size))).to_pandas()


def explain(model: str | ModelSpec, hardware: str | HardwareSpec | Mapping[str, Any], **axes: Any) -> dict[str, Any]:
    """One point, operator by operator (see `dse.run.explain.explain_point`); axes as in `evaluate`, scalars only.

    Raises:
        InputError: an axis or a name is unknown, a value impossible, or there is more than one point.
    """
    engine = Engine(_sweep(model, hardware, axes))
    if engine.space.size != 1:
        raise InputError(f"explain takes one point, these axes make {engine.space.size:,}")
    return explain_point(engine, 0)


def _sweep(model: Any, hardware: Any, axes: Mapping[str, Any]) -> Sweep:
    """A sweep of these axes."""
    fields: dict[str, Any] = {"name": "evaluate", "models": model, "hardware": hardware}
    known = {*SweepFile.model_fields, *DEGREES, "input", "output"} - {"name", "models", "hardware", "parallel"}
    for name in axes:
        if name not in known:
            raise InputError(Fault(f"unknown axis{suggest(name, known) or '; expected one of ' + ', '.join(sorted(known))}", name))
    degrees = {name: axes[name] for name in DEGREES if name in axes}
    if degrees:
        fields["parallel"] = degrees
    if "workload" not in axes:
        lengths = {"input": axes.get("input", 1024), "output": axes.get("output", 256)}
        fields["workload"] = {name: list(value) if hasattr(value, "__iter__") else value for name, value in lengths.items()}
    elif "input" in axes or "output" in axes:
        raise InputError(Fault("give either workload or input and output, not both", "workload"))
    fields |= {name: value for name, value in axes.items() if name not in (*DEGREES, "input", "output")}
    return load_sweep(fields)
