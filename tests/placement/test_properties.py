"""What must hold of every placement, whatever the machine."""

from __future__ import annotations

from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placements import MODELS, OVERLAPS, blocks, instance, machine, one_plan, random_plans
from properties.points import flat_mesh_of, mesh_of

from dse.cost.metrics import METRICS, Scored
from dse.cost.placement.affine import TIERS
from dse.cost.placement.plan import Plan
from dse.cost.placement.program import build, shares_of
from dse.cost.placement.schedules import Schedule, place, schedules_of
from dse.cost.setting import PHASES
from dse.cost.simplex import solve
from dse.spec.catalog import load_model

BOX = {
    "memory__capacity_gb": 15.6, "memory__bandwidth_gb_per_s": 320.0, "host_link__gb_per_s": 16.0,
    "box__host_memory_gb": 96.0, "box__host_memory_bandwidth_gb_per_s": 100.0, "box__cpu_tflops": 1.0,
    "box__disk_gb": 400.0,
    "box__disk_read_gb_per_s": 2.0, "box__disk_write_gb_per_s": 1.0,
}  # fmt: skip
TOLERANCE = 1 + 1e-9


def seconds(model: str, overlap: str = "full", batch: int = 64, **box: float) -> float:
    """The best time of a block; infinite where nothing fits."""
    chosen = blocks(machine(**{**BOX, **box}), batch=[batch], workload=[(256, 16)], precision=["fp16"], overlap=overlap)
    with np.errstate(all="ignore"):
        placed = place(load_model(model), chosen, mesh_of(chosen))
    found = float(np.ravel(placed.seconds["prefill"] + 15 * placed.seconds["decode"])[0])
    return found if placed.feasible.all() else np.inf


@pytest.mark.parametrize(("model", "overlap"), [*product(("opt-30b", "mixtral-8x7b"), OVERLAPS)])
@pytest.mark.parametrize("resource", BOX)
def test_more_of_any_resource_never_hurts(model, overlap, resource):
    times = [seconds(model, overlap, **{resource: BOX[resource] * factor}) for factor in (0.5, 1, 1.5, 4)]
    for less, more in pairwise(times):
        assert more <= less * TOLERANCE


@pytest.mark.parametrize("model", ["opt-13b", "mixtral-8x7b"])
def test_more_overlap_never_hurts(model):
    serial, pairwise, full = (seconds(model, overlap) for overlap in OVERLAPS)
    assert full <= pairwise * TOLERANCE
    assert pairwise <= serial * TOLERANCE


def greedy_fills(plan: Plan):
    """Shares from filling accelerator, host and disk in turn, for every order of the tensors."""
    for order in permutations(plan.tensors):
        shares = {tensor: dict.fromkeys(TIERS, 0.0) for tensor in plan.tensors}
        for tensor in plan.tensors:
            shares[tensor]["disk"] = 1.0
        for tensor in order:
            for tier in TIERS[:2]:
                low, high = 0.0, shares[tensor]["disk"]
                for share in np.linspace(high, low, 65):  # the largest that fits
                    tried = {**shares, tensor: {**shares[tensor], tier: share, "disk": high - share}}
                    if all(plan.peak(t, tried) <= plan.capacity[t] for t in TIERS[:2]):
                        shares = tried
                        break
        if all(plan.peak(tier, shares) <= plan.capacity[tier] for tier in TIERS):
            yield shares


@pytest.mark.parametrize("seed", range(6))
def test_the_program_never_loses_to_any_greedy_fill(seed):
    ((plan, size),) = random_plans(seed + 50, 12, 1)
    with np.errstate(all="ignore"):
        found = solve(build(plan, (size,)))
        best = np.broadcast_to(plan.seconds_of(shares_of(plan, found.x, (size,))), (size,))
    for index in range(size):
        alone = instance(plan, index, size)
        for shares in greedy_fills(alone):
            assert found.feasible[index]
            assert best[index] <= alone.seconds_of(shares) * TOLERANCE


