"""`dse validate`: every row of a measured file predicted, and how far off the predictions are."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dse.calibrate.benchmarks import Deployment, read_benchmarks
from dse.calibrate.cases import Case, case_of
from dse.calibrate.engines import Fit, by_accelerator, by_model, collect, from_present, left_out
from dse.calibrate.measured import ADDED, Measured, UnknownError, read_measured
from dse.calibrate.offloaded import predict_offloaded
from dse.calibrate.predict import NOT_SCORED, OK, Prediction, groups
from dse.calibrate.scores import Scored, by, scores, worst
from dse.spec.runtime import RuntimeSpec, load_runtime

Cases = Sequence[tuple[int, Case]]
"""Rows that are points, with their places."""

KEYS = {"model": by_model, "accelerator": by_accelerator}
"""What may be left out."""


@dataclass(frozen=True)
class Validation:
    """Measured rows with their predictions."""

    columns: Sequence[str]
    rows: Sequence[Measured]
    cases: Cases
    predictions: Sequence[Prediction]
    note: str
    """How they were predicted."""

    @cached_property
    def scored(self) -> list[Scored]:
        """Rows as errors are taken of them."""
        return list(scored(self.rows, self.predictions))

    @property
    def about(self) -> str:
        """What was validated, in one line."""
        predicted = sum(one.status == OK for one in self.predictions)
        left = f", {len(self.unscored)} not scored" if self.unscored else ""
        return f"{predicted:,} of {len(self.rows):,} rows predicted{left}; {self.note}"

    @cached_property
    def unscored(self) -> list[dict[str, Any]]:
        """Every row that predictions are not scored by: line, row_id, source, metric, why."""
        return [
            {
                "line": row.line,
                **{name: row.fields.get(name, "") for name in ("row_id", "source", "metric")},
                "reason": row.unscored,
            }
            for row in self.rows
            if row.unscored
        ]

    def summary(self) -> dict[str, Any]:
        """Scores of all rows, per source and metric, per accelerator and metric; the worst rows; reasons."""
        return {
            "about": self.about,
            "all": scores(self.scored),
            "sources": [
                {
                    "source": source,
                    "metric": metric,
                    **scores(rows),
                    "not_scored": [one for one in self.unscored if (one["source"], one["metric"]) == (source, metric)],
                    "worst": self._worst(rows),
                }
                for (source, metric), rows in by(self.scored, "source", "metric").items()
            ],
            "accelerators": [
                {"hardware": chip, "metric": metric, **scores(rows)}
                for (chip, metric), rows in by(self.scored, "hardware", "metric").items()
            ],
            "not_predicted": self._reasons(),
            "not_scored": self.unscored,
        }

    def _worst(self, rows: Sequence[Scored]) -> list[dict[str, Any]]:
        shown = ("row_id", "model", "hardware", "framework", "input_len", "output_len", "batch_or_concurrency", "tp")
        return [
            {
                **{name: row.fields[name] for name in shown if name in row.fields},
                "line": self.rows[row.place].line,
                "measured": row.measured,
                "predicted": row.predicted,
            }
            for row in worst(rows)
        ]

    def _reasons(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for one in self.predictions:
            if one.predicted is None:
                found[one.reason] = found.get(one.reason, 0) + 1
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def csv(self) -> str:
        """The file with what was added to each row."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*self.columns, *ADDED])
        for row, found in zip(self.rows, self.predictions, strict=True):
            value = "" if found.predicted is None else repr(float(f"{found.predicted:.6g}"))
            own = [row.fields.get(name, "") for name in self.columns]
            writer.writerow([*own, value, found.evidence, found.status, found.reason])
        return text.getvalue()

    def page(self, name: str) -> dict[str, Any]:
        """What the page of a validation shows."""
        found = []
        for (source,), rows in by(self.scored, "source").items():
            metrics = []
            for (metric,), held in by(rows, "metric").items():
                known = [row for row in held if row.ratio is not None]
                if known:
                    metrics.append(_columns(metric, known))
            if metrics:
                found.append({"source": source, "metrics": metrics})
        return {"name": name, "about": self.about, "summary": self.summary(), "points": found}


