"""Requests of one output token (classification, scoring): the prompt pass emits it, and there is no TPOT."""

from __future__ import annotations

import json
import math

import pytest

import dse
from dse.cli import run

AXES = {"input": 4096, "batch": 8}
SWEEP = {
    "name": "scoring", "models": ["llama-3.1-8b"], "hardware": ["h100-sxm", "l4"], "precision": ["bf16"],
    "batch": [1, 8], "workload": ["4096x1"],
}  # fmt: skip
BURST = {"slo": {"ttft_ms": 1000, "tpot_ms": 50}, "rate": 2.0}


@pytest.mark.parametrize("runtime", ["ideal", "vllm"])
@pytest.mark.parametrize(
    "served",
    [
        {},
        {"offload": "lp"},
        {"serving": "offline"},
        {"serving": "offline", "chunk_tokens": 1024},
        {"serving": "closed-loop"},
        {"serving": "closed-loop", "chunk_tokens": 1024},
        {"serving": "open-loop", **BURST},
        {"serving": "open-loop", "chunk_tokens": 1024, **BURST},
        {"serving": "disaggregated", "disaggregated": {"devices": 8}},
        {"serving": "disaggregated", "disaggregated": {"devices": 8}, **BURST},
        {"speculation": {"eagle": 3, "tree": 8, "tau": 2.5}},
        {"pp": 2},
    ],
    ids=str,
)
def test_it_has_a_ttft_and_no_tpot_however_it_is_served(served, runtime) -> None:
    row = dse.evaluate("llama-3.1-8b", "h100-sxm", output=1, runtime=runtime, **AXES, **served).iloc[0]
    assert row.status == "ok"
    assert math.isnan(row.tpot_ms)
    assert 0 < row.ttft_ms <= row.latency_s * 1e3 * (1 + 1e-12)
    assert 0 < row.output_tokens_per_s == row.requests_per_s
    if "rate" in served:
        assert math.isnan(row.tpot_p99_ms)
        assert row.slo_attainment > 0.9
    told = dse.explain("llama-3.1-8b", "h100-sxm", output=1, runtime=runtime, **AXES, **served)["point"]
    assert told["status"] == "ok"
    assert math.isnan(told["tpot_ms"])


def test_the_command_line_explains_it(capsys) -> None:
    of = ["explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--output", "1"]
    assert run([*of, "--json"]) == 0
    point = json.loads(capsys.readouterr().out)["point"]
    assert (point["status"], point["tpot_ms"]) == ("ok", None)
    assert run(of) == 0
    assert ": ok" in capsys.readouterr().out


def test_beside_requests_that_decode_only_they_have_one() -> None:
    found = dse.evaluate("llama-3.1-8b", "h100-sxm", output=[1, 64], **AXES)
    assert found.status.tolist() == ["ok", "ok"]
    assert found.tpot_ms.isna().tolist() == [True, False]


def test_who_asks_for_tpot_is_told_what_to_do(tmp_path) -> None:
    found = dse.evaluate("llama-3.1-8b", "h100-sxm", output=1, objectives=["tpot_ms"], **AXES)
    assert found.status.tolist() == ["undefined:tpot_ms"]
    for asked in ({"objectives": ["tpot_ms", "devices"]}, {"constraints": {"tpot_ms": {"max": 50}}}):
        found = dse.run_sweep({**SWEEP, **asked}, out=str(tmp_path))
        reason = found.manifest["nearest_misses"]["undefined:tpot_ms"]["reason"]
        assert reason == (
            "a request of one output token has no decode step: leave what is told per token after the first out of "
            "objectives and constraints (ttft_ms is what such requests wait for), or generate at least two tokens"
        )


def test_a_sweep_of_such_requests_alone_compares_ttft_where_nobody_says(tmp_path) -> None:
    found = dse.run_sweep(SWEEP, out=str(tmp_path))
    names = [objective["name"] for objective in found.manifest["objectives"]]
    assert names == ["output_tokens_per_s_per_device", "ttft_ms", "memory_gb_per_device"]
    assert found.manifest["feasible"] == found.manifest["points"] == 4
    assert found.frontier().tpot_ms.isna().all()


def test_a_sweep_of_some_such_requests_keeps_its_objectives(tmp_path) -> None:
    found = dse.run_sweep({**SWEEP, "workload": ["4096x1", "4096x64"]}, out=str(tmp_path))
    assert found.manifest["statuses"] == {"ok": 4, "undefined:tpot_ms": 4}
