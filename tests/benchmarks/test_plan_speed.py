"""A plan at full size: every GPU of the library, eight models, a hundred sizes of request, in a minute on two cores."""

from __future__ import annotations

import time

import numpy as np
import pytest

from dse.run.plan import load_plan, plan
from dse.spec.catalog import hardware_names, load_hardware

pytestmark = pytest.mark.benchmark

MODELS = (
    "llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-120b", "gemma-3-27b",
    "mistral-small-24b",
)  # fmt: skip
SIZES = (13, 13, 13, 13, 12, 12, 12, 12)


def full() -> dict:
    """Prices are made up, by bandwidth and peak: the library has none for most of the chips."""
    random = np.random.default_rng(1)
    chips = [chip for chip in map(load_hardware, hardware_names()) if chip.kind == "gpu"]
    prices = {
        chip.name: round(0.1 + 0.35 * chip.bandwidth / 1e12 + 0.8 * max(chip.peaks.values()) / 1e15, 2) for chip in chips
    }
    models = [
        {
            "model": name,
            "demand": {
                "buckets": [
                    {
                        "input": int(np.exp(random.uniform(4.5, 8.8))),
                        "output": int(np.exp(random.uniform(2.5, 6.5))),
                        "requests_per_s": float(random.uniform(0.5, 6)),
                    }
                    for _ in range(sizes)
                ]
            },
        }
        for name, sizes in zip(MODELS, SIZES, strict=True)
    ]
    candidates = {"hardware": list(prices)}
    return {"name": "full", "models": models, "slo": "standard", "price": {"override": prices}, "candidates": candidates}


def test_the_whole_library_in_a_minute():
    start = time.perf_counter()
    resolved = load_plan(full())
    found = plan(resolved).answer
    seconds = time.perf_counter() - start
    print(f"{len(resolved.devices)} accelerators, {len(resolved.models)} models, {len(resolved.buckets)} sizes: "
          f"{seconds:.1f} s, {found['candidates']['points']:,} points, gap {found['gap']:.2%}")  # fmt: skip
    assert len(resolved.devices) >= 40
    assert len(resolved.buckets) == 100
    assert found["status"] == "optimal"
    assert seconds < 60
