"""What vLLM's and SGLang's serving benchmarks write: read into rows, faults told exactly, engines fitted to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import dse
from dse.calibrate.benchmarks import Deployment, is_benchmark, read_benchmarks
from dse.calibrate.runtimes_file import write_own
from dse.calibrate.validate import fits, validate
from dse.errors import InputError
from dse.spec.runtime import load_runtime

H100 = Deployment("h100-sxm")


def vllm(concurrency: int | None = 16, requests: int = 160, **changed: Any) -> dict[str, Any]:
    """A run as `vllm bench serve --save-result` writes it (0.11): 1024 / 256 tokens, 50 ms and 10 ms."""
    seconds = requests / min(concurrency or requests, requests) * (0.050 + 255 * 0.010)
    return {
        "date": "20251101-101500", "endpoint_type": "openai", "backend": "openai", "label": None,
        "model_id": "meta-llama/Llama-3.1-8B-Instruct", "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct",
        "num_prompts": requests, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": concurrency,
        "duration": seconds, "completed": requests, "failed": 0, "total_input_tokens": 1024 * requests,
        "total_output_tokens": 256 * requests, "request_throughput": requests / seconds, "request_goodput": None,
        "output_throughput": 256 * requests / seconds, "total_token_throughput": 1280 * requests / seconds,
        "mean_ttft_ms": 50.0, "median_ttft_ms": 48.0, "std_ttft_ms": 9.0, "p99_ttft_ms": 90.0, "mean_tpot_ms": 10.0,
        "median_tpot_ms": 9.9, "std_tpot_ms": 0.2, "p99_tpot_ms": 11.0, "mean_itl_ms": 10.0, **changed,
    }  # fmt: skip


def sglang(**changed: Any) -> dict[str, Any]:
    """A line of `sglang.bench_serving --output-file` (0.5)."""
    run = vllm()
    for name in ("date", "endpoint_type", "label", "model_id", "tokenizer_id", "num_prompts", "burstiness"):
        del run[name]
    return run | {
        "backend": "sglang", "dataset_name": "random", "request_rate": float("inf"), "sharegpt_output_len": None,
        "random_input_len": 1024, "random_output_len": 256, "random_range_ratio": 1.0,
        "total_output_tokens_retokenized": 40900, "mean_e2e_latency_ms": 2600.0, "concurrency": 15.9,
        "accept_length": None, **changed,
    }  # fmt: skip


def write(folder: Path, *runs: Any, between: str = "\n") -> Path:
    path = folder / "runs.json"
    path.write_text(between.join(json.dumps(run) for run in runs))
    return path


def faults(path: Path, ran: Deployment = H100) -> list[str]:
    with pytest.raises(InputError) as told:
        read_benchmarks(path, ran)
    return [str(fault).removeprefix(f"{path}:") for fault in told.value.faults]


# -- reading ----------------------------------------------------------------------------------------------


def test_a_run_of_vllm_becomes_three_rows(tmp_path):
    columns, rows = read_benchmarks(write(tmp_path, vllm()), Deployment("h100-sxm", precision="fp8", tp=2))
    shown = ("model", "framework", "tp", "n_gpus", "weight_dtype", "input_len", "output_len", "batch_or_concurrency")
    assert [rows[0].fields[name] for name in shown] == ["llama-3.1-8b", "vllm", "2", "2", "fp8", "1024", "256", "16"]
    assert {row.fields["metric"]: row.value for row in rows} == {
        "ttft_ms": 50.0, "tpot_ms": 10.0, "output_tok_s": pytest.approx(16 * 256 / 2.6)
    }  # fmt: skip
    assert {row.fields["scenario"] for row in rows} == {"online_closed_loop"}
    assert set(rows[0].fields) == set(columns)


def test_a_line_of_sglang_names_its_engine_and_not_its_model(tmp_path):
    path = write(tmp_path, sglang())
    assert faults(path) == ["1:1: model_id: does not say which model ran: state it (--model)"]
    _, rows = read_benchmarks(path, Deployment("h100-sxm", "llama-3.1-8b"))
    assert {row.fields["framework"] for row in rows} == {"sglang"}


@pytest.mark.parametrize("between", ["\n", "", ",\n", "\n\n"])
def test_runs_may_follow_one_another_in_any_way(tmp_path, between):
    _, rows = read_benchmarks(write(tmp_path, vllm(1, 10), vllm(16), between=between), H100)
    assert [row.fields["batch_or_concurrency"] for row in rows] == ["1"] * 3 + ["16"] * 3
    _, listed = read_benchmarks(write(tmp_path, [vllm(1, 10), vllm(16)]), H100)
    assert [row.value for row in listed] == [row.value for row in rows]


def test_requests_sent_at_once_are_no_closed_loop(tmp_path):
    for run in (vllm(None, 200), vllm(400, 200)):
        _, rows = read_benchmarks(write(tmp_path, run), H100)
        assert {row.fields["scenario"] for row in rows} == {"online_at_once"}
        assert {row.fields["batch_or_concurrency"] for row in rows} == {"200"}


@pytest.mark.parametrize(("run", "scenario"), [
    (sglang(), "online_equal_lengths"),
    (sglang(random_range_ratio=0.8), "online_closed_loop"),
    (sglang(dataset_name="sharegpt"), "online_closed_loop"),
    (vllm(), "online_closed_loop"),
    (vllm(output_lens=[256] * 160), "online_equal_lengths"),
    (vllm(output_lens=[256, 255] * 80), "online_closed_loop"),
])  # fmt: skip
def test_requests_of_one_length_are_told_from_others_where_the_file_says_so(tmp_path, run, scenario):
    _, rows = read_benchmarks(write(tmp_path, run), Deployment("h100-sxm", "llama-3.1-8b"))
    assert {row.fields["scenario"] for row in rows} == {scenario}


@pytest.mark.parametrize(("change", "reason"), [
    ({"request_rate": "trace"}, "request_rate is blank: an open loop needs the requests per second that arrive"),
    ({"accept_length": 2.4}, "speculative decoding is not modelled yet"),
])  # fmt: skip
def test_what_is_not_modelled_has_a_reason(tmp_path, change, reason):
    found = validate(write(tmp_path, vllm(**change)), ran=H100)
    assert {one.reason for one in found.predictions} == {reason}


def test_requests_at_a_rate_are_served_in_an_open_loop(tmp_path):
    """As `serving: open-loop` of a sweep at that rate, and the arrivals' coefficient of variation b^(-1/2)."""
    runs = [vllm(None, request_rate=rate, burstiness=shape) for rate, shape in ((2.0, 1.0), (8.0, 1.0), (8.0, 4.0))]
    found = validate(write(tmp_path, *runs), ran=Deployment("h100-sxm", runtime="vllm"))
    assert {(one.status, one.reason) for one in found.predictions} == {("ok", "a KV cache of bf16 is assumed")}
    pairs = list(zip(found.rows, found.predictions, strict=True))
    told = [{row.fields["metric"]: one.predicted for row, one in pairs[at : at + 3]} for at in (0, 3, 6)]
    for run, predicted in zip(runs, told, strict=True):
        (point,) = dse.evaluate(
            "llama-3.1-8b", "h100-sxm", precision="bf16", runtime="vllm", serving="open-loop", batch=256,
            workload={"input": 1024, "output": 256}, rate=run["request_rate"], burstiness=run["burstiness"] ** -0.5,
        ).to_dict("records")  # fmt: skip
        assert predicted == {
            "ttft_ms": pytest.approx(point["ttft_ms"]), "tpot_ms": pytest.approx(point["tpot_ms"]),
            "output_tok_s": pytest.approx(run["request_rate"] * 256),
        }  # fmt: skip
    slow, fast, even = told
    assert slow["ttft_ms"] < even["ttft_ms"] < fast["ttft_ms"]


