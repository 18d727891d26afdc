"""Run a sweep from file to folder: read, resolve, score in parts, merge, complete, write, report."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dse import __version__
from dse.cost import COST_MODEL
from dse.cost.metrics import METRICS
from dse.errors import CannotRun
from dse.run.executors import Executor, choose
from dse.run.explain import by_name, explain_point, memory_gb, point_of
from dse.run.groups import axis_columns, box_columns
from dse.run.resolve import Sweep, resolve, set_value
from dse.run.rows import complete, reason_text
from dse.run.score import Engine, Tally
from dse.run.store import Store
from dse.search.space import Part, tasks
from dse.spec.reading import Document, from_value, read

if TYPE_CHECKING:
    import pandas as pd

POINT_BYTES = 90
"""Bytes per point and file with `keep: all`, measured on the quickstart (zstd)."""

DETAILS = 200
"""Frontier points the report explains operator by operator."""

Progress = Callable[[int, int], None]
"""Told (points done, points in all) as a run proceeds."""


@dataclass(frozen=True)
class Run:
    """A finished run on disk."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder.

        Raises:
            InputError: the folder holds no finished run.
        """
        from dse.errors import InputError

        store = Store(Path(folder))
        manifest = store.manifest()
        if manifest is None:
            raise InputError(f"{folder}: no finished run here (no manifest.json)")
        return cls(store.folder, manifest)

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def frontier(self) -> pd.DataFrame:
        """All non-dominated points of all groups, complete."""
        return Store(self.folder).read_table("frontier").to_pandas()

    def top(self) -> pd.DataFrame:
        """The best points per objective and group."""
        return Store(self.folder).read_table("top").to_pandas()

    def points(self, columns: Sequence[str] | None = None, where: Any = None) -> pd.DataFrame:
        """All points of a run with `keep: all`.

        Args:
            columns: names of columns; None for all.
            where: a filter as pyarrow's datasets take it, e.g. `[("tp", "==", 8)]`.

        Raises:
            InputError: the run kept its frontier only.
        """
        import pyarrow.parquet as pq

        from dse.errors import InputError

        folder = self.folder / "points"
        if not folder.is_dir():
            raise InputError(f"{self.folder}: kept its frontier only; run it with keep: all")
        return pq.read_table(folder, columns=list(columns) if columns else None, filters=where).to_pandas()


def load_sweep(source: str | Path | Mapping[str, Any], settings: Sequence[str] = ()) -> Sweep:
    """The sweep in a file or mapping, with `KEY=VALUE` settings applied.

    Raises:
        InputError: all faults of its syntax, or shape, or meaning.
    """
    document: Document = from_value(dict(source)) if isinstance(source, Mapping) else read(source)
    return resolve(set_value(document, settings))


def run_sweep(
    source: str | Path | Mapping[str, Any] | Sweep,
    out: str | Path = "results",
    *,
    executor: str | Executor = "auto",
    ray_address: str | None = None,
    settings: Sequence[str] = (),
    fresh: bool = False,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Run:
    """Run a sweep, or take up where an interrupted run of the same content stopped.

    Args:
        source: a sweep file, its content as a mapping, or a resolved sweep.
        out: folder under which the run's own folder `<name>-<hash>` is made.
        executor: `auto`, `local`, `ray`, or an executor.
        ray_address: of a Ray cluster.
        settings: `KEY=VALUE` changes to the sweep's fields.
        fresh: forget what an earlier run of the same content left.
        progress: told the points done and in all.
        say: told what a user would want to know on the way.

    Raises:
        InputError: the sweep is at fault.
        CannotRun: this machine cannot do it.
    """
    sweep = source if isinstance(source, Sweep) else load_sweep(source, settings)
    store = Store.of(Path(out), sweep.name, sweep.hash)
    if fresh:
        store.clear()
    manifest = store.manifest()
    if manifest is not None and manifest.get("cost_model") == COST_MODEL and (store.folder / "report.html").is_file():
        say(f"already complete: {store.folder} (--fresh runs it again)")
        return Run(store.folder, manifest)

    start = time.perf_counter()
    engine = Engine(sweep)
    if isinstance(executor, str):
        executor, why = choose(executor, engine.space.size, ray_address)
        say(f"executor: {executor.name} ({why})")
    if sweep.keep == "all":
        _check_disk(store, engine.space.size, say)
    tally = _score(engine, store, executor, progress)
    manifest = _finish(engine, store, tally, executor.name, start)
    return Run(store.folder, manifest)


@dataclass
class _Work:
    """Computes parts; sent to workers once."""

    engine: Engine
    store: Store
    on_points: Callable[[int], None] | None = None

    def __call__(self, index: int) -> Tally:
        part = self.parts[index]
        if self.engine.sweep.keep == "all":
            self.store.write_points(index, complete(self.engine, part.points))
        return self.engine.tally(part, self.on_points)

    @cached_property
    def parts(self) -> list[Part]:
        """The sweep in parts, which follow from it alone."""
        return list(tasks(self.engine.space))

    def __getstate__(self) -> dict[str, Any]:
        return {"engine": self.engine, "store": self.store, "on_points": None}


def _score(engine: Engine, store: Store, executor: Executor, progress: Progress | None) -> Tally:
    """All parts, merged; parts that an earlier run finished are read back."""
    total = Tally()
    work = _Work(engine, store)
    size, count = engine.space.size, len(work.parts)
    missing, done_points = [], 0
    for index in range(count):
        found = store.read_part(index) if count > 1 else None
        if found is not None and (engine.sweep.keep != "all" or store.has_points(index)):
            done_points += found.points
            total.merge(found)
        else:
            missing.append(index)
    shown = done_points

    def tell(points: int) -> None:
        nonlocal shown
        shown += points
        if progress is not None:
            progress(shown, size)

    def done(index: int, tally: Tally) -> None:
        if count > 1:
            store.write_part(index, tally)
        total.merge(tally)
        if executor.name != "local":
            tell(tally.points)

    work.on_points = tell
    executor.run(work, missing, done)
    return total


def _finish(engine: Engine, store: Store, tally: Tally, executor: str, start: float) -> dict[str, Any]:
    """Complete the kept points and write the files of the run, the manifest last but for the report."""
    from dse.report.html import write_report

    sweep, reasons = engine.sweep, engine.sweep.question.reasons
    fronts = tally.front.fronts()
    kept = np.unique(np.concatenate([numbers for numbers, _ in fronts.values()] or [np.zeros(0, dtype=np.int64)]))
    best = [numbers for of_group in tally.top.tops().values() for numbers, _ in of_group]
    top = np.unique(np.concatenate(best or [kept]))
    frontier = complete(engine, kept.tolist())
    store.write_table("frontier", frontier, csv=True)
    store.write_table("top", complete(engine, top.tolist()))
    seconds = time.perf_counter() - start
    feasible = tally.statuses.get(0, 0)
    manifest = {
        "name": sweep.name,
        "hash": sweep.hash,
        "version": __version__,
        "cost_model": COST_MODEL,
        "points": tally.points,
        "feasible": feasible,
        "statuses": {reasons[code]: count for code, count in sorted(tally.statuses.items())},
        "nearest_misses": _misses(engine, tally),
        "seconds": seconds,
        "points_per_s": tally.points / seconds,
        "executor": executor,
        "objectives": [
            {"name": name, "sense": METRICS[name].sense, "unit": METRICS[name].unit} for name in sweep.question.objectives
        ],
        "constraints": {
            name: {key: limit for key, limit in zip(("min", "max"), bound, strict=True) if limit is not None}
            for name, bound in sweep.question.constraints.items()
        },
        "group_by": list(sweep.group_by),
        "groups": [
            {"key": engine.groups.key(group), "front": len(fronts.get(group, ((), ()))[0]), "feasible": count}
            for group, count in sorted(tally.feasible.items())
        ],
        "evidence": dict(Counter(frontier["evidence"])),
        "current": current_row(engine),
        "axes": [name for name in frontier if name in _axis_names(engine)],
        "sweep": dict(sweep.source),
        "resolved": sweep.resolved(),
    }
    store.write_manifest(manifest)
    details = {number: explain_point(engine, number) for number in _detailed(fronts)}
    write_report(store.folder, details)
    store.clear_parts()
    return store.manifest() or manifest


def _axis_names(engine: Engine) -> set[str]:
    columns = axis_columns(engine.sweep, engine.sweep.choices[0], 0)
    return {"model", *(name for axis in columns.values() for name in axis), *box_columns(engine.sweep.choices[0])} - {
        "accuracy_drop_pct"
    }


def _detailed(fronts: Mapping[int, tuple[Any, Any]]) -> list[int]:
    """Up to `DETAILS` frontier points, taken evenly from the groups and spread over each front."""
    if not fronts:
        return []
    share = max(1, DETAILS // len(fronts))
    chosen: list[int] = []
    for _, (numbers, costs) in sorted(fronts.items()):
        best = np.unique(np.argmin(costs, axis=0))
        spread = np.linspace(0, len(numbers) - 1, min(share, len(numbers))).astype(int)
        chosen += numbers[np.unique(np.concatenate([best, spread]))[: max(share, len(best))]].tolist()
    return list(dict.fromkeys(chosen))[:DETAILS]


def _misses(engine: Engine, tally: Tally) -> dict[str, Any]:
    """The nearest miss per reason, as a row with the amounts in words."""
    reasons = engine.sweep.question.reasons
    found: dict[str, Any] = {}
    for code in sorted(tally.statuses):
        if code == 0:
            continue
        if code not in tally.nearest:
            found[reasons[code]] = {"reason": reason_text(engine, code, {}, {}), "number": None}
            continue
        number = tally.nearest[code][1]
        row = by_name(complete(engine, [number]), 0)
        found[reasons[code]] = {**row, "reason": reason_text(engine, code, row, memory_gb(point_of(engine, number))["accelerator"])}
    return found


def current_row(engine: Engine) -> dict[str, Any] | None:
    """The point that matches the sweep's `current`, complete; None where it names none.

    Axes that `current` leaves open take the first value of the sweep; a deployment outside the sweep's values is
    evaluated in a sweep of its own.

    Raises:
        InputError: its values are at fault.
    """
    current = engine.sweep.current
    if current is None:
        return None
    rows = []
    own = dict(engine.sweep.source)
    first = engine.sweep.choices[0]
    for model in engine.sweep.source["models"] if "model" not in current else [current["model"]]:
        source = {
            "name": "current",
            "models": [model],
            "hardware": [current.get("hardware", _first(own["hardware"]))],
            "precision": [current.get("precision", _first(own.get("precision", "bf16")))],
            "workload": [current.get("workload", first.workload[0].name)],
            "parallel": {axis: current.get(axis, 1) for axis in ("tp", "pp", "dp")} | {"ep": current.get("ep", "auto")},
            "batch": [current.get("batch", 1)],
            "fidelity": [current.get("fidelity", first.fidelity[0])],
            "attention": [current.get("attention", first.attention)],
            "price": own.get("price", {}),
            "objectives": list(engine.sweep.question.objectives),
        }
        rows.append(by_name(complete(Engine(load_sweep(source)), [0]), 0))
    return rows[0] if rows else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _check_disk(store: Store, points: int, say: Callable[[str], None]) -> None:
    """Say how much `keep: all` will write; refuse what does not fit.

    Raises:
        CannotRun: more than the free space.
    """
    wanted = points * POINT_BYTES
    say(f"keep: all writes about {wanted / 1e9:.2g} GB for {points:,} points")
    folder = store.folder
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise CannotRun(f"keep: all needs about {wanted / 1e9:.1f} GB, {folder} has {free / 1e9:.1f} GB free")