def _columns(metric: str, rows: Sequence[Scored]) -> dict[str, Any]:
    """Rows of one plot, column by column."""
    shown = ("model", "framework", "weight_dtype", "input_len", "output_len", "batch_or_concurrency", "tp", "pp")
    return {
        "metric": metric,
        "measured": [row.measured for row in rows],
        "predicted": [float(f"{row.predicted or 0:.4g}") for row in rows],
        "hardware": [row.fields.get("hardware", "") for row in rows],
        "text": [", ".join(f"{name} {row.fields[name]}" for name in shown if row.fields.get(name)) for row in rows],
    }


def validate(
    path: str | Path,
    fidelity: str = "calibrated",
    runtime: str | RuntimeSpec | None = None,
    leave_out: str | None = None,
    ran: Deployment | None = None,
) -> Validation:
    """Predict every row of a measured file.

    Args:
        path: a CSV file in the measurement collection's schema, or what vLLM's or SGLang's benchmark wrote.
        fidelity: as on the axis of that name.
        runtime: one engine for all rows; None: the one each row's framework names.
        leave_out: `model` or `accelerator`: predict the rows of each by engines fitted to the others.
        ran: what a benchmark's file does not say; None: a CSV file.

    Raises:
        InputError: the file cannot be read, or is not of the schema; unknown runtime.
    """
    engine = None if runtime is None else load_runtime(runtime)
    columns, rows = read_measured(path) if ran is None else read_benchmarks(path, ran)
    cases, predictions = predict(rows, fidelity, engine)
    if leave_out is not None:
        held = left_out(fits(rows, cases, fidelity), KEYS[leave_out])
        for place, value in held.items():
            if predictions[place].predicted is not None:
                predictions[place].predicted = value
    note = f"fidelity {fidelity}" + (f", each {leave_out} left out of the fit in turn" if leave_out else "")
    return Validation(columns, rows, cases, predictions, note)


def predict(
    rows: Sequence[Measured], fidelity: str, runtime: RuntimeSpec | None = None
) -> tuple[Cases, list[Prediction]]:
    """The rows that are points, and one prediction per row or why there is none."""
    found = [Prediction("not_modelled", "")] * len(rows)
    cases: list[tuple[int, Case]] = []
    for place, row in enumerate(rows):
        try:
            cases.append((place, case_of(row, runtime)))
        except UnknownError as error:
            found[place] = Prediction("not_modelled", str(error))
    for place, case in cases:
        if case.serving == "offload":
            found[place] = predict_offloaded(case, fidelity)
    for group in groups(cases, fidelity):
        for place, prediction in zip(group.where, group.predictions(), strict=True):
            found[place] = prediction
    for place, row in enumerate(rows):
        one = found[place]
        if row.unscored and one.status == OK:
            found[place] = replace(one, status=NOT_SCORED, reason="; ".join(filter(None, (row.unscored, one.reason))))
    return cases, found


def scored(rows: Sequence[Measured], found: Sequence[Prediction]) -> Iterator[Scored]:
    """Rows with their predictions as errors are taken of them: none where a row is not scored."""
    for place, (row, one) in enumerate(zip(rows, found, strict=True)):
        yield Scored(place, row.fields, row.value, None if one.status == NOT_SCORED else one.predicted)


def fits(rows: Sequence[Measured], cases: Cases, fidelity: str, *, anew: bool = True) -> list[Fit]:
    """The fit of every engine the rows name.

    Args:
        rows: with what was measured.
        cases: those of the rows that are points.
        fidelity: of the kernels.
        anew: from the priors; else from the engine's present figures, which few rows then correct.
    """
    if not anew:
        cases = [(place, replace(case, runtime=from_present(case.runtime))) for place, case in cases]
    # How an open loop fills its batch depends on the very figures that are fitted: only states of a known batch count.
    cases = [(place, case) for place, case in cases if case.serving != "open-loop"]
    measured = {place: row.value for place, row in enumerate(rows) if row.value is not None}
    sources = {place: row.text("source") for place, row in enumerate(rows)}
    return [Fit(held) for held in collect(cases, measured, sources, fidelity, own=not anew)]


def as_json(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per source and metric, what `dse validate --json` prints."""
    return [{key: value for key, value in row.items() if key != "worst"} for row in summary["sources"]]
