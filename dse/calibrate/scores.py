"""Errors of predictions: per source and metric, per accelerator, per configuration."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CURVE = 3
"""Rows a configuration needs for a rank correlation."""

WORST = 5
"""Rows named as the worst of a group."""

OF_CONFIGURATION = (
    "model", "hardware", "framework", "version", "weight_dtype", "act_dtype", "input_len", "output_len",
)  # fmt: skip
"""Within equal values of these only layout and batch differ: what a planner chooses."""


@dataclass(frozen=True)
class Scored:
    """A row with its prediction."""

    place: int
    fields: Mapping[str, str]
    measured: float | None
    predicted: float | None

    @property
    def ratio(self) -> float | None:
        """Predicted over measured; None where either is missing."""
        return self.predicted / self.measured if self.predicted and self.measured else None


def scores(rows: Sequence[Scored]) -> dict[str, Any]:
    """Counts and errors of some rows: APE in percent, bias as the median ratio predicted / measured."""
    ratios = np.array([ratio for row in rows if (ratio := row.ratio) is not None])
    found: dict[str, Any] = {
        "rows": len(rows),
        "predicted_rows": sum(row.predicted is not None for row in rows),
    }
    found["coverage_pct"] = 100 * found["predicted_rows"] / len(rows) if rows else None
    names = ("median_ape_pct", "mean_ape_pct", "p90_ape_pct", "median_ratio", "bias_pct", "spearman")
    ranks = curve_ranks(rows)
    found["ranked_configurations"] = len(ranks)
    if not len(ratios):
        return found | dict.fromkeys(names)
    ape = 100 * np.abs(ratios - 1)
    ratio = float(np.median(ratios))
    values = (np.median(ape), np.mean(ape), np.percentile(ape, 90), ratio, 100 * (ratio - 1))
    return found | dict(zip(names, map(float, values))) | {"spearman": _median(ranks)}  # noqa: B905


def by(rows: Iterable[Scored], *columns: str) -> dict[tuple[str, ...], list[Scored]]:
    """Rows by their values of some columns, sorted by them."""
    return dict(sorted(_grouped(rows, lambda row: tuple(row.fields.get(name, "") for name in columns)).items()))


def curve_spearman(rows: Sequence[Scored]) -> float | None:
    """Median over configurations of the rank correlation of predicted with measured values; None where none has one."""
    return _median(curve_ranks(rows))


def curve_ranks(rows: Sequence[Scored]) -> list[float]:
    """Rank correlation of predicted with measured values within each configuration of at least `CURVE` rows."""
    known = [row for row in rows if row.ratio is not None]
    found = []
    curves = _grouped(known, lambda row: tuple(row.fields.get(name, "") for name in ("metric", *OF_CONFIGURATION)))
    for curve in curves.values():
        if len(curve) >= CURVE:
            pair = [np.array([getattr(row, name) for row in curve]) for name in ("measured", "predicted")]
            if (value := spearman(*pair)) is not None:
                found.append(value)
    return found


def spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Rank correlation; None where all values of one are equal."""
    ranks = [_ranks(values) for values in (a, b)]
    deviations = [rank - np.mean(rank) for rank in ranks]
    size = float(np.prod([np.sqrt(np.sum(d * d)) for d in deviations]))
    return float(np.sum(deviations[0] * deviations[1]) / size) if size > 0 else None


def worst(rows: Sequence[Scored]) -> list[Scored]:
    """The rows whose predictions are furthest off, by the ratio either way."""
    known = [(abs(np.log(ratio)), row) for row in rows if (ratio := row.ratio) is not None]
    return [row for _, row in sorted(known, key=lambda pair: (-pair[0], pair[1].place))[:WORST]]


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks, equal values sharing their mean."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[where]
    return ranks


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _grouped(rows: Iterable[Scored], key: Callable[[Scored], Hashable]) -> dict[Any, list[Scored]]:
    found: dict[Any, list[Scored]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return found
