"""Replicas that tests run."""

from __future__ import annotations

from functools import cache

import numpy as np

import dse
from dse.cost.choices import Choices
from dse.simulate.deployment import Deployment
from dse.spec.catalog import load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import IDEAL, RuntimeSpec
from dse.spec.workload import Workload

CHIP = dse.load_hardware("h100-sxm")
load_model = cache(dse.load_model)


def choices(tp=1, pp=1, dp=1, runtime: RuntimeSpec = IDEAL, precision="bf16", fidelity="datasheet", **other) -> Choices:
    layout = Layout(tp, pp, dp, 0)
    found = {"max_prefill_tokens": 8192, "kv_block_size": 16} | other
    return Choices([CHIP], [Workload(1024, 256)], [load_precision(precision)], [fidelity], [layout], [1],
                   runtime=runtime, **found)  # fmt: skip


def deployment(model="llama-3.1-8b", *, max_running=None, chunk_tokens=None, **axes) -> Deployment:
    return Deployment(load_model(model), choices(**axes), max_running, chunk_tokens)


def tight(model="llama-3.1-8b", share=0.27, **axes) -> Deployment:
    """So little memory beside the weights that the cache overflows."""
    return deployment(model, memory_utilization=share, **axes)


def each(values) -> list[float]:
    return np.asarray(values, dtype=float).tolist()
