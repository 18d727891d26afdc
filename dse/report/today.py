"""Today's deployment against the frontier of its group: what moving would gain, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dse.report.columns import describe, layout, number_text
from dse.report.thinning import group_keys, objective_arrays

Row = Mapping[str, Any]


def current_rows(manifest: Mapping[str, Any]) -> list[Row]:
    """Today's deployment, once per comparison group it stands in."""
    first = manifest.get("current")
    return manifest.get("current_rows") or ([first] if first else [])


def runs(current: Row) -> bool:
    """False for a deployment that could not exist; one that merely misses a limit, or has no price, can."""
    return str(current.get("status", "ok")).partition(":")[0] in {"ok", "constraint", "undefined"}


def comparisons(manifest: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Per group that today's deployment stands in: `key`, `today` in words, and `moves`.

    A move is a frontier point at least as good on every objective known for today's deployment, the best by the
    first of them: one on the same hardware and one on other hardware, where there are. Each has `number`,
    `title` and `text`.

    Args:
        manifest: The run's manifest.
        columns: The frontier by columns.
    """
    members: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(group_keys(columns, manifest)):
        members.setdefault(key, []).append(row)
    swept = {chip["name"] for chip in (manifest.get("resolved") or {}).get("hardware", ())}
    found = []
    for current in current_rows(manifest):
        key = tuple(current.get(name) for name in manifest.get("group_by") or ())
        group = members.get(key, [])
        aims = [aim for aim in manifest.get("objectives") or () if _known(current.get(aim["name"]))]
        moves = _moves(current, group, aims, columns) if runs(current) and group else []
        text = _today(current, manifest.get("objectives") or ())
        if runs(current) and group and not moves:
            text += " No frontier point is at least as good on all of these: each trades one for another."
        if runs(current) and group and current["hardware"] not in {columns["hardware"][row] for row in group}:
            why = ": the sweep has none" if swept and current["hardware"] not in swept else ""
            text += f" No setting of {current['hardware']} is on the frontier{why}."
        found.append({"key": list(key), "today": text, "moves": moves})
    return found


def _today(current: Row, objectives: Sequence[Row]) -> str:
    text = f"Today: {_place(current)}"
    if not runs(current):
        return f"{text}: cannot run this ({str(current['status']).replace('_', ' ')})."
    return f"{text}: {', '.join(_figure(aim['name'], current, objectives) for aim in objectives)}."


def _moves(
    current: Row, group: Sequence[int], aims: Sequence[Row], columns: Mapping[str, Sequence[Any]]
) -> list[dict[str, Any]]:
    """The best moves from today's deployment to frontier rows of its group; smaller losses are better."""
    if not aims:
        return []
    names = {aim["name"]: [*(columns[aim["name"]][row] for row in group), current[aim["name"]]] for aim in aims}
    losses = objective_arrays(names, {"objectives": aims})
    better = [
        place
        for place in range(len(group))
        if all(loss[place] <= loss[-1] for loss in losses) and any(loss[place] < loss[-1] for loss in losses)
    ]
    same = [place for place in better if columns["hardware"][group[place]] == current["hardware"]]
    other = [place for place in better if columns["hardware"][group[place]] != current["hardware"]]
    moves = []
    for title, places in (("Same hardware, better setting", same), ("Other hardware", other)):
        if places:
            row = group[min(places, key=lambda place: losses[0][place])]
            best = {name: values[row] for name, values in columns.items()}
            gains = ", ".join(_gain(aim["name"], current, best, aims) for aim in aims)
            moves.append({"number": best["number"], "title": title, "text": f"{_place(best)}: {gains}"})
    return moves


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


def _place(row: Row) -> str:
    return f"{row['devices']} × {row['hardware']}, {row['precision']}, {layout(row)}, batch {row['batch']}"


def _figure(name: str, row: Row, objectives: Sequence[Row]) -> str:
    column = describe(name, objectives)
    if not _known(row.get(name)):
        return f"{column.label} not known"
    return f"{column.label} {number_text(row[name])} {column.unit}".rstrip()


def _gain(name: str, current: Row, best: Row, objectives: Sequence[Row]) -> str:
    column, old, new = describe(name, objectives), float(current[name]), float(best[name])
    if number_text(old) == number_text(new):
        return f"{column.label} as now"
    change = f" (×{number_text(new / old, 2)})" if old > 0 else ""
    return f"{column.label} {number_text(old)} to {number_text(new)} {column.unit}".rstrip() + change
