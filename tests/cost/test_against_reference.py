"""The vectorised cost model equals the plain scalar one on random points of every family."""

from __future__ import annotations

import random
import zlib
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np
import pytest
from reference.scalar import Reference

from dse.cost.choices import AXES, Choices
from dse.cost.evaluate import Question, columns, score
from dse.cost.mesh import Mesh
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.layout import Layout
from dse.spec.prefix import Prefix
from dse.spec.sampling import Sampling
from dse.spec.speculation import load_speculation
from dse.spec.workload import Workload

MODELS = (
    "llama-3.1-70b", "opt-30b", "opt-350m", "gpt-j-6b", "falcon-7b", "bloom-7.1b", "qwen2-7b", "gemma-2-9b",
    "mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-120b", "minimax-m2.5", "llama-4-scout", "mimo-v2-flash",
    "deepseek-v2-lite", "deepseek-v3", "deepseek-v3.2", "glm-5.2",
    "qwen3-next-80b-a3b", "nemotron-h-56b", "nemotron-3-super-120b-a12b", "mamba2-2.7b",
)  # fmt: skip

FAMILIES = (
    "llama-3.1-70b", "gemma-2-9b", "mixtral-8x7b", "llama-4-scout", "deepseek-v3.2", "qwen3-next-80b-a3b",
    "nemotron-3-super-120b-a12b", "mamba2-2.7b",
)  # fmt: skip

HARDWARE = (
    "a100-sxm-80gb",  # no fp8
    "a100-pcie-80gb-nvlink",  # fast link between two
    "l4",  # PCIe only, small
    "l40s",
    "rtx-4090",  # no link between boxes
    "h100-sxm",
    "b200",
    "gb200",  # 72 in one domain
    "mi300x",
    "t4",  # no bf16, alone in its domain
    "tpu-v5e",  # no power figure
)

PRECISIONS = (
    "bf16", "fp8", "w8a8-int8-kv8", "w4a16-g128", "w3a16-g128", "nvfp4", "mxfp4-experts", "q4_k_m", "fp32",
    {"weights": {"bits": 5, "group_size": 96, "symmetric": False}, "activations": "fp8",
     "kv_cache": {"bits": 3, "group_size": 40}},
)  # fmt: skip

LAYOUTS = (
    (1, 1, 1, 1), (2, 1, 1, 1), (4, 1, 1, 1), (8, 1, 1, 1), (16, 1, 1, 1), (12, 1, 1, 1),
    (1, 3, 1, 1), (2, 5, 1, 1), (4, 7, 1, 0), (1, 1, 2, 0), (2, 1, 4, 0), (2, 2, 4, 0), (4, 1, 2, 1), (1, 1, 8, 8),
    (2, 1, 4, 4), (4, 1, 2, 2), (8, 1, 4, 0), (1, 2, 16, 16), (1, 1, 72, 0), (2, 1, 2, 3),
)  # fmt: skip

WORKLOADS = (
    (1, 1), (1, 2), (7, 3), (100, 1), (128, 16), (128, 33), (2048, 9), (4090, 20), (8185, 30), (9001, 5),
    (513, 400), (120, 20),
)  # fmt: skip

BATCHES = (1, 2, 3, 7, 16, 40, 129, 512)

TECHNIQUES_TOLD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prefix": ({"prefix_hit": Prefix(tokens=96)}, {"prefix": 96}),
    "cascade": (
        {"prefix_hit": Prefix(tokens=100, cascade=True), "sampling": Sampling(n=3)},
        {"prefix": 100, "cascade": True, "branches": 3, "answers": 3},
    ),
    "beams": ({"sampling": Sampling(beams=4)}, {"branches": 4}),
    "verified": (
        {"speculation": load_speculation({"tree": 5, "tau": 2.5}), "sampling": Sampling(n=2)},
        {"width": 5, "tau": 2.5, "branches": 2, "answers": 2},
    ),
}
"""Techniques as the model is told of them, and as the reference is."""

POINTS = 110
"""Random points per model and variant."""

VARIANTS = (
    {},
    {"attention": "unfused", "max_prefill_tokens": float("inf"), "kv_block_size": 1, "memory_utilization": 1.0},
)


def _choices(variant: dict[str, Any]) -> Choices:
    options = dict(variant)
    techniques = {"attention": options.pop("attention")} if options else {}
    return Choices(
        hardware=[load_hardware(name) for name in HARDWARE],
        workload=[Workload(*pair) for pair in WORKLOADS],
        precision=[load_precision(entry) for entry in PRECISIONS],
        fidelity=["ideal", "datasheet", "calibrated"],
        layout=[Layout(*degrees) for degrees in LAYOUTS],
        batch=BATCHES,
        techniques=techniques,
        **options,
    )


