"""`dse simulate`: what it prints, its JSON, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import dse as library
from dse.report.columns import number_text

LLAMA = ("--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--precision", "bf16")
DRAWN = ("--rate", "8", "--requests", "500", "--seed", "1")


@pytest.fixture
def trace(tmp_path) -> str:
    rows = "".join(f"{i * 0.25},{200 + i % 7 * 100},{20 + i % 5}\n" for i in range(200))
    (tmp_path / "trace.csv").write_text("arrival,input,output\n" + rows)
    return "trace.csv"


def test_json_has_what_a_script_needs(dse, trace):
    said = dse("simulate", *LLAMA, "--trace", trace, "--slo-ttft-ms", "100", "--slo-tpot-ms", "20", "--json")
    assert said.code == 0
    found = json.loads(said.out)
    assert (found["requests"], found["measured"]) == (200, 200)
    assert found["offered_requests_per_s"] == pytest.approx(4)
    assert found["load"] == pytest.approx(4 / found["capacity_requests_per_s"])
    assert found["saturation"] == "stable"
    for name in ("ttft_ms", "tpot_ms", "latency_s"):
        at = found[name]
        assert 0 < at["p50"] <= at["p90"] <= at["p99"]
        assert at["p50"] / 2 < at["mean"] < at["p99"]
    assert sum(found["utilisation"].values()) == pytest.approx(1)
    assert found["goodput_requests_per_s"] == pytest.approx(found["share_within_slo"] * found["requests_per_s"])
    assert found["scheduler"] == "prefill-first"
    assert found["arrivals"] == {"trace": "trace.csv", "rate": None}


def test_what_was_drawn_can_be_drawn_again(dse, tmp_path):
    found = json.loads(dse("simulate", *LLAMA, *DRAWN, "--burstiness", "2", "--json").out)
    assert found["arrivals"] == {"rate": 8.0, "requests": 500, "lengths": "1024x256", "burstiness": 2.0, "seed": 1}
    (tmp_path / "lengths.csv").write_text("input,output,count\n100,10,3\n500,50,1\n")
    found = json.loads(dse("simulate", *LLAMA, *DRAWN, "--lengths", "lengths.csv", "--json").out)
    assert found["arrivals"]["lengths"] == "2 shapes, 200x20 on average"


def test_a_rate_scales_the_trace(dse, trace):
    slow, fast = (
        json.loads(dse("simulate", *LLAMA, "--trace", trace, "--rate", rate, "--json").out) for rate in (2, 40)
    )
    assert (slow["offered_requests_per_s"], fast["offered_requests_per_s"]) == (2, 40)
    assert slow["capacity_requests_per_s"] == fast["capacity_requests_per_s"]
    assert slow["ttft_ms"]["mean"] < fast["ttft_ms"]["mean"]


def test_the_same_command_says_the_same(dse):
    first, second = (dse("simulate", *LLAMA, *DRAWN, "--json") for _ in range(2))
    assert first.out == second.out
    assert dse("simulate", *LLAMA, *DRAWN[:-1], "2", "--json").out != first.out


def test_the_terminal_says_load_latencies_and_time(dse):
    said = dse("simulate", *LLAMA, *DRAWN, "--slo-ttft-ms", "100", "--replicas", "2", "--chunk-tokens", "512")
    assert said.code == 0
    for words in ("llama-3.1-8b on 1 × h100-sxm", "2 replicas, round-robin", "chunks in passes of 512 tokens",
                  "450 of 500 requests measured", "stable", "TTFT, ms", "p99", "goodput", "within TTFT 100 ms",
                  "mixed passes", "idle"):  # fmt: skip
        assert words in said.out
    assert "evictions" not in said.out
    assert max(map(len, said.out.splitlines())) <= 120


def test_techniques_are_named(dse):
    found = json.loads(dse("simulate", *LLAMA, *DRAWN, "--kv-budget", "512", "--json").out)
    assert found["techniques"] == {"kv_budget": "512"}
    assert "bf16, ideal, kv_budget 512: prompts first" in dse("simulate", *LLAMA, *DRAWN, "--kv-budget", "512").out


def test_techniques_of_requests(dse):
    options = ("--prefix-hit", "{tokens: 512}", "--speculation", "{draft: llama-3.2-1b, gamma: 4, acceptance: 0.7}")
    plain, fast = (json.loads(dse("simulate", *LLAMA, *DRAWN, *more, "--json").out) for more in ((), options))
    assert fast["ttft_ms"]["mean"] < plain["ttft_ms"]["mean"]
    assert fast["tpot_ms"]["mean"] < plain["tpot_ms"]["mean"]
    assert fast["techniques"].keys() == {"prefix_hit", "speculation"}


def test_a_speculation_nobody_measured_exits_1(dse):
    said = dse("simulate", *LLAMA, *DRAWN, "--speculation", "eagle")
    assert said.code == 1
    assert said.err.startswith("tau_unknown: nobody published how many tokens")


def test_overload_is_called_so(dse):
    said = dse("simulate", *LLAMA, "--rate", "200", "--requests", "2000", "--batch", "16")
    assert "overloaded" in said.out
    assert "16 slots" in said.out


def test_a_full_cache_tells_its_evictions(dse):
    said = dse("simulate", "--model", "llama-2-7b", "--hardware", "rtx-4090", "--lengths", "64x900", "--rate", "20",
               "--requests", "300")  # fmt: skip
    assert said.code == 0
    assert "evictions from the full cache" in said.out


def test_one_row_per_request(dse):
    said = dse("simulate", *LLAMA, *DRAWN, "--slo-ttft-ms", "50", "--csv", "requests.csv", "--json")
    with Path("requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    assert list(rows[0]) == ["arrival_s", "input", "output", "ttft_ms", "tpot_ms", "latency_s", "replica", "good"]
    kept = [float(row["ttft_ms"]) for row in rows[50:]]
    assert np.mean(kept) == pytest.approx(json.loads(said.out)["ttft_ms"]["mean"])
    assert all((row["good"] == "True") == (float(row["ttft_ms"]) <= 50) for row in rows)


def test_a_page(dse):
    said = dse("simulate", *LLAMA, *DRAWN, "--html", "page.html")
    assert said.code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "llama-3.1-8b on h100-sxm under load" in page
    assert '"timeline":{"seconds":[0.0,' in page


def test_python_says_what_the_command_says(dse):
    said = json.loads(dse("simulate", *LLAMA, *DRAWN, "--runtime", "vllm", "--tp", "2", "--json").out)
    found = library.simulate("llama-3.1-8b", "h100-sxm", precision="bf16", rate=8, requests=500, seed=1,
                             runtime="vllm", tp=2)  # fmt: skip
    assert json.loads(json.dumps(found.summary)) == said
    assert len(found.requests()) == 500


def test_an_engine_takes_its_time_before_the_first_token():
    plain, served = (
        library.simulate("llama-3.1-8b", "h100-sxm", rate=1, requests=50, runtime=runtime).summary["ttft_ms"]["mean"]
        for runtime in ("ideal", {"base": "ideal", "request_ms": 40, "prompt_token_us": 10})
    )
    assert served - plain == pytest.approx(40 + 10.24, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "rate: expected requests per second, or a trace"),
        (("--rate", "0"), "rate: expected requests per second above 0, got 0.0"),
        (("--rate", "1e300"), "rate: must be at most 1e+09, got 1e+300"),
        (("--rate", "-3"), "rate: expected requests per second above 0, got -3.0"),
        (("--rate", "nan"), "rate: expected requests per second above 0, got nan"),
        (("--rate", "1", "--requests", "0"), "requests: expected a whole number from 1 to 10,000,000, got 0"),
        (("--rate", "1", "--seed", "-1"), "seed: expected a whole number from 0, got -1"),
        (("--rate", "1", "--burstiness", "-1"),
         "burstiness: expected a coefficient of variation of 0 to 100, got -1.0"),
        (("--rate", "1", "--lengths", "chatt"), "unknown workload 'chatt'; did you mean 'chat'?"),
        (("--rate", "1", "--replicas", "0"), "replicas: expected a whole number from 1 to 10,000, got 0"),
        (("--rate", "1", "--chunk-tokens", "0"), "chunk-tokens: expected a whole number from 1 to 10,000,000, got 0"),
        (("--rate", "1", "--dispatch", "least-load"), "dispatch: unknown dispatch 'least-load'; did you mean"),
        (("--rate", "1", "--warmup", "1"), "warmup: expected a share from 0 to below 1, got 1"),
        (("--rate", "1", "--slo-ttft-ms", "0"), "slo-ttft-ms: expected milliseconds above 0, got 0"),
        (("--rate", "1", "--batch", "0"), "batch"),
        (("--rate", "1", "--hardware", "h1000"), "hardware: unknown hardware 'h1000'"),
        (("--rate", "1", "--lengths", "200000x10"),
         "request 1: 200,000 + 10 tokens are longer than the context of llama-3.1-8b, 131,072 tokens"),
        (("--trace", "nowhere.csv", "--seed", "1", "--lengths", "chat"),
         "lengths: a trace has requests of its own; give either\nseed: a trace has requests of its own; give either"),
        (("--trace", "nowhere.csv"), "nowhere.csv: cannot be read: No such file or directory"),
    ],
)  # fmt: skip
def test_faults_are_told_plainly(dse, options, message):
    said = dse("simulate", *LLAMA, *options)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err
    assert not said.out


def test_lines_beyond_the_models_context_are_named(dse, tmp_path):
    rows = ["0,100,10", "1,131072,1", "2,131000,72", "3,131000,73"]
    (tmp_path / "long.csv").write_text("\n".join(["arrival,input,output", *rows]) + "\n")
    said = dse("simulate", *LLAMA, "--trace", "long.csv")
    assert said.code == 2
    assert said.err.splitlines() == [
        "long.csv:3:1: 131,072 + 1 tokens are longer than the context of llama-3.1-8b, 131,072 tokens",
        "long.csv:5:1: 131,000 + 73 tokens are longer than the context of llama-3.1-8b, 131,072 tokens",
    ]


def test_an_empty_and_an_unsorted_trace_exit_2(dse, tmp_path):
    (tmp_path / "empty.csv").write_text("arrival,input,output\n")
    (tmp_path / "mixed.csv").write_text("arrival,input,output\n5,10,1\n4,10,1\n")
    assert dse("simulate", *LLAMA, "--trace", "empty.csv").err == "empty.csv: the trace has no requests\n"
    said = dse("simulate", *LLAMA, "--trace", "mixed.csv")
    assert said.code == 2
    assert said.err.startswith("mixed.csv:3:1: arrival: arrives before the request above it (5 s)")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "llama-3.1-70b"), "exceeds_memory: llama-3.1-70b on 1 x h100-sxm leaves no memory"),
        (("--tp", "3"), "heads_not_divisible: tp must divide the number of heads"),
        (("--dp", "4", "--batch", "2"), "batch_below_dp: some attention-dp ranks would have no sequence"),
    ],
)
def test_what_cannot_run_exits_1(dse, options, message):
    said = dse("simulate", *LLAMA, "--rate", "1", *options)
    assert said.code == 1
    assert message in said.err


@pytest.mark.parametrize("axis", ["serving", "offload", "workload", "input"])
def test_axes_a_simulation_has_otherwise_are_refused(axis):
    with pytest.raises(library.InputError, match=axis):
        library.simulate("llama-3.1-8b", "h100-sxm", rate=1, **{axis: "static"})


@pytest.mark.parametrize("rate", [4, 6, 15])
def test_an_overloaded_deployment_answers_no_more_than_it_is_said_to_sustain(dse, rate):
    """The backlog that measures the rate is another draw; the run itself may finish a few per cent more."""
    chip = ("--model", "llama-3.1-8b", "--hardware", "l4", "--lengths", "512x128")
    asked = ("simulate", *chip, "--rate", rate, "--requests", 600)
    found = json.loads(dse(*asked, "--json").out)
    assert found["requests_per_s"] <= found["capacity_requests_per_s"] < 1.05 * found["requests_per_s"]
    assert found["load"] == pytest.approx(rate / found["capacity_requests_per_s"])
    assert f"{number_text(found['capacity_requests_per_s'])} requests/s are sustained: load" in dse(*asked).out
