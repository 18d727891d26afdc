"""LLM-Viewer issue #4: LLaMA-7B on an A100 80 GB in FP16, measured with TensorRT-LLM, against both tools.

Printed with `pytest -s`. No coefficient of `datasheet` was fitted to these points.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass

import llm_viewer
import pytest
from llm_viewer import number

from dse.cost.metrics import Scored

PREFILL_TOKENS = 8192
"""Tokens of one prompt pass: TensorRT-LLM's default, and ours."""


@dataclass(frozen=True)
class Compared:
    """One measured point with both predictions, in its own unit."""

    metric: str
    batch: int
    prompt: int
    output: int
    measured: float
    llm_viewer: float
    dse: float

    @property
    def errors(self) -> tuple[float, float]:
        """Relative errors of LLM-Viewer and dse."""
        return self.llm_viewer / self.measured - 1, self.dse / self.measured - 1


def predict(batch: int, prompt: int, output: int) -> float:
    """Generated tokens/s, or milliseconds to the first token where only that is generated."""
    at = llm_viewer.point(
        "llama-7b",
        "a100-sxm-80gb",
        batch=batch,
        prompt=prompt,
        output=output,
        fidelity="datasheet",
        max_prefill_tokens=PREFILL_TOKENS,
    )
    return number(at.ttft) * 1e3 if output == 1 else number(Scored(at).tokens_per_s)


@pytest.fixture(scope="module")
def points(shared_data) -> list[Compared]:
    with (shared_data / "llm_viewer/vs_trtllm_issue4.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        shape = int(row["batch"]), int(row["input_len"]), int(row["output_len"] or 1)
        theirs = float(row["at_1893e4b_A100_80G_flash"])
        found.append(Compared(row["metric"], *shape, float(row["trtllm_measured"]), theirs, predict(*shape)))
    return found


def mean_error(points: list[Compared], tool: int) -> float:
    return sum(abs(point.errors[tool]) for point in points) / len(points)


def table(points: list[Compared]) -> str:
    lines = [f"{'metric':24}{'batch x in x out':>18}{'LLM-Viewer says':>22}{'dse says':>22}{'measured':>10}"]
    for p in points:
        said = zip((p.llm_viewer, p.dse), p.errors, strict=True)
        theirs, ours = (f"{value:.5g} ({error:+.0%})" for value, error in said)
        lines.append(f"{p.metric:24}{f'{p.batch}x{p.prompt}x{p.output}':>18}{theirs:>22}{ours:>22}{p.measured:>10g}")
    return "\n".join(lines)


def test_throughputs_are_nearer_to_the_measurements_than_those_of_llm_viewer(points):
    throughputs = [point for point in points if point.metric.startswith("output tok")]
    assert len(points) == 6
    assert len(throughputs) == 4
    theirs, ours = (mean_error(throughputs, tool) for tool in (0, 1))
    print(f"\n{table(points)}\nmean error of the throughputs: LLM-Viewer {theirs:.1%}, dse {ours:.1%}")
    assert theirs == pytest.approx(0.28, abs=0.005), "as published"
    assert ours < 0.1


def test_first_tokens_are_nearer_to_the_measurements_too(points):
    first = [point for point in points if point.metric.startswith("first")]
    assert len(first) == 2
    for point in first:
        assert abs(point.errors[1]) < abs(point.errors[0])