def test_a_rate_beyond_what_is_served_has_no_latency_and_says_so(tmp_path):
    found = validate(write(tmp_path, vllm(None, request_rate=1000.0)), ran=H100)
    told = {
        row.fields["metric"]: (one.status, one.reason) for row, one in zip(found.rows, found.predictions, strict=True)
    }
    growing = "requests arrive faster than they are served: queues grow for as long as the run lasts"
    assert told["ttft_ms"] == told["tpot_ms"] == ("overloaded", f"{growing}; a KV cache of bf16 is assumed")
    assert told["output_tok_s"][0] == "ok"


def test_an_open_loop_is_not_fitted(tmp_path):
    found = validate(write(tmp_path, vllm(None, request_rate=4.0), vllm(16)), ran=H100)
    (fit,) = fits(found.rows, found.cases, "calibrated", anew=False)
    assert fit.rows.count == 3
    alone = validate(write(tmp_path, vllm(None, request_rate=4.0)), ran=H100)
    with pytest.raises(InputError) as told:
        write_own(
            fits(alone.rows, alone.cases, "calibrated", anew=False), "calibrated", "runs.json", tmp_path / "f.yaml"
        )
    message = "no run to fit an engine to: expected one with max_concurrency or all at once"
    assert str(told.value) == f"runs.json: {message}"


