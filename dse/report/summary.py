"""What a finished sweep says in the terminal: the same facts as the report, in eighty columns of text."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

import click

from dse.report.columns import CONFIGURATION, DEGREES, MISSING, Column, describe, layout, number_text, where
from dse.report.listing import aligned
from dse.report.thinning import group_keys, objective_arrays, thin
from dse.report.today import comparisons
from dse.report.trust import CHANCE, SURE, leads, sentences

ROWS_PER_GROUP = 8
GROUPS = 12
ALWAYS = ("model", "hardware", "precision", "layout", "batch")
"""What a reader has to know of every point, however constant it is; `layout` stands for the degrees."""

NAMES = ("hardware", "model")
LEAST = 10
"""Columns whose values may be long, and the least width they are folded to."""

LONG_LAYOUT = 24
"""From here on the layouts of two pools stand on a line each."""

_SETTLED = ("input", "output", "devices", *DEGREES, *(f"prefill_{name}" for name in DEGREES))
# the workload's name and the layout already say them


def print_summary(
    manifest: Mapping[str, Any],
    frontier: Sequence[Mapping[str, Any]],
    folder: str | Path | None = None,
    *,
    width: int | None = None,
    out: TextIO | None = None,
) -> None:
    """Print the points scored, why others fell, each group's frontier, the evidence and the report's place.

    Args:
        manifest: The run's manifest.
        frontier: The frontier's rows.
        folder: The run's folder.
        width: Columns of the page; the terminal's when absent.
        out: Where to print; standard output when absent (plain text when that is not a terminal).
    """
    # Lines of text, not rich's tables: those take 40 ms for six groups, and their import 20, a tenth of a small sweep.
    width = width or shutil.get_terminal_size().columns

    def say(text: str = "", **style: Any) -> None:
        click.secho(text, file=out, **style)

    def say_wrapped(line: str) -> None:
        say(textwrap.fill(line, width, initial_indent="  ", subsequent_indent="    "))

    say(textwrap.fill(_headline(manifest), width), bold=True)
    say(_speed(manifest))
    for line in _reasons(manifest):
        say_wrapped(line)
    frontier = [{**row, "layout": layout(row)} for row in frontier]
    columns = {name: [row.get(name) for row in frontier] for name in (frontier[0] if frontier else ())}
    today = {tuple(group["key"]): group for group in comparisons(manifest, columns)}
    sure = {tuple(group["key"]): group["text"] for group in leads(manifest, columns)}
    keys = group_keys(columns, manifest)
    groups = list(dict.fromkeys(keys))
    for key in groups[:GROUPS]:
        rows, hidden = _rows_of(key, keys, manifest, frontier, columns)
        say()
        say(f"{', '.join(map(str, key)) or 'Frontier'}: {len(rows) + hidden:,} on the frontier", bold=True)
        head, body = _table(manifest, rows, columns, width)
        say("\n".join(head), bold=True)
        say("\n".join(["─" * max(map(len, [*head, *body])), *body]))
        if hidden:
            say(f"  and {hidden:,} more")
        for line in (*filter(None, [sure.get(key)]), *_today(today.get(key))):
            say_wrapped(line)
    if len(groups) > GROUPS:
        say(f"\nand {len(groups) - GROUPS:,} more groups")
    say()
    for line in sentences(manifest, columns):
        say(textwrap.fill(line, width))
    if folder:
        say(f"Report: {Path(folder) / 'report.html'}")  # unwrapped: a path broken over lines cannot be copied


def _today(group: Mapping[str, Any] | None) -> Iterator[str]:
    """Today's deployment, and where moving from it would lead."""
    if group:
        yield group["today"]
        for move in group["moves"]:
            yield f"{move['title']}: point {move['number']}, {move['text']}"


def _headline(manifest: Mapping[str, Any]) -> str:
    points, feasible = manifest.get("points") or 0, manifest.get("feasible") or 0
    share = f"{feasible / points:.1%}" if points else MISSING
    return f"{manifest.get('name', 'sweep')}: {points:,} points, {feasible:,} feasible ({share})"


def _speed(manifest: Mapping[str, Any]) -> str:
    parts = [
        f"{number_text(manifest.get('seconds'))} s",
        f"{number_text(manifest.get('points_per_s'))} points/s",
    ]
    return ", ".join([*parts, f"executor {manifest.get('executor', MISSING)}"])


def _reasons(manifest: Mapping[str, Any]) -> Iterator[str]:
    """One line per status other than `ok`, most frequent first, with the point that came closest."""
    counts = {reason: count for reason, count in (manifest.get("statuses") or {}).items() if reason != "ok"}
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        miss = (manifest.get("nearest_misses") or {}).get(reason)
        near = f"; nearest: {where(miss)}" if miss and miss.get("number") is not None else ""
        yield f"{count:,} {reason}{near}{': ' + str(miss.get('reason', '')) if miss else ''}"


