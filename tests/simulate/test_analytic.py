"""The analytic latencies under load against the simulator: a few of the cases of docs/serving_check.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("serving_check", ROOT / "docs/serving_check.py")
check = importlib.util.module_from_spec(spec)
sys.modules["serving_check"] = check
spec.loader.exec_module(check)

REQUESTS = 4000
"""Enough for means to 4 %, and 99th percentiles to 15 %, below 60 % load."""

H100 = ("llama-3.1-8b", "h100-sxm", "fp8", (1, 1, 1, 1), "ideal")
A100S = ("mixtral-8x7b", "a100-sxm-80gb", "bf16", (2, 1, 1, 1), "vllm")
CASES = [
    check.Case(H100, "1155x211", "none", 128, 0.6),
    check.Case(H100, "4096x512", 512, 128, 0.6),
    check.Case(H100, "azure-conversation", "none", 128, 0.6),
    check.Case(H100, "azure-code", 1024, 64, 0.45),
    check.Case(A100S, "512x64", "none", 64, 0.6),
    check.Case(A100S, "128x1024", "none", 32, 0.45),
    check.Case(A100S, "azure-conversation", 2048, 64, 0.45),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_means_within_ten_percent_and_tails_within_a_quarter(case):
    predicted, played = check.compared(case, REQUESTS, seeds=1)
    for name, ours, theirs in zip(check.labels(), predicted, played, strict=True):
        limit = check.MEAN if name.endswith("mean") else check.TAIL
        assert ours == pytest.approx(theirs, rel=limit + 0.03), name


SMALL = [
    check.Case(H100, "1155x211", "none", 16, 0.8),
    check.Case(H100, "azure-conversation", "none", 16, 0.7),
    check.Case(A100S, "1155x211", 512, 8, 0.7),
    check.Case(H100, "4096x512", 512, 24, 0.75, burstiness=1.5),
]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_waits_for_a_place_in_a_small_batch(case):
    """Mean time to the first token, most of which is that wait; 15,000 requests tell it to some 5 %."""
    predicted, played = check.compared(case, 15_000, seeds=1)
    assert predicted[0] == pytest.approx(played[0], rel=check.MEAN + 0.05)


GH200 = ("qwen3-14b", "gh200-96gb", "fp8", (1, 1, 1, 1), "sglang")
LONG = [
    check.Case(GH200, "mooncake-conversation", 768, 8, 0.65),
    check.Case(GH200, "mooncake-conversation", 1536, 256, 0.5),
    check.Case(("qwen2.5-72b", "b300", "fp8", (1, 1, 1, 1), "tensorrt-llm"), "mooncake-conversation", "none", 8, 0.8),
    check.Case(("llama-3.1-8b", "l40", "fp8", (1, 1, 1, 1), "ideal"), "mooncake-conversation", "none", 256, 0.6),
]


@pytest.mark.parametrize("case", LONG, ids=lambda case: case.name)
def test_waits_behind_prompts_of_up_to_96_000_tokens(case):
    """For a place, for blocks, for the prompt in front; the mean over 30,000 such requests is known to some 6 %."""
    predicted, played = check.compared(case, 15_000, seeds=2)
    assert predicted[0] == pytest.approx(played[0], rel=check.MEAN + 0.08)


@pytest.mark.parametrize("case", CASES[:3], ids=lambda case: case.name)
def test_a_replica_finishes_what_its_capacity_says(case):
    with np.errstate(all="ignore"):
        loop = case.loop()
        assert check.one(loop.capacity) == pytest.approx(check.simulated_capacity(case, loop, 3000), rel=0.08)
