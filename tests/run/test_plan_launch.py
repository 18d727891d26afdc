"""Launch commands: flags that the engines take, on accelerators that they run on, for checkpoints that exist."""

from __future__ import annotations

import json
import shlex

import pytest

from dse.cost.techniques import TECHNIQUES
from dse.report.plan import print_plan
from dse.run.demand import Bucket, buckets_of
from dse.run.faults import Faults
from dse.run.launch import Launch, launch
from dse.run.launch_pools import pool_commands
from dse.run.plan import plan
from dse.spec.catalog import load_hardware, load_model
from dse.spec.plan import Demand
from dse.spec.precision import parse_precision
from dse.spec.reading import Document

WHOLE = {"max_prefill_tokens": 8192, "memory_utilization": 0.9, "chunked": False}
CHUNKED = {**WHOLE, "max_prefill_tokens": 2048, "chunked": True}


def started(
    hardware="h100-sxm", precision="bf16", model="llama-3.1-8b", longest=3000, batch=64, settings=WHOLE,
    degrees=(1, 1, 1, 1), **techniques,
) -> Launch:  # fmt: skip
    row = dict(zip(("tp", "pp", "dp", "ep"), degrees, strict=True))
    values = {name: TECHNIQUES[name].parse(value) for name, value in techniques.items()}
    return launch(
        row, load_hardware(hardware), load_model(model), parse_precision(precision), longest, batch, settings, values
    )


def flag(command: str, name: str) -> str:
    """The value of a flag."""
    words = shlex.split(command)
    return words[words.index(name) + 1]


def test_a_pass_without_chunks_holds_the_longest_request():
    """vLLM's SchedulerConfig: max_num_batched_tokens is not below max_model_len, nor below max_num_seqs."""
    commands = started(longest=14089).commands
    assert flag(commands["vllm"], "--max-model-len") == "14089"
    assert int(flag(commands["vllm"], "--max-num-batched-tokens")) >= 14089
    assert int(flag(commands["tensorrt-llm"], "--max_num_tokens")) >= 14089
    chunked = started(longest=14089, settings=CHUNKED).commands
    assert flag(chunked["vllm"], "--max-num-batched-tokens") == "2048"
    many = started(batch=4096, settings=CHUNKED).commands
    assert int(flag(many["vllm"], "--max-num-batched-tokens")) >= int(flag(many["vllm"], "--max-num-seqs"))


@pytest.mark.parametrize(
    ("hardware", "engines"),
    [
        ("h100-sxm", {"vllm", "sglang", "tensorrt-llm"}),
        ("mi300x", {"vllm", "sglang"}),
        ("mi355x", {"vllm", "sglang"}),
        ("gaudi3", {"vllm", "sglang"}),
        ("v100-sxm-32gb", {"vllm", "sglang"}),
        ("t4", {"vllm", "sglang"}),
    ],
)
def test_engines_are_those_of_the_vendor_and_its_generation(hardware, engines):
    assert started(hardware).commands.keys() == engines


def test_quantised_weights_are_a_checkpoint_of_their_own():
    found = started(precision="w4a16-g128")
    for command in found.commands.values():
        assert "Llama-3.1-8B-w4a16-g128" in command
        assert "meta-llama/" not in command
    (note,) = found.notes
    assert note == (
        "Llama-3.1-8B-w4a16-g128 stands for a checkpoint of meta-llama/Llama-3.1-8B whose weights are int4 in groups "
        "of 128: for vllm AWQ (not on Volta), GPTQ or compressed-tensors, for sglang AWQ, GPTQ or compressed-tensors, "
        "for tensorrt-llm NVIDIA Model Optimizer's."
    )


