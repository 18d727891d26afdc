"""Fitted engines -> a runtimes file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from dse.calibrate.engines import PRIORS, Fit
from dse.errors import Fault, InputError
from dse.spec.runtime import RuntimeSpec, library_runtimes

OWN_HEADER = """\
# Serving engines as measured here: `runtime: ./THIS_FILE` in a sweep, --runtime ./THIS_FILE on the command line.
# Written by `dse validate RESULTS.json --fit`, from the library's figures as they stood before.
"""

HEADER = """\
# Serving engines: what each adds to the kernels' time, how it fills its batch, what it runs (dse/spec/runtime.py).
# One set of figures per engine, shared by all models and accelerators. Written by `dse validate MEASURED.csv --fit`:
# a figure the measurements say nothing of stands at its prior (dse/calibrate/engines.py); an engine they never ran, as
# it was.
"""


def figures(runtime: RuntimeSpec) -> dict[str, Any]:
    """What was fitted, rounded to three digits."""
    values = {name: getattr(runtime, name) for name in PRIORS}
    return {name: float(f"{value:.3g}") for name, value in values.items() if value is not None}


def write_runtimes(fits: Sequence[Fit], fidelity: str, measured: str, path: Path) -> None:
    """Write the library's engines: those that were fitted with their new figures, the others as they stand.

    Args:
        fits: of the engines the measurements name.
        fidelity: of the kernels they were fitted on.
        measured: name of the file of measurements.
        path: the file to write.
    """
    by_name = {fit.rows.runtime.name: fit for fit in fits}
    entries: list[Mapping[str, Any]] = []
    for name, spec in library_runtimes().items():
        entry = _plain(spec)
        if name in by_name:
            fit = by_name[name]
            entry |= figures(fit.engine) | {"source": _told(fit, fidelity, measured)}
        entries.append({name: entry})
    _write(HEADER, entries, path)


def write_own(fits: Sequence[Fit], fidelity: str, measured: str, path: Path) -> None:
    """Write the engines that a user's own benchmarks ran, and no other.

    Args:
        fits: of these engines.
        fidelity: of the kernels they were fitted on.
        measured: name of the benchmark's file.
        path: the file to write.

    Raises:
        InputError: none of its runs kept a known batch.
    """
    if not fits:
        message = "no run to fit an engine to: expected one with max_concurrency or all at once"
        raise InputError(Fault(message, file=measured))
    entries = []
    for fit in fits:
        spec = fit.engine.model_copy(update={"priors": {}, "aliases": (), "generation_of": None})
        told = f"{_told(fit, fidelity, measured)}; before: {fit.rows.runtime.source or 'unknown'}"
        entries.append({spec.name: _plain(spec) | figures(spec) | {"source": told}})
    _write(OWN_HEADER, entries, path)


def _told(fit: Fit, fidelity: str, measured: str) -> str:
    rows = f"{fit.rows.count:,} rows of {measured} over {fidelity} kernels"
    return f"fitted by dse validate to {rows}, {date.today().isoformat()}"


def _plain(spec: RuntimeSpec) -> dict[str, Any]:
    """What differs from an engine without costs."""
    return spec.model_dump(mode="json", exclude_defaults=True, exclude={"name"})


def _write(header: str, entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    import yaml

    dumped = (
        yaml.safe_dump(entry, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None)
        for entry in entries
    )
    path.write_text(header + "\n" + "".join(dumped), encoding="utf-8")
