"""From what the parts found to the files of a run: tables, manifest, report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dse import __version__
from dse.cost import COST_MODEL
from dse.cost.metrics import METRICS
from dse.report.thinning import rows_to_explain
from dse.run.allocator import release_freed_memory
from dse.run.chances import front_probabilities
from dse.run.contests import contests
from dse.run.explain import explain_points
from dse.run.folder import Run
from dse.run.groups import axis_columns, box_columns
from dse.run.misses import missed_points, nearest_misses
from dse.run.resolve import Sweep
from dse.run.rows import Columns, Piece, complete, pieces, row, select
from dse.run.score import Engine, Tally
from dse.run.store import Store, writing
from dse.search.rows import distinct

DETAILS = 200
"""Frontier points the report explains operator by operator."""

FEW = 1000
"""Points whose pieces are kept from rows to explanations, contenders among them: of so few, a pass costs as much as
its operators, however many points it has."""


def finish(engine: Engine, store: Store, tally: Tally, executor: str, start: float) -> dict[str, Any]:
    """Complete the kept points and write the files of the run.

    The manifest comes after the tables: a run that has one is complete but for its report, which reads both, in the
    memory that the complete rows have left.
    """
    from dse.report.html import write_report

    manifest, details = _write_tables(engine, store, tally, executor, start)
    release_freed_memory()
    with writing(store.folder / "report.html"):
        write_report(store.folder, details)
    store.clear_parts()
    return manifest


def _write_tables(
    engine: Engine, store: Store, tally: Tally, executor: str, start: float
) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
    """Write the tables and the manifest, which is returned with what the report explains."""
    contested = contests(engine.divisions, tally.front.fronts())
    kept = _union(contest.front for contest in contested.values())
    best = _union(numbers for of_group in tally.top.tops().values() for numbers, _ in of_group)
    contenders = _union(contest.numbers for contest in contested.values())
    beside = contenders if len(contenders) <= FEW else []
    numbers = _union([kept, best, missed_points(tally), beside])
    held = list(pieces(engine, numbers)) if len(numbers) <= FEW else None
    rows = complete(engine, numbers, held)
    chances = front_probabilities(engine, contested, rows)
    rows["front_probability"] = [chances.get(number) for number in rows["number"]]
    release_freed_memory()
    frontier, text = select(rows, kept), engine.sweep.text_columns
    store.write_table("frontier", frontier, text, csv=True)
    store.write_table("top", select(rows, best), text)
    manifest = store.write_manifest(
        {
            **_counts(engine, tally, rows, time.perf_counter() - start),
            "executor": executor,
            **_question(engine.sweep),
            "groups": [
                {
                    "key": engine.groups.key(group),
                    "front": len(contested[group].front) if group in contested else 0,
                    "feasible": count,
                }
                for group, count in sorted(tally.feasible.items())
            ],
            "evidence": dict(sorted(Counter(frontier["evidence"]).items())),
            **_today(engine.sweep),
            "axes": _axis_names(engine.sweep, frontier),
            "sweep": dict(engine.sweep.source),
            "resolved": engine.sweep.resolved,
        }
    )
    del rows
    release_freed_memory()  # explanations are the next that grow
    return manifest, _details(engine, frontier, held)


def rewrite_report(folder: str | Path) -> Path:
    """Write the report of a finished run again.

    Raises:
        InputError: no finished run there.
        CannotRun: the cost model has changed since, so that points cannot be explained, or the disk is full.
    """
    from dse.report.html import write_report

    run = Run.open(folder)
    engine = run.engine()
    frontier: Columns = Store(run.folder).read_table("frontier").to_pydict()
    with writing(run.report):
        return write_report(run.folder, _details(engine, frontier))


def _details(engine: Engine, frontier: Columns, held: Iterable[Piece] | None = None) -> dict[int, dict[str, Any]]:
    """The explanations the report holds."""
    chosen = [frontier["number"][row] for row in rows_to_explain(frontier, _question(engine.sweep), DETAILS)]
    return explain_points(engine, chosen, frontier, held)


def _union(numbers: Iterable[ArrayLike]) -> list[int]:
    """Each number once, ascending."""
    none = np.zeros(0, dtype=np.int64)
    found = distinct(np.concatenate([none, *(np.asarray(one, dtype=np.int64) for one in numbers)]))
    union: list[int] = found.tolist()
    return union


def _counts(engine: Engine, tally: Tally, rows: Columns, seconds: float) -> dict[str, Any]:
    reasons = engine.sweep.question.reasons
    return {
        "name": engine.sweep.name,
        "hash": engine.sweep.hash,
        "version": __version__,
        "cost_model": COST_MODEL,
        "points": tally.points,
        "feasible": tally.statuses.get(0, 0),
        "statuses": {reasons[code]: count for code, count in sorted(tally.statuses.items())},
        "nearest_misses": nearest_misses(engine, tally, rows),
        "programs": tally.programs,
        "seconds": seconds,
        "points_per_s": tally.points / seconds,
    }


def _question(sweep: Sweep) -> dict[str, Any]:
    return {
        "objectives": [
            {"name": name, "sense": METRICS[name].sense, "unit": METRICS[name].unit}
            for name in sweep.question.objectives
        ],
        "constraints": {
            name: {key: limit for key, limit in zip(("min", "max"), bound, strict=True) if limit is not None}
            for name, bound in sweep.question.constraints.items()
        },
        "group_by": list(sweep.group_by),
    }


def _today(sweep: Sweep) -> dict[str, Any]:
    """Today's deployment: `current_rows`, one per comparison group, and `current`, the first of them."""
    if sweep.current is None:
        return {"current": None, "current_rows": []}
    engine = Engine(sweep.current)
    columns = complete(engine, range(engine.space.size))
    rows = [row(columns, index) for index in range(engine.space.size)]
    return {"current": rows[0], "current_rows": rows}


def _axis_names(sweep: Sweep, columns: Columns) -> list[str]:
    """Columns that say where a point stands, rather than how it does."""
    of_axes = (name for axis in axis_columns(sweep, 0, 0).values() for name in axis)
    names = {"model", *of_axes, *box_columns(sweep, 0)} - {"accuracy_drop_pct"}
    return [name for name in columns if name in names]
