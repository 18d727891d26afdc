"""What a block moves and holds, against sums on paper: OPT is regular enough to do them by hand."""

from __future__ import annotations

import numpy as np
import pytest
from placements import blocks, one_plan

from dse.cost.choices import AXES
from dse.cost.mesh import Mesh
from dse.cost.placement.ledger import Ledger
from dse.spec.catalog import load_model

PROMPT, OUTPUT, GPU_BATCH, BATCHES = 512, 32, 4, 3
BLOCK = GPU_BATCH * BATCHES


def ledger(model: str, **axes: object) -> Ledger:
    axes = {"workload": [(PROMPT, OUTPUT)], "batch": [BLOCK], "precision": ["fp16"], **axes}
    return Ledger.of(load_model(model), blocks(**axes), Mesh.open(AXES, [slice(0, 1) for _ in AXES]), BATCHES)


def one(value: object) -> float:
    return float(np.ravel(np.asarray(value, dtype=float))[0])


@pytest.fixture
def opt() -> Ledger:
    return ledger("opt-30b")


LAYERS, HIDDEN, VOCAB = 48, 7168, 50272


def test_weights_are_all_the_models(opt):
    assert one(opt.held["weights"]) == 2 * load_model("opt-30b").parameters()


def test_a_pass_over_the_block_reads_each_matrix_once_and_the_rows_of_the_embedding(opt):
    matrices = LAYERS * 12 * HIDDEN**2 + VOCAB * HIDDEN
    for phase, rows in (("prefill", BLOCK * PROMPT), ("decode", BLOCK)):
        touched = opt.touched(phase)
        assert sum(map(one, touched.values())) == pytest.approx(2 * (matrices + rows * HIDDEN), rel=1e-12)
        assert one(touched["ffn"]) == 2 * LAYERS * 8 * HIDDEN**2


def test_the_cache_is_read_at_the_mean_context_and_written_by_token(opt):
    token = 2 * 2 * HIDDEN * LAYERS  # k and v, two bytes each
    mean = PROMPT + OUTPUT / 2  # contexts 513 ... 543
    assert one(opt.cache_read()) == pytest.approx(BLOCK * token * mean, rel=1e-12)
    assert one(opt.cache_written("decode")) == BLOCK * token
    assert one(opt.cache_written("prefill")) == BLOCK * token * PROMPT
    assert one(opt.cache_bytes) == BLOCK * token * (PROMPT + OUTPUT)
    assert one(opt.layer_cache_bytes) == GPU_BATCH * token / LAYERS * (PROMPT + OUTPUT)


def test_hidden_activations_are_the_residual_stream(opt):
    assert one(opt.hidden_bytes("prefill")) == BLOCK * PROMPT * HIDDEN * 2
    assert one(opt.hidden_bytes("decode")) == BLOCK * HIDDEN * 2


def test_attention_on_the_host_sends_queries_and_takes_their_results(opt):
    entry = opt.entries("decode")["cache"]
    assert one(entry.down) == one(entry.up) == BLOCK * HIDDEN * 2 * LAYERS


def test_a_feed_forward_on_the_host_takes_the_residual_stream_and_returns_it(opt):
    entry = opt.entries("decode")["ffn"]
    assert one(entry.down) == one(entry.up) == BLOCK * HIDDEN * 2 * LAYERS
    assert one(entry.host_flops) >= 2 * BLOCK * 8 * HIDDEN**2 * LAYERS
    # The host reads its matrices once for each GPU batch: they do not stay in its caches.
    assert one(entry.host_bytes) >= BATCHES * 2 * 8 * HIDDEN**2 * LAYERS


def test_the_accelerator_does_all_kinds_of_work_in_the_time_of_its_passes(opt):
    for phase in ("prefill", "decode"):
        seconds = sum(one(entry.seconds) for entry in opt.entries(phase).values())
        assert seconds == pytest.approx(BATCHES * one(opt.point.phase_seconds(phase)), rel=1e-12)


def test_experts_cross_the_link_once_for_all_tokens_of_a_block_that_hit_them():
    found = ledger("mixtral-8x7b")
    expert = 3 * 4096 * 14336 * 2
    hit = 8 * (1 - (1 - 2 / 8) ** BLOCK)
    assert one(found.touched("decode")["experts"]) == pytest.approx(32 * hit * expert, rel=1e-12)
    assert one(found.touched("prefill")["experts"]) == pytest.approx(32 * 8 * expert, rel=1e-9)
    assert one(found.held["experts"]) == 32 * 8 * expert
    assert one(found.held["weights"]) + one(found.held["experts"]) == 2 * load_model("mixtral-8x7b").parameters()
    # Each GPU batch on the host reads those that it hits itself.
    own = 8 * (1 - (1 - 2 / 8) ** GPU_BATCH)
    assert one(found.entries("decode")["experts"].host_bytes) >= BATCHES * 32 * own * expert


def test_grouped_heads_latents_and_states_keep_their_own_bytes():
    for model in ("llama-3.1-70b", "deepseek-v3", "mamba2-2.7b"):
        spec = load_model(model)
        found = ledger(model, precision=["bf16"])
        whole = spec.kv_bytes_per_token("bf16") * (PROMPT + OUTPUT)
        if whole:
            assert one(found.cache_bytes) == pytest.approx(BLOCK * whole, rel=1e-12)
        else:  # a state, whatever the context
            assert one(found.cache_bytes) > 0


def test_tensor_parallel_ranks_split_what_they_hold_and_stages_their_layers():
    alone, two, staged = (ledger("opt-30b", layout=[degrees]) for degrees in ((1,), (2,), (1, 2)))
    assert one(two.cache_bytes) == one(alone.cache_bytes) / 2
    assert one(two.held["weights"]) < 0.51 * one(alone.held["weights"])
    assert one(staged.stage_layers) == LAYERS / 2
    assert one(staged.held["weights"]) == pytest.approx(one(alone.held["weights"]) / 2, rel=0.02)


def test_four_bit_weights_and_cache_travel_with_their_scales():
    cache = {"dtype": "int4", "group_size": 64}
    scheme = {"weights": "int4", "group_size": 64, "activations": "fp16", "kv_cache": cache}
    wide, narrow = ledger("opt-30b"), ledger("opt-30b", precision=[scheme])
    for moved in (lambda found: found.touched("decode")["ffn"], Ledger.cache_read):
        assert one(moved(narrow)) == pytest.approx(one(moved(wide)) * 4.25 / 16, rel=1e-9)


def test_a_replica_has_its_devices_part_of_the_box():
    alone, eighth = (one_plan("opt-30b", blocks({"base": "h100-sxm", "box.devices": n})) for n in (1, 8))
    assert one(eighth.capacity["host"]) == one(alone.capacity["host"]) / 8
    assert one(eighth.capacity["disk"]) == one(alone.capacity["disk"]) / 8
    # The link is each device's own.
    to_device = [plan.seconds["decode"]["to_device"].slopes["weights", "host"] for plan in (alone, eighth)]
    assert one(to_device[0]) == one(to_device[1])
