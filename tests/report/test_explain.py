"""One point on the terminal reads in eighty columns, each operator under the part of the model it belongs to."""

from __future__ import annotations

import re

import pytest

from dse import explain
from dse.report.explain import print_explain


@pytest.fixture(scope="module")
def found():
    return explain("gpt-oss-120b", "h100-sxm", tp=8, batch=64)


@pytest.fixture
def printed(found, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_explain(found)
    return capsys.readouterr().out


def test_it_fits_eighty_columns(printed):
    assert max(map(len, printed.splitlines())) <= 80


def test_operators_stand_under_the_part_they_belong_to(printed):
    decode = printed[printed.index("\ndecode") :]
    titles = ("embedding: 1 run\n", "Attention (window 128): 18 runs\n", "MoE: 36 runs\n", "Attention: 18 runs\n")
    places = [decode.index(f"\n{title}") for title in titles]
    assert places == sorted(places)


def test_operators_and_layers_name_parts_alike(found):
    parts = {operator["layer"] for operator in found["phases"]["decode"]["operators"]} - {"embedding", "head"}
    assert parts == {part for layer in found["layers"] for part in layer["name"].split("+")}
    assert [layer["name"] for layer in found["layers"]] == ["Attention (window 128)+MoE", "Attention+MoE"]


UNDER = [
    {}, {"serving": "offline"}, {"serving": "closed-loop", "batch": 64},
    {"serving": "open-loop", "rate": 4, "batch": 64},
    {"serving": "closed-loop", "batch": 64, "chunk_tokens": 512},
    {"serving": "open-loop", "rate": 4, "batch": 64, "workload": "azure-conversation"},
    {"serving": "disaggregated", "batch": 16, "disaggregated": {"devices": 8}},
    {"batch": 8, "speculation": {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.8}},
    {"hardware": {"base": "l4", "box.devices": 1}, "offload": "lp", "batch": 32},
    {"tp": 2, "pp": 2, "batch": 16},
]  # fmt: skip


@pytest.mark.parametrize("runtime", ["ideal", "vllm", "llama.cpp"])
@pytest.mark.parametrize("axes", UNDER, ids=str)
def test_what_is_shown_adds_up_to_the_figures_of_the_row(axes, runtime):
    """Kernels, engine and what is beside the pass; of decode over the tokens that an iteration gains."""
    found = explain("llama-3.1-8b", **{"hardware": "h100-sxm", "runtime": runtime, **axes})
    prefill, decode = (found["phases"][phase] for phase in ("prefill", "decode"))
    for phase in (prefill, decode):
        shown = sum(phase["time_by"].values())
        if "offload" not in axes:  # there the streams run beside each other
            assert shown == pytest.approx(phase["seconds"], rel=1e-9)
    engine, beside = (sum(prefill[part].values()) for part in ("engine", "beside"))
    assert prefill["seconds"] + engine + beside == pytest.approx(found["point"]["ttft_ms"] / 1e3, rel=1e-9)
    engine, beside = (sum(decode[part].values()) for part in ("engine", "beside"))
    passed = (decode["seconds"] + engine) / decode["tokens"]
    assert passed + beside == pytest.approx(found["point"]["tpot_ms"] / 1e3, rel=1e-9)
    assert (prefill["engine"] == {}) is (runtime == "ideal")


def test_the_engine_and_what_is_beside_a_pass_have_lines(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_explain(explain("llama-3.1-8b", "h100-sxm", runtime="vllm", batch=8, serving="closed-loop"))
    text = capsys.readouterr().out
    assert "\nms of the engine (vllm): kernel speed " in text
    assert re.search(r"\nms beside the pass: server [\d.]+, waiting [\d.]+; ttft_ms [\d.]+\n", text)
    assert re.search(r"\nms beside the pass: prompts of others [\d.]+; tpot_ms [\d.]+\n", text)