def _rows_of(
    key: tuple[Any, ...],
    keys: Sequence[tuple[Any, ...]],
    manifest: Mapping[str, Any],
    frontier: Sequence[Mapping[str, Any]],
    columns: Mapping[str, list[Any]],
) -> tuple[list[Mapping[str, Any]], int]:
    """A group's rows to print, best first by the first objective, and how many are left out."""
    members = [row for row, other in enumerate(keys) if other == key]
    objectives = [values[members] for values in objective_arrays(columns, manifest)]
    kept = thin([key] * len(members), objectives, ROWS_PER_GROUP)
    if objectives:
        kept.sort(key=lambda place: objectives[0][place])
    return [frontier[members[place]] for place in kept], len(members) - len(kept)


def _table(
    manifest: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, list[Any]],
    width: int,
) -> tuple[list[str], list[str]]:
    """Head and body of the group's rows; configuration columns that cannot all fit are left to the report."""
    objectives = manifest.get("objectives") or ()
    shown = [describe(name, objectives) for name in _columns_to_show(manifest, columns)]
    cells = {
        column.name: [column.label, column.unit, *(_cell(column, row.get(column.name)) for row in rows)]
        for column in shown
    }
    if max(map(len, cells.get("layout", [""]))) > LONG_LAYOUT:
        cells["layout"] = [text.replace(" + ", "\n+ ") for text in cells["layout"]]
    room = width
    aims = [objective["name"] for objective in objectives]
    # Objectives claim their room first: they are what the reader came for; then what says which point it is.
    widths = {}
    varying = {name for name in NAMES if len(set(columns.get(name, ()))) > 1}
    for column in sorted(shown, key=lambda column: _rank(column.name, aims, column.name in varying)):
        needed = max(len(word) for text in cells[column.name][:2] for word in text.split() or [""])
        wanted = max(needed, *(len(line) for text in cells[column.name][2:] for line in text.split("\n")))
        if column.name in NAMES:  # a long name folds, so that a narrow terminal never hides it
            names = sum(other.name in NAMES and other.name not in widths for other in shown)
            wanted = min(wanted, max(room // names - 2 * (names - 1), LEAST))
        if wanted > room and column.name not in aims:
            cells.pop(column.name)
            continue
        widths[column.name] = wanted
        room -= wanted + 2
    named = [name for name in cells if name in widths]
    right = [all(isinstance(row.get(name), int | float | None) for row in rows) for name in named]
    heads = [[line for text in cells[name][:2] for line in _folded(text, widths[name])] for name in named]
    height = max(map(len, heads))
    titles = zip(*([""] * (height - len(head)) + head for head in heads), strict=True)
    folded = ([_folded(cells[name][2 + place], widths[name]) for name in named] for place in range(len(rows)))
    values = [line for row in folded for line in zip_longest(*row, fillvalue="")]
    lines = list(aligned([*titles, *values], right))
    return lines[:height], lines[height:]


def _folded(text: str, width: int) -> list[str]:
    """Lines of at most so many characters; none of nothing."""
    return [part for line in text.split("\n") if line for part in textwrap.wrap(line, width)]


def _rank(name: str, aims: Sequence[str], varying: bool) -> int:
    """Objectives, the narrow columns of a point's configuration, its long names, the rest; names of all points last."""
    if name in aims:
        return 0
    if name in NAMES:
        return (2 if varying else 3 + len(NAMES)) + NAMES.index(name)
    return 1 if name in ("number", *ALWAYS) else 2 + len(NAMES)


def _cell(column: Column, value: object) -> str:
    """A measure with sensible digits; a configured value, or the number of a point, as it is written."""
    if column.name == CHANCE:
        return number_text(value, 2)
    if column.sense or value is None or not isinstance(value, int | float):
        return number_text(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _differs(name: str, values: Sequence[Any]) -> bool:
    """Whether a column tells points apart; what prefill workers are is blank where there are none."""
    blank = {None} if name.startswith("prefill_") else set()
    return len(set(values) - blank) > 1


def _columns_to_show(manifest: Mapping[str, Any], columns: Mapping[str, list[Any]]) -> list[str]:
    grouped = manifest.get("group_by") or ()
    aims = [objective["name"] for objective in manifest.get("objectives") or ()]
    axes = dict.fromkeys([*ALWAYS, *CONFIGURATION, *(manifest.get("axes") or ())])
    shown = [
        name
        for name in axes
        if name not in grouped and name not in _SETTLED and (name in ALWAYS or _differs(name, columns.get(name, ())))
    ]
    close = [CHANCE] if any(chance is not None and chance < SURE for chance in columns.get(CHANCE, ())) else []
    return [name for name in ("number", *shown, *aims, *close) if name in columns]
