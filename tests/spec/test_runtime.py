"""Serving engines: names, aliases, mappings, and what the library says of each."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

import dse
from dse.errors import InputError
from dse.run.sweep import load_sweep
from dse.spec.runtime import IDEAL, RuntimeSpec, generation, library_runtimes, load_runtime, runtime_names

SWEEP = {"name": "engines", "models": "llama-3.1-8b", "hardware": "h100-sxm", "workload": "512x64"}


def test_ideal_is_the_default_and_adds_nothing():
    assert load_sweep(SWEEP).axes.runtime == (load_runtime("ideal"),)
    plain = IDEAL.model_dump(exclude={"source", "notes"})
    assert load_runtime("ideal").model_dump(exclude={"source", "notes"}) == plain


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
    assert generation(engine, "v0.9.0", "").name == "tensorrt-llm-0.x"
    assert generation(engine, "v1.0", "") is engine
    assert generation(engine, "", "") is engine


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
