"""Several sequences per request: the prompt once, decode for all of them, and what counts as output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.points import choices, figures, mesh_of

import dse
from dse.cost.metrics import METRICS
from dse.cost.modes import served
from dse.cost.phases import Point
from dse.errors import InputError
from dse.spec.prefix import Prefix
from dse.spec.runtime import load_runtime
from dse.spec.sampling import Sampling

AXES = {"workload": ((2048, 256),), "batch": (8,)}


def of(model: str = "llama-3.1-8b", sampling: object = "none", **axes: object) -> dict[str, float]:
    found = figures(model, choices(**{**AXES, **axes}, sampling=sampling))
    return {name: float(np.ravel(values)[0]) for name, values in found.items()}


@pytest.mark.parametrize("one", [Sampling(n=1), Sampling(beams=1)])
@pytest.mark.parametrize("serving", ["static", "offline", "closed-loop"])
def test_one_sequence_per_request_is_none(one, serving):
    axes = {**AXES, "layout": ((1,), (2, 2)), "serving": serving}
    plain, same = (figures("llama-3.1-8b", choices(**axes, sampling=value)) for value in ("none", one))
    assert all(np.array_equal(plain[name], same[name], equal_nan=True) for name in METRICS)


def test_prompts_run_once_and_all_branches_decode():
    four, prompts, sequences = of(sampling=Sampling(n=4)), of(), of(batch=(32,))
    assert four["ttft_ms"] == prompts["ttft_ms"]
    assert four["tpot_ms"] == sequences["tpot_ms"]
    assert four["latency_s"] == pytest.approx(prompts["ttft_ms"] / 1e3 + 255 * sequences["tpot_ms"] / 1e3)
    assert four["requests_per_s"] == pytest.approx(8 / four["latency_s"])


def test_every_answer_counts_and_of_beams_the_best():
    answers, beams = of(sampling=Sampling(n=4)), of(sampling=Sampling(beams=4))
    assert answers["requests_per_s"] == beams["requests_per_s"]
    assert answers["output_tokens_per_s"] == 4 * beams["output_tokens_per_s"] == 4 * 256 * answers["requests_per_s"]
    for name in ("usd_per_million_output_tokens", "joules_per_output_token"):
        assert beams[name] == pytest.approx(4 * answers[name])
    for name in ("ttft_ms", "tpot_ms", "memory_gb_per_device"):
        assert answers[name] == beams[name]


def test_the_prompt_is_held_once_per_request_and_the_output_per_branch():
    per_token = dse.load_model("llama-3.1-8b").kv_bytes_per_token("bf16") / 1e9
    one, four = of(), of(sampling=Sampling(n=4))
    grown = 8 * 3 * 256 * per_token
    live = four["memory_gb_per_device"] - one["memory_gb_per_device"] - grown
    assert abs(live) < 0.05  # activations of 32 sequences instead of 8


def test_a_prefix_of_all_requests_and_a_prompt_of_each_are_both_held_once():
    per_token = dse.load_model("llama-3.1-8b").kv_bytes_per_token("bf16") / 1e9
    shared, plain = (of(sampling=Sampling(n=4), prefix_hit=prefix) for prefix in (Prefix(tokens=1024), "none"))
    saved = plain["memory_gb_per_device"] - shared["memory_gb_per_device"]
    assert saved >= 7 * 1024 * per_token * (1 - 1e-9)


def test_each_branch_has_a_recurrent_state_of_its_own():
    one, four, sequences = of("mamba2-2.7b"), of("mamba2-2.7b", Sampling(n=4)), of("mamba2-2.7b", batch=(32,))
    assert four["tpot_ms"] == sequences["tpot_ms"]
    assert four["memory_gb_per_device"] > one["memory_gb_per_device"]


def test_the_limit_of_an_engine_is_on_sequences():
    """vLLM runs 256 at once: 64 requests of four answers."""
    chosen = choices(hardware=("h200-sxm",), workload=((32, 512),), runtime=load_runtime("vllm"), serving="offline",
                     sampling=Sampling(n=4))  # fmt: skip
    asked = Point(dse.load_model("llama-3.1-8b"), chosen, mesh_of(chosen))
    assert np.ravel(served(asked).batch).tolist() == [64]
    assert np.ravel(served(asked).running.rank_sequences).tolist() == [256]


@settings(deadline=None, max_examples=30)
@given(
    branches=st.tuples(st.integers(1, 16), st.integers(1, 16)),
    kind=st.sampled_from(["n", "beams"]),
    batch=st.integers(1, 64),
    model=st.sampled_from(["llama-3.1-8b", "gemma-2-9b", "deepseek-v3", "qwen3-next-80b-a3b"]),
)
def test_more_branches_are_never_faster_nor_smaller(branches, kind, batch, model):
    few, many = (of(model, Sampling(**{kind: n}), batch=(batch,)) for n in sorted(branches))
    for name in ("ttft_ms", "tpot_ms", "latency_s", "memory_gb_per_device"):
        assert many[name] >= few[name] * (1 - 1e-9), name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"n": 0}, "sampling.n: must be >= 1, got 0"),
        ({"n": 4, "beams": 4}, "sampling: expected either 'n' or 'beams'"),
        ({"beam": 4}, "sampling.beam: unknown field; did you mean 'beams'?"),
        (4, "sampling: expected none, {n: answers per prompt} or {beams: number}, got 4"),
    ],
)
def test_what_is_wrong_is_named(value, message):
    with pytest.raises(InputError) as error:
        dse.evaluate("llama-3.1-8b", "h100-sxm", sampling=value)
    assert message in str(error.value)
