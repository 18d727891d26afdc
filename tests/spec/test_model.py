"""What follows from a model's structure, worked out by hand on layers small enough to count."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from dse.errors import InputError
from dse.spec.model import (
    MLP,
    Attention,
    DeltaNet,
    Indexer,
    LatentAttention,
    Layer,
    Mamba2,
    ModelSpec,
    MoE,
)

HIDDEN = 10
GQA = Attention(heads=4, kv_heads=2, head_dim=3, value_dim=3)
LATENT = LatentAttention(heads=2, q_rank=4, kv_rank=5, nope_dim=3, rope_dim=2, value_dim=6)
DELTA = DeltaNet(key_heads=2, value_heads=4, key_dim=3, value_dim=5, conv_kernel=4)
MAMBA = Mamba2(heads=4, head_dim=5, state=6, groups=2, conv_kernel=4)


def model(*layers: Layer, **facts: object) -> ModelSpec:
    return ModelSpec(name="m", family="test", hidden=HIDDEN, vocab=7, layers=layers, **facts)


@pytest.mark.parametrize(
    ("mixer", "weights"),
    [
        (GQA, 10 * 12 + 2 * 10 * 6 + 12 * 10),
        (replace(GQA, value_dim=5), 10 * 12 + 10 * 6 + 10 * 10 + 20 * 10),
        (replace(GQA, qkv_bias=True), 360 + 12 + 6 + 6),
        (replace(GQA, out_bias=True), 360 + 10),
        (replace(GQA, qk_norm="head"), 360 + 2 * 3),
        (replace(GQA, qk_norm="full"), 360 + 12 + 6),
        (replace(GQA, gated=True), 360 + 10 * 12),
        (replace(GQA, sinks=True), 360 + 4),
        (LATENT, (10 * 4 + 4 + 4 * 2 * 5) + (10 * 7 + 5) + 5 * 2 * 9 + 2 * 6 * 10),
        (replace(LATENT, q_rank=None), 10 * 2 * 5 + (10 * 7 + 5) + 5 * 2 * 9 + 2 * 6 * 10),
        (replace(LATENT, bias=True), 369 + 4 + 7 + 10),
        (replace(LATENT, indexer=Indexer(3, 8, 16)), 369 + 4 * 3 * 8 + 10 * 8 + 2 * 8 + 10 * 3),
        (replace(LATENT, indexer=Indexer(3, 8, 16, shared=True)), 369),
        (DELTA, 10 * (2 * 6 + 20 + 20) + 2 * 10 * 4 + 32 * 4 + 2 * 4 + 5 + 20 * 10),
        (MAMBA, 10 * (20 + 44 + 4) + 44 * 5 + 3 * 4 + 20 + 20 * 10),
        (replace(MAMBA, conv_bias=False), 1132 - 44),
        (replace(MAMBA, bias=True), 1132 + 68 + 10),
    ],
)
def test_weights_of_a_mixer(mixer: Attention | LatentAttention | DeltaNet | Mamba2, weights: int):
    assert mixer.parameters(HIDDEN) == weights


@pytest.mark.parametrize(
    ("ffn", "weights", "active"),
    [
        (MLP(6), 3 * 60, 180),
        (MLP(6, gated=False), 2 * 60, 120),
        (MLP(6, bias=True), 180 + 2 * 6 + 10, 202),
        (MLP(6, gated=False, bias=True), 120 + 6 + 10, 136),
        (MoE(8, 2, 6), 8 * 180 + 8 * 10, 2 * 180 + 8 * 10),
        (MoE(8, 2, 6, router_bias=True), 1520 + 8, 440 + 8),
        (MoE(8, 2, 6, bias=True), 1520 + 8 * 22, 440 + 2 * 22),
        (MoE(8, 2, 6, shared_width=12), 1520 + 360, 440 + 360),
        (MoE(8, 2, 6, shared_width=12, shared_gate=True), 1880 + 10, 800 + 10),
        (MoE(8, 2, 6, gated=False, latent=4), 8 * 2 * 24 + 80 + 2 * 40, 2 * 2 * 24 + 80 + 2 * 40),
    ],
)
def test_weights_of_a_feed_forward(ffn: MLP | MoE, weights: int, active: int):
    assert (ffn.parameters(HIDDEN), ffn.active_parameters(HIDDEN)) == (weights, active)


def test_parts_outside_the_layers():
    bare = model().parameters()
    assert bare == 7 * 10 + 10 + 7 * 10, "embedding, final norm, head"
    assert model(tied=True).parameters() == bare - 70
    assert model(norm_bias=True).parameters() == bare + 10
    assert model(norm_weight=False).parameters() == bare - 10
    assert model(extra_norms=2).parameters() == bare + 10
    assert model(positions=3).parameters() == bare + 30
    assert model(head_bias=True).parameters() == bare + 7
    assert model(embed_dim=4).parameters() == 2 * 7 * 4 + 10 + 2 * 4 * 10
    assert model(embed_dim=4, tied=True).parameters() == 7 * 4 + 10 + 2 * 4 * 10


def test_layers_add_up_and_equal_ones_are_one_kind():
    dense, sparse = Layer(GQA, MLP(6)), Layer(GQA, MoE(8, 2, 6), norms=4)
    spec = model(dense, sparse, dense)
    assert spec.kinds == {dense: 2, sparse: 1}
    assert list(spec.kinds) == [dense, sparse]
    assert spec.parameters() == 150 + 2 * (360 + 180 + 20) + (360 + 1520 + 40)
    assert spec.active_parameters() == 150 + 2 * (360 + 180 + 20) + (360 + 440 + 40)


def test_blocks_with_only_a_mixer_or_only_a_feed_forward():
    spec = model(Layer(MAMBA, None, norms=1), Layer(None, MLP(6, gated=False), norms=1))
    assert spec.parameters() == 150 + (1132 + 10) + (120 + 10)


def test_only_layers_that_see_everything_grow_with_the_context():
    window = replace(GQA, window=100)
    chunk = replace(GQA, chunk=50)
    spec = model(*(Layer(mixer, None) for mixer in (GQA, window, chunk, LATENT, DELTA)))
    assert spec.kv_elements_per_token == 2 * (3 + 3) + (5 + 2)
    assert spec.window_elements_per_sequence == 12 * 100 + 12 * 50
    assert spec.state_elements_per_sequence == 4 * 3 * 5
    assert spec.conv_elements_per_sequence == 32 * 4


def test_state_of_mamba():
    spec = model(Layer(MAMBA, None))
    assert spec.state_elements_per_sequence == 20 * 6
    assert spec.conv_elements_per_sequence == (20 + 2 * 2 * 6) * 4
    assert spec.kv_elements_per_token == 0


def test_indexer_keys_stand_beside_the_cache():
    own = replace(LATENT, indexer=Indexer(3, 8, 16))
    shared = replace(LATENT, indexer=Indexer(3, 8, 16, shared=True))
    spec = model(Layer(own, None), Layer(shared, None), Layer(LATENT, None))
    assert spec.index_elements_per_token == 8
    assert spec.kv_elements_per_token == 3 * 7


def test_kv_bytes_follow_the_format_of_the_cache():
    spec = model(Layer(GQA, MLP(6)))
    assert spec.kv_bytes_per_token("bf16") == 24
    assert spec.kv_bytes_per_token("bf16") == spec.kv_bytes_per_token()
    from dse.spec.catalog import load_precision

    assert spec.kv_bytes_per_token(load_precision({"weights": "bf16", "kv_cache": "fp8"})) == 12
    assert spec.kv_bytes_per_token({"weights": "bf16", "kv_cache": "fp8"}) == 12
    for wrong in (None, {}, {"kv": "fp8"}, 3, "bf15"):
        with pytest.raises(InputError):
            spec.kv_bytes_per_token(wrong)


def test_models_are_values():
    spec = model(Layer(GQA, MLP(6)))
    assert spec == model(Layer(GQA, MLP(6)))
    assert hash(spec) == hash(model(Layer(GQA, MLP(6))))
    with pytest.raises(FrozenInstanceError):
        spec.hidden = 3
