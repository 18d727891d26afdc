"""`dse place`: what it prints, its JSON, and what it refuses."""

from __future__ import annotations

import json

import pytest

FLEXGEN = ("--model", "opt-30b", "--hardware", "t4-flexgen", "--precision", "fp16", "--input", "512", "--output", "32")
TIERS = ("accelerator", "host", "disk")


@pytest.fixture
def found(dse) -> dict:
    said = dse("place", *FLEXGEN, "--overlap", "pairwise", "--json")
    assert said.code == 0
    return json.loads(said.out)


def test_json_has_what_a_script_needs(found):
    assert found["status"] == "ok"
    assert found["shares"].keys() == {"weights", "cache", "hidden"}
    for on in found["shares"].values():
        assert sum(on[tier] for tier in TIERS) == pytest.approx(1)
    assert found["batch"] == found["gpu_batch"] * found["num_batches"]
    assert found["output_tokens_per_s"] == pytest.approx(found["batch"] * 32 / found["latency_s"])
    assert found["latency_s"] * 1e3 == pytest.approx(found["ttft_ms"] + 31 * found["tpot_ms"])
    for phase in ("prefill", "decode"):
        times = dict(found["times"][phase])
        total = times.pop("total")
        assert max(times.values()) <= total * (1 + 1e-9)
        assert total <= sum(times.values()) * (1 + 1e-9)
    for tier in TIERS:
        memory = found["memory"][tier]
        assert memory["used_gb"] <= memory["capacity_gb"] * (1 + 1e-9)
        parts = [value for name, value in memory.items() if name not in ("used_gb", "capacity_gb")]
        assert sum(parts) == pytest.approx(memory["used_gb"])
    assert found["binding"]
    assert found["shadow_prices"]["accelerator_tokens_per_s_per_gb"] > 0
    assert 0 <= found["rounded"]["loss_pct"] < 20
    assert found["without_offloading"] is None
    assert found["note"] == "does not fit without offloading"
    assert found["programs_by_highs"] <= found["programs"] / 100


def test_a_forced_policy_is_run_as_given(dse):
    said = dse("place", *FLEXGEN, "--policy", "10,90,0,100,0,100", "--gpu-batch", "20", "--num-batches", "4",
               "--host", "attention", "--overlap", "serial", "--json")  # fmt: skip
    found = json.loads(said.out)
    assert (found["gpu_batch"], found["num_batches"], found["host_computes"]) == (20, 4, "attention")
    assert found["shares"]["weights"] == {"accelerator": pytest.approx(0.1), "host": pytest.approx(0.9), "disk": 0}
    streams = {name: value for name, value in found["times"]["decode"].items() if name not in ("total", "host_memory")}
    assert found["times"]["decode"]["total"] == pytest.approx(sum(streams.values()))


def test_percent_and_fractions_mean_the_same(dse):
    same = ("--gpu-batch", "20", "--num-batches", "4", "--host", "none", "--json")
    percent = dse("place", *FLEXGEN, "--policy", "10,90,0,100,0,100", *same)
    fraction = dse("place", *FLEXGEN, "--policy", "0.1,0.9,0,1,0,1", *same)
    assert percent.out == fraction.out


def test_the_terminal_says_where_what_lies_and_what_more_would_bring(dse):
    said = dse("place", *FLEXGEN)
    assert said.code == 0
    for words in ("the host computes", "weights", "capacity", "limits:", "1 GB more of accelerator memory is worth",
                  "does not fit without offloading", "frontier of blocks", "in whole layers"):  # fmt: skip
        assert words in said.out
    assert "HiGHS" not in said.out


def test_offloading_what_fits_is_called_dominated(dse):
    said = dse("place", "--model", "opt-1.3b", "--hardware", "h100-sxm", "--json")
    found = json.loads(said.out)
    assert found["without_offloading"]["output_tokens_per_s"] > 0
    assert found["note"].startswith("fits without offloading")
    assert found["offloading_dominated"] == (
        found["without_offloading"]["output_tokens_per_s"] >= found["output_tokens_per_s"]
    )


def test_experts_have_shares_of_their_own(dse):
    said = dse("place", "--model", "mixtral-8x7b", "--hardware", "rtx-4090", "--gpu-batch", "8", "--json")
    shares = json.loads(said.out)["shares"]
    assert shares.keys() == {"weights", "experts", "cache", "hidden", "dense_weights"}
    low, high = sorted((shares["experts"]["accelerator"], shares["dense_weights"]["accelerator"]))
    assert low <= shares["weights"]["accelerator"] <= high


def test_nothing_fits_exits_1_and_says_how_much_is_missing(dse):
    said = dse("place", "--model", "kimi-k2", "--hardware", "rtx-3070", "--precision", "bf16")
    assert said.code == 1
    assert "exceeds_memory: needs" in said.out


