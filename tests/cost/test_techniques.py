"""Contracts every technique keeps, alone and beside every other."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from properties.points import choices, figures

from dse.cost.metrics import METRICS
from dse.cost.techniques import TECHNIQUES
from dse.errors import InputError
from dse.spec.prefix import Prefix
from dse.spec.sampling import Sampling
from dse.spec.speculation import load_speculation

VALUES = {
    "attention": ("unfused",),
    "kv_budget": (64, 1024, 10**9),
    "weight_sparsity": (0.5, 0.9, "2:4"),
    "dequantization": (4.0, 24.0),
    "prefix_hit": (Prefix(share=0.5), Prefix(share=0.9, own=True), Prefix(tokens=96, cascade=True)),
    "sampling": (Sampling(n=4), Sampling(beams=2)),
    "speculation": (
        load_speculation({"draft": "llama-3.2-1b", "gamma": 3, "acceptance": 0.7}),
        load_speculation({"mtp": 1, "accepted": 0.8}),
        load_speculation({"tree": 30, "eagle": 5, "tau": 3.5}),
        load_speculation({"tree": 30, "medusa": 4, "tau": 2.5}),
    ),
    "chunk_tokens": (512,),
}
"""Values of each technique beside its neutral one."""

MODELS = ("llama-3.1-8b", "gemma-2-9b", "mixtral-8x7b", "deepseek-v3.2", "llama-4-scout", "mamba2-2.7b")
AXES = {
    "workload": ((100, 1), (900, 40), (5000, 300)),
    "precision": ("bf16", "w4a16-g128"),
    "layout": ((1,), (8,), (2, 2), (1, 1, 4, 0)),
    "batch": (1, 64),
}
SPEED = ("ttft_ms", "tpot_ms", "latency_s")


def under(model: str, **techniques: object) -> dict[str, np.ndarray]:
    return figures(model, choices(**AXES, **techniques))


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[name], b[name], equal_nan=True) for name in METRICS)


def test_every_technique_is_tested_here():
    assert set(VALUES) == set(TECHNIQUES)


@pytest.mark.parametrize("name", VALUES)
def test_it_says_what_it_takes(name):
    technique = TECHNIQUES[name]
    assert technique.name == name
    assert technique.meaning
    for value in (technique.neutral, *VALUES[name]):
        assert technique.parse(value) == value
    for wrong in ("nonsense", -3, None, True):
        with pytest.raises((ValueError, InputError), match="expected"):
            technique.parse(wrong)


@pytest.mark.parametrize("model", MODELS)
def test_at_its_neutral_value_it_changes_no_bit(model):
    assert same(under(model), under(model, **{name: technique.neutral for name, technique in TECHNIQUES.items()}))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in VALUES.items() for v in values], ids=str)
def test_figures_stay_numbers(model, name, value):
    plain, changed = under(model), under(model, **{name: value})
    for metric in METRICS:
        assert np.array_equal(np.isnan(plain[metric]), np.isnan(changed[metric])), metric
        assert not np.any(changed[metric] < 0), metric


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("pair", list(combinations(VALUES, 2)), ids=" with ".join)
def test_two_together_stay_numbers_and_keep_what_each_saves(model, pair):
    for first, second in product(VALUES[pair[0]], VALUES[pair[1]]):
        both = under(model, **{pair[0]: first, pair[1]: second})
        assert all(np.all(np.isfinite(both[name]) | np.isnan(both[name])) for name in METRICS)
        if "kv_budget" in pair:
            other = pair[1 - pair.index("kv_budget")]
            alone = under(model, **{other: second if other == pair[1] else first})
            assert np.all(both["memory_gb_per_device"] <= alone["memory_gb_per_device"])


@pytest.mark.parametrize("model", MODELS)
def test_a_smaller_budget_of_tokens_is_never_slower_nor_larger(model):
    tight, wide, none = (under(model, kv_budget=budget) for budget in (64, 1024, "none"))
    for name in (*SPEED, "memory_gb_per_device"):
        if name == "tpot_ms" and model == "llama-4-scout":
            continue  # a chunk begins anew at its edge
        assert np.all((tight[name] <= wide[name] * (1 + 1e-12)) | np.isnan(none[name])), name
        assert np.all((wide[name] <= none[name] * (1 + 1e-12)) | np.isnan(none[name])), name
    assert np.array_equal(tight["ttft_ms"], none["ttft_ms"])


@pytest.mark.parametrize("model", MODELS)
def test_a_budget_beyond_every_context_is_none(model):
    endless, none = under(model, kv_budget=10**9), under(model)
    for name in (*SPEED, "memory_gb_per_device"):
        assert np.allclose(endless[name], none[name], rtol=1e-12, equal_nan=True), name


@pytest.mark.parametrize("model", MODELS)
def test_more_zeros_are_fewer_bytes(model):
    half, most, none = (under(model, weight_sparsity=share)["memory_gb_per_device"] for share in (0.5, 0.9, "none"))
    assert np.all(most < half)
    assert np.all(half[:, :, 0] < none[:, :, 0])  # of 4-bit weights a bitmap saves little


def test_half_the_multiplications_in_the_paired_pattern():
    """A prompt bound by compute: half the time of its matrix products."""
    axes = {"workload": ((4000, 1),), "batch": (8,), "fidelity": ["ideal"]}
    found = [figures("llama-3.1-8b", choices(**axes, weight_sparsity=v), "ttft_ms") for v in ("none", "2:4")]
    plain, paired = (float(f["ttft_ms"].item()) for f in found)
    assert 0.5 < paired / plain < 0.65


def test_unfused_attention_is_slower():
    fused, unfused = (under("llama-3.1-8b", attention=value) for value in ("fused", "unfused"))
    assert np.all(unfused["ttft_ms"] > fused["ttft_ms"])
