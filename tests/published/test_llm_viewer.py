"""FLOPs and bytes agree with LLM-Viewer's recorded outputs, to the last digit, wherever LLM-Viewer is right.

`golden.csv` holds what LLM-Viewer (commit 1893e4b) computed, per operator of one layer. Rows where it is
wrong are not compared here: `test_llm_viewer_errors.py` says for each what is right.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import llm_viewer
import pytest
from llm_viewer import LINEARS, NORMS, OURS

from dse.cost.phases import Point
from dse.spec.catalog import load_hardware, load_model
from dse.spec.model import MLP, Attention, Layer, ModelSpec

Row = dict[str, str]

LIBRARY = {
    "meta-llama/Llama-2-7b-hf": "llama-2-7b",
    "meta-llama/Llama-2-13b-hf": "llama-2-13b",
    "meta-llama/Llama-2-70b-hf": "llama-2-70b",
    "meta-llama/Llama-3-8B-like": "llama-3-8b",
    "meta-llama/Llama-3-70B-like": "llama-3-70b",
    "meta-llama/Llama-3.1-405B": "llama-3.1-405b",
    "mistralai/Mistral-7B-v0.1": "mistral-7b",
    "facebook/opt-175b-like": "opt-175b",
}
"""Others carry our name after the slash. ChatGLM3 is not in the library: models.csv has its dimensions."""


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[Row]:
    with (shared_data / "llm_viewer/golden.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["scope"] == "op"]


@pytest.fixture(scope="module")
def model_of(shared_data: Path) -> Callable[[str], ModelSpec]:
    with (shared_data / "llm_viewer/models.csv").open(newline="") as file:
        dimensions = {row["model"]: row for row in csv.DictReader(file)}

    @cache
    def find(name: str) -> ModelSpec:
        if name == "THUDM/chatglm3-6b":
            return from_dimensions(dimensions[name])
        return load_model(LIBRARY.get(name, name.split("/")[-1]))

    return find


def from_dimensions(row: Row) -> ModelSpec:
    size = {name: int(value) for name, value in row.items() if value.isdigit()}
    mixer = Attention(
        size["num_attention_heads"],
        size["num_key_value_heads_as_llmviewer_sees"],
        size["head_size"],
        size["head_size"],
    )
    layer = Layer(mixer, MLP(size["intermediate_size"], gated=row["gated_mlp_true_architecture"] == "yes"))
    layers = (layer,) * size["num_hidden_layers"]
    return ModelSpec(row["model"], "chatglm", size["hidden_size"], size["vocab_size"], layers)


@cache
def chip(bandwidth: str, peak: str) -> object:
    """A chip with LLM-Viewer's one peak for everything it does (errors 20 and 21 are about that)."""
    tflops = float(peak) / 1e12
    peaks = dict.fromkeys(("fp16", "bf16", "int8", "int4"), tflops)
    memory = {"type": "any", "capacity_gb": 80, "bandwidth_gb_per_s": float(bandwidth) / 1e9}
    return load_hardware(
        {
            "name": "golden",
            "vendor": "any",
            "kind": "gpu",
            "peak_tflops": peaks,
            "vector_tflops": tflops,
            "memory": memory,
        }
    )


def point_of(row: Row, model: ModelSpec) -> Point:
    return llm_viewer.point(
        model,
        chip(row["bandwidth"], row["max_OPS"]),
        batch=int(row["batchsize"]),
        prompt=int(row["seqlen"]),
        precision=llm_viewer.plain_bits(int(row["w_bit"]), int(row["a_bit"]), int(row["kv_bit"])),
        tp=int(row["tp_size"]),
        attention="unfused",
    )


def differences(rows: list[Row], model_of: Callable[[str], ModelSpec]) -> list[str]:
    """Every figure of these rows that is not ours, as text."""
    found, points = [], {}
    for row in rows:
        key = (row["case_id"], row["stage"])
        if key not in points:
            at = point_of(row, model_of(row["model"]))
            points[key] = at, llm_viewer.works(at, row["stage"])  # type: ignore[arg-type]
        at, works = points[key]
        work = works[OURS.get(row["op"], row["op"])]
        ours: dict[str, object] = dict(llm_viewer.figures(work, int(row["seqlen"])))
        ours["n_layers_multiplier"] = len(at.where[0])
        theirs: dict[str, object] = {name: float(row[name]) for name in ours}
        ours["inference_time"] = llm_viewer.number(llm_viewer.timed(at, work, int(row["seqlen"])).seconds)
        theirs["inference_time"] = pytest.approx(float(row["inference_time"]), rel=1e-12)
        where = f"{row['case_id']} {row['model']} {row['stage']} {row['op']}"
        wrong = [name for name in ours if ours[name] != theirs[name]]
        found += [f"{where} {name}: {ours[name]!r}, not {theirs[name]}" for name in wrong]
    return found


def subject(row: Row, model_of: Callable[[str], ModelSpec]) -> str:
    """What the row is about: a class we agree on, or the number of the error it shows."""
    op, mixer = row["op"], model_of(row["model"]).layers[0].mixer
    wrong = {"lm_head": "errors 6, 7", "mlp_act": "error 8", "attn_add": "error 9", "mlp_add": "error 9"}
    if op in wrong:
        return wrong[op]
    if op == "gate_proj" and not model_of(row["model"]).layers[0].ffn.gated:
        return "error 10"
    if op in LINEARS or op in NORMS:
        kind = "linear" if op in LINEARS else "norm"
        # Flash attention changes neither; tensor parallelism divides linear operators and no norm, rightly.
        return kind if row["flash"] == "False" and row["tp_size"] == "1" else f"{kind}, flash or tp"
    if row["tp_size"] != "1":
        return "error 13"
    if op == "fused_attention":
        return "errors 1, 3, 4"
    if op == "qk_matmul" and row["stage"] == "prefill" and mixer.heads != mixer.kv_heads:
        return "error 5"
    return f"{row['stage']} attention"


AGREED = {
    "linear": 604,
    "norm": 176,
    "decode attention": 132,
    "prefill attention": 124,
    "linear, flash or tp": 400,
    "norm, flash or tp": 116,
}
"""Classes of rows we agree on, with their number in golden.csv: a comparison of nothing fails."""

WRONG = {
    "errors 6, 7": 146,
    "error 8": 146,
    "error 9": 292,
    "error 10": 18,
    "error 13": 30,
    "errors 1, 3, 4": 40,
    "error 5": 8,
}
"""Classes of rows that LLM-Viewer has wrong: `test_llm_viewer_errors.py` has a test of each error."""


@pytest.mark.parametrize("about", AGREED)
def test_operations_bytes_and_seconds_are_those_of_llm_viewer(about, rows, model_of):
    compared = [row for row in rows if subject(row, model_of) == about]
    assert differences(compared, model_of) == []
    assert len(compared) == AGREED[about]


def test_every_row_is_compared_or_shows_a_known_error(rows, model_of):
    assert Counter(subject(row, model_of) for row in rows) == AGREED | WRONG


def test_the_compared_rows_cover_every_model_and_mix_of_bits(rows, model_of):
    compared = [row for row in rows if subject(row, model_of).startswith("linear")]
    for columns in (["model"], ["w_bit", "a_bit", "kv_bit"], ["batchsize"], ["seqlen"], ["tp_size"]):
        every, seen = ({tuple(row[c] for c in columns) for row in some} for some in (rows, compared))
        assert seen == every
