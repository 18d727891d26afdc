"""What a device must hold: weights to the last parameter, caches by rank, and the largest that fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.points import choices, figures, mesh_of, reasons

import dse
from dse.cost.evaluate import columns
from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.techniques import TECHNIQUES
from dse.spec.catalog import load_hardware, load_model, model_names
from dse.spec.layout import Layout


def memory(model: str, **axes) -> Memory:
    chosen = choices(**axes)
    return Memory(Point(load_model(model), chosen, mesh_of(chosen)))


@pytest.mark.parametrize("model", model_names())
def test_weights_in_sixteen_bit_are_two_bytes_a_parameter(model):
    assert float(np.max(memory(model).weights)) == 2 * load_model(model).parameters()


@pytest.mark.parametrize("model", model_names())
def test_pipeline_stages_together_hold_the_model_and_the_fullest_the_most(model):
    """With a copy of a tied embedding on the last stage, where the head is."""
    spec, stages = load_model(model), 2
    fullest = float(np.max(memory(model, layout=((1, stages),)).weights))
    tied = 2 * spec.vocab * (spec.embed_dim or spec.hidden) if spec.tied else 0
    assert 2 * spec.parameters() / stages <= fullest + tied
    assert fullest <= 2 * spec.parameters() + tied


SHARED = ("llama-3.1-70b", "gpt-oss-120b", "mixtral-8x7b", "deepseek-v3", "qwen3-next-80b-a3b")
FITTED = ("llama-3.1-8b", "gemma-2-9b", "deepseek-v2-lite", "qwen3-30b-a3b", "nemotron-3-nano-30b-a3b")


@pytest.mark.parametrize("model", SHARED)
def test_ranks_hold_at_least_the_whole_and_replicate_little(model):
    """Norms, routers, latents and (beyond their number) KV heads are on every rank; all else is shared out."""
    whole = float(np.max(memory(model).weights))
    ranks = [tp * float(np.max(memory(model, layout=((tp,),)).weights)) for tp in (2, 4, 8)]
    assert all(whole <= held <= 1.08 * whole for held in ranks)


def test_a_dense_model_is_shared_out_to_the_norms():
    spec = load_model("llama-3.1-70b")
    norms = 2 * spec.norm_parameters * (2 * len(spec.layers) + 1)
    whole, shared = (float(np.max(memory("llama-3.1-70b", layout=((tp,),)).weights)) for tp in (1, 8))
    assert 8 * (shared - norms) == whole - norms


def test_expert_parallelism_shares_out_the_experts_alone():
    tp, ep = (float(np.max(memory("qwen3-30b-a3b", layout=(layout,)).weights)) for layout in ((8,), (1, 1, 8, 8)))
    assert tp < ep < float(np.max(memory("qwen3-30b-a3b").weights)) / 4


@pytest.mark.parametrize(
    ("model", "per_token"),
    [("llama-3.1-70b", 327_680), ("deepseek-v3", 70_272), ("gpt-oss-120b", 36_864), ("mamba2-2.7b", 0)],
)
def test_the_cache_grows_by_the_published_bytes_per_token(model, per_token):
    held = memory(model, batch=[1])
    assert float(np.max(held.cache_at(20_016) - held.cache_at(20_000))) == 16 * per_token


def test_a_latent_is_on_every_rank_and_few_kv_heads_are_repeated():
    def cache(model, tp):
        return float(np.max(memory(model, layout=((tp,),), batch=[1]).cache))

    assert cache("deepseek-v3", 8) == cache("deepseek-v3", 1)
    assert cache("llama-3.1-70b", 8) == cache("llama-3.1-70b", 16) == cache("llama-3.1-70b", 1) / 8


def test_a_window_and_a_state_stop_growing():
    held = memory("mamba2-2.7b")
    assert np.all(held.cache_at(100) == held.cache_at(100_000))
    gemma = memory("gemma-2-9b")
    early, late = (np.max(gemma.cache_at(n + 4096) - gemma.cache_at(n)) for n in (0, 100_000))
    assert late == early / 2


@pytest.mark.parametrize("model", FITTED)
@pytest.mark.parametrize("layout", [(1,), (2,), (1, 1, 2, 0)])
def test_the_largest_batch_fits_and_one_more_does_not(model, layout):
    axes = {"hardware": ["h100-sxm"], "layout": [layout], "workload": ((700, 90),)}
    most = int(figures(model, choices(**axes), "max_batch")["max_batch"].item())
    assert 1 < most < 2**16
    found = reasons(model, choices(**axes, batch=[most, most + layout[2] if len(layout) > 2 else most + 1])).ravel()
    assert found[0] != "exceeds_memory"
    assert found[1] == "exceeds_memory"


SMALL = ("llama-3.2-1b", "gemma-2-9b", "deepseek-v2-lite", "bloom-7.1b", "nemotron-3-nano-30b-a3b", "qwen3-30b-a3b")
shapes = st.fixed_dictionaries(
    {
        "model": st.sampled_from(SMALL),
        "hardware": st.sampled_from(("l4", "t4", "a100-sxm-40gb")),
        "precision": st.sampled_from(("bf16", "w4a16-g128")),
        "layout": st.sampled_from(((1,), (8,), (2, 3), (1, 1, 2, 0), (8, 1, 2, 0))),
        "batch": st.sampled_from((2, 4, 37, 600)),
        "input": st.integers(1, 9000),
        "output": st.integers(1, 3000),
        "options": st.sampled_from(({}, {"attention": "unfused"}, {"prefix_hit": 0.5}, {"kv_block_size": 1})),
    }
)


def asked(shape, **changed) -> dict[str, np.ndarray]:
    """The memory of a deployment, its largest batch and its longest context."""
    shape = {**shape, **changed}
    pair = (shape["input"], shape["output"])
    options = {name: TECHNIQUES[name].parse(v) if name in TECHNIQUES else v for name, v in shape["options"].items()}
    chosen = choices([shape["hardware"]], [pair], [shape["precision"]], layout=[shape["layout"]],
                     batch=[shape["batch"]], **options)  # fmt: skip
    spec = load_model(shape["model"])
    names = ("memory_gb_per_device", "max_batch", "max_context")
    found = {name: float(values.item()) for name, values in columns(spec, chosen, mesh_of(chosen), names).items()}
    room = load_hardware(shape["hardware"]).memory_bytes * chosen.memory_utilization
    return found | {"fits": found["memory_gb_per_device"] * 1e9 <= room * (1 + 1e-15)}


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_the_largest_batch_is_feasible_and_one_more_on_each_rank_is_not(shape):
    most = int(asked(shape)["max_batch"])
    dp = Layout(*shape["layout"]).dp
    assert most % dp == 0
    assert not asked(shape, batch=most + dp)["fits"]
    assert most == 0 or asked(shape, batch=most)["fits"]


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_the_longest_context_is_feasible_and_the_next_page_is_not(shape):
    """The prompts of a rank run one by one here: several may leave free what a longer one takes."""
    shape = shape | {"batch": Layout(*shape["layout"]).dp}
    longest, output = int(asked(shape)["max_context"]), shape["output"]
    if longest <= output:
        assert not asked(shape, input=1)["fits"] or longest == output
        return
    assert asked(shape, input=longest - output)["fits"]
    if longest < (load_model(shape["model"]).max_context or 2**24):
        page = shape["options"].get("kv_block_size", 16)
        assert not asked(shape, input=longest - output + page)["fits"]


@given(shapes)
@settings(max_examples=60, deadline=None)
def test_the_longest_context_of_a_batch_is_feasible(shape):
    """Prompts that run together count as if they filled their passes: more room than they take, but for rounding."""
    longest, output = int(asked(shape)["max_context"]), shape["output"]
    assert longest <= output or asked(shape, input=longest - output)["fits"]


def test_a_prompt_that_grows_grows_the_activations_of_its_pass():
    """8B on an L4: beside the activations of 1,024 tokens 38,560 would be left for the cache."""
    found = dse.evaluate("llama-3.1-8b", "l4", input=1024, output=256, batch=1)
    longest = int(found.max_context[0])
    assert longest == 22_976
    inputs = [longest - 256, longest - 256 + 16]
    assert dse.evaluate("llama-3.1-8b", "l4", input=inputs, output=256).status.tolist() == ["ok", "exceeds_memory"]


def test_more_than_65536_sequences_may_fit():
    found = dse.evaluate("opt-125m", "gb200", input=1, output=2, precision="fp8", kv_block_size=1)
    assert found.max_batch[0] > 65_536
