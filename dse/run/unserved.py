"""Sizes of request that nothing serves: each with what comes nearest, many of one kind in one clause."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dse.run.deployment import Miss, times_text
from dse.run.problem import Problem

Plain = dict[str, Any]

NAMED = 3
"""Sizes of a kind up to which each has a clause of its own."""


def unserved(problem: Problem) -> list[Plain]:
    """One row per size that no candidate serves, with the reason."""
    found = []
    for place in problem.fleet.unservable.tolist():
        bucket = problem.plan.buckets[place]
        miss = problem.candidates.misses.get(place, Miss())
        found.append({
            "model": problem.plan.models[bucket.model].name, "input": bucket.input, "output": bucket.output,
            "requests_per_s": bucket.rate, "limit": miss.limit or None,
            "times_the_limit": miss.excess if math.isfinite(miss.excess) else None,
            "reason": _reason(problem, bucket.model, miss),
        })  # fmt: skip
    return found


def _reason(problem: Problem, model: int, miss: Miss) -> str:
    if math.isfinite(miss.excess):
        return f"nearest: {miss.words}"
    if problem.plan.table:
        return "its throughput is 0 everywhere, or no row is as large"
    return miss.words + _nearest_precision(problem, model)


def _nearest_precision(problem: Problem, model: int) -> str:
    """Where no precision keeps the accuracy wanted: the one that loses least, and how much."""
    bound, sweep = problem.plan.file.constraints.get("accuracy_drop_pct"), problem.plan.models[model].sweep
    if bound is None or bound.max is None or sweep is None:
        return ""
    schemes = sweep.axes.precision_of(sweep.models[0])
    known = sorted(
        {(drop.pct, scheme.name) for box in range(len(sweep.variants))
         for scheme, drop in zip(schemes, sweep.drops(box, 0), strict=True) if not math.isnan(drop.pct)}
    )  # fmt: skip
    if not known:
        return f"; nobody has published what {', '.join(scheme.name for scheme in schemes)} loses"
    loss, name = known[0]
    return "" if loss <= bound.max else f"; nearest: {name}, which loses {loss:.3g} %; at most {bound.max:g} is wanted"


def unserved_words(rows: Sequence[Plain]) -> str:
    """The sizes nothing serves in words: those of one model that lack the same together, where there are many."""
    kinds: dict[tuple[str, str], list[Plain]] = {}
    for row in rows:
        kinds.setdefault((row["model"], row["limit"] or row["reason"]), []).append(row)
    clauses = []
    for (model, _), alike in kinds.items():
        if len(alike) <= NAMED:
            clauses += [f"no candidate serves {_size(row)} of {model}{_because(row)}" for row in alike]
            continue
        nearest = min(alike, key=lambda row: (row["times_the_limit"] or 0.0, row["input"], row["output"]))
        farthest = max(alike, key=lambda row: (row["times_the_limit"] or 0.0, row["input"], row["output"]))
        text = f"no candidate serves {len(alike)} sizes of {model}, {_size(alike[0])} to {_size(alike[-1])}"
        if nearest["times_the_limit"] is None:
            clauses.append(f"{text}{_because(nearest)}")
        else:
            close = nearest["reason"].replace(": ", ", with ", 1)
            far = f"{_size(farthest)} is farthest, {times_text(farthest['times_the_limit'])} times the limit at best"
            clauses.append(f"{text}; {_size(nearest)} comes {close}; {far}")
    return "; ".join(clauses)


def _because(row: Plain) -> str:
    if not row["reason"]:
        return ""
    return f"; {row['reason']}" if row["times_the_limit"] is not None else f": {row['reason']}"


def _size(row: Plain) -> str:
    return f"{row['input']}x{row['output']}"
