"""Fitted engines -> a runtimes file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from dse.calibrate.engines import PRIORS, Fit
from dse.spec.runtime import RuntimeSpec, library_runtimes

HEADER = """\
# Serving engines: what each adds to the kernels' time, how it fills its batch, what it runs (dse/spec/runtime.py).
# One set of figures per engine, shared by all models and accelerators. Written by `dse validate MEASURED.csv --fit`:
# a figure the measurements say nothing of stands at its prior (dse/calibrate/engines.py).
"""


def figures(runtime: RuntimeSpec) -> dict[str, Any]:
    """What was fitted, rounded to three digits."""
    values = {name: getattr(runtime, name) for name in PRIORS}
    return {name: float(f"{value:.3g}") for name, value in values.items() if value is not None}


def write_runtimes(fits: Sequence[Fit], fidelity: str, measured: str, path: Path) -> None:
    """Write the library's engines, those that were fitted with their new figures.

    Args:
        fits: of the engines the measurements name.
        fidelity: of the kernels they were fitted on.
        measured: name of the file of measurements.
        path: the file to write.
    """
    import yaml

    by_name = {fit.rows.runtime.name: fit for fit in fits}
    entries: list[Mapping[str, Any]] = []
    for name, spec in library_runtimes().items():
        entry = spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})
        if name in by_name:
            fit = by_name[name]
            entry |= figures(fit.engine)
            entry["source"] = (
                f"fitted by dse validate to {fit.rows.count:,} rows of {measured} over {fidelity} kernels, "
                f"{date.today().isoformat()}"
            )
        entries.append({name: entry})
    dumped = (yaml.safe_dump(entry, sort_keys=False, width=120, allow_unicode=True) for entry in entries)
    path.write_text(HEADER + "\n" + "".join(dumped), encoding="utf-8")
