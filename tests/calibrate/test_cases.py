"""What a measured row means: every published spelling, every blank, every reason."""

from __future__ import annotations

import csv

import pytest
from rows import measured, write

from dse.calibrate.cases import case_of
from dse.calibrate.measured import UnknownError, read_measured
from dse.errors import InputError
from dse.spec.layout import Layout


def test_every_published_spelling_is_understood(shared_data):
    unknown = []
    with (shared_data / "measured" / "names.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            changed = {row["column"]: row["spelling"]}
            if row["spelling"] == "offline_offload":
                continue
            try:
                case_of(measured(**changed))
            except UnknownError as error:
                unknown.append((row["column"], row["spelling"], str(error)))
    assert unknown == []


@pytest.mark.parametrize(("scenario", "reason"), [
    ("online_open_loop", "request_rate is blank: an open loop needs the requests per second that arrive"),
    ("online_speculative", "speculative decoding is not modelled yet"),
])  # fmt: skip
def test_what_is_not_modelled_has_a_reason(scenario, reason):
    with pytest.raises(UnknownError, match=f"^{reason}$"):
        case_of(measured(scenario=scenario))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"scenario": "server"}, "no such scenario is modelled: 'server'"),
        ({"metric": "p99_ms"}, "no such metric is modelled: 'p99_ms'"),
        ({"model": ""}, "model is blank"),
        ({"model": "Llama-9"}, "unknown model 'Llama-9'"),
        ({"hardware": "H900"}, "unknown hardware 'H900'"),
        ({"framework": "mystery"}, "unknown runtime 'mystery'"),
        ({"input_len": ""}, "input_len is blank"),
        ({"input_len": "many"}, "input_len is not a number of zero or more: 'many'"),
        ({"input_len": "-5"}, "input_len is not a number of zero or more: '-5'"),
        ({"output_len": ""}, "output_len is blank"),
        ({"batch_or_concurrency": ""}, "batch_or_concurrency is blank"),
        ({"batch_or_concurrency": "1.5"}, "batch_or_concurrency is not a whole number: '1.5'"),
        ({"weight_dtype": "fp99"}, "no precision is named 'fp99'"),
        ({"metric": "tpot_ms", "output_len": "1"}, "a request of one output token has no decode step"),
        ({"tp": "1000", "pp": "1000"}, "tp x pp x dp = 1,000,000 devices"),
    ],
)
def test_what_cannot_be_predicted_says_why(fields, reason):
    with pytest.raises(UnknownError) as said:
        case_of(measured(**fields))
    assert str(said.value).startswith(reason) or reason in str(said.value)


@pytest.mark.parametrize(
    ("fields", "layout", "note"),
    [
        ({"tp": "4", "n_gpus": "4"}, Layout(4, 1, 1, 0), ""),
        ({"tp": "", "n_gpus": "8"}, Layout(8, 1, 1, 0), "tp 8 is assumed"),
        ({"tp": "", "n_gpus": "8", "pp": "2"}, Layout(4, 2, 1, 0), "tp 4 is assumed"),
        ({"tp": "1", "pp": "6", "n_gpus": "6"}, Layout(1, 6, 1, 0), ""),
        ({"tp": "1", "dp": "4", "ep": "4", "n_gpus": "4"}, Layout(1, 1, 4, 4), ""),
        ({"tp": "2", "ep": "2", "n_gpus": "4"}, Layout(4, 1, 1, 2), "tp 2 x ep 2 are 4 tp ranks"),
        ({"tp": "4", "n_gpus": "16"}, Layout(4, 1, 1, 0), "n_gpus 16 is not tp x pp x dp = 4; the degrees count"),
    ],
)
def test_degrees(fields, layout, note):
    found = case_of(measured(**fields))
    assert found.layout == layout
    assert "; ".join(found.notes) == note


@pytest.mark.parametrize(
    ("fields", "bits", "note"),
    [
        ({"weight_dtype": "fp8", "act_dtype": "fp8", "kv_dtype": "fp16"}, (8, 8, 16), ""),
        ({"weight_dtype": "int4", "act_dtype": "fp16", "kv_dtype": "int4"}, (4.125, 16, 4), ""),
        ({"weight_dtype": "fp8", "act_dtype": "", "kv_dtype": ""}, (8, 8, 16), "a KV cache of bf16 is assumed"),
        ({"weight_dtype": "fp8", "act_dtype": "", "kv_dtype": "", "framework": "trtllm"}, (8, 8, 8),
         "a KV cache of fp8 is assumed"),
        ({"weight_dtype": "fp8", "act_dtype": "", "kv_dtype": "", "framework": "trtllm", "hardware": "A100-80GB-SXM"},
         (8, 8, 16), "a KV cache of bf16 is assumed"),
        ({"weight_dtype": "", "act_dtype": "", "kv_dtype": "bf16"}, (16, 16, 16), "weights of bf16 are assumed"),
    ],
)  # fmt: skip
def test_blank_types_are_chosen_and_told(fields, bits, note):
    found = case_of(measured(**fields))
    scheme = found.precision
    assert (scheme.weights.bits, scheme.activations.bits, scheme.kv_cache.bits) == bits
    assert "; ".join(found.notes) == note


