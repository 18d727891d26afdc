"""How far the latencies of two pools under load are off: the cost model beside the simulator on a grid of cases.

    python docs/pools_check.py [REQUESTS]

Prints a line per case (TTFT mean and p99, TPOT mean and p99, latency mean and p99, predicted over simulated), then the
share of cases within 10 % (means) and 25 % (percentiles), with the median absolute error. Loads are shares of the
highest rate predicted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices, Pools
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.pooled import Pooled
from dse.simulate.deployment import Deployment
from dse.simulate.fleet import simulate
from dse.simulate.pools import transfer_of
from dse.simulate.trace import draw
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import load_runtime
from dse.spec.workload import Workload

LOADS = (0.3, 0.6, 0.8)
BURSTS = (1.0, 1.5)
WARM_UP = 0.2
NAMES = ("ttft", "ttft p99", "tpot", "tpot p99", "latency", "latency p99")
GOALS = (0.10, 0.25) * 3


@dataclass(frozen=True)
class Case:
    """A deployment of two pools, and the size of its requests."""

    model: str
    chips: tuple[str, str]
    tp: tuple[int, int]
    workers: tuple[int, int]
    size: tuple[int, int]
    precision: str = "bf16"
    runtime: str = "vllm"


CASES = [
    Case("llama-3.1-8b", ("h100-sxm", "h100-sxm"), (1, 1), (2, 1), (4000, 300)),
    Case("llama-3.1-8b", ("h100-sxm", "h100-sxm"), (1, 1), (1, 2), (1000, 300)),
    Case("llama-3.1-8b", ("l40s", "h100-sxm"), (1, 1), (2, 1), (2000, 200)),
    Case("llama-3.1-8b", ("h100-sxm", "h100-sxm"), (1, 1), (1, 4), (200, 600)),
    Case("llama-3.1-8b", ("a100-sxm-80gb", "a100-sxm-80gb"), (1, 1), (1, 1), (300, 50)),
    Case("llama-3.1-70b", ("h100-sxm", "h200-sxm"), (4, 4), (3, 1), (6000, 500)),
    Case("llama-3.1-70b", ("h200-sxm", "h200-sxm"), (2, 4), (4, 1), (3000, 150)),
    Case("llama-3.1-70b", ("b200", "b200"), (1, 2), (5, 2), (8000, 400), "fp8"),
    Case("qwen3-30b-a3b", ("h100-sxm", "h100-sxm"), (1, 2), (6, 1), (8000, 100)),
    Case("qwen3-32b", ("h200-sxm", "h200-sxm"), (1, 2), (2, 1), (4000, 1000), "fp8", "tensorrt-llm"),
    Case("mixtral-8x7b", ("h100-sxm", "h100-sxm"), (2, 2), (3, 2), (2500, 400)),
    Case("gpt-oss-20b", ("mi300x", "mi300x"), (1, 1), (8, 3), (1500, 700)),
]


def pooled(case: Case, burstiness: float) -> Pooled:
    """A case as the cost model has it."""
    scheme, workload = load_precision(case.precision), Workload(*case.size)
    runtime = load_runtime(case.runtime)
    prefill, decode = (
        Choices([load_hardware(chip)], [workload], [scheme], ["calibrated"], [Layout(tp)], [512], runtime=runtime,
                burstiness=burstiness)
        for chip, tp in zip(case.chips, case.tp, strict=True)
    )  # fmt: skip
    choices = replace(decode, serving="disaggregated", pools=Pools(prefill))
    point = Point(load_model(case.model), choices, Mesh.points(choices.axes, [np.zeros(1, dtype=int)] * 11))
    return Pooled(point, runtime).with_workers(*np.array(case.workers, dtype=float).reshape(2, 1))


def predicted(pools: Pooled, rate: NDArray[np.float64]) -> list[float]:
    """Seconds as the queues have them."""
    queue = pools.at(rate)
    found = (queue.ttft, queue.quantile("first_tokens", 0.99), queue.tpot, queue.quantile("gaps", 0.99), queue.latency,
             queue.quantile("latencies", 0.99))  # fmt: skip
    return [float(values[0]) for values in found]


def simulated(case: Case, pools: Pooled, rate: float, requests: int, burstiness: float, seed: int) -> list[float]:
    """The same as the simulator has them."""
    choices = pools.point.choices
    assert choices.pools is not None
    prompts = Deployment(pools.point.model, replace(choices.pools.prefill, batch=[1]), 512)
    decodes = Deployment(pools.point.model, replace(choices, batch=[1], serving="static", pools=None), 512)
    x, y = case.workers
    trace = draw(requests, rate, [case.size], burstiness=burstiness, seed=seed)
    record = simulate([decodes] * y, trace, dispatch="least-loaded", prefill=[prompts] * x, transfer=transfer_of(pools))
    kept = slice(int(WARM_UP * requests), None)
    measured = (record.ttft[kept], record.tpot[kept], record.latency[kept])
    return [float(value) for values in measured for value in (np.mean(values), np.percentile(values, 99))]


def grid() -> Iterator[tuple[Case, float, float]]:
    """Cases, loads and bursts."""
    yield from product(CASES, LOADS, BURSTS)


def main(requests: int) -> None:
    """Print the grid and its errors."""
    errors: dict[float, list[list[float]]] = {bursts: [] for bursts in BURSTS}
    for case, load, bursts in grid():
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            pools = pooled(case, bursts)
            rate = load * pools.capacity
            expected = predicted(pools, rate)
            found = simulated(case, pools, float(rate[0]), requests, bursts, seed=7)
        ratios = [one / other for one, other in zip(expected, found, strict=True)]
        errors[bursts].append([ratio - 1 for ratio in ratios])
        shown = " ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"{case.model} {case.size[0]}x{case.size[1]} {case.workers} load {load} bursts {bursts}: {shown}",
            flush=True,
        )
    for bursts, rows in errors.items():
        table = np.array(rows)
        print(f"bursts {bursts}, {len(rows)} cases")
        for name, goal, column in zip(NAMES, GOALS, table.T, strict=True):
            within, median, over = np.mean(np.abs(column) <= goal), np.median(np.abs(column)), np.mean(column > 0)
            print(f"  {name}: {within:.0%} within {goal:.0%}, median {median:.1%}, too long in {over:.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