def test_a_policy_that_does_not_fit_is_told_all_the_same(dse):
    said = dse("place", *FLEXGEN, "--policy", "100,0,100,0,100,0", "--gpu-batch", "2", "--num-batches", "1", "--json")
    found = json.loads(said.out)
    assert said.code == 1
    assert found["status"] == "exceeds_memory"
    assert found["needed_over_available"] > 4
    assert found["output_tokens_per_s"] > 0
    text = dse("place", *FLEXGEN, "--policy", "100,0,100,0,100,0", "--gpu-batch", "2", "--num-batches", "1")
    assert "exceeds_memory: needs" in text.out


def test_too_short_a_time_exits_1(dse):
    said = dse("place", *FLEXGEN, "--latency", "0.001")
    assert said.code == 1
    assert "constraint:latency_s: the fastest block takes" in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--policy", "20,80,0,100"), "policy: expected six percentages wg,wc,cg,cc,hg,hc, got 20,80,0,100"),
        (("--policy", "20,90,0,100,0,100"), "policy: 20 and 90 are more than all of weights: the two are at most 100"),
        (("--policy", "a,b"), "--policy: expected numbers with commas between, got 'a,b'"),
        (("--policy", "-1,5,0,9,0,9"), "policy: expected six percentages wg,wc,cg,cc,hg,hc, got -1,5,0,9,0,9"),
        (("--gpu-batch", "0"), "gpu-batch: expected a whole number of at least 1, got 0"),
        (("--latency", "-1"), "latency: expected seconds above 0, got -1"),
        (("--host", "experts"), "host: opt-30b has no such layers for experts"),
        (("--host", "gpu"), "host: expected any of attention, ffn, experts, or none; got gpu"),
        (("--hardware", "t5"), "hardware: unknown hardware 't5'; 'dse list hardware' shows all"),
    ],
)
def test_faults_are_told_plainly(dse, options, message):
    said = dse("place", *FLEXGEN, *options)
    assert said.code == 2
    assert message in said.err
    assert "Traceback" not in said.err


def test_a_layout_that_cannot_be_is_a_status(dse):
    said = dse("place", *FLEXGEN, "--tp", "3")
    assert said.code == 1
    assert "heads_not_divisible" in said.out


POLICY = ("--policy", "20,80,0,100,0,100", "--gpu-batch", "48", "--num-batches", "3")


def test_a_policy_that_ran_needs_all_the_memory_and_whole_tensors(dse):
    """FlexGen's own (table 2: 7.32 tokens/s), which a planner's tenth kept back and parts of matrices refuse."""
    refused = dse("place", *FLEXGEN, *POLICY)
    assert refused.code == 1
    assert "exceeds_memory: needs 1.22 times" in refused.out
    said = dse("place", *FLEXGEN, *POLICY, "--whole-tensors", "--memory-utilization", 1, "--host-utilization", 1,
               "--max-prefill-tokens", "unlimited", "--json")  # fmt: skip
    found = json.loads(said.out)
    assert said.code == 0
    assert found["shares"]["weights"]["accelerator"] == pytest.approx(1 / 12, rel=1e-3)
    assert found["output_tokens_per_s"] == pytest.approx(7.32, rel=0.15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--whole-tensors"], "whole-tensors: rounds the weights of a policy; give one"),
        ([*POLICY, "--memory-utilization", "1.5"], "memory_utilization: must be <= 1, got 1.5"),
        ([*POLICY, "--host-utilization", "0"], "host_utilization: must be > 0, got 0"),
        ([*POLICY, "--max-prefill-tokens", "some"], "max_prefill_tokens: 'some' is not one of unlimited"),
        (["--precision", "{weights: fp17"], "--precision:"),
        (["--precision", "{weights: fp17}"], "precision.weights: no number format is named 'fp17'"),
    ],
)
def test_options_of_memory_that_are_wrong(dse, options, message):
    said = dse("place", *FLEXGEN, *options)
    assert said.code == 2
    assert said.err.startswith(message)


def test_a_scheme_in_place_is_the_one_of_its_name(dse):
    """As in a sweep."""
    point, same = FLEXGEN[:4], (*POLICY, "--json")
    named, given, wide = (
        json.loads(dse("place", *point, "--precision", scheme, *same).out)
        for scheme in ("w4a16-g128", "{weights: {dtype: int4, group_size: 128}, activations: bf16}", "bf16")
    )
    assert named["memory"] == given["memory"]
    assert named["memory"] != wide["memory"]


def test_explain_and_simulate_take_the_memory_as_well(dse):
    point = ("--model", "llama-3.1-8b", "--hardware", "l40s")
    roomy = json.loads(dse("explain", *point, "--memory-utilization", 1, "--json").out)
    assert roomy["memory"]["accelerator"]["limit_gb"] == roomy["memory"]["accelerator"]["capacity_gb"]
    passes = [dse("explain", *point, "--batch", 64, "--max-prefill-tokens", most) for most in (1024, "unlimited")]
    assert [said.code for said in passes] == [0, 0]
    assert passes[0].out != passes[1].out
    tight = dse("simulate", *point, "--rate", 1, "--requests", 50, "--memory-utilization", 0.2)
    assert tight.code == 1
    assert "memory" in tight.err