def test_checkpoints_keep_the_projections_they_are_published_with():
    found = case_of(measured(model="GPT-OSS-120B", weight_dtype="mxfp4", act_dtype="fp8"))
    assert found.precision.weights.element_bits == 4
    assert found.precision.projections.bits == 16


@pytest.mark.parametrize(
    ("framework", "version", "date", "source", "engine"),
    [
        ("TensorRT-LLM", "v0.9.0", "", "", "tensorrt-llm-0.x"),
        ("TensorRT-LLM", "v0.14.0", "", "", "tensorrt-llm"),
        ("vllm", "vllm 0.19.0", "", "", "vllm"),
        ("vllm", "vllm 0.4.2", "", "", "vllm-2024"),
        ("vllm", "0.4", "", "", "vllm-2024"),
        ("NIM", "NIM 1.8.0", "2023", "", "tensorrt-llm"),
        # A version counts for more than a date, and both for more than who measured.
        ("vLLM", "0.11.2", "2023-11", "Argonne-LLM-Inference-Bench", "vllm"),
        ("vLLM", "", "2023-11", "Argonne-LLM-Inference-Bench", "vllm-2023"),
        # Published before the next generation was released, by anybody.
        ("vLLM", "", "2024-03-01", "somebody", "vllm-2024"),
        ("vLLM", "vllm nan", "2024-09-04", "somebody", "vllm-2024"),
        ("vLLM", "", "2024-01", "somebody", "vllm-2024"),  # its last day is the release of the next
        ("vLLM", "", "2023", "somebody", "vllm-2023"),
        ("TensorRT-LLM", "abc1234", "2024-05", "somebody", "tensorrt-llm-0.x"),
        # A later publication may be of an older run: only who measured tells.
        ("vLLM", "", "2024", "somebody", "vllm"),
        ("vLLM", "", "2025-07-18", "somebody", "vllm"),
        ("vLLM", "4211f5d", "2025-07-18", "Argonne-LLM-Inference-Bench", "vllm-2024"),
        ("vLLM", "", "", "Argonne-LLM-Inference-Bench", "vllm-2024"),
        ("vLLM", "", "last spring", "somebody", "vllm"),
    ],
)
def test_an_older_generation_is_told_by_its_version_its_date_or_its_source(framework, version, date, source, engine):
    row = measured(framework=framework, version=version, date=date, source=source)
    assert case_of(row).runtime.name == engine


def test_an_empty_prompt_is_one_token():
    found = case_of(measured(input_len="0.0", scenario="latency", metric="tpot_ms", batch_or_concurrency=""))
    assert (found.workload.input, found.batch) == (1, 1)
    assert found.notes == ("an empty prompt counts as one token", "a single stream is assumed")


def test_input_throughput_counts_prompt_tokens():
    assert case_of(measured(metric="input_tok_s")).factor == 1024


# -- files ------------------------------------------------------------------------------------------------


def test_rows_keep_their_text_and_line(tmp_path):
    columns, rows = read_measured(write(tmp_path / "m.csv", {"notes": 'a "note", with commas'}, {"value": ""}))
    assert columns[0] == "row_id"
    assert [row.line for row in rows] == [2, 3]
    assert rows[0].fields["notes"] == 'a "note", with commas'
    assert [row.value for row in rows] == [4.0, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "m.csv:1:1: source: missing column"),
        (b"source,model,hardware,framework,scenario,metric\n", "m.csv:1:1: value: missing column"),
        (b"source,model,hardware,framework,scenario,metric,value\n", "m.csv: has no rows"),
        (b"source,model,hardware,framework,scenario,metric,value,value\n",
         "m.csv:1:1: value: stands twice in the header"),
        (b"source,model,hardware,framework,scenario,metric,value,status\n",
         "m.csv:1:1: status: predictions add this column; rename or drop it"),
        (b"\xff\xfe", "m.csv: not UTF-8 text (byte 0)"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_measured_file_says_so(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(InputError) as said:
        read_measured("m.csv")
    assert str(said.value).splitlines()[0] == message


def test_a_missing_file_says_so():
    with pytest.raises(InputError, match=r"^nowhere.csv: no such file$"):
        read_measured("nowhere.csv")
