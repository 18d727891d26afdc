"""Disaggregated serving: two pools, what travels between them, and what they promise together."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dse
from dse.cost.choices import Choices, Pools
from dse.cost.disaggregated import Disaggregated
from dse.cost.efficiency import FIDELITIES
from dse.cost.evaluate import columns
from dse.cost.mesh import Mesh
from dse.cost.metrics import Scored
from dse.cost.modes import served
from dse.cost.phases import Point
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.hardware import HardwareSpec
from dse.spec.layout import Layout
from dse.spec.runtime import IDEAL, RuntimeSpec
from dse.spec.workload import Workload

H200, H100, B200 = (load_hardware(name) for name in ("h200-sxm", "h100-sxm", "b200"))
KV8, FP8 = load_precision("fp8-kv8"), load_precision("fp8")
QWEN, DEEPSEEK, GEMMA = (load_model(name) for name in ("qwen3-32b", "deepseek-v3", "gemma-2-9b"))
COSTS = RuntimeSpec(
    name="costly", step_us=500, layer_us=3, sequence_us=5, collective_us=2, request_ms=20, prompt_token_us=5, busy=0.9
)
LINK = FIDELITIES["datasheet"].link
"""Share of a link that a transfer reaches."""


def choices(
    prefill: dict[str, Any] | None = None,
    runtime: RuntimeSpec = IDEAL,
    devices: float = 8,
    most: int = 32,
    **decode: Any,
) -> Choices:
    """Axes of both pools; what is not given is one H200 in fp8 with an fp8 cache, and 4000 and 1000 tokens."""
    shared = {"workload": [Workload(4000, 1000)], "fidelity": ["datasheet"], "runtime": runtime}
    shared |= {name: decode.pop(name) for name in ("workload", "fidelity", "offload") if name in decode}
    one = {"hardware": [H200], "precision": [KV8], "layout": [Layout(1)]}
    first = Choices(**(shared | one | {"batch": [1]} | (prefill or {})))
    return Choices(
        **(shared | one | {"batch": [64]} | decode), serving="disaggregated", pools=Pools(first, devices, most)
    )


def pair(model: Any = QWEN, **axes: Any) -> Disaggregated:
    """The steady state of one pair of workers."""
    chosen = choices(**axes)
    found = served(Point(model, chosen, Mesh.points(chosen.axes, [np.zeros(1, dtype=int)] * len(chosen.axes))))
    assert isinstance(found, Disaggregated)
    return found


def networked(chip: HardwareSpec, gb_per_s: float) -> HardwareSpec:
    """A chip with another network between boxes."""
    return chip.model_copy(update={"scale_out": chip.scale_out.model_copy(update={"gb_per_s": gb_per_s})})


def one(value: Any) -> float:
    return float(np.ravel(value)[0])


def status(model: str = "qwen3-32b", hardware: Any = "h200-sxm", **axes: Any) -> set[str]:
    """Statuses of the points of these axes, the workload 4000 and 1000 tokens."""
    axes = {"precision": "fp8-kv8", "input": 4000, "output": 1000, "serving": "disaggregated", "batch": 32} | axes
    return set(dse.evaluate(model, hardware, **axes)["status"])


# -- rates and latency ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tp", "batches", "runtime"),
    [((1, 2), (1, 96), IDEAL), ((1, 1), (2, 32), COSTS), ((2, 4), (3, 200), COSTS), ((4, 1), (1, 8), IDEAL)],
)
def test_a_deployment_follows_from_its_workers_by_hand(tp, batches, runtime):
    """Every count of workers tried, on what each worker does alone."""
    (tp_p, tp_d), (b_p, b_d) = tp, batches
    found = pair(
        runtime=runtime, prefill={"layout": [Layout(tp_p)], "batch": [b_p]}, layout=[Layout(tp_d)], batch=[b_d]
    )
    engine = {"base": "ideal", **runtime.model_dump(exclude={"name"}, exclude_defaults=True)}
    alone = {"precision": "fp8-kv8", "input": 4000, "output": 1000, "fidelity": "datasheet", "runtime": engine}
    prompt = dse.evaluate("qwen3-32b", "h200-sxm", tp=tp_p, batch=b_p, **alone)["ttft_ms"][0] / 1e3
    step = dse.evaluate("qwen3-32b", "h200-sxm", tp=tp_d, batch=b_d, **alone)["tpot_ms"][0] / 1e3
    of_prefill, of_decode = runtime.busy * b_p / prompt, runtime.busy * b_d / (999 * step)
    rate, used = max(
        (
            (min(x * of_prefill, y * of_decode) / (x * tp_p + y * tp_d), -(x * tp_p + y * tp_d))
            for x, y in product(range(1, 9), repeat=2)
            if x * tp_p + y * tp_d <= 8
        ),
        key=lambda option: (round(option[0], 9), option[1]),
    )
    assert one(found.requests_per_s) == pytest.approx(-rate * used)
    assert one(found.devices) == -used
    # 64 layers of 8 heads of 128 for keys and values, one byte each, over the links of the smaller worker.
    cache = b_p * 2 * 64 * 8 * 128 * 4000 / min(tp_p, tp_d) / (450e9 * LINK) + one(found.link.alpha)
    exposed = max(0, cache - prompt * 63 / 64) + cache / 64
    server = runtime.request_ms / 1e3 + runtime.prompt_token_us * 4000 / 1e6
    assert one(found.ttft) == pytest.approx(server + (b_p - 1) / 2 / of_prefill + prompt + exposed)
    assert one(found.tpot) == pytest.approx(step)
    assert one(found.latency) == pytest.approx(one(found.ttft) + 999 * step)


def test_requests_in_flight_are_rate_times_latency():
    found = Scored(pair(batch=[48]).point)
    (row,) = dse.evaluate(
        "qwen3-32b", "h200-sxm", precision="fp8-kv8", input=4000, output=1000, batch=48, fidelity="datasheet",
        serving="disaggregated", disaggregated={"devices": 8},
    ).to_dict("records")  # fmt: skip
    assert row["concurrency"] == pytest.approx(one(found.requests_per_s) * one(found.served.latency))
    assert row["decode_workers"] * 48 <= row["concurrency"] * 1.01 + row["prefill_workers"]


def test_requests_of_one_token_need_no_decode_step():
    found = pair(workload=[Workload(4000, 1)])
    full = one(found.full_rates[0])
    assert one(found.requests_per_s) == pytest.approx(7 * full)  # as many prefill workers as there are devices for
    assert one(found.latency) == one(found.ttft)


@settings(deadline=None)
@given(batch=st.integers(1, 64), passes=st.integers(1, 8))
def test_a_pass_with_company_takes_longer_to_gather(batch, passes):
    alone, shared = (pair(batch=[batch], prefill={"batch": [size]}) for size in (1, passes))
    assert one(alone.gathering) == 0
    assert one(shared.gathering) == pytest.approx((passes - 1) / 2 / one(shared.full_rates[0]))


def test_stages_of_a_prefill_worker_work_on_different_passes():
    flat, piped = (pair(prefill={"layout": [layout]}) for layout in (Layout(2), Layout(1, 2)))
    assert one(piped.prompt) > one(flat.prompt)
    assert one(piped.full_rates[0]) > 1.8 / one(piped.prompt)


# -- the caches between the pools -----------------------------------------------------------------------


def test_the_whole_cache_of_the_prompt_travels():
    found = pair()
    assert one(found.handover.sent) == one(found.handover.received) == 4000 * QWEN.kv_bytes_per_token(KV8)


@pytest.mark.parametrize(("tp_p", "tp_d"), [(1, 4), (4, 1), (2, 8), (8, 8)])
def test_the_smaller_worker_sets_the_pace(tp_p, tp_d):
    handover = pair(devices=16, prefill={"layout": [Layout(tp_p)]}, layout=[Layout(tp_d)]).handover
    whole = 4000 * QWEN.kv_bytes_per_token(KV8)
    assert one(handover.sent) == whole / tp_p
    assert one(handover.received) == whole / tp_d
    assert one(handover.seconds(handover.near)) == pytest.approx(
        one(handover.near.alpha) + whole / min(tp_p, tp_d) * one(handover.near.beta)
    )


def test_a_latent_goes_to_every_rank_that_keeps_it():
    handover = pair(DEEPSEEK, devices=32, prefill={"layout": [Layout(8)]}, layout=[Layout(8)]).handover
    latent = 61 * (512 + 64) * 4000  # one byte per element
    assert one(handover.received) == latent
    assert one(handover.sent) == latent  # eight copies over eight ranks


def test_of_layers_with_a_window_only_the_window_travels():
    long = pair(GEMMA, workload=[Workload(8000, 100)]).handover
    per_token = 2 * 8 * 256  # one byte each
    assert one(long.sent) == 21 * per_token * (8000 + 4096)


def test_stages_receive_side_by_side():
    whole, half = (pair(layout=[layout], devices=16).handover for layout in (Layout(1), Layout(1, 2)))
    assert one(half.received) == one(whole.received) / 2


def test_layers_hide_the_transfer_but_for_the_last():
    found = pair()
    transfer = one(found.handover.seconds(found.link))
    assert transfer < one(found.prompt)
    assert one(found.exposed) == pytest.approx(transfer / 64)


def test_a_transfer_that_is_longer_than_the_pass_shows():
    found = pair(prefill={"hardware": [networked(H100, 0.5)]})
    transfer = one(found.handover.seconds(found.link))
    assert one(found.exposed) == pytest.approx(transfer - one(found.prompt) * 63 / 64 + transfer / 64)
    # The worker cannot begin passes faster than their caches leave.
    assert one(found.full_rates[0]) == pytest.approx(1 / transfer)


def test_caches_stay_within_the_domain_while_all_fit():
    within, beyond = (pair(layout=[Layout(tp)], devices=16) for tp in (4, 8))
    assert one(within.link.beta) == one(within.handover.near.beta)
    assert one(beyond.link.beta) == one(beyond.handover.far.beta) > one(within.link.beta)


def test_unlike_chips_share_no_domain():
    found = pair(prefill={"hardware": [B200]})
    assert one(found.link.beta) == one(found.handover.far.beta)
    slower = min(chip.scale_out_bandwidth for chip in (B200, H200))
    assert one(found.link.beta) == pytest.approx(1 / (slower * LINK))


@settings(deadline=None, max_examples=30)
@given(
    speeds=st.lists(st.floats(0.01, 500), min_size=2, max_size=2).map(sorted),
    passes=st.sampled_from([1, 2, 4]), tp=st.sampled_from([(1, 2), (2, 1), (4, 4)]), prompt=st.integers(16, 16000),
)  # fmt: skip
def test_more_bandwidth_between_the_pools_is_never_slower(speeds, passes, tp, prompt):
    slow, fast = (
        pair(
            workload=[Workload(prompt, 200)],
            prefill={
                "hardware": [networked(H100, speed)],
                "layout": [Layout(tp[0])],
                "batch": [passes],
            },
            layout=[Layout(tp[1])],
        )
        for speed in speeds
    )
    assert one(fast.requests_per_s) / one(fast.devices) >= one(slow.requests_per_s) / one(slow.devices) * (1 - 1e-12)
    for before, after in zip(slow.full_rates, fast.full_rates, strict=True):
        assert one(after) >= one(before)
    assert one(fast.ttft) <= one(slow.ttft) * (1 + 1e-12)


@settings(deadline=None, max_examples=30)
@given(batch=st.integers(1, 300), passes=st.sampled_from([1, 2, 4]), tp=st.sampled_from([(1, 2), (2, 1), (4, 4)]))
def test_throughput_stays_below_what_each_pool_could_do_alone(batch, passes, tp):
    prefill = {"layout": [Layout(tp[0])], "batch": [passes]}
    found = pair(runtime=COSTS, batch=[batch], prefill=prefill, layout=[Layout(tp[1])])
    of_prefill, of_decode = map(one, found.full_rates)
    assert one(found.requests_per_s) <= min(
        one(found.matched.prefill) * of_prefill, one(found.matched.decode) * of_decode
    ) * (1 + 1e-12)
    per_device = one(found.requests_per_s) / one(found.devices)
    assert per_device <= min(of_prefill / tp[0], of_decode / tp[1])


# -- the mesh -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [QWEN, DEEPSEEK])
@pytest.mark.parametrize("devices", [16, np.inf])
def test_mesh_and_list_of_points_give_the_same_bits(model, devices):
    chosen = choices(
        prefill={
            "hardware": [H200, B200], "precision": [KV8, FP8], "batch": [1, 8],
            "layout": [Layout(4), Layout(2, 2), Layout(1, 1, 4, 0)],
        },
        runtime=COSTS, devices=devices, most=4, hardware=[H200, H100], precision=[KV8], batch=[1, 64, 700],
        layout=[Layout(2), Layout(8), Layout(2, 1, 4, 0)], workload=[Workload(4000, 1), Workload(500, 100)],
        fidelity=["ideal", "calibrated"],
    )  # fmt: skip
    wide = columns(model, chosen, Mesh.open(chosen.axes, [slice(0, size) for size in chosen.shape]))
    rng = np.random.default_rng(0)
    index = np.unravel_index(rng.choice(np.prod(chosen.shape), 400, replace=False), chosen.shape)
    flat = columns(model, chosen, Mesh.points(chosen.axes, list(index)))
    for name, values in wide.items():
        np.testing.assert_array_equal(values[index], flat[name], err_msg=name)


# -- money, energy, memory ------------------------------------------------------------------------------


def test_both_pools_are_paid_for_and_draw_power():
    frame = dse.evaluate(
        "llama-3.1-70b", "h100-sxm", precision="fp8-kv8", input=4000, output=500, tp=4, batch=64,
        serving="disaggregated",
        disaggregated={"prefill": {"hardware": "mi300x", "parallel": {"tp": 2}}, "devices": 24},
        price={"kind": "on-demand", "override": {"h100-sxm": 3.0, "mi300x": 2.0}},
    )  # fmt: skip
    (row,) = frame.to_dict("records")
    assert row["devices"] == row["prefill_workers"] * 2 + row["decode_workers"] * 4
    hourly = row["prefill_workers"] * 2 * 2.0 + row["decode_workers"] * 4 * 3.0
    assert row["usd_per_hour"] == pytest.approx(hourly)
    assert row["usd_per_million_output_tokens"] == pytest.approx(hourly / 3600 / row["output_tokens_per_s"] * 1e6)
    watts = row["prefill_workers"] * 2 * 750 + row["decode_workers"] * 4 * 700
    drawn = row["joules_per_output_token"] * row["output_tokens_per_s"]
    assert 0.3 * watts <= drawn <= watts
    assert (row["price_usd_per_device_hour"], row["prefill_price_usd_per_device_hour"]) == (3.0, 2.0)


def test_an_idle_pool_draws_less():
    found = pair(batch=[1], devices=2)
    (spells, rest), _ = found.spells
    busy = one(found.requests_per_s) * one(found.prompt)
    assert busy < 0.1
    assert one(spells[0].seconds) == pytest.approx(busy)
    assert one(rest) == pytest.approx(1 - busy)


def test_memory_is_that_of_the_fullest_device_of_both_pools():
    frame = dse.evaluate(
        "qwen3-32b", "h200-sxm", precision="fp8-kv8", input=4000, output=1000, tp=4, batch=[1, 800],
        serving="disaggregated", disaggregated={"prefill": {"parallel": {"tp": 1}}, "devices": 8},
    )  # fmt: skip
    small, large = frame["memory_gb_per_device"]
    assert 33 < small < 40  # all weights lie on the prefill worker, a quarter of them on each decode device
    weights, each = 32.8 / 4, 4500 * QWEN.kv_bytes_per_token(KV8) / 4 / 1e9
    assert large == pytest.approx(weights + 800 * each, rel=0.05)


@pytest.mark.parametrize(
    ("axes", "reason"),
    [
        ({"disaggregated": {"devices": 8}}, "ok"),
        ({"batch": 1000, "disaggregated": {"devices": 8}}, "exceeds_memory"),
        ({"tp": 8, "disaggregated": {"prefill": {"hardware": "l4", "parallel": {"tp": 1}}}}, "exceeds_memory"),
        ({"disaggregated": {"prefill": {"precision": "fp8"}}}, "kv_cache_differs"),
        ({"tp": 8, "disaggregated": {"devices": 8}}, "exceeds_devices"),
        ({"tp": 2, "disaggregated": {"devices": 9, "fill": True}}, "devices_not_filled"),
        ({"hardware": "rtx-4090", "disaggregated": {"prefill": {"hardware": "h100-sxm"}}}, "no_link_between_pools"),
        ({"runtime": "vllm", "batch": 300, "tp": 4, "disaggregated": {"devices": 8}}, "batch_beyond_engine"),
        ({"tp": 3, "disaggregated": {"prefill": {"parallel": {"tp": 1}}}}, "heads_not_divisible"),
        ({"disaggregated": {"prefill": {"parallel": {"tp": 3}}}}, "heads_not_divisible"),
        ({"disaggregated": {"prefill": {"parallel": {"dp": 4}, "batch": 2}}}, "batch_below_dp"),
        ({"offload": "lp"}, "offload_is_static"),
    ],
)
def test_what_a_pair_cannot_do_is_a_status(axes, reason):
    assert status(**axes) == {reason}


def test_chips_without_a_network_stay_in_their_box():
    """Six devices of a box of eight: of unlike chips, or of more devices than the box has, no cache could arrive."""
    box = {"base": "rtx-4090", "box.devices": 8}
    fits = status(hardware=box, tp=4, precision="w4a16-g128-kv8", disaggregated={"prefill": {"parallel": {"tp": 2}}})
    assert fits == {"ok"}
    beyond = status(hardware=box, tp=8, precision="w4a16-g128-kv8", disaggregated={"prefill": {"parallel": {"tp": 2}}})
    assert beyond == {"no_link_between_pools"}


def test_evidence_is_that_of_the_weaker_pool():
    frame = dse.evaluate(
        "llama-3.1-8b", "h100-sxm", precision="fp8-kv8", tp=1, batch=16, serving="disaggregated",
        disaggregated={"prefill": {"hardware": ["h100-sxm", "mi300x"]}},
    ).set_index("prefill_hardware")  # fmt: skip
    alone = dse.evaluate("llama-3.1-8b", "mi300x", precision="fp8-kv8", batch=1)["evidence"][0]
    assert frame.loc["h100-sxm", "evidence"] == "calibrated"
    assert frame.loc["mi300x", "evidence"].partition("+")[0] == alone.partition("+")[0] == "datasheet"
    assert frame.loc["mi300x", "tpot_error_pct"] == frame.loc["h100-sxm", "tpot_error_pct"]


def test_accuracy_is_that_of_the_worse_pool():
    frame = dse.evaluate(
        "llama-3.1-8b", "h100-sxm", precision="bf16", serving="disaggregated",
        disaggregated={"prefill": {"precision": ["bf16", "w4a16-g128"]}},
    ).set_index("prefill_precision")  # fmt: skip
    quantised = dse.evaluate("llama-3.1-8b", "h100-sxm", precision="w4a16-g128")["accuracy_drop_pct"][0]
    assert frame.loc["bf16", "accuracy_drop_pct"] == 0
    assert frame.loc["w4a16-g128", "accuracy_drop_pct"] == quantised > 0
