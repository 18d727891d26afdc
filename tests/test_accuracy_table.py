"""README's table of errors is that of docs/accuracy.json, and that is of this cost model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from dse.calibrate.accuracy import table
from dse.calibrate.validate import validate
from dse.cost import COST_MODEL
from dse.spec.runtime import IDEAL

ROOT = Path(__file__).resolve().parent.parent
FIGURES = json.loads((ROOT / "docs" / "accuracy.json").read_text(encoding="utf-8"))


def test_the_readme_holds_the_table_of_the_figures():
    spec = importlib.util.spec_from_file_location("accuracy", ROOT / "docs" / "accuracy.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count(script.BEGIN) == readme.count(script.END) == 1
    assert script.written(readme) == readme, "README.md drifted: python docs/accuracy.py MEASURED.csv"


def test_the_figures_are_of_this_cost_model():
    assert FIGURES["cost_model"] == COST_MODEL
    assert FIGURES["file"] == "dev.csv"


@pytest.mark.parametrize("kind", ["ideal", "fitted"])
def test_the_figures_are_what_is_measured_now(shared_data, kind):
    """What leaves nothing out takes seconds and moves with every change of the model."""
    path = shared_data / "measured" / "dev.csv"
    found = validate(path, "ideal", IDEAL) if kind == "ideal" else validate(path, FIGURES["fidelity"])
    now = {(row["source"], row["metric"]): row["median_ape_pct"] for row in found.summary()["sources"]}
    then = {(row["source"], row["metric"]): row[kind]["median_ape"] for row in FIGURES["rows"]}
    assert then == pytest.approx(now, abs=0.3), "python docs/accuracy.py MEASURED.csv"
    ranks = {(row["source"], row["metric"]): row["spearman"] for row in found.summary()["sources"]}
    for row in FIGURES["rows"]:
        assert row[kind]["rank"] == pytest.approx(ranks[row["source"], row["metric"]], abs=0.01), row["source"]


def figures(median: float | None, rank: float | None = None) -> dict[str, float | None]:
    errors = {"median_ape": median, "p90_ape": median and 2 * median, "bias": median and -median}
    return {**errors, "rank": rank, "ranked": 0 if rank is None else 4}


def group(source: str, median: float | None, **fields: object) -> dict[str, object]:
    kinds = ("ideal", "fitted", "model_left_out", "accelerator_left_out")
    return {"source": source, "metric": "ttft_ms", "rows": 7, "predicted": 6, **dict.fromkeys(kinds, figures(median)),
            **fields}  # fmt: skip


def test_a_table_shows_errors_with_their_signs_and_names_the_worst_first():
    named = {"framework": "vllm", "model": "m", "hardware": "h"}
    found = {
        "date": "2026-01-01", "cost_model": "9", "fidelity": "datasheet", "file": "f.csv",
        "rows": [group("a", 12.3), group("b", None)],
        "bad": [group("a", 31.0, **named), group("b", 64.0, **named)], "metrics": [],
    }  # fmt: skip
    lines = table(found)
    about = "12 of 14 rows of `f.csv` predicted at fidelity `datasheet`, cost model 9, 2026-01-01"
    assert lines[0] == f"{about}. Median error, bias:"
    assert "| a, TTFT | 7 | 12 %, -12 % | **12 %, -12 %** | 12 %, -12 % | 25 % | none |" in lines
    assert "| b, TTFT | 7 | none | **none** | none | none | none |" in lines
    assert lines[-2:] == [
        "- TTFT of m, vllm on h (b, 7 rows): 64 %, -64 %",
        "- TTFT of m, vllm on h (a, 7 rows): 31 %, -31 %",
    ]


def test_a_rank_below_what_was_asked_for_is_seen():
    """The worse of the two ways to leave out counts, and 0.9699 is not 0.97."""
    rows = [
        group("a", 1.0, model_left_out=figures(1.0, 1.0), accelerator_left_out=figures(1.0, 0.97)),
        group("b", 1.0, model_left_out=figures(1.0, 0.9), accelerator_left_out=figures(1.0, 0.99)),
        group("c", 1.0, model_left_out=figures(1.0, 0.969), accelerator_left_out=figures(1.0)),
    ]
    lines = table({"date": "", "cost_model": 9, "fidelity": "", "file": "", "rows": rows, "metrics": rows, "bad": []})
    ranks = [line.split(" | ")[-1].removesuffix(" |") for line in lines if line.startswith(("| a", "| b", "| c"))]
    assert ranks == ["0.970 (4)", "_0.900 (4)_", "_0.969 (4)_"]
    assert "All sources together: TTFT 0.970 (4), TTFT _0.900 (4)_, TTFT _0.969 (4)_." in lines
