"""Serving engines: names, aliases, mappings, and what the library says of each."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

import dse
from dse.errors import InputError
from dse.run.sweep import load_sweep
from dse.spec.catalog import load_hardware, load_precision
from dse.spec.runtime import IDEAL, RuntimeSpec, generation, library_runtimes, load_runtime, runtime_names

SWEEP = {"name": "engines", "models": "llama-3.1-8b", "hardware": "h100-sxm", "workload": "512x64"}


def test_ideal_is_the_default_and_adds_nothing():
    assert load_sweep(SWEEP).axes.runtime == (load_runtime("ideal"),)
    assert load_runtime("ideal") == IDEAL == library_runtimes()["ideal"]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("vLLM", "vllm"), ("trtllm", "tensorrt-llm"), ("NIM", "tensorrt-llm"), ("Deepspeed-MII", "deepspeed-mii"),
        ("Optimum Habana/PyTorch", "optimum-habana"), ("LMDeploy TurboMind", "lmdeploy"), ("llama_cpp", "llama.cpp"),
    ],
)  # fmt: skip
def test_spellings(spelling, name):
    assert load_runtime(spelling).name == name


def test_a_mapping_changes_a_library_engine():
    found = load_runtime({"base": "vllm", "request_ms": 2})
    assert (found.name, found.request_ms, found.step_us) == ("vllm+", 2.0, load_runtime("vllm").step_us)
    assert load_runtime({"base": "vllm", "name": "mine"}).name == "mine"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("vlm", "unknown runtime 'vlm'; did you mean 'vllm'?"),
        (7, "expected a runtime's name or a mapping with base, got 7"),
        ({"base": "vllm", "step": 3}, "step: unknown field"),
        ({"base": "vllm", "busy": 1.5}, "busy: must be at most 1"),
    ],
)
def test_faults(entry, message):
    with pytest.raises(InputError) as said:
        load_runtime(entry)
    assert str(said.value).startswith(message.split(":")[0])


def test_every_library_engine_says_where_its_figures_come_from():
    for name, spec in library_runtimes().items():
        assert spec.source, name
        assert spec.generation_of is None or spec.generation_of in runtime_names()


def test_a_generation_is_found_by_the_beginning_of_its_version():
    engine = load_runtime("tensorrt-llm")
    assert generation(engine, "v0.9.0").name == "tensorrt-llm-0.x"
    assert generation(engine, "v1.0") is engine
    assert generation(engine) is engine


# vLLM's "Supported Hardware" of v0.15.1 by its headings; SGLang's "Platform Compatibility" @0f4513c; TensorRT-LLM's
# "Hardware Support Matrix" @09d4c79.
RUNS = {
    "vllm": {
        "w4a16-g128": {"volta", "turing", "ampere", "ada", "hopper", "blackwell", "x86", "intel-gpu"},
        "w8a8-int8": {"turing", "ampere", "ada", "hopper", "x86", "tpu"},
        "fp8": {"turing", "ampere", "ada", "hopper", "blackwell", "amd", "gaudi"},
        "nvfp4": {"ampere", "ada", "hopper", "blackwell"},
        "mxfp4": {"ampere", "ada", "hopper", "blackwell", "amd"},
        "q4_k_m": {"volta", "turing", "ampere", "ada", "hopper", "blackwell", "amd"},
        "q8_0": {"volta", "turing", "ampere", "ada", "hopper", "blackwell", "amd", "x86", "intel-gpu", "tpu"},
    },
    "sglang": {
        "w4a16-g128": {"turing", "ampere", "ada", "hopper", "blackwell", "amd"},
        "w8a8-int8": {"turing", "ampere", "ada", "hopper", "blackwell", "amd", "intel-cpu"},
        "fp8": {"ampere", "ada", "hopper", "blackwell", "amd", "intel-cpu"},
        "nvfp4": {"blackwell", "amd"},
        "q4_k_m": {"volta", "turing", "ampere", "ada", "hopper", "blackwell"},
    },
    "tensorrt-llm": {
        "bf16": {"ampere", "ada", "hopper", "blackwell"},
        "fp8": {"ada", "hopper", "blackwell"},
        "nvfp4": {"blackwell"},
        "mxfp4": {"hopper", "blackwell"},
        "w4a16-g128": {"ampere", "ada", "hopper"},
        "q4_k_m": set(),
    },
}
CHIPS = {
    "volta": "v100-sxm-32gb", "turing": "t4", "ampere": "a100-sxm-80gb", "ada": "l40s", "hopper": "h100-sxm",
    "blackwell": "b200", "amd": "mi300x", "gaudi": "gaudi3", "tpu": "tpu-v5e", "intel-cpu": "xeon-6980p",
    "amd-cpu": "epyc-9654", "intel-gpu": "max-1550",
}  # fmt: skip
FAMILIES = {"x86": {"intel-cpu", "amd-cpu"}}


@pytest.mark.parametrize(
    ("runtime", "precision"), [(runtime, precision) for runtime, row in RUNS.items() for precision in row]
)
def test_a_quantised_format_runs_where_the_engine_s_own_table_says(runtime, precision):
    supports, scheme = load_runtime(runtime).supports, load_precision(precision)
    expected = set().union(*(FAMILIES.get(word, {word}) for word in RUNS[runtime][precision]))
    assert {word for word, name in CHIPS.items() if supports.runs(load_hardware(name), scheme)} == expected


def test_what_is_not_quantised_runs_wherever_the_engine_does():
    for runtime in ("vllm", "sglang"):
        for name in ("v100-sxm-32gb", "mi300x", "tpu-v5e"):
            assert load_runtime(runtime).supports.runs(load_hardware(name), load_precision("bf16"))


def test_a_chip_of_no_stated_architecture_is_not_refused():
    chip = load_hardware({"base": "h100-sxm", "architecture": ""})
    assert load_runtime("tensorrt-llm").supports.runs(chip, load_precision("nvfp4"))


def test_limits_are_a_status_of_a_point():
    frame = dse.evaluate("llama-3.1-8b", ["tpu-v5e", "mi300x", "v100-sxm-32gb"], runtime=["vllm", "sglang"],
                         precision=["nvfp4", "q4_k_m", "fp8"])  # fmt: skip
    runs = frame[frame["status"] == "ok"]
    assert set(zip(runs["runtime"], runs["hardware"], runs["precision"], strict=True)) == {
        ("vllm", "mi300x", "q4_k_m"), ("vllm", "mi300x", "fp8"), ("vllm", "v100-sxm-32gb", "q4_k_m"),
        ("sglang", "mi300x", "nvfp4"), ("sglang", "mi300x", "fp8"), ("sglang", "v100-sxm-32gb", "q4_k_m"),
    }  # fmt: skip
    assert set(frame[frame["status"] != "ok"]["status"]) == {"runtime_unsupported"}


def test_engines_that_limit_formats_say_where_that_comes_from():
    for name, spec in library_runtimes().items():
        assert bool(spec.supports.kernels) <= bool(spec.supports.source), name


def test_figures_are_part_of_a_sweep_s_identity_and_names_are_not():
    plain, same, other = (
        load_sweep({**SWEEP, "runtime": {"base": "vllm", **changed}}).hash
        for changed in ({}, {"name": "mine", "notes": "mine"}, {"request_ms": 3})
    )
    assert plain == same != other


def test_a_manifest_brings_its_engines_along(tmp_path):
    run = dse.run_sweep({**SWEEP, "runtime": ["ideal", {"base": "vllm", "request_ms": 3}], "serving": "closed-loop"},
                        tmp_path)  # fmt: skip
    again = run.engine().sweep
    assert [engine.name for engine in again.axes.runtime] == ["ideal", "vllm+"]
    assert again.axes.runtime[1].request_ms == 3.0
    assert again.hash == run.manifest["hash"]


def test_boxes_are_every_combination_of_serving_and_engine():
    frame = dse.evaluate("llama-3.1-8b", "h100-sxm", serving=["static", "closed-loop"], runtime=["ideal", "vllm"])
    assert list(zip(frame["serving"], frame["runtime"], strict=True)) == [
        ("static", "ideal"), ("static", "vllm"), ("closed-loop", "ideal"), ("closed-loop", "vllm"),
    ]  # fmt: skip


def test_costs_are_never_negative():
    with pytest.raises(ValidationError):
        RuntimeSpec(step_us=-1.0)
