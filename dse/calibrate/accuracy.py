"""How accurate predictions are of what was not fitted: the figures of README's table, and the table itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from dse import __version__
from dse.calibrate.engines import left_out
from dse.calibrate.measured import read_measured
from dse.calibrate.scores import CURVE, Scored, by, scores
from dse.calibrate.validate import KEYS, fits, predict, scored
from dse.cost import COST_MODEL
from dse.spec.runtime import IDEAL

METRICS: Mapping[str, str] = {
    "output_tok_s": "throughput", "e2e_s": "time of a batch", "tpot_ms": "TPOT", "ttft_ms": "TTFT",
    "input_tok_s": "prompt throughput",
}  # fmt: skip

KINDS = {
    "ideal": "the roofline alone",
    "fitted": "engines fitted to these very rows",
    "model_left_out": "engines fitted without the row's model",
    "accelerator_left_out": "engines fitted without the row's accelerator",
}
"""Ways to predict that are compared."""

LEFT_OUT = ("model_left_out", "accelerator_left_out")

BAD = 30.0
"""Median error, percent, from which a group is told as one that predictions are bad at."""

FEW = 5
"""Rows that a group needs for that."""

SHOWN = 10
"""Groups that are told."""

RANKED = 0.97
"""Rank correlation within a configuration that is asked for; rows below are marked."""

OF_GROUP = ("source", "metric", "framework", "model", "hardware")


def measure(path: str | Path, fidelity: str) -> dict[str, Any]:
    """Errors per source and metric of a measured file, by the roofline, and with each model or accelerator left out.

    Args:
        path: a CSV file in the measurement collection's schema.
        fidelity: of the kernels.

    Returns:
        Plain values: `date`, `version`, `cost_model`, `fidelity`, `file`, `rows` (per source and metric, scores by
        kind), `metrics` (of all sources together) and `bad` (groups whose median error is large).
    """
    _, rows = read_measured(path)
    cases, fitted = predict(rows, fidelity)
    every = fits(rows, cases, fidelity)
    kinds = {"ideal": predict(rows, "ideal", IDEAL)[1], "fitted": fitted}
    for name, key in KEYS.items():
        held = left_out(every, key)
        kinds[f"{name}_left_out"] = [
            replace(one, predicted=held.get(place, one.predicted)) if one.predicted is not None else one
            for place, one in enumerate(fitted)
        ]
    pairs = {kind: list(scored(rows, found)) for kind, found in kinds.items()}
    return {
        "date": date.today().isoformat(),
        "version": __version__,
        "cost_model": COST_MODEL,
        "fidelity": fidelity,
        "file": Path(path).name,
        "rows": list(_errors(pairs, "source", "metric")),
        "metrics": list(_errors(pairs, "metric")),
        "bad": [group for group in _errors(pairs, *OF_GROUP) if _is_bad(group)],
    }


def _errors(scored: Mapping[str, Sequence[Scored]], *columns: str) -> Iterator[dict[str, Any]]:
    """Per group its name, its rows, and the errors of each kind."""
    grouped = {kind: by(rows, *columns) for kind, rows in scored.items()}
    for values, held in grouped["fitted"].items():
        found: dict[str, Any] = {**dict(zip(columns, values, strict=True)), "rows": len(held)}
        found["predicted"] = sum(row.predicted is not None for row in held)
        for kind, groups in grouped.items():
            one = scores(groups[values])
            found[kind] = {
                name: None if (value := one[f"{name}_pct"]) is None else round(value, 1)
                for name in ("median_ape", "p90_ape", "bias")
            }
            found[kind]["rank"] = None if one["spearman"] is None else round(one["spearman"], 3)
            found[kind]["ranked"] = one["ranked_configurations"]
        yield found


def _is_bad(group: Mapping[str, Any]) -> bool:
    """Whether predictions are bad at a group, whatever is left out."""
    found = [group[kind]["median_ape"] for kind in LEFT_OUT]
    return group["rows"] >= FEW and all(value is not None and value >= BAD for value in found)


# -- as Markdown ------------------------------------------------------------------------------------------


def table(found: Mapping[str, Any]) -> list[str]:
    """The table and the list of what predictions are bad at, as lines of Markdown.

    Args:
        found: what `measure` returned.
    """
    bad = sorted(found["bad"], key=lambda group: -group["model_left_out"]["median_ape"])
    predicted, rows = (sum(row[name] for row in found["rows"]) for name in ("predicted", "rows"))
    return [
        f"{predicted:,} of {rows:,} rows of `{found['file']}` predicted at fidelity `{found['fidelity']}`, cost model "
        f"{found['cost_model']}, {found['date']}. Median error, bias:",
        "",
        "| | rows | `ideal` roofline | model left out | accelerator left out | nine in ten within | rank |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in found["rows"]),
        "",
        "Rank: Spearman's correlation of predicted with measured within a configuration (equal model, accelerator,",
        f"engine, precision and lengths; layout and batch differ), the median over those of {CURVE} rows or more, in",
        f"brackets how many; the lower of the two left out. Below {RANKED} is below what was asked for: _in italics_.",
        f"All sources together: {', '.join(_ranks(found['metrics']))}.",
        "",
        f"Bad at (median error of at least {BAD:.0f} % in groups of {FEW} rows or more, model left out, bias):",
        "",
        *(_bad(group) for group in bad[:SHOWN]),
        *([f"- {len(bad) - SHOWN} more such groups"] if len(bad) > SHOWN else []),
    ]


def _line(row: Mapping[str, Any]) -> str:
    name = f"{row['source']}, {METRICS.get(row['metric'], row['metric'])}"
    held = [_error(row[kind]) for kind in ("ideal", *LEFT_OUT)]
    return f"| {name} | {row['rows']:,} | {held[0]} | **{held[1]}** | {held[2]} | {_within(row)} | {_rank(row)} |"


def _error(errors: Mapping[str, float | None]) -> str:
    if errors["median_ape"] is None:
        return "none"
    return f"{errors['median_ape']:.0f} %, {errors['bias']:+.0f} %"


def _within(row: Mapping[str, Any]) -> str:
    known = [row[kind]["p90_ape"] for kind in LEFT_OUT if row[kind]["p90_ape"] is not None]
    return f"{max(known):.0f} %" if known else "none"


def _ranks(metrics: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in metrics:
        yield f"{METRICS.get(row['metric'], row['metric'])} {_rank(row)}"


def _rank(row: Mapping[str, Any]) -> str:
    known = [(row[kind]["rank"], row[kind]["ranked"]) for kind in LEFT_OUT if row[kind]["rank"] is not None]
    if not known:
        return "none"
    rank, configurations = min(known)
    text = f"{rank:.3f} ({configurations:,})"
    return text if rank >= RANKED else f"_{text}_"


def _bad(group: Mapping[str, Any]) -> str:
    metric = METRICS.get(group["metric"], group["metric"])
    where = f"{group['framework']} on {group['hardware']} ({group['source']}, {group['rows']:,} rows)"
    return f"- {metric} of {group['model']}, {where}: {_error(group['model_left_out'])}"
