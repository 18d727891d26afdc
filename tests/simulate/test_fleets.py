"""Several replicas: dispatch, mixed fleets, prompts on replicas of their own; and what is summed up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from deployments import deployment, tight
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import dse
from dse.errors import CannotRun
from dse.simulate.fleet import Transfer, simulate
from dse.simulate.results import Slo, capacity, curve, saturation, spread, summary, timeline, windows
from dse.simulate.trace import Trace, draw

ONE = deployment()
FEW = deployment(max_running=32)
SHAPES = [(900, 200), (64, 500, 0.5), (200, 1)]


def test_round_robin_deals_in_turn():
    record = simulate([ONE] * 3, draw(30, 10.0, "64x8"))
    assert record.replica.tolist() == [0, 1, 2] * 10


def test_least_loaded_sends_where_there_is_room_for_more():
    """Behind one long job, all others take the other replica."""
    trace = Trace(np.arange(20) * 0.2, np.full(20, 64), np.array([2000, *[4] * 19]))
    record = simulate([ONE] * 2, trace, dispatch="least-loaded")
    assert record.replica.tolist() == [0, *[1] * 19]


def test_a_dispatcher_of_ones_own():
    record = simulate([ONE, FEW], draw(40, 10.0, "64x8"), dispatch=lambda index, replicas: int(index % 4 == 0))
    assert np.bincount(record.replica).tolist() == [30, 10]


def test_replicas_share_nothing():
    """Two replicas in turn are two simulations of every other request."""
    trace = draw(60, 20.0, SHAPES, seed=3)
    both = simulate([ONE, ONE], trace)
    for number in (0, 1):
        mine = slice(number, None, 2)
        alone = simulate([ONE], Trace(trace.arrival[mine], trace.input[mine], trace.output[mine]))
        np.testing.assert_allclose(both.last[mine], alone.last, rtol=1e-12)


def test_tables_are_shared_by_replicas_of_a_kind():
    fleet = simulate([ONE, FEW, ONE], draw(3, 1.0, "64x8")).fleet
    assert fleet[0] is fleet[2]
    assert fleet[0] is not fleet[1]


# -- disaggregated ----------------------------------------------------------------------------------


def test_a_request_alone_pays_for_the_transfer_between_pools():
    """It is answered from where it is decoded, once its cache is there."""
    trace = draw(3, 0.01, "1024x100")
    together = simulate([ONE], trace)
    apart = simulate([ONE], trace, prefill=[ONE], transfer=Transfer(sending=lambda tokens: tokens * 1e-5))
    np.testing.assert_allclose(apart.ttft, together.ttft + 1024e-5, rtol=1e-9)
    np.testing.assert_allclose(apart.tpot, together.tpot, rtol=1e-9)
    np.testing.assert_allclose(apart.sent, 1024e-5, rtol=1e-9)


def test_layers_travel_while_the_next_are_computed():
    """What is exposed is what the pass does not hide, the last layer at least; `dse.cost.handover` adds the two."""
    trace = draw(3, 0.01, "1024x100")
    passed = simulate([ONE], draw(1, 1.0, "1024x1")).ttft[0]
    for share in (0.5, 0.9, 1.5, 4.0):
        seconds = share * passed
        record = simulate([ONE], trace, prefill=[ONE], transfer=Transfer(0.0, lambda _, s=seconds: s, layers=32))
        exposed = max(seconds - passed * 31 / 32, seconds / 32)
        np.testing.assert_allclose(record.sent, exposed, rtol=1e-9)


def test_a_link_takes_one_cache_after_the_other():
    """Ten prompts in one pass arrive a transfer apart; nothing overtakes, nothing is lost."""
    trace = Trace(np.zeros(10), np.full(10, 512), np.full(10, 50))
    record = simulate([ONE], trace, prefill=[ONE], transfer=Transfer(sending=lambda tokens: 0.5))
    np.testing.assert_allclose(np.diff(record.sent), 0.5, rtol=1e-9)
    many = simulate(
        [ONE], trace, prefill=[ONE] * 10, dispatch="least-loaded", transfer=Transfer(arriving=lambda _: 0.5)
    )
    assert np.all(np.diff(np.sort(many.sent)) >= 0.5 - 1e-9)  # ten senders, one receiver


def test_caches_stay_within_their_group():
    record = simulate([ONE] * 4, draw(200, 20.0, "512x20"), prefill=[ONE] * 2, groups=2, dispatch="least-loaded")
    assert set(record.replica.tolist()) == {0, 1, 2, 3}
    one = simulate([ONE] * 4, draw(200, 20.0, "512x20"), prefill=[ONE] * 2, groups=2, dispatch=lambda i, rs: 0)
    assert set(one.replica.tolist()) == {0}  # the first prefill worker hands over to the first group alone


def test_decodes_are_not_interrupted_by_prompts_elsewhere():
    trace = draw(400, 8.0, "4096x200", seed=1)
    together = simulate([ONE] * 2, trace)
    apart = simulate([ONE], trace, prefill=[ONE])
    assert np.percentile(apart.tpot, 99) < np.percentile(together.tpot, 50)
    assert apart.usage[0].decode_steps == 0
    assert apart.usage[1].prompt_passes == 0


@hypothesis_settings(max_examples=25)
@given(st.integers(0, 1000), st.floats(1.0, 100.0), st.sampled_from([None, 256]), st.booleans(), st.integers(1, 2))
def test_littles_law_over_pools(seed, rate, chunk, crowded, groups):
    """Requests on the wire included; evicted sequences are computed again where they decode."""
    trace = draw(80, rate, [(200, 300), (64, 500)], seed=seed)
    decoder = tight(share=0.215, chunk_tokens=chunk) if crowded else ONE
    transfer = Transfer(0.002, lambda tokens: tokens * 2e-5, lambda tokens: tokens * 1e-5, 32)
    prompts = [deployment(chunk_tokens=chunk)] * 2
    record = simulate([decoder] * 2, trace, prefill=prompts, transfer=transfer, groups=groups)
    area = sum(usage.running + usage.waiting for usage in record.usage) + np.sum(record.sent)
    assert area == pytest.approx(np.sum(record.latency), rel=1e-9)
    assert sum(usage.emitted for usage in record.usage) == np.sum(trace.output)


# -- what does not fit ------------------------------------------------------------------------------


def test_weights_beyond_memory_are_named():
    with pytest.raises(CannotRun, match=r"^exceeds_memory: llama-3\.1-70b on 1 x h100-sxm leaves no memory"):
        simulate([deployment("llama-3.1-70b")], draw(1, 1.0, "64x8"))


def test_a_request_beyond_the_cache_is_named():
    with pytest.raises(CannotRun, match=r"no room in its KV cache for a request of 60000 \+ 10 tokens"):
        simulate([tight(share=0.3)], draw(1, 1.0, "60000x10"))


# -- summed up --------------------------------------------------------------------------------------


def test_summary_of_what_is_known():
    """Five requests a hundred seconds apart never meet."""
    record = simulate([ONE], Trace(np.arange(5) * 100.0, np.full(5, 1024), np.full(5, 101)))
    found = summary(record, slo=Slo(ttft_ms=1e3))
    alone = record.ttft[0] * 1e3
    for name in ("mean", "p50", "p90", "p99"):
        assert found["ttft_ms"][name] == pytest.approx(alone, rel=1e-6)
    assert found["requests_per_s"] == pytest.approx(5 / record.end)
    assert found["output_tokens_per_s"] == pytest.approx(505 / record.end)
    assert summary(record, warmup=3)["requests_per_s"] == pytest.approx(2 / (record.end - 300))
    assert found["running"]["mean"] == pytest.approx(5 * record.latency[0] / record.end, rel=1e-9)
    assert found["utilisation"]["idle"] == pytest.approx(1 - 5 * record.latency[0] / record.end)
    assert found["waiting"] == {"mean": 0.0, "most": 1}
    assert found["share_within_slo"] == 1.0


def test_warm_up_is_left_out():
    trace = Trace(np.array([0.0] * 50 + [100.0, 200.0]), np.full(52, 2048), np.full(52, 20))
    record = simulate([ONE], trace)
    whole, after = summary(record), summary(record, warmup=50)
    assert after["measured"] == 2
    assert after["ttft_ms"]["p99"] < whole["ttft_ms"]["p50"]


def test_goodput_is_the_share_that_meets_both_targets():
    record = simulate([ONE], draw(300, 15.0, SHAPES, seed=9))
    ttft, tpot = np.median(record.ttft) * 1e3, np.nanmedian(record.tpot) * 1e3
    good = (record.ttft * 1e3 <= ttft) & ~(record.tpot * 1e3 > tpot)
    found = summary(record, slo=Slo(ttft, tpot))
    assert found["share_within_slo"] == np.mean(good)
    assert found["goodput_requests_per_s"] == pytest.approx(np.mean(good) * found["requests_per_s"])
    assert 0.05 < np.mean(good) < 0.95


def test_one_token_has_no_tpot_to_miss():
    record = simulate([ONE], draw(20, 1.0, "64x1"))
    assert np.all(Slo(tpot_ms=1e-6).met(record))
    assert summary(record)["tpot_ms"] == {"mean": None, "p50": None, "p90": None, "p99": None}


def test_percentiles_are_linear_between_order_statistics():
    assert spread(np.arange(101.0)) == {"mean": 50.0, "p50": 50.0, "p90": 90.0, "p99": 99.0}


def test_a_summary_is_plain():
    found = summary(simulate([ONE] * 2, draw(20, 1.0, "64x8")), slo=Slo(tpot_ms=20))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_timeline_counts_who_waits_and_who_decodes():
    record = simulate([ONE], draw(200, 20.0, SHAPES, seed=4))
    found = timeline(record, points=20_001)
    area = np.mean(np.add(found["waiting"], found["decoding"])) * record.end
    assert area == pytest.approx(np.sum(record.latency), rel=2e-3)
    assert min(found["waiting"]) >= 0
    assert found["waiting"][-1] == found["decoding"][-1] == 0


def test_windows_follow_the_queue():
    burst = Trace(np.array([0.0, 1.0, *[5.0] * 300, 10.0]), np.full(303, 2048), np.full(303, 4))
    found = windows(simulate([ONE], burst), count=10)
    assert found["median"][5] > 10 * found["median"][0]
    assert found["median"][2] is None
    assert len(found["begin"]) == len(found["p99"]) == 10


def test_a_curve_is_the_distribution():
    found = curve(np.array([3.0, 1.0, np.nan, 2.0]), points=5)
    assert found == {"share": [0, 25, 50, 75, 100], "value": [1.0, 1.5, 2.0, 2.5, 3.0]}
    assert curve(np.array([np.nan]))["value"] == []


# -- saturation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FEW, deployment(max_running=96, chunk_tokens=1024), tight(share=0.23)])
def test_below_capacity_the_queue_settles_and_above_it_grows(kind):
    trace = draw(4000, 1.0, SHAPES, seed=5)
    highest = capacity([kind], trace)
    below, above = (simulate([kind], trace.at_rate(share * highest)) for share in (0.9, 1.15))
    quarters = [[np.mean(part) for part in np.array_split(record.ttft, 4)] for record in (below, above)]
    assert quarters[0][3] < 5 * quarters[0][1] + 1
    assert quarters[1][3] > 1.5 * quarters[1][1] > 1.5 * quarters[1][0]
    served = summary(above, warmup=1000)["requests_per_s"]
    assert served == pytest.approx(highest, rel=0.05)


def test_capacity_adds_up_over_replicas():
    trace = draw(100, 1.0, SHAPES)
    assert capacity([ONE, FEW, ONE], trace) == pytest.approx(2 * capacity([ONE], trace) + capacity([FEW], trace))


@pytest.mark.parametrize(
    ("slots", "serving", "within"),
    [(128, {"serving": "closed-loop", "batch": 128}, 0.1), (None, {"serving": "offline"}, 0.15)],
)
def test_capacity_is_the_steady_state_of_the_cost_model(slots, serving, within):
    """Prompts enter several at a time here (+7 %); a full cache evicts, and prompts are computed again (-11 %)."""
    highest = capacity([deployment(max_running=slots)], draw(100, 1.0, "1024x256"))
    row = dse.evaluate("llama-3.1-8b", "h100-sxm", precision="bf16", input=1024, output=256, fidelity="datasheet",
                       **serving).iloc[0]  # fmt: skip
    assert highest == pytest.approx(row["requests_per_s"], rel=within)


def test_labels():
    assert [saturation(load) for load in (0.1, 0.8499, 0.85, 0.999, 1.0, np.inf)] == [
        "stable", "stable", "backlogged", "backlogged", "overloaded", "overloaded",
    ]  # fmt: skip


def test_slots_leave_room_for_the_activations_of_as_many():
    """Short sequences in little memory: the logits of thousands would fill it, so fewer run."""
    fitted = simulate([tight(share=0.215)], draw(1, 1.0, "1x1")).fleet[0]
    assert fitted.room >= fitted.slots * fitted.held[1] > 0.99 * fitted.room - 1e6