def test_fp8_is_made_while_loading_where_the_engine_does_so():
    found = started(precision="fp8")
    assert flag(found.commands["vllm"], "--quantization") == "fp8"
    assert "meta-llama/Llama-3.1-8B " in found.commands["sglang"]
    assert "trtllm-serve Llama-3.1-8B-fp8 " in found.commands["tensorrt-llm"]
    assert any("Model Optimizer" in note for note in found.notes)
    turing = started("t4", "fp8")  # weights only, by Marlin
    assert flag(turing.commands["vllm"], "--quantization") == "fp8"
    gaudi = started("gaudi3", "fp8")
    assert "--quantization" not in gaudi.commands["vllm"]
    assert "Llama-3.1-8B-fp8" in gaudi.commands["vllm"]


def test_nothing_runs_fp8_on_volta():
    found = started("v100-sxm-32gb", "fp8")
    assert found.commands == {}
    assert found.notes == ["No engine of these runs fp8 on v100-sxm-32gb."]


def test_a_model_published_in_a_precision_is_loaded_as_it_is():
    model = load_model("deepseek-v3")
    assert model.precision is not None
    found = started("h200-sxm", model.precision.name, "deepseek-v3", degrees=(8, 1, 1, 8))
    assert "vllm serve deepseek-ai/DeepSeek-V3 " in found.commands["vllm"]
    assert "--quantization" not in found.commands["vllm"]
    assert found.notes == []


@pytest.mark.parametrize(
    ("hardware", "precision", "half"),
    [("v100-sxm-32gb", "bf16", True), ("t4", "bf16", True), ("t4", "w4a16-g128", True),
     ("a100-sxm-80gb", "bf16", False), ("a100-sxm-80gb", "fp16", True), ("h100-sxm", "fp8", False)],
)  # fmt: skip
def test_bf16_is_fp16_where_the_accelerator_lacks_it(hardware, precision, half):
    """vLLM refuses bf16 below compute capability 8.0."""
    commands = started(hardware, precision).commands
    for engine in ("vllm", "sglang"):
        assert ("--dtype half" in commands[engine]) == half


def test_draft_models_are_told():
    found = started(speculation={"draft": "llama-3.2-1b", "gamma": 3, "acceptance": 0.9})
    words = json.loads(flag(found.commands["vllm"], "--speculative-config"))
    assert words == {"method": "draft_model", "num_speculative_tokens": 3, "model": "meta-llama/Llama-3.2-1B"}
    sglang = found.commands["sglang"]
    assert flag(sglang, "--speculative-algorithm") == "STANDALONE"
    assert flag(sglang, "--speculative-draft-model-path") == "meta-llama/Llama-3.2-1B"
    assert (flag(sglang, "--speculative-num-steps"), flag(sglang, "--speculative-num-draft-tokens")) == ("3", "4")
    assert found.config["speculative_config"] == {
        "decoding_type": "DraftTarget", "max_draft_len": 3, "speculative_model": "meta-llama/Llama-3.2-1B",
    }  # fmt: skip
    lines = found.whole()["tensorrt-llm"].splitlines()
    assert json.loads(shlex.split(lines[0])[1]) == found.config
    assert lines[1].endswith(" --config config.yaml")


@pytest.mark.parametrize(
    ("speculation", "method", "algorithm", "decoding"),
    [
        ({"mtp": 1, "acceptance": 0.8}, "mtp", "EAGLE", "MTP"),
        ({"tree": 26, "eagle": 5, "tau": 3.6}, "eagle", "EAGLE", "Eagle3"),
        ({"tree": 11, "tau": 1.7}, "ngram", "NGRAM", "NGram"),
    ],
)
def test_other_drafts_are_told(speculation, method, algorithm, decoding):
    found = started(speculation=speculation)
    assert json.loads(flag(found.commands["vllm"], "--speculative-config"))["method"] == method
    assert flag(found.commands["sglang"], "--speculative-algorithm") == algorithm
    assert found.config["speculative_config"]["decoding_type"] == decoding
    assert any("stands for eagle heads" in note for note in found.notes) == (method == "eagle")


def test_an_engine_that_cannot_draft_so_has_no_command():
    found = started(speculation={"tree": 64, "medusa": 4, "tau": 2.3})
    assert found.commands.keys() == {"vllm"}
    assert "sglang does not speculate with medusa heads." in found.notes