def _draw(name: str, choices: Choices, count: int) -> list[tuple[int, ...]]:
    """Points of every layout in turn, random along the other axes, the same in every run."""
    draw = random.Random(zlib.crc32(name.encode()))
    shape = choices.shape
    at = AXES.index("layout")
    return [
        tuple(i % size if axis == at else draw.randrange(size) for axis, size in enumerate(shape)) for i in range(count)
    ]


def _reference(name: str, choices: Choices, point: tuple[int, ...], variant: dict[str, Any]) -> Reference:
    values = {axis: getattr(choices, axis)[index] for axis, index in zip(AXES, point, strict=True)}
    return Reference(
        load_model(name), values["hardware"], values["workload"], values["precision"],
        values["fidelity"], values["layout"], values["batch"], **variant,
    )  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=("defaults", "unfused"))
@pytest.mark.parametrize("name", MODELS)
def test_every_figure_and_status_equals_the_scalar_reference(name: str, variant: dict[str, Any]):
    choices = _choices(variant)
    points = _draw(name, choices, POINTS if not variant else POINTS // 3)
    mesh = Mesh.points(AXES, [np.array(axis) for axis in zip(*points, strict=True)])
    found = columns(load_model(name), choices, mesh)
    question = Question(("latency_s",), {})
    status = score(load_model(name), choices, mesh, question).status
    wrong = []
    for i, point in enumerate(points):
        reference = _reference(name, choices, point, variant)
        reason = reference.status
        got = question.reasons[int(status[i])]
        if got != reason:
            wrong.append(f"{point}: status {got}, expected {reason}")
        if reason == "too_few_layers":
            continue
        for metric, expected in reference.metrics().items():
            value = float(found[metric][i])
            same = isnan(value) if isnan(expected) else value == pytest.approx(expected, rel=1e-9, abs=0)
            if not same:
                where = f"{point} {reference.layout} {reference.workload.name}"
                wrong.append(f"{where}: {metric} {value!r}, expected {expected!r}")
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:12])


@pytest.mark.parametrize("told", TECHNIQUES_TOLD)
@pytest.mark.parametrize("name", FAMILIES)
def test_so_it_does_where_requests_share_branch_or_speculate(name: str, told: str):
    techniques, fields = TECHNIQUES_TOLD[told]
    workloads = [Workload(*pair) for pair in WORKLOADS if pair[0] > fields.get("prefix", 0)]
    choices = replace(_choices({}), techniques=techniques, workload=workloads)
    points = _draw(name + told, choices, POINTS // 2)
    mesh = Mesh.points(AXES, [np.array(axis) for axis in zip(*points, strict=True)])
    found = columns(load_model(name), choices, mesh)
    wrong = []
    for i, point in enumerate(points):
        reference = _reference(name, choices, point, fields)
        if reference.status == "too_few_layers":
            continue
        for metric, expected in reference.metrics().items():
            value = float(found[metric][i])
            if not (isnan(value) if isnan(expected) else value == pytest.approx(expected, rel=1e-9, abs=0)):
                wrong.append(f"{reference.layout} {reference.workload.name}: {metric} {value!r}, expected {expected!r}")
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:12])


@pytest.mark.parametrize("name", ["llama-3.1-70b", "deepseek-v3.2", "llama-4-scout", "gpt-oss-120b"])
@pytest.mark.parametrize("pair", [(1000, 3000), (8000, 2500), (100, 5000)])
def test_long_generations_equal_the_explicit_sum_over_steps(name: str, pair: tuple[int, int]):
    """Thousands of steps that cross from compute to memory, out of windows and over chunks."""
    choices = Choices(
        [load_hardware("h100-sxm"), load_hardware("gb200")], [Workload(*pair)], [load_precision("fp8")], ["ideal"],
        [Layout(8)], [1, 64],
    )  # fmt: skip
    mesh = Mesh.open(AXES, [slice(0, size) for size in choices.shape])
    found = columns(load_model(name), choices, mesh, ["tpot_ms"])["tpot_ms"]
    for chip in range(2):
        for batch in range(2):
            at = tuple({"hardware": chip, "batch": batch}.get(axis, 0) for axis in AXES)
            expected = _reference(name, choices, at, {}).metrics()["tpot_ms"]
            assert found[at] == pytest.approx(expected, rel=1e-9)