def test_a_csv_header_is_no_benchmark(tmp_path):
    assert is_benchmark(write(tmp_path, vllm()))
    (tmp_path / "m.csv").write_text("source,model\n")
    assert not is_benchmark(tmp_path / "m.csv")
    assert not is_benchmark(tmp_path / "nowhere.json")


# -- faults -----------------------------------------------------------------------------------------------


def without(run: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in names}


@pytest.mark.parametrize(("run", "told"), [
    (without(vllm(), "duration", "completed"), ["duration: missing field", "completed: missing field"]),
    (without(vllm(), "mean_ttft_ms", "mean_tpot_ms"), ["mean_ttft_ms: missing field, and mean_tpot_ms as well"]),
    (vllm(completed=0), ["completed: no request was answered: there is nothing to compare"]),
    (vllm(duration=float("nan")), ["duration: expected a number above 0, got 'nan'"]),
    (vllm(total_input_tokens="many"), ["total_input_tokens: expected a number above 0, got 'many'"]),
    (vllm(max_concurrency="x"), ["max_concurrency: expected a whole number of at least 1 or null, got 'x'"]),
    (vllm(request_rate=-1), ["request_rate: expected a number above 0 or 'inf', got '-1'"]),
    (vllm(output_throughput=1.575), [
        "output_throughput: 1.575 is not total_output_tokens / duration = 1575.38 tokens/s: is a unit off?"
    ]),
    (vllm(mean_tpot_ms=10_000.0), [
        "mean_tpot_ms: with the tokens of a request it makes 2550 s, longer than the whole run (26 s): "
        "expected milliseconds"
    ]),
    (vllm(mean_ttft_ms=0.050, mean_tpot_ms=0.010), [
        "mean_tpot_ms: requests of 0.0026 s keep 0.016 of 16 slots busy: expected milliseconds"
    ]),
    (vllm(model_id="acme/unheard-of"), [
        "model_id: 'acme/unheard-of' is no model of the library: state it (--model)"
    ]),
    ("text", ["expected an object with the results of a run, got str"]),
])  # fmt: skip
def test_what_is_wrong_with_a_run_is_told(tmp_path, run, told):
    assert faults(write(tmp_path, run)) == [f"1:1: {line}" for line in told]


def test_faults_of_several_runs_are_told_together_with_their_lines(tmp_path):
    path = write(tmp_path, vllm(), vllm(completed=0), without(vllm(), "duration"))
    assert [line.partition(" ")[0] for line in faults(path)] == ["2:1:", "3:1:"]


