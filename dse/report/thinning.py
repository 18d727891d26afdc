"""Which frontier points to show when there are more than a reader, or a browser, can take."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def thin(
    groups: Sequence[Hashable],
    objectives: Sequence[NDArray[np.float64]],
    limit: int,
    keep: Iterable[int] = (),
) -> list[int]:
    """Choose at most `limit` rows: every group's best per objective, `keep`, then an even spread.

    The spread runs along the first objective, so that a thinned front keeps its shape. Groups share
    what is left of the limit evenly; what a small group does not need goes to the larger ones.

    Args:
        groups: One key per row; rows of different keys do not compete.
        objectives: One array per objective, shape (rows,), smaller is better (negate maximised ones).
        limit: Most rows to return.
        keep: Rows to keep besides the best ones, most important first.

    Returns:
        Row indices in ascending order.
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    chosen = list(dict.fromkeys([*_best_rows(members.values(), objectives), *keep]))[:limit]
    taken = set(chosen)
    rest = [[row for row in rows if row not in taken] for rows in members.values()]
    shares = fair_shares([len(rows) for rows in rest], limit - len(chosen))
    for rows, share in zip(rest, shares, strict=True):
        chosen += _spread(rows, objectives, share)
    return sorted(chosen)


def fair_shares(sizes: Sequence[int], limit: int) -> list[int]:
    """Divide `limit` evenly; what a small group does not need goes to the larger ones."""
    shares = [0] * len(sizes)
    open_groups = sorted(range(len(sizes)), key=sizes.__getitem__)
    for position, index in enumerate(open_groups):
        shares[index] = min(sizes[index], limit // (len(open_groups) - position))
        limit -= shares[index]
    return shares


def rows_to_explain(frontier: Mapping[str, Sequence[Any]], manifest: Mapping[str, Any], limit: int = 200) -> list[int]:
    """The row indices whose operator detail the report should carry: spread over groups, the best ones in.

    Args:
        frontier: The frontier's columns (at least those of `group_by` and of the objectives).
        manifest: The run's manifest.
        limit: Most rows to return.
    """
    return thin(group_keys(frontier, manifest), objective_arrays(frontier, manifest), limit)


def group_keys(frontier: Mapping[str, Sequence[Any]], manifest: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Each row's comparison group, as the tuple of its `group_by` values; unknown values (NaN) are one."""
    names = [name for name in manifest.get("group_by") or () if name in frontier]
    if not names:
        return [()] * len(next(iter(frontier.values()), ()))
    columns = ([None if value != value else value for value in frontier[name]] for name in names)
    return list(zip(*columns, strict=True))


def objective_arrays(frontier: Mapping[str, Sequence[Any]], manifest: Mapping[str, Any]) -> list[NDArray[np.float64]]:
    """Each objective's column, shape (rows,), signed so that smaller is better; missing values are NaN."""
    arrays = []
    for objective in manifest.get("objectives") or ():
        if objective["name"] in frontier:
            values = np.array(frontier[objective["name"]], dtype=np.float64)
            arrays.append(-values if objective["sense"] == "max" else values)
    return arrays


def _best_rows(groups: Iterable[list[int]], objectives: Sequence[NDArray[np.float64]]) -> list[int]:
    best: list[int] = []
    for rows in groups:
        for values in objectives:
            part = values[rows]
            if not np.isnan(part).all():
                best.append(rows[int(np.nanargmin(part))])
    return best


def _spread(rows: list[int], objectives: Sequence[NDArray[np.float64]], count: int) -> list[int]:
    if count >= len(rows):
        return rows
    if count <= 0:
        return []
    order = np.argsort(objectives[0][rows], kind="stable") if objectives else np.arange(len(rows))
    places = np.linspace(0, len(rows) - 1, count).astype(np.int64)  # distinct, because count <= len(rows)
    return [rows[order[place]] for place in places]
