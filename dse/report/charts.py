"""What the report draws, as plain data: the frontier by columns, the reasons, the detail of points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dse.report.columns import CONFIGURATION, describe, where
from dse.report.thinning import group_keys, objective_arrays, thin
from dse.report.today import comparisons, current_rows, runs
from dse.report.trust import BAND_OF, leads, sentences

DRAWN = 5000
"""Most frontier points a report draws: more than a browser handles smoothly and an eye can separate."""


def report_data(
    manifest: Mapping[str, Any],
    frontier: Mapping[str, Sequence[Any]],
    details: Mapping[int, Mapping[str, Any]],
    limit: int = DRAWN,
) -> dict[str, Any]:
    """Everything the report's script needs, as plain Python values.

    Args:
        manifest: The run's manifest.
        frontier: The frontier by columns, all rows.
        details: Operator detail by point number.
        limit: Most points to draw.
    """
    numbers = frontier.get("number", ())
    total = len(next(iter(frontier.values()), ()))
    detailed = [row for row, number in enumerate(numbers) if number in details]
    today = comparisons(manifest, frontier)
    named = {move["number"] for group in today for move in group["moves"]}
    kept = [*(row for row, number in enumerate(numbers) if number in named), *detailed]
    rows = thin(group_keys(frontier, manifest), objective_arrays(frontier, manifest), limit, keep=kept)
    drawn = {name: [values[row] for row in rows] for name, values in frontier.items()}
    shown_numbers = set(drawn.get("number", ()))
    return {
        "manifest": {key: value for key, value in manifest.items() if key not in ("resolved", "current_rows")},
        "trust": sentences(manifest, frontier),
        "bands": BAND_OF,
        "misses": {
            reason: where(miss)
            for reason, miss in (manifest.get("nearest_misses") or {}).items()
            if miss.get("number") is not None
        },
        "today": today,
        "leads": leads(manifest, frontier),
        "current_rows": [row for row in current_rows(manifest) if runs(row)],
        "total": total,
        "rows": len(rows),
        "columns": [_column(name, values, manifest) for name, values in drawn.items()],
        # Without the point itself: its row is in the columns.
        "details": {
            str(number): {key: value for key, value in detail.items() if key != "point"}
            for number, detail in details.items()
            if number in shown_numbers
        },
    }


def _column(name: str, values: list[Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """One column; a constant one is sent once, because a sweep leaves most axes at a single value."""
    shown = describe(name, manifest.get("objectives") or ())
    axes = {*CONFIGURATION, *(manifest.get("axes") or ())}
    if values and isinstance(values[0], str) and values.count(values[0]) == len(values):
        clean: list[Any] = values[:1]  # the same text everywhere
    else:
        clean = [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]
    kinds = {type(value) for value in clean} - {type(None)}
    column: dict[str, Any] = {
        "name": name,
        "label": shown.label,
        "unit": shown.unit,
        "sense": shown.sense,
        "meaning": shown.meaning,
        "axis": name in axes,
        "numeric": bool(kinds) and kinds <= {int, float},
    }
    if clean and clean.count(clean[0]) == len(clean):
        return column | {"constant": clean[0]}
    return column | {"values": clean}
