"""A plan at full size: every GPU of the library, eight models, a hundred sizes of request, in a minute on two cores."""

from __future__ import annotations

import resource
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
        chip.name: round(0.1 + 0.35 * chip.bandwidth / 1e12 + 0.8 * max(chip.peaks.values()) / 1e15, 2)
        for chip in chips
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
    rest = {"slo": "standard", "price": {"override": prices}, "candidates": {"hardware": list(prices)}}
    return {"name": "full", "models": models, **rest}


def test_the_whole_library_in_a_minute():
    start, worked = time.perf_counter(), _on_two_cores()
    resolved = load_plan(full())
    found = plan(resolved).answer
    seconds, worked = time.perf_counter() - start, _on_two_cores() - worked
    print(f"{len(resolved.devices)} accelerators, {len(resolved.models)} models, {len(resolved.buckets)} sizes")
    print(f"{worked:.1f} s ({seconds:.1f} s beside all else that ran), {found['candidates']['points']:,} points")
    assert len(resolved.devices) >= 40
    assert len(resolved.buckets) == 100
    assert found["status"] == "optimal"
    assert worked < 60


def _on_two_cores() -> float:
    """Seconds worked so far: this process's own, and half of those of its children, which run two at a time."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + (children.ru_utime + children.ru_stime) / 2
