"""Tables on the terminal: the library, and two runs compared.

Columns are aligned and never folded, so that `grep`, `sort` and `less -S` work on them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

SHOWN = 20
"""Points of a front that a comparison prints of each kind."""


def text(value: Any) -> str:
    """A value as a person reads it."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(item)}" for key, item in value.items())
    return str(value)


def aligned(cells: Sequence[Sequence[str]], right: Sequence[bool], room: int = 0) -> Iterator[str]:
    """Lines of cells in columns as wide as their widest cell; closer together where that makes them fit `room`."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    gap = " " if room and sum(widths) + 2 * (len(widths) - 1) > room else "  "
    for line in cells:
        columns = zip(line, widths, right, strict=True)
        yield gap.join(cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in columns).rstrip()


def table(rows: Rows) -> Iterator[str]:
    """Rows of equal keys as aligned lines under their names; numbers to the right.

    A name stands on several lines where its words are wider than the column's values.
    """
    names = list(rows[0])
    body = [[text(row[name]).replace("\n", " ") for name in names] for row in rows]
    numeric = [all(isinstance(row[name], int | float | None) for row in rows) for name in names]
    heads = [_head(name, max(map(len, column))) for name, column in zip(names, zip(*body, strict=True), strict=True)]
    height = max(map(len, heads))
    titles = [list(line) for line in zip(*([""] * (height - len(head)) + head for head in heads), strict=True)]
    yield from aligned([*titles, *body], numeric)


def _head(name: str, width: int) -> list[str]:
    """The words of a column's name, wrapped to the width of its values but never within a word."""
    words = name.replace("_", " ")
    return textwrap.wrap(words, max(width, *map(len, words.split())), break_long_words=False)


def print_rows(title: str, rows: Rows) -> None:
    """A titled table."""
    if not rows:
        print(f"no {title}")
        return
    print(f"{title}: {len(rows)}")
    for line in table(rows):
        print(line)


def print_diff(changes: Mapping[str, Any]) -> None:
    """What `dse.run.diff.diff_runs` found."""
    for side in ("a", "b"):
        run = changes[side]
        print(f"{side}: {run['name']} {run['hash']} (dse {run['version']})")
    headings = {"inputs": ("what", "before", "after"), "counts": ("status", "before", "after")}
    for key, names in headings.items():
        if changes[key]:
            print()
            print_rows(key, [dict(zip(names, change, strict=True)) for change in changes[key]])
    front = changes["front"]
    print(f"\nfront: {front['before']:,} points before, {front['after']:,} after")
    for key in ("joined", "left"):
        _print_some(key, front[key])
    moved = [{**change["configuration"], **_moves(change["moved"])} for change in front["changed"]]
    _print_some("stayed with other figures", _same_keys(moved))
    if not (changes["inputs"] or changes["counts"] or front["joined"] or front["left"] or moved):
        print("nothing changed")


def print_validation(summary: Mapping[str, Any]) -> None:
    """What `dse.calibrate.validate.Validation.summary` found."""
    print(summary["about"])
    for title, first in (("sources", ("source", "metric")), ("accelerators", ("hardware", "metric"))):
        print()
        print_rows(title, [{**{name: row[name] for name in first}, **_errors(row)} for row in summary[title]])
    worst = [
        {"source": source["source"], "metric": source["metric"], **row}
        for source in summary["sources"] for row in source["worst"][:2]
    ]  # fmt: skip
    print()
    print_rows("worst rows", _same_keys(worst))
    if summary["not_predicted"]:
        print("\nnot predicted:")
        for reason, count in list(summary["not_predicted"].items())[:SHOWN]:
            print(f"  {count:,}  {reason}")
    if summary["not_scored"]:
        print("\nnot scored:")
        for row in summary["not_scored"][:SHOWN]:
            name = f" ({row['row_id']})" if row["row_id"] else ""
            print(f"  line {row['line']}{name}: {row['reason']}")
        if len(summary["not_scored"]) > SHOWN:
            print(f"  and {len(summary['not_scored']) - SHOWN:,} more (--json and --out name all)")


def _errors(row: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "rows": "rows", "predicted_rows": "predicted", "median_ape_pct": "median_ape_%", "mean_ape_pct": "mean_ape_%",
        "bias_pct": "bias_%", "spearman": "rank",
    }  # fmt: skip
    rounded = {name: round(value, 3) if isinstance(value := row[name], float) else value for name in names}
    return {names[name]: value for name, value in rounded.items()}


def _print_some(title: str, rows: Rows) -> None:
    if rows:
        print(f"\n{title}: {len(rows):,}")
        for line in table(rows[:SHOWN]):
            print(line)
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN:,} more (--json shows all)")


def _moves(moved: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    return {name: f"{text(before)} -> {text(after)}" for name, (before, after) in moved.items()}


def _same_keys(rows: Rows) -> Rows:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name, "") for name in names} for row in rows]
