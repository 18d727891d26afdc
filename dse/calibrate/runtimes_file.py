"""Fitted engines -> a runtimes file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dse.calibrate.engines import PRIORS, Fit, with_figures
from dse.spec.runtime import IDEAL, RuntimeSpec, library_runtimes

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
    """Write the library's engines: those that were fitted with their new figures, the others at their priors.

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
            told = f"fitted by dse validate to {fit.rows.count:,} rows of {measured} over {fidelity} kernels"
            entry |= figures(fit.engine) | {"source": f"{told}, {date.today().isoformat()}"}
        elif name != IDEAL.name:
            at_priors = with_figures(spec, (), np.zeros(0))
            entry |= figures(at_priors) | {"source": f"priors: no row of {measured} ran it"}
        entries.append({name: entry})
    dumped = (
        yaml.safe_dump(entry, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None)
        for entry in entries
    )
    path.write_text(HEADER + "\n" + "".join(dumped), encoding="utf-8")