@settings(max_examples=25, deadline=None)
@given(
    model=st.sampled_from(MODELS),
    overlap=st.sampled_from(OVERLAPS),
    batch=st.lists(st.integers(1, 300), min_size=1, max_size=4, unique=True),
    host=st.floats(0.01, 3000),
    disk=st.floats(0.01, 20_000),
)
def test_points_of_a_mesh_are_placed_as_if_alone(model, overlap, batch, host, disk):
    """Whatever stands beside it: on an open mesh, in a list, or by itself, a point has the same bits."""
    chip = machine("rtx-4090", box__host_memory_gb=host, box__disk_gb=disk)
    axes = {"workload": [(100, 1), (900, 40)], "precision": ["bf16", "w4a16-g128"], "layout": [(1,), (2,), (1, 2)]}
    chosen = blocks([chip, "t4"], batch=batch, overlap=overlap, **axes)
    spec = load_model(model)
    with np.errstate(all="ignore"):
        whole, flat = (place(spec, chosen, mesh) for mesh in (mesh_of(chosen), flat_mesh_of(chosen)))
    assert np.array_equal(whole.feasible.ravel(), flat.feasible)
    assert np.array_equal(whole.schedule.ravel(), flat.schedule)
    for tensor, on in whole.shares.items():
        for tier in TIERS:
            assert np.array_equal(on[tier].ravel(), flat.shares[tensor][tier], equal_nan=True)
    for phase in PHASES:
        assert np.array_equal(np.ravel(whole.seconds[phase]), flat.seconds[phase], equal_nan=True)


@pytest.mark.parametrize("model", ["opt-1.3b", "llama-3.1-8b", "qwen3-30b-a3b"])
def test_what_fits_in_one_gpu_batch_takes_the_time_it_takes_without_offloading(model):
    axes = {"hardware": "a100-sxm-80gb", "batch": [4], "workload": [(700, 20)], "precision": ["bf16"]}
    spec, plan = load_model(model), one_plan(model, blocks(**axes))
    near = {tensor: {"accelerator": 1.0, "host": 0.0, "disk": 0.0} for tensor in plan.tensors}
    plain = blocks(**axes)
    alone = Scored.of(spec, type(plain)(**{**plain.__getstate__(), "offload": "none"}), mesh_of(plain))
    assert plan.seconds_of(near) == pytest.approx(alone.point.latency, rel=1e-12)


def test_nothing_fits_says_how_much_too_much_it_is():
    small = machine(**{**BOX, "box__host_memory_gb": 10.0, "box__disk_gb": 10.0})
    chosen = blocks(small, batch=[1, 8], precision=["fp16"])
    with np.errstate(all="ignore"):
        scored = Scored.of(load_model("opt-175b"), chosen, mesh_of(chosen))
        over = scored.memory.total / scored.memory.limit
    assert not scored.point.placement.feasible.any()
    # 350 GB of weights in 14 + 9 + 9 GB.
    assert np.all(over > 10)
    assert np.all(np.isnan(METRICS["output_tokens_per_s"].of(scored)))


def test_a_block_is_cut_into_no_more_gpu_batches_than_it_has_sequences():
    chosen = blocks(batch=[1, 3, 16], precision=["fp16"])
    with np.errstate(all="ignore"):
        placed = place(load_model("opt-30b"), chosen, mesh_of(chosen))
    assert np.all(placed.num_batches.ravel() <= [1, 3, 16])


def test_equally_fast_placements_keep_weights_nearest():
    """All fits: nothing is gained by moving anything away, so nothing is moved."""
    chosen = blocks("h200-sxm", batch=[2], precision=["fp16"])
    with np.errstate(all="ignore"):
        placed = place(load_model("opt-6.7b"), chosen, mesh_of(chosen))
    for on in placed.shares.values():
        assert on["accelerator"].item() == 1.0
        assert on["host"].item() == on["disk"].item() == 0.0


def test_every_schedule_of_a_sweep_is_one_of_the_full_search():
    for model in MODELS:
        spec = load_model(model)
        few, every = schedules_of(spec), schedules_of(spec, every=True)
        assert set(few) <= set(every)
        assert len(few) <= 20
        assert few[0] == Schedule(1, every[0].devices)
