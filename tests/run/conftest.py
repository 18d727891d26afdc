"""A sweep that takes a moment and has several parts."""

from __future__ import annotations

from typing import Any

import pytest

from dse.run.score import Engine
from dse.run.sweep import load_sweep


@pytest.fixture
def small() -> dict[str, Any]:
    """A sweep of four models (dense and MoE), two chips, 192 points; each model is a part."""
    return {
        "name": "small",
        "models": ["llama-3.1-8b", "mixtral-8x7b", "llama-2-7b", "qwen3-32b"],
        "hardware": ["h100-sxm", "mi300x"],
        "precision": ["bf16", "fp8"],
        "workload": "1024x256",
        "parallel": {"tp": [1, 2, 8]},
        "batch": {"from": 1, "to": 8, "scale": "log2"},
    }


@pytest.fixture
def engine(small: dict[str, Any]) -> Engine:
    """The small sweep, resolved."""
    return Engine(load_sweep(small))
