"""LLM-Viewer's errors that its users meet outside the figures: listings, options, files, models, messages.

Error numbers as in `test_llm_viewer_errors.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys

import llm_viewer
import numpy as np
import pytest
from llm_viewer import number

from dse.cost.breakdown import timed_operators
from dse.cost.memory import Memory
from dse.cost.metrics import Scored
from dse.errors import InputError
from dse.run.evaluate import evaluate, explain
from dse.run.sweep import run_sweep

A100 = "a100-sxm-80gb"



def test_every_operator_of_a_layer_is_listed_once_error_16():
    said = explain("llama-2-7b", A100, precision="fp16", input=128, output=8, tp=2)
    for phase in said["phases"].values():
        names = [(entry["layer"], entry["name"]) for entry in phase["operators"]]
        assert len(names) == len(set(names))
        assert all(entry["seconds"] > 0 for entry in phase["operators"])


@pytest.mark.parametrize("attention", ["fused", "unfused"])
def test_gpt_j_has_the_operators_of_its_parallel_block_error_17(attention):
    """One norm for both halves and no gate: LLM-Viewer's graph names both and answers HTTP 500."""
    at = llm_viewer.point("gpt-j-6b", A100, attention=attention)
    names = [entry.work.name for entry in timed_operators(at, "decode")]
    assert "gate_proj" not in names
    assert sum(name.endswith("_norm") and name != "final_norm" for name in names) == 1
    assert number(Memory(at).weights) == 6050882784 * 2


def test_an_option_without_effect_is_refused_error_19():
    with pytest.raises(InputError, match="kv_token_ratio: unknown axis"):
        evaluate("llama-2-7b", A100, kv_token_ratio=0.5)


def test_figures_are_numbers_in_full_with_totals_error_24():
    said = explain("llama-2-7b", A100, precision="fp16", input=128, output=64, batch=4)
    at = llm_viewer.point(
        "llama-2-7b", A100, prompt=128, output=64, batch=4, fidelity="calibrated", max_prefill_tokens=8192
    )
    assert said["point"]["output_tokens_per_s"] == number(Scored(at).tokens_per_s)
    assert said["memory"]["accelerator"]["total_gb"] == number(Memory(at).total) / 1e9
    for phase in said["phases"].values():
        total = sum(entry["count"] * entry["seconds"] for entry in phase["operators"])
        assert total == pytest.approx(phase["seconds"])
    assert json.loads(json.dumps(said)) == said


def test_running_again_does_not_append_error_24(tmp_path):
    sweep = {"name": "again", "models": "llama-2-7b", "hardware": A100, "batch": [1, 2], "workload": "128x64"}
    first = (run_sweep(sweep, tmp_path, executor="local").folder / "frontier.csv").read_bytes()
    again = run_sweep(sweep, tmp_path, executor="local", fresh=True)
    assert (again.folder / "frontier.csv").read_bytes() == first
    assert np.issubdtype(again.frontier()["output_tokens_per_s"].dtype, np.floating)


def test_a_config_is_read_anywhere_without_network_or_transformers_error_25(tmp_path):
    """LLM-Viewer downloads, trusts remote code, and finds its files from one folder only (issues #8, #28)."""
    config = {
        "model_type": "qwen2",
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152064,
        "tie_word_embeddings": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    script = """
import socket, sys
def refuse(*args, **kwargs): raise OSError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
from dse.spec.catalog import load_model
print(load_model(".").parameters(), load_model("llama-2-7b").parameters())
assert not {"torch", "transformers", "huggingface_hub"} & set(sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.split() == ["7615616512", "6738415616"], ran.stderr


def test_unsupported_tensor_parallelism_is_a_status_with_a_reason_error_26():
    table = evaluate("llama-2-70b", A100, precision="fp16", input=128, output=64, tp=[3, 8])
    assert table["status"].tolist() == ["heads_not_divisible", "ok"]
