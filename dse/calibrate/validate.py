"""`dse validate`: every row of a measured file predicted, and how far off the predictions are."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dse.calibrate.cases import Case, case_of
from dse.calibrate.measured import ADDED, Measured, UnknownError, read_measured
from dse.calibrate.predict import Prediction, groups
from dse.calibrate.scores import Scored, by, scores, worst
from dse.spec.runtime import RuntimeSpec


@dataclass(frozen=True)
class Validation:
    """Measured rows with their predictions."""

    columns: Sequence[str]
    rows: Sequence[Measured]
    predictions: Sequence[Prediction]

    @cached_property
    def scored(self) -> list[Scored]:
        """Rows as errors are taken of them."""
        pairs = enumerate(zip(self.rows, self.predictions, strict=True))
        return [Scored(place, row.fields, row.value, found.predicted) for place, (row, found) in pairs]

    def summary(self) -> dict[str, Any]:
        """Scores of all rows, per source and metric, per accelerator and metric; the worst rows; reasons."""
        return {
            "all": scores(self.scored),
            "sources": [
                {"source": source, "metric": metric, **scores(rows), "worst": self._worst(rows)}
                for (source, metric), rows in by(self.scored, "source", "metric").items()
            ],
            "accelerators": [
                {"hardware": chip, "metric": metric, **scores(rows)}
                for (chip, metric), rows in by(self.scored, "hardware", "metric").items()
            ],
            "not_predicted": self._reasons(),
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


def validate(path: str | Path, fidelity: str = "calibrated", runtime: RuntimeSpec | None = None) -> Validation:
    """Predict every row of a measured file.

    Args:
        path: a CSV file in the measurement collection's schema.
        fidelity: as on the axis of that name.
        runtime: one engine for all rows; None: the one each row's framework names.

    Raises:
        InputError: the file cannot be read, or is not of the schema.
    """
    columns, rows = read_measured(path)
    return Validation(columns, rows, predict(rows, fidelity, runtime))


def predict(rows: Sequence[Measured], fidelity: str, runtime: RuntimeSpec | None = None) -> list[Prediction]:
    """One prediction per row, or why there is none."""
    found: list[Prediction | None] = [None] * len(rows)
    cases: list[tuple[int, Case]] = []
    for place, row in enumerate(rows):
        try:
            cases.append((place, case_of(row, runtime)))
        except UnknownError as error:
            found[place] = Prediction("not_modelled", str(error))
    for group in groups(cases, fidelity):
        for place, prediction in zip(group.where, group.predictions(), strict=True):
            found[place] = prediction
    return [one for one in found if one is not None]


def as_json(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per source and metric, what `dse validate --json` prints."""
    return [{key: value for key, value in row.items() if key != "worst"} for row in summary["sources"]]
