"""Are probabilities of being on the front true? Of points predicted to be, how many are, where all were measured.

Groups of one source, model and request, ranked by time per token (or per request) and throughput per device, in which
chips, formats, engines, layouts and batches compete; `pytest -s` prints the table that `dse.run.sharing` cites. The
bands and shares are those every result has, of kernels without an engine; here the engines' figures, which were fitted
to these rows, are added, so that most errors are smaller and most points surer than their probability says.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from dse.calibrate.validate import validate
from dse.run.chances import chains
from dse.run.sharing import NINE_IN_TEN, PLACE, Errors, Standing, logarithms
from dse.search.chance import front_chances
from dse.search.pareto import non_dominated
from dse.spec.bands import error_models

CONFIGURATION = (
    ("model",), ("hardware",), ("weight_dtype", "act_dtype", "kv_dtype"), ("framework", "version"),
    ("tp", "pp", "dp", "ep", "n_gpus"),
)  # fmt: skip
POINT = ("source", "input_len", "output_len", "batch_or_concurrency", *sum(CONFIGURATION, ()))
SOURCES = (
    "InferenceX-silicon(aiconfigurator)", "AIC-gap-analysis(NVIDIA)", "Argonne-LLM-Inference-Bench", "TRT-LLM-static",
)  # fmt: skip
LEAST = 8
"""Points of a group worth a front."""


def objectives(values: dict, batch: float, output: float, devices: float) -> tuple[float, float, float] | None:
    """Time per token, or per request and token; throughput per device, negated; the prompt's share of the time."""
    if values.keys() >= {"ttft_ms", "tpot_ms"}:
        latency = (values["ttft_ms"] + (output - 1) * values["tpot_ms"]) / 1e3
        return values["tpot_ms"], -batch * output / latency / devices, values["ttft_ms"] / 1e3 / latency
    throughput = values.get("output_tok_s", batch * output / values["e2e_s"] if "e2e_s" in values else None)
    return None if throughput is None else (batch / throughput, -throughput / devices, 0.0)


@cache
def groups(folder: Path) -> dict[str, list[list[tuple]]]:
    """Per source, groups of points: fields, measured and predicted objectives."""
    validation = validate(folder / "measured" / "dev.csv", "datasheet")
    points = defaultdict(lambda: ({}, {}, {}))
    for row, scored in zip(validation.rows, validation.scored, strict=True):
        if row.text("source") in SOURCES and row.text("quality") in ("A", "B") and scored.ratio is not None:
            fields, measured, predicted = points[tuple(row.text(name) for name in POINT)]
            fields |= row.fields
            measured[row.text("metric")], predicted[row.text("metric")] = scored.measured, scored.predicted
    found = defaultdict(list)
    for fields, *both in points.values():
        batch, output = float(fields["batch_or_concurrency"] or 1), float(fields["output_len"])
        pair = [objectives(values, batch, output, float(fields["n_gpus"] or fields["tp"] or 1)) for values in both]
        if None not in pair:
            key = tuple(fields[name] for name in ("source", "model", "input_len", "output_len"))
            found[key].append((fields, *pair))
    kept = defaultdict(list)
    for (source, *_), members in found.items():
        if len(members) >= LEAST:
            kept[source].append(members)
    return kept


def standing_of(members: list[tuple]) -> Standing:
    """What the errors of measured points follow from."""
    words: dict[str, int] = {}
    texts = [[" ".join(fields[name] for name in part) for fields, *_ in members] for part in CONFIGURATION]
    parts = [[words.setdefault(f"{i} {text}", len(words)) for text in column] for i, column in enumerate(texts)]
    bands = np.log1p(np.array(error_models()["datasheet"].bands) / 100) / NINE_IN_TEN
    known: dict[tuple, int] = {}
    return Standing(
        words=tuple(words),
        parts=np.array([parts, parts]),  # prompts and generation run on one engine
        chain=np.array([known.setdefault(configuration, len(known)) for configuration in zip(*texts, strict=True)]),
        octave=np.log2([[max(float(fields["batch_or_concurrency"] or 1), 1) for fields, *_ in members]] * 2),
        evidence=np.full(len(members), PLACE["datasheet"]),
        sigma=np.repeat(bands[:, None], len(members), axis=1),
        prompt=np.array([predicted[2] for *_, predicted in members]),
    )


@cache
def outcomes(folder: Path) -> dict[str, np.ndarray]:
    """Per source (points, 3): predicted to be on the front, probability of it, measured to be."""
    names = ("tpot_ms", "output_tokens_per_s_per_device")
    found = {}
    for source, held in groups(folder).items():
        rows = []
        for members in held:
            measured, predicted = (np.array([point[i][:2] for point in members]) for i in (1, 2))
            points = standing_of(members)
            errors = Errors(points, names).of(slice(0, len(members)))
            chances = front_chances(logarithms(predicted, names), errors, chains(points.chain))
            rows.append(np.column_stack([non_dominated(predicted), chances, non_dominated(measured)]))
        found[source] = np.concatenate(rows)
    return found


def test_as_many_points_are_on_the_front_as_their_probabilities_add_up_to(shared_data):
    found = outcomes(shared_data)
    for source in SOURCES:
        for lead, name in ((1, "predicted on the front"), (0, "predicted off it")):
            rows = found[source][found[source][:, 0] == lead]
            probability, true = rows[:, 1].mean(), rows[:, 2].mean()
            print(f"{source:36} {name:23} {len(rows):5} probability {probability:.2f}, true {true:.2f}")
    whole = np.concatenate(list(found.values()))
    front, others = whole[whole[:, 0] == 1], whole[whole[:, 0] == 0]
    assert front[:, 1].mean() == pytest.approx(front[:, 2].mean(), abs=0.2)
    assert others[:, 1].mean() == pytest.approx(others[:, 2].mean(), abs=0.05)


def test_a_higher_probability_is_more_often_true(shared_data):
    whole = np.concatenate(list(outcomes(shared_data).values()))
    edges = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.01)
    bins = [whole[(whole[:, 1] >= low) & (whole[:, 1] < high)] for low, high in pairwise(edges)]
    for rows in bins:
        print(f"{len(rows):5} probability {rows[:, 1].mean():.2f}, true {rows[:, 2].mean():.2f}")
    true = [rows[:, 2].mean() for rows in bins]
    assert true == sorted(true)
