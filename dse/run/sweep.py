"""Run a sweep from file to folder: read, resolve, score in parts, merge, finish."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dse.errors import CannotRun, InputError
from dse.run.allocator import release_freed_memory
from dse.run.effort import PART_POINTS, effort, parts
from dse.run.executors import Executor, choose
from dse.run.finish import finish, rewrite_report
from dse.run.folder import Run
from dse.run.placed import placement_caps
from dse.run.resolve import Sweep, resolve
from dse.run.rows import complete_in_chunks
from dse.run.score import Engine, Tally
from dse.run.settings import set_values
from dse.run.shipped import SWEEP, file_meant
from dse.run.store import Store
from dse.search.space import Part
from dse.spec.reading import Document, from_value, read

__all__ = ["Run", "load_sweep", "rewrite_report", "run_sweep"]

POINT_BYTES = 90
"""Bytes per point and file with `keep: all`, measured on the quickstart (zstd)."""

Progress = Callable[[int, int], None]
"""Told (points done, points in all) as a run proceeds."""

Say = Callable[[str], None]
"""Told what a user would want to know on the way."""


def load_sweep(source: str | Path | Mapping[str, Any], settings: Sequence[str] = ()) -> Sweep:
    """The sweep in a file or mapping, with `KEY=VALUE` settings applied.

    Raises:
        InputError: all faults of its syntax, or shape, or meaning.
    """
    document: Document = from_value(dict(source)) if isinstance(source, Mapping) else read(file_meant(source, SWEEP))
    try:
        return resolve(set_values(document, settings))
    except InputError:
        from dse.run.planning import is_plan

        if is_plan(document.value):
            raise InputError(
                document.fault((), "is a plan, its models have a demand; run it with 'dse plan'")
            ) from None
        raise


def run_sweep(
    source: str | Path | Mapping[str, Any] | Sweep,
    out: str | Path = "results",
    *,
    executor: str | Executor = "auto",
    ray_address: str | None = None,
    settings: Sequence[str] = (),
    keep: str | None = None,
    fidelity: str | Sequence[str] | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    say: Say = lambda text: None,
    part_points: int = PART_POINTS,
) -> Run:
    """Run a sweep, or take up where an interrupted run of the same content stopped.

    Args:
        source: a sweep file, the name of one of the library, its content as a mapping, or a resolved sweep.
        out: folder under which the run's own folder `<name>-<hash>` is made.
        executor: `auto`, `local`, `ray`, or an executor.
        ray_address: of a Ray cluster.
        settings: `KEY=VALUE` changes to the sweep's fields.
        keep: `frontier`, or `all` to write every point as well; None: what the sweep says.
        fidelity: of all points, one or several; None: what the sweep says.
        fresh: forget what an earlier run of the same content left.
        progress: told the points done and in all.
        say: told what a user would want to know on the way.
        part_points: work of one part, in plain points; any choice gives the same result.

    Raises:
        InputError: the sweep is at fault.
        CannotRun: this machine cannot do it.
    """
    start = time.perf_counter()
    sweep = _changed(source, [*settings, *_settings(keep=keep, fidelity=fidelity)])
    store = Store.of(Path(out), sweep.name, sweep.hash)
    with store.locked(say):
        if fresh:
            store.clear()
        if store.is_complete():
            say(f"already complete: {store.folder} (--fresh runs it again)")
            return _reopened(store)
        engine = Engine(sweep)
        chosen, why = choose(executor, effort(engine), ray_address)
        say(f"executor: {chosen.name} ({why})")
        for line in placement_caps(sweep):
            say(line)
        if sweep.keep == "all":
            _check_disk(store, engine.space.size, say)
        work = _Work(engine, store, part_points)
        tally = _score(work, chosen, progress)
        release_freed_memory()
        manifest = finish(engine, store, tally, chosen.name, start)
    return Run(store.folder, manifest)


def _settings(**fields: Any) -> list[str]:
    """Fields that are given as settings; JSON is YAML."""
    return [f"{name}={json.dumps(value)}" for name, value in fields.items() if value is not None]


def _changed(source: str | Path | Mapping[str, Any] | Sweep, settings: Sequence[str]) -> Sweep:
    """The sweep with these settings.

    Raises:
        InputError: it is resolved already, or at fault.
    """
    if not isinstance(source, Sweep):
        return load_sweep(source, settings)
    if settings:
        raise InputError(f"a resolved sweep takes no changes; give {', '.join(settings)} to load_sweep")
    return source


def _reopened(store: Store) -> Run:
    """A finished run; where it was stopped before its report, that is written."""
    run = Run.open(store.folder)
    if not run.report.is_file():
        rewrite_report(run.folder)
    return run


@dataclass
class _Work:
    """Computes parts; sent to workers once."""

    engine: Engine
    store: Store
    part_points: int
    """Work of a part, in plain points."""
    on_points: Callable[[int], None] | None = None

    def __call__(self, index: int) -> Tally:
        part = self.parts[index]
        if self.keeps_points and not self.store.has_points(part):
            self.store.write_points(part, complete_in_chunks(self.engine, part))
        return self.engine.tally(part, self.on_points)

    @property
    def keeps_points(self) -> bool:
        return self.engine.sweep.keep == "all"

    @cached_property
    def parts(self) -> list[Part]:
        """The sweep in parts, which follow from it alone."""
        return parts(self.engine, self.part_points)

    def found(self, part: Part) -> Tally | None:
        """What an earlier run found in this part, if it finished it."""
        if len(self.parts) == 1 or (self.keeps_points and not self.store.has_points(part)):
            return None
        return self.store.read_part(part)

    def __getstate__(self) -> dict[str, Any]:
        return {"engine": self.engine, "store": self.store, "part_points": self.part_points}


def _score(work: _Work, executor: Executor, progress: Progress | None) -> Tally:
    """All parts, merged; parts that an earlier run finished are read back."""
    total, missing = Tally(), []
    if work.keeps_points:
        work.store.keep_points_of(work.parts)
    for part in work.parts:
        found = work.found(part)
        if found is None:
            missing.append(part.number)
        else:
            total.merge(found)
    shown, size = total.points, work.engine.space.size

    def tell(points: int) -> None:
        nonlocal shown
        shown += points
        if progress is not None:
            progress(shown, size)

    def done(index: int, tally: Tally) -> None:
        if len(work.parts) > 1:
            work.store.write_part(work.parts[index], tally)
        total.merge(tally)
        if executor.name != "local":
            tell(tally.points)

    work.on_points = tell if executor.name == "local" else None
    executor.run(work, missing, done)
    return total


def _check_disk(store: Store, points: int, say: Say) -> None:
    """Say how much `keep: all` will write; refuse what does not fit.

    Raises:
        CannotRun: more than the free space.
    """
    wanted = points * POINT_BYTES
    say(f"keep: all writes about {wanted / 1e9:.2g} GB for {points:,} points")
    free = shutil.disk_usage(store.folder).free
    if wanted > free:
        has = f"{store.folder} has {free / 1e9:.1f} GB free"
        raise CannotRun(f"keep: all needs about {wanted / 1e9:.1f} GB, {has}")