def test_prefix_caches_are_on_where_the_plan_has_hits():
    found = started(prefix_hit=0.5)
    assert "--enable-prefix-caching" in found.commands["vllm"]
    assert found.config["kv_cache_config"] == {"enable_block_reuse": True}
    assert "--enable-prefix-caching" not in started().commands["vllm"]
    assert started().whole() == started().commands


def test_techniques_without_a_flag_are_told():
    (note,) = started(kv_budget=1024).notes
    assert note == "These commands do not set kv_budget, which the deployment was planned with."


def test_pools_run_the_engines_that_both_kinds_of_worker_have():
    workers = [({"pool": name, "workers": 1}, started(chip, "fp8")) for name, chip in
               (("prefill", "h100-sxm"), ("decode", "mi300x"))]  # fmt: skip
    found = pool_commands(workers, 3000)
    assert found.keys() == {"vllm", "sglang"}


# -- in a plan ------------------------------------------------------------------------------------------


def test_a_bucket_knows_the_longest_request_it_stands_for(tmp_path):
    (tmp_path / "lengths.csv").write_text("input,output,weight\n" + "".join(f"{100 + i},10,1\n" for i in range(200)))
    document = Document(str(tmp_path / "plan.yaml"), {})
    found = buckets_of(0, Demand(lengths="lengths.csv", requests_per_s=1), document, Faults())
    assert max(bucket.longest for bucket in found) == 309
    assert any(bucket.longest > bucket.input + bucket.output for bucket in found)
    assert all(bucket.longest >= bucket.input + bucket.output for bucket in found)
    assert Bucket(0, 10, 5, 1.0, 1.0).longest == 15


def test_a_plan_of_a_trace_admits_its_longest_request():
    found = plan({
        "name": "trace", "models": [{"model": "llama-3.1-8b", "demand": {"trace": "code", "requests_per_s": 20}}],
        "slo": {"ttft_ms": {"p99": 4000}}, "candidates": {"hardware": ["h100-sxm"], "max_devices": 1},
        "price": {"kind": "on-demand"}, "verify": {"requests": 0}, "alternatives": 1,
    }).answer  # fmt: skip
    (entry,) = found["deployments"]
    longest = max(bucket["input"] + bucket["output"] for bucket in found["buckets"])
    assert int(flag(entry["launch"]["vllm"], "--max-model-len")) > longest


def test_an_offloaded_answer_says_that_no_engine_runs_it(capsys):
    found = plan({
        "name": "off", "models": [{"model": "opt-30b", "demand": {"buckets": [
            {"input": 512, "output": 32, "requests_per_s": 0.05}]}}],
        "slo": "batch", "price": {"kind": "on-demand"}, "alternatives": 1,
        "candidates": {"hardware": ["t4"], "precision": ["fp16"], "offload": ["none", "lp"], "max_devices": 1},
    }).answer  # fmt: skip
    (entry,) = found["deployments"]
    assert entry["launch"] == {}
    assert entry["launch_notes"][0].startswith("No engine of these runs this placement")
    print_plan(found)
    assert "No engine of these runs this placement" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("chip", "scheme", "engines"),
    [
        ("rtx-3090", "fp8", ["vllm", "sglang"]),  # weights only, by Marlin; TensorRT-LLM multiplies fp8 from Ada on
        ("l40s", "fp8", ["vllm", "sglang", "tensorrt-llm"]),
        ("v100-sxm-32gb", "fp8", []),
        ("mi300x", "bf16", ["vllm", "sglang"]),
    ],
)
def test_only_engines_with_kernels_for_a_precision_get_a_command(chip, scheme, engines):
    """As the axis `runtime` has it (`supports` in configs/runtimes.yaml)."""
    from dse.run.launch_checkpoint import engines_on
    from dse.spec.catalog import load_hardware, load_precision

    assert engines_on(load_hardware(chip), load_precision(scheme)) == engines
