"""`dse calibrate`: kernel timings of one accelerator -> efficiencies, with errors before and after, in its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dse.calibrate.block import calibration_of, write
from dse.calibrate.fit import LEAST, Result, fit_all
from dse.calibrate.kernels import Column
from dse.calibrate.timings import Timings, read_timings
from dse.errors import InputError
from dse.spec.calibration import FORMS, MOST, Calibration
from dse.spec.catalog import load_hardware
from dse.spec.hardware import HardwareSpec
from dse.spec.reading import Document, library_file
from dse.spec.shelf import HARDWARE, locate


@dataclass(frozen=True)
class Fit:
    """What a calibration found."""

    hardware: HardwareSpec
    timings: Timings
    results: list[Result]
    calibration: Calibration
    path: Path | None
    """Where it was written."""

    def rows(self) -> list[dict[str, Any]]:
        """Per class and type: rows, and errors in percent with default efficiencies and with the fit."""
        return [
            {
                "class": result.form,
                "type": result.key,
                "framework": result.fitted.framework,
                "rows": result.fitted.rows,
                **{f"datasheet_{name}_pct": value for name, value in _errors(result.before).items()},
                **{f"fitted_{name}_pct": value for name, value in _errors(result.after).items()},
            }
            for result in self.results
        ]

    def remarks(self) -> Iterator[str]:
        """What was left out, how many parameters there are, and where they were written."""
        for reason, rows in self.timings.left_out.counts.items():
            yield f"- left out {rows:,}: {reason}"
        told, more = self.timings.left_out.bad()
        yield from (f"  {fault}" for fault in told)
        if more:
            yield f"  and {more:,} more such rows (--json names all)"
        if self.timings.others:
            yield f"- {self.timings.others:,} rows are of other accelerators"
        yield f"{self.calibration.stored} parameters of at most {MOST}"
        if self.path is not None:
            yield f"wrote {self.path}"

    def plain(self) -> dict[str, Any]:
        """Everything, as JSON could hold it."""
        return {
            "hardware": self.hardware.name,
            "parameters": self.calibration.stored,
            "most_parameters": MOST,
            "sets": [
                {**row, "parameters": result.fitted.values()}
                for row, result in zip(self.rows(), self.results, strict=True)
            ],
            "left_out": self.timings.left_out.counts,
            "left_out_rows": self.timings.left_out.rows(),
            "rows_of_others": self.timings.others,
            "path": None if self.path is None else str(self.path),
        }


def _errors(ratios: Column) -> dict[str, float]:
    known = 100 * (ratios[np.isfinite(ratios)] - 1)
    error = np.abs(known)
    figures = {
        "mape": error.mean(), "median": np.median(error), "p90": np.quantile(error, 0.9), "bias": np.median(known)
    }  # fmt: skip
    return {name: round(float(value), 1) for name, value in figures.items()}


def calibrate(
    data: Sequence[str | Path],
    hardware: str | Path,
    *,
    out: str | Path | None = None,
    prefer: Sequence[str] = (),
    without: Sequence[str] = (),
    source: str = "",
    force: bool = False,
) -> Fit:
    """Fit the efficiencies of an accelerator to timings of its kernels.

    Args:
        data: Parquet or CSV files, or folders of them (columns: hardware/README.md).
        hardware: name or path of the accelerator.
        out: hardware file to write: the accelerator's own, with the block `calibration` (`own_file` says which would
            be the user's); None: nothing is written.
        prefer: frameworks, best first; `class=framework` for one class.
        without: classes not to fit.
        source: where the timings come from, for the file.
        force: overwrite `out`.

    Raises:
        InputError: no such data or hardware, nothing to fit, or `out` exists and is not the user's own file that
            `hardware` names, in which only the block is replaced.
    """
    order = _preferences(prefer)
    for name in without:
        if name not in FORMS:
            raise InputError(f"--without: expected a class of {', '.join(FORMS)}; got {name!r}")
    chip = load_hardware(hardware)
    if chip.cores is None:
        raise InputError(f"{chip.name}: the hardware file gives no cores, in which tiles and items are counted")
    target = None if out is None else Path(out)
    written = locate(HARDWARE, hardware, Document("", None))
    if target is not None and target.exists() and not force and not _same(target, written):
        raise InputError(f"{target} exists; --force overwrites it")
    timings = read_timings(data, chip)
    results = fit_all(timings, chip, order, without)
    if not results:
        largest = max(len(timed) for timed in timings.batches)
        raise timings.left_out.refusal(
            f"too few timings of {chip.name} to fit: {largest} of one class, type and framework at most; expected at "
            f"least {LEAST}"
        )
    block = calibration_of(chip, results, source or f"fitted to {', '.join(Path(name).name for name in data)}")
    if target is not None:
        write(chip, written, block, target)
    return Fit(chip, timings, results, block, target)


def own_file(hardware: str | Path) -> Path:
    """The user's own hardware file that a fit belongs in: never one of the installed library.

    It is the file that `hardware` means where that is the user's; else one of the same name in `./hardware`, if the
    user has such a folder, or in the working folder: both are found before the library.

    Raises:
        InputError: no such hardware, or the working folder is the library's own.
    """
    found, library = locate(HARDWARE, hardware, Document("", None)), library_file(HARDWARE.folder).resolve()
    if found.resolve().parent != library:
        return found
    folder = Path(HARDWARE.folder)
    own = folder if folder.is_dir() and folder.resolve() != library else Path()
    if own.resolve() == library:
        raise InputError("the working folder is the library's own; name the file to write (--out)")
    return own / found.name


def _same(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve() and a.resolve().parent != library_file(HARDWARE.folder).resolve()


def _preferences(words: Sequence[str]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, framework = word.partition("=")
        form, framework = (name, framework) if equals else ("all", name)
        if form not in (*FORMS, "all") or not framework:
            known = ", ".join(FORMS)
            raise InputError(f"--framework: expected NAME or CLASS=NAME with a class of {known}; got {word!r}")
        found.setdefault(form, []).append(framework)
    return found
