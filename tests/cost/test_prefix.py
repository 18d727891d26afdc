"""Prefix caching: what is not computed again, what is held once, what decode reads once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.points import choices, figures, mesh_of

import dse
from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.roofline import mean_amount
from dse.errors import InputError
from dse.spec.lengths import Length
from dse.spec.prefix import Prefix
from dse.spec.workload import Workload

PROMPT, OUTPUT, BATCH = 2048, 256, 16
COSTS = ("ttft_ms", "tpot_ms", "latency_s", "memory_gb_per_device")


def point(model: str, prefix: object = "none", batch: int = BATCH) -> Point:
    chosen = choices(workload=((PROMPT, OUTPUT),), batch=(batch,), prefix_hit=prefix, max_prefill_tokens=np.inf)
    return Point(dse.load_model(model), chosen, mesh_of(chosen))


def one(value: object) -> float:
    return float(np.ravel(np.asarray(value))[0])


def amounts(point: Point, phase: str) -> dict[str, object]:
    """FLOPs and bytes of each operator of the first attention and feed-forward."""
    works = [work for part in point.works(phase)[:2] for work in part]
    return {work.name: mean_amount(work, point.contexts) for work in works}


def test_the_prompt_pass_computes_the_new_tokens_over_the_whole_context():
    cached = 1536
    full = amounts(point("llama-2-7b"), "prefill")
    short = amounts(point("llama-2-7b", Prefix(tokens=cached)), "prefill")
    assert one(short["q_proj"].flops) / one(full["q_proj"].flops) == pytest.approx(1 - cached / PROMPT)
    pairs = (PROMPT * (PROMPT + 1) - cached * (cached + 1)) / (PROMPT * (PROMPT + 1))
    assert one(short["attention"].flops) / one(full["attention"].flops) == pytest.approx(pairs)
    assert one(short["attention"].kv_read) == one(full["attention"].kv_read)  # the keys of all tokens
    assert one(short["k_proj"].kv_write) / one(full["k_proj"].kv_write) == pytest.approx(1 - cached / PROMPT)
    assert one(short["down_proj"].weights) == one(full["down_proj"].weights)


def test_a_window_reads_what_it_still_sees_of_the_prefix():
    """Gemma-2's first layer sees 4,096 tokens; Llama-4's first sees its own chunk of 8,192."""
    chosen = choices(workload=((10_000, 8),), batch=(1,), prefix_hit=Prefix(tokens=9_000))
    found = Point(dse.load_model("gemma-2-9b"), chosen, mesh_of(chosen))
    windowed = found.parts[0].component
    work = next(work for work in found.part_works("prefill", 0) if work.name == "attention")
    keys = 1_000 + windowed.window
    assert one(mean_amount(work, found.contexts).kv_read) == keys * windowed.kv_elements * 2
    assert one(mean_amount(work, found.contexts).flops) == pytest.approx(
        1_000 * windowed.window * (4 * windowed.head_dim + 5) * windowed.heads
    )


def test_a_latent_cache_is_expanded_again():
    """Prefill attends to keys per head: those of cached tokens come from their latents anew."""
    full, short = (amounts(point("deepseek-v3", p), "prefill") for p in ("none", Prefix(share=0.75)))
    assert one(short["kv_b_proj"].flops) == one(full["kv_b_proj"].flops)
    assert one(short["o_proj"].flops) == pytest.approx(one(full["o_proj"].flops) / 4)


def test_a_shared_prefix_is_held_once_and_the_rest_per_sequence():
    per_token = dse.load_model("llama-2-7b").kv_bytes_per_token("bf16")
    plain, shared, own = (
        one(Memory(point("llama-2-7b", p)).cache) for p in ("none", Prefix(tokens=1024), Prefix(share=0.5, own=True))
    )
    whole = PROMPT + OUTPUT
    assert plain == BATCH * whole * per_token
    assert shared == (1024 + BATCH * (whole - 1024)) * per_token
    assert own == plain


def test_only_whole_pages_are_shared():
    memory = Memory(point("llama-2-7b", Prefix(tokens=1000)))
    assert one(memory.common) == 992 * dse.load_model("llama-2-7b").kv_bytes_per_token("bf16")


def test_a_recurrent_state_is_kept_once_more_where_the_prefix_ends():
    plain, shared = (one(Memory(point("mamba2-2.7b", p)).cache) for p in ("none", Prefix(share=0.5)))
    assert shared == pytest.approx(plain * (BATCH + 1) / BATCH)


def test_cascade_attention_reads_the_shared_keys_once_per_batch():
    cached = 1024
    plain, cascade = (
        one(amounts(point("llama-2-7b", p), "decode")["attention"].kv_read)
        for p in (Prefix(tokens=cached), Prefix(tokens=cached, cascade=True))
    )
    context = PROMPT + OUTPUT / 2  # mean of input + 1 ... input + output - 1
    per_token = plain / (BATCH * context)
    assert cascade == pytest.approx(plain - (BATCH - 1) * cached * per_token)
    alone = [one(point("llama-2-7b", Prefix(tokens=cached, cascade=c), batch=1).tpot) for c in (False, True)]
    assert alone[0] == alone[1]


@settings(deadline=None, max_examples=40)
@given(
    model=st.sampled_from(["llama-3.1-8b", "deepseek-v3", "mixtral-8x7b"]),
    shares=st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
    flags=st.sampled_from([{}, {"own": True}, {"cascade": True}]),
    batch=st.integers(1, 200),
    shape=st.tuples(st.integers(2, 20_000), st.integers(1, 500)),
)
def test_more_hits_are_never_slower_nor_larger(model, shares, flags, batch, shape):
    """Passes hold whole prompts, so that shorter ones may fill a pass more: all in one, here."""
    few, many = (Prefix(share=share, **flags) for share in sorted(shares))
    for less, more in (("none", few), (few, many)):
        a, b = (
            figures(
                model, choices(workload=(shape,), batch=(batch,), prefix_hit=value, max_prefill_tokens=np.inf), *COSTS
            )
            for value in (less, more)
        )
        for name in COSTS:
            assert np.all((b[name] <= a[name] * (1 + 1e-9)) | np.isnan(a[name])), name


def test_the_last_token_is_always_computed():
    found = point("llama-2-7b", Prefix(share=1.0))
    assert one(found.setting("prefill").queries) == 1.0


def test_memory_that_is_shared_holds_more_requests():
    plain, shared = (
        figures(
            "llama-3.1-8b", choices(workload=((PROMPT, OUTPUT),), batch=(1,), prefix_hit=p, serving="offline"),
            "max_batch", "requests_per_s", "ttft_ms",
        )
        for p in ("none", Prefix(share=0.5))
    )  # fmt: skip
    assert one(shared["max_batch"]) > 1.5 * one(plain["max_batch"])
    assert one(shared["requests_per_s"]) > 1.3 * one(plain["requests_per_s"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"shar": 0.5}, "prefix_hit.shar: unknown field; did you mean 'share'?"),
        ({"share": 1.5}, "prefix_hit.share: must be <= 1, got 1.5"),
        ({"share": 0.5, "tokens": 100}, "prefix_hit: expected either 'share' or 'tokens'"),
        ({"own": True}, "prefix_hit: expected either 'share' or 'tokens'"),
        ({"share": 0.5, "own": True, "cascade": True}, "prefix_hit: cascade attention reads once what sequences share"),
        (1.5, "prefix_hit: expected none, the share of each prompt that is found, or {share or tokens, own, cascade}"),
        ("half", "a share is above 0 and at most 1, got 'half'"),
    ],
)
def test_what_is_wrong_is_named(value, message):
    with pytest.raises(InputError) as error:
        dse.evaluate("llama-3.1-8b", "h100-sxm", prefix_hit=value)
    assert message in str(error.value)


def test_reasons_why_a_prefix_cannot_be():
    def status(**axes):
        return dse.evaluate("llama-3.1-8b", "h100-sxm", **axes)["status"].tolist()

    prefix = {"tokens": 2048}
    assert status(prefix_hit=prefix, input=[1024, 2048, 2049], output=8) == ["prefix_not_in_prompt"] * 2 + ["ok"]
    assert status(prefix_hit=0.5, kv_budget=256) == ["prefix_evicted"]
    assert status(prefix_hit=0.5, offload="lp", batch=4) == ["not_with_offload"]


LENGTHS = ((200.0, 100.0, 0.5), (600.0, 400.0, 0.25), (4000.0, 200.0, 0.25))


def mixed(prefix: object) -> Point:
    chosen = choices(batch=(8,), prefix_hit=prefix, serving="closed-loop")
    chosen.workload[:] = [Workload.of([Length(*node) for node in LENGTHS], "mix")]
    return Point(dse.load_model("llama-3.1-8b"), chosen, mesh_of(chosen))


def test_a_prompt_shorter_than_the_prefix_finds_no_more_than_its_own():
    """Not what the mean prompt of 1,250 tokens would: of 200 tokens 199, of 600 tokens 599, of 4,000 the 1,000."""
    found = mixed(Prefix(tokens=1000)).found
    assert one(found.tokens) == pytest.approx(0.5 * 199 + 0.25 * 599 + 0.25 * 1000)
    assert one(found.shared) == pytest.approx((50 * 199 + 100 * 599 + 50 * 1000) / 200)  # longer ones run longer
    assert one(found.once) == 1000
    own = mixed(Prefix(tokens=1000, own=True)).found
    assert (one(own.tokens), own.shared, own.once) == (one(found.tokens), 0.0, 0.0)


def test_a_share_of_each_prompt_is_the_share_of_their_mean():
    assert one(mixed(Prefix(share=0.5)).found.tokens) == pytest.approx(625)


def test_a_prefix_longer_than_some_prompts_is_none_of_all(tmp_path):
    table = tmp_path / "mix.csv"
    table.write_text("input,output,weight\n" + "".join(f"{i:g},{o:g},{w}\n" for i, o, w in LENGTHS))
    values = [{"tokens": tokens} for tokens in (100, 1600, 3999, 4000)]
    found = dse.evaluate("llama-3.1-8b", "h100-sxm", workload={"lengths": str(table)}, serving="offline",
                         prefix_hit=values)  # fmt: skip
    assert found["status"].tolist() == ["ok", "ok", "ok", "prefix_not_in_prompt"]
    assert found["requests_per_s"][:3].is_monotonic_increasing
    assert found["max_batch"][:3].is_monotonic_increasing
