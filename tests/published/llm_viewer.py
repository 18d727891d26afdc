"""Our operators in the terms of LLM-Viewer (hahnyuan/LLM-Viewer, arXiv 2402.16363): for tests only.

LLM-Viewer counts one layer at a time, decodes one step at context n = seqlen, and knows precisions as plain
bits. The product has no mode that imitates it: what differs from it on purpose is undone here, in tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.roofline import Contexts, Times, mean_amount, times
from dse.cost.setting import Phase
from dse.cost.work import BYTE_KINDS, Work
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.formats import PLAIN
from dse.spec.layout import Layout
from dse.spec.model import ModelSpec
from dse.spec.precision import Precision
from dse.spec.workload import Workload

LINEARS = ("q_proj", "k_proj", "v_proj", "out_proj", "gate_proj", "up_proj", "down_proj")
NORMS = ("attn_norm", "mlp_norm")
SCORES = ("qk_matmul", "softmax", "sv_matmul")

OURS = {
    "out_proj": "o_proj",
    "attn_norm": "attention_norm",
    "attn_add": "attention_add",
    "fused_attention": "attention",
}
"""Names of operators that differ."""

COLUMNS = ("load_weight", "load_act", "store_act", "load_kv_cache", "store_kv_cache")
"""Their columns of bytes, in the order of our `BYTE_KINDS`; they expand no quantised operands apart."""


def point(
    model: str | ModelSpec,
    hardware: Any = "a100-sxm-80gb",
    *,
    batch: int = 1,
    prompt: int = 2048,
    output: int = 2,
    precision: Any = "fp16",
    tp: int = 1,
    attention: str = "fused",
    fidelity: str = "ideal",
    max_prefill_tokens: float = np.inf,
) -> Point:
    """A mesh of one point; prompts are not chunked unless asked."""
    choices = Choices(
        [load_hardware(hardware)],
        [Workload(prompt, output)],
        [load_precision(precision)],
        [fidelity],
        [Layout(tp=tp)],
        [batch],
        techniques={"attention": attention},
        max_prefill_tokens=max_prefill_tokens,
    )
    return Point(load_model(model), choices, Mesh.open(AXES, [slice(0, 1)] * len(AXES)))


def plain_bits(weights: int, activations: int, kv_cache: int) -> Precision:
    """Plain bits without scales, as LLM-Viewer has them: bytes = bits / 8, of the head too."""
    w, a, kv = (PLAIN["fp16" if bits == 16 else f"int{bits}"] for bits in (weights, activations, kv_cache))
    return Precision("plain", w, a, kv, embeddings=w, attention=kv, projections=w)


def works(at: Point, phase: Phase) -> Mapping[str, Work]:
    """Operators of one layer (of the first of each distinct part) and of the edges, by our name."""
    found: dict[str, Work] = {}
    for part in at.works(phase):
        for work in part:
            found.setdefault(work.name, work)
    return found


def step(context: float) -> Contexts:
    """One decode step at this context."""
    return Contexts(np.full(1, float(context)), np.full(1, float(context)))


def figures(work: Work, context: float) -> dict[str, float]:
    """Operations and bytes by kind of one run of an operator, in LLM-Viewer's columns."""
    amount = mean_amount(work, step(context))
    columns = {"OPs": amount.flops} | {
        theirs: getattr(amount, ours) for theirs, ours in zip(COLUMNS, BYTE_KINDS[:-1], strict=True)
    }
    return {name: number(value) for name, value in columns.items()}


def moved(work: Work, context: float = 0.0) -> float:
    """All bytes of one run of an operator."""
    return number(mean_amount(work, step(context)).bytes)


def timed(at: Point, work: Work, context: float = 0.0) -> Times:
    """Seconds of one run of an operator; in decode at one context."""
    return times(work, at.rates, step(context))


def number(value: Any) -> float:
    """The one value of an array of any shape, or a plain number."""
    return float(np.asarray(value, dtype=float).item())


def compute_type(at: Point, work: Work) -> str:
    """The number type the operator's products run in on the point's accelerator."""
    return at.choices.compute_type(at.choices.hardware[0], at.choices.precision[0], work.operands)[1]


def all_works(at: Point, phase: Phase) -> Iterator[list[Work]]:
    """The operators of each distinct part and edge."""
    yield from at.works(phase)
