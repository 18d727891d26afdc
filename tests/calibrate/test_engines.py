"""The fit of engines: it finds what made the rows, it never sees what it is scored on, it stays near its priors."""

from __future__ import annotations

import numpy as np
import pytest
from rows import measured

from dse.calibrate.cases import case_of
from dse.calibrate.engines import PRIORS, Fit, by_accelerator, by_model, left_out, with_figures
from dse.calibrate.measured import Measured
from dse.calibrate.predict import groups
from dse.calibrate.runtimes_file import figures, write_runtimes
from dse.calibrate.validate import fits, predict
from dse.spec.reading import Document, build
from dse.spec.runtime import RuntimeSpec, library_runtimes, load_runtime

MODELS, CHIPS = ("Llama-2-7B", "Llama-3.1-8B", "Qwen2-7B"), ("A100-80GB-SXM", "H100-80GB-SXM", "L40S")


def made_by(**truth: float) -> list[Measured]:
    """Rows that an engine of these figures, and for the rest of its priors, would give."""
    shapes = [
        {"scenario": "static_batch", "metric": "e2e_s", "batch_or_concurrency": batch, "output_len": output}
        for batch in ("1", "8", "64") for output in ("1", "64", "512")
    ] + [
        {"scenario": "online_closed_loop", "metric": metric, "batch_or_concurrency": batch}
        for batch in ("1", "4", "32") for metric in ("ttft_ms", "tpot_ms")
    ]  # fmt: skip
    rows = [
        measured(model=model, hardware=chip, framework="sglang", **shape)
        for model in MODELS for chip in CHIPS for shape in shapes
    ]  # fmt: skip
    base = with_figures(load_runtime("sglang"), (), np.zeros(0))
    _, predictions = predict(rows, "datasheet", base.model_copy(update=truth))
    return [
        Measured({**row.fields, "value": repr(one.predicted)}, 2) for row, one in zip(rows, predictions, strict=True)
    ]


def fitted(rows: list[Measured]) -> list[Fit]:
    cases = [(place, case_of(row)) for place, row in enumerate(rows)]
    return fits(rows, cases, "datasheet")


def test_the_fit_finds_the_figures_that_made_the_rows():
    truth = {"decode_slowdown": 1.4, "prefill_slowdown": 1.5, "step_us": 350.0}
    rows = made_by(**truth)
    (fit,) = fitted(rows)
    found = figures(fit.engine)
    for name, value in truth.items():
        assert found[name] == pytest.approx(value, rel=0.2), name
    _, predictions = predict(rows, "datasheet", fit.engine)
    assert [one.predicted for one in predictions] == pytest.approx([row.value for row in rows], rel=0.1)


def test_without_rows_that_tell_a_figure_stays_at_its_prior():
    rows = [row for row in made_by(step_us=2000.0) if row.fields["scenario"] == "static_batch"]
    (fit,) = fitted(rows)
    assert "request_ms" not in fit.names
    assert fit.engine.request_ms == fit.rows.runtime.priors["request_ms"]
    assert fit.engine.prompt_token_us == PRIORS["prompt_token_us"][0]
    assert fit.engine.core_gb_per_s is None


def test_what_is_left_out_has_no_say_in_its_own_prediction():
    """Spoiling one chip's rows tenfold changes what is predicted of the others, and nothing of its own."""
    rows = made_by(step_us=2000.0)
    spoiled = [
        Measured({**row.fields, "value": repr(10 * row.value)}, 2) if row.fields["hardware"] == "L40S" else row
        for row in rows
    ]
    honest, led = (left_out(fitted(each), by_accelerator) for each in (rows, spoiled))
    own = [place for place, row in enumerate(rows) if row.fields["hardware"] == "L40S"]
    assert [led[place] for place in own] == pytest.approx([honest[place] for place in own], rel=0.05)
    assert any(abs(led[place] / honest[place] - 1) > 0.05 for place in honest if place not in own)


def test_an_engine_may_know_its_figures_better(tmp_path):
    engine = load_runtime("sglang").model_copy(update={"priors": {"layer_us": 20.0}})
    assert with_figures(engine, (), np.zeros(0)).layer_us == 20.0
    assert with_figures(engine, ("layer_us",), np.log([2.0])).layer_us == pytest.approx(40.0)


def test_releases_of_one_structure_are_one_model():
    eight, again, seven = (case_of(measured(model=name)) for name in ("Llama-3-8B", "Llama-3.1-8B", "Llama-2-7B"))
    assert by_model(eight) == by_model(again) != by_model(seven)


def test_rows_of_one_engine_are_fitted_together_and_others_apart():
    rows = [*made_by(step_us=2000.0)[:20], measured(framework="LMDeploy TurboMind")]
    assert [fit.rows.runtime.name for fit in fitted(rows)] == ["sglang", "lmdeploy"]
    cases = [(place, case_of(row)) for place, row in enumerate(rows)]
    assert sum(len(group.cases) for group in groups(cases, "datasheet")) == len(rows)


def test_fitted_engines_are_written_as_a_runtimes_file(tmp_path):
    import yaml

    fit = fitted(made_by(step_us=2000.0))
    write_runtimes(fit, "datasheet", "mine.csv", tmp_path / "runtimes.yaml")
    found = yaml.safe_load((tmp_path / "runtimes.yaml").read_text())
    assert list(found) == list(library_runtimes())
    assert found["sglang"]["step_us"] == figures(fit[0].engine)["step_us"] > PRIORS["step_us"][0]
    told = "fitted by dse validate to 135 rows of mine.csv over datasheet kernels, "
    assert found["sglang"]["source"].startswith(told)
    for name in ("lmdeploy", "flexllmgen", "vllm-2023"):  # no row of it: as it was
        assert RuntimeSpec(name=name, **found[name]) == load_runtime(name)
    assert list(found["ideal"]) == ["source", "notes"]
    again = {name: build(RuntimeSpec, Document("", {"name": name, **entry})) for name, entry in found.items()}
    assert again["vllm-2024"] == load_runtime("vllm-2024")