def test_a_file_cut_off_is_told_as_such(tmp_path):
    path = tmp_path / "runs.json"
    path.write_text(json.dumps(vllm())[:200])
    (told,) = faults(path)
    assert told.endswith("not valid JSON: the file ends in the middle of a value; it is truncated")
    path.write_text("[]")
    assert faults(path) == [" has no results"]


def test_what_the_user_states_must_mean_something(tmp_path):
    path = write(tmp_path, vllm())
    for ran, word in ((Deployment("h10o-sxm"), "hardware"), (Deployment("h100-sxm", "llama-9"), "model"),
                      (Deployment("h100-sxm", precision="fp7"), "fp7")):  # fmt: skip
        with pytest.raises(InputError, match=word):
            read_benchmarks(path, ran)


# -- what comes of it -------------------------------------------------------------------------------------


def test_ten_times_as_many_sent_at_once_wait_longer_and_end_no_slower(tmp_path):
    """Beyond the 256 sequences that vLLM runs, more requests add waiting and no throughput."""
    runs = [vllm(None, requests) for requests in (256, 2560)]
    path = write(tmp_path, *runs)
    few, many = (
        {row.fields["metric"]: one.predicted for row, one in zip(rows, held, strict=True)}
        for found in [validate(path, ran=H100)]
        for rows, held in ((found.rows[:3], found.predictions[:3]), (found.rows[3:], found.predictions[3:]))
    )
    assert many["ttft_ms"] > 5 * few["ttft_ms"]
    assert 0.9 < many["output_tok_s"] / few["output_tok_s"] < 1.5
    assert few["tpot_ms"] < many["tpot_ms"] < 2 * few["tpot_ms"]


def slower(path: Path, factor: float) -> list[dict[str, Any]]:
    """Runs of a deployment that is slower than predicted, by one factor."""
    runs = [vllm(c, 10 * c) for c in (1, 4, 16, 64)]
    found = validate(write(path, *runs), "datasheet", ran=H100)
    predicted = [one.predicted for one in found.predictions]
    for place, run in enumerate(runs):
        ttft, tpot, _ = (factor * value for value in predicted[3 * place : 3 * place + 3])
        seconds = 10 * (ttft + 255 * tpot) / 1e3
        run |= {"mean_ttft_ms": ttft, "mean_tpot_ms": tpot, "duration": seconds}
        run["output_throughput"] = run["total_output_tokens"] / seconds
    return runs


def test_a_fit_to_four_runs_makes_the_engine_this_deployment_s(tmp_path):
    path = write(tmp_path, *slower(tmp_path, 1.4))
    before = validate(path, "datasheet", ran=H100)
    engines = fits(before.rows, before.cases, "datasheet", anew=False)
    write_own(engines, "datasheet", path.name, tmp_path / "mine.yaml")
    after = validate(path, "datasheet", str(tmp_path / "mine.yaml"), ran=H100)
    errors = [found.summary()["all"]["median_ape_pct"] for found in (before, after)]
    assert errors[0] > 25
    assert errors[1] < 6


def test_the_file_of_a_fit_holds_that_engine_alone_and_is_a_runtime(tmp_path):
    path = write(tmp_path, vllm())
    found = validate(path, "datasheet", ran=H100)
    mine = tmp_path / "mine.yaml"
    write_own(fits(found.rows, found.cases, "datasheet", anew=False), "datasheet", path.name, mine)
    engine = load_runtime(str(mine))
    assert (engine.name, engine.max_batch) == ("vllm", load_runtime("vllm").max_batch)
    assert engine.source.startswith("fitted by dse validate to 3 rows of runs.json over datasheet kernels, ")
    mine.write_text("a: {}\nb: {}\n")
    with pytest.raises(InputError, match=r"mine.yaml: expected one runtime, got 2: a, b"):
        load_runtime(str(mine))
