"""Hold the analytic latencies under load against the discrete-event simulation, over a grid of deployments and loads.

    python docs/serving_check.py [--grid NAME] [--requests 20000] [--seeds 5] [--every 1] [--only TEXT] [--csv FILE]

Both see the same iterations of the same cost model; the simulator plays every request, the formulas of
`dse.cost.waiting` and `dse.cost.places` do not. Cases: models x accelerators x lengths x chunked or not x batch
limits x loads below 85 % of the capacity. `known` is the grid that was looked at while the formulas were found;
`fresh`, `blind`, `blind-bursts` and `last` are samples of other deployments, blind to earlier formulas and looked at
since; `final` was drawn after the last change of the formulas and run once. Prints the error of every case in
percent, and the share of the cases within the limits; then saturation labels, against simulated capacities.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dse.cost.at_a_rate import BACKLOGGED
from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.open_loop import OpenLoop
from dse.cost.phases import Point
from dse.simulate.deployment import Deployment
from dse.simulate.fleet import Record, simulate
from dse.simulate.trace import draw
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import load_runtime
from dse.spec.workload import load_workload

Replica = tuple[str, str, str, tuple[int, int, int, int], str]
"""Model, accelerator, precision, (tp, pp, dp, ep), engine."""


@dataclass(frozen=True)
class Grid:
    """Values along each axis of the cases."""

    replicas: tuple[Replica, ...]
    lengths: tuple[str, ...]
    chunks: tuple[Any, ...]
    batches: tuple[int, ...]
    loads: tuple[float, ...]
    bursts: tuple[float, ...]
    cases: int | None = None
    """How many are drawn from the product; None for all."""
    sample: int = 0
    """Seed of the draw."""


GRIDS = {
    "known": Grid(
        (
            ("llama-3.1-8b", "h100-sxm", "fp8", (1, 1, 1, 1), "ideal"),
            ("llama-3.1-8b", "l4", "fp8", (1, 1, 1, 1), "ideal"),
            ("llama-3.1-70b", "h200-sxm", "fp8", (4, 1, 1, 1), "vllm"),
            ("mixtral-8x7b", "a100-sxm-80gb", "bf16", (2, 1, 1, 1), "ideal"),
            ("deepseek-v3", "h200-sxm", "fp8", (8, 1, 1, 1), "ideal"),
        ),
        ("1155x211", "4096x512", "512x64", "128x1024", "azure-conversation", "azure-code"),
        ("none", 512),
        (16, 128),
        (0.3, 0.6, 0.8),
        (1.0,),
    ),
    "fresh": Grid(
        (
            ("qwen3-32b", "mi300x", "bf16", (1, 1, 1, 1), "ideal"),
            ("gpt-oss-120b", "h100-sxm", "native", (2, 1, 1, 1), "vllm"),
            ("llama-3.1-405b", "h200-sxm", "fp8", (8, 1, 1, 1), "tensorrt-llm"),
            ("gemma-2-27b", "l40s", "fp8", (2, 1, 1, 1), "ideal"),
            ("llama-3.1-70b", "b200", "fp8", (1, 1, 1, 1), "tensorrt-llm"),
            ("qwen3-30b-a3b", "rtx-4090", "w4a16-g128", (1, 1, 1, 1), "ideal"),
        ),
        (
            "700x150",
            "2500x300",
            "300x900",
            "9000x250",
            "arxiv-summarisation",
            "azure-conversation",
        ),
        ("none", 1024, 2048),
        (24, 64, 256),
        (0.2, 0.45, 0.7, 0.82),
        (1.0, 1.5),
        cases=240,
    ),
}
BLIND = Grid(
    (
        ("qwen3-14b", "gh200-96gb", "fp8", (1, 1, 1, 1), "sglang"),
        ("mistral-small-24b", "h20", "bf16", (1, 1, 1, 1), "vllm"),
        ("mistral-nemo-12b", "rtx-6000-ada", "fp8", (1, 1, 1, 1), "ideal"),
        ("glm-4.5-air", "mi325x", "fp8", (2, 1, 1, 1), "ideal"),
        ("qwen2.5-72b", "b300", "fp8", (1, 1, 1, 1), "tensorrt-llm"),
        ("qwen3-235b-a22b", "mi355x", "fp8", (4, 1, 1, 1), "sglang"),
        ("gemma-3-27b", "l40", "fp8", (2, 1, 1, 1), "ideal"),
    ),
    ("1000x100", "2000x500", "200x400", "3500x150", "256x32", "mooncake-conversation"),
    ("none", 768, 1536),
    (8, 24, 48, 96, 256),
    (0.25, 0.5, 0.65, 0.75, 0.84),
    (1.0,),
    cases=230,
    sample=20261128,
)
LAST = Grid(
    (
        ("llama-3.1-70b", "h200-sxm", "fp8", (2, 1, 1, 1), "vllm"),
        ("qwen2.5-7b", "l40s", "bf16", (1, 1, 1, 1), "sglang"),
        ("llama-4-scout", "b200", "fp8", (2, 1, 1, 1), "ideal"),
        ("gpt-oss-20b", "rtx-pro-6000-server", "native", (1, 1, 1, 1), "vllm"),
        ("llama-3.1-8b", "a100-sxm-40gb", "bf16", (1, 1, 1, 1), "vllm"),
        ("deepseek-v3", "b200", "fp8", (8, 1, 1, 1), "tensorrt-llm"),
        ("qwen2.5-32b", "mi355x", "fp8", (1, 1, 1, 1), "ideal"),
    ),
    (
        "600x200",
        "1500x600",
        "3000x60",
        "250x700",
        "6000x400",
        "azure-conversation",
        "azure-code",
        "arxiv-summarisation",
        "mooncake-conversation",
    ),
    ("none", 512, 1024, 2048),
    (12, 32, 64, 128, 512),
    (0.3, 0.55, 0.7, 0.8, 0.84),
    (1.0,),
    cases=210,
    sample=20261130,
)
FINAL = Grid(
    (
        ("llama-3.3-70b", "mi300x", "fp8", (2, 1, 1, 1), "vllm"),
        ("qwen3-30b-a3b-2507", "h100-pcie", "fp8", (1, 1, 1, 1), "ideal"),
        ("qwen2.5-14b", "a100-sxm-80gb", "bf16", (1, 1, 1, 1), "vllm"),
        ("glm-4.5", "b300", "fp8", (4, 1, 1, 1), "ideal"),
        ("gemma-3-12b", "rtx-6000-ada", "fp8", (1, 1, 1, 1), "sglang"),
        ("mistral-large-123b", "h200-sxm", "fp8", (4, 1, 1, 1), "tensorrt-llm"),
        ("qwen3-next-80b-a3b", "h20", "fp8", (2, 1, 1, 1), "ideal"),
    ),
    (
        "800x250",
        "2048x128",
        "400x300",
        "5000x700",
        "1200x1200",
        "azure-conversation",
        "azure-code",
        "arxiv-summarisation",
        "mooncake-conversation",
    ),
    ("none", 512, 2048),
    (10, 20, 40, 100, 256),
    (0.2, 0.4, 0.6, 0.75, 0.83),
    (1.0,),
    cases=210,
    sample=20261201,
)
GRIDS |= {
    "final": FINAL,
    "blind": BLIND,
    "blind-bursts": replace(BLIND, bursts=(1.5,), cases=100, sample=20261129),
    "last": LAST,
}

FIGURES = {"ttft": "first_tokens", "tpot": "gaps", "latency": "latencies"}
"""Figure -> its analytic distribution."""

PERCENTILES = (0.5, 0.9, 0.99)
MEAN, TAIL = 0.10, 0.25
"""Limits of the errors of means and of percentiles."""

LABELLED = (0.3, 0.6, 0.8, 0.9, 0.95, 1.1, 1.3)
"""Loads of each deployment whose saturation is labelled."""


@dataclass(frozen=True)
class Case:
    """One deployment at one load."""

    replica: Replica
    lengths: str
    chunk: int | str
    batch: int
    load: float
    burstiness: float = 1.0

    @property
    def name(self) -> str:
        """One line."""
        model, chip, _, layout, engine = self.replica
        bursts = "" if self.burstiness == 1.0 else f" cv {self.burstiness}"
        where = f"{model} {chip} tp{layout[0]} {engine} {self.lengths} chunk {self.chunk} batch {self.batch}"
        return f"{where} load {self.load}{bursts}"

    def loop(self, rate: float = 1.0) -> OpenLoop:
        """The analytic steady state at a rate."""
        model, chip, precision, layout, engine = self.replica
        spec = load_model(model)
        scheme = spec.precision if precision == "native" else load_precision(precision)
        choices = Choices(
            [load_hardware(chip)], load_workload(self.lengths), [scheme or load_precision("bf16")], ["datasheet"],
            [Layout(*layout)], [self.batch], techniques={"chunk_tokens": self.chunk}, rate=[rate],
            burstiness=self.burstiness, serving="open-loop", runtime=load_runtime(engine),
        )  # fmt: skip
        mesh = Mesh.points(AXES, [np.zeros(1, dtype=np.intp)] * len(AXES))
        return OpenLoop(Point(spec, choices, mesh), choices.runtime)


def cases(grid: Grid) -> list[Case]:
    """Those of a grid."""
    every = [
        Case(*values)
        for values in product(grid.replicas, grid.lengths, grid.chunks, grid.batches, grid.loads, grid.bursts)
    ]
    if grid.cases is None:
        return every
    drawn = np.random.default_rng(grid.sample).choice(len(every), grid.cases, replace=False)
    return [every[index] for index in sorted(drawn.tolist())]


def one(values: Any) -> float:
    """The number of a single point."""
    return float(np.ravel(values)[0])


def analytic(loop: OpenLoop) -> list[float]:
    """Mean and percentiles of each figure."""
    queue = loop.queue
    found = []
    for name, distribution in FIGURES.items():
        found.append(one(getattr(queue, name)))
        found += [one(queue.quantile(distribution, share)) for share in PERCENTILES]
    return found


def simulated(case: Case, loop: OpenLoop, rate: float, requests: int, seeds: int) -> list[float]:
    """The same, from simulations with the first tenth left out; the mean over seeds."""
    warm = requests // 10
    runs = []
    for seed in range(seeds):
        record = played(case, loop, rate, requests + warm, seed)
        found: list[float] = []
        for name in FIGURES:
            values = getattr(record, name)[warm:]
            values = values[~np.isnan(values)]
            found += [float(values.mean()), *map(float, np.quantile(values, PERCENTILES))]
        runs.append(found)
    return [float(value) for value in np.mean(runs, axis=0)]


def played(case: Case, loop: OpenLoop, rate: float, requests: int, seed: int) -> Record:
    """A simulation of so many requests."""
    chunk = None if case.chunk == "none" else int(case.chunk)
    choices = loop.point.choices
    deployment = Deployment(loop.point.model, choices, max_running=case.batch, chunk_tokens=chunk)
    lengths = [(round(i), max(round(o), 1), share) for i, o, share in choices.workload[0].requests]
    return simulate([deployment], draw(requests, rate, lengths, burstiness=case.burstiness, seed=seed))


def simulated_capacity(case: Case, loop: OpenLoop, requests: int = 6000) -> float:
    """Requests per second that a simulated replica finishes when 30 % more arrive than it should sustain."""
    record = played(case, loop, 1.3 * one(loop.capacity), requests, seed=0)
    begin, end = np.quantile(record.last, [0.4, 0.8])
    return float(np.sum((record.last > begin) & (record.last <= end)) / (end - begin))


def label(load: float) -> str:
    """The saturation of a load."""
    return "overloaded" if load >= 1.0 else "backlogged" if load >= BACKLOGGED else "stable"


def labelled(chosen: list[Case]) -> tuple[int, int]:
    """Labels that agree, and all, over `LABELLED` loads of each deployment."""
    agreed = total = 0
    for case in {replace(case, load=0.0, burstiness=1.0): None for case in chosen}:
        with np.errstate(all="ignore"):
            loop = case.loop()
            ratio = one(loop.capacity) / simulated_capacity(case, loop)
        agreed += sum(label(load) == label(load * ratio) for load in LABELLED)
        total += len(LABELLED)
    return agreed, total


def compared(case: Case, requests: int, seeds: int) -> tuple[list[float], list[float]]:
    """Analytic and simulated figures of a case."""
    with np.errstate(all="ignore"):
        rate = case.load * one(case.loop().capacity)
        loop = case.loop(rate)
        return analytic(loop), simulated(case, loop, rate, requests, seeds)


def labels() -> list[str]:
    """What the figures are called."""
    return [f"{name} {stat}" for name in FIGURES for stat in ("mean", *(f"p{share:.0%}"[:-1] for share in PERCENTILES))]


def main() -> None:
    """Compare, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--grid", choices=tuple(GRIDS), default="fresh")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="Only each so many cases.")
    parser.add_argument("--only", default="", help="Only cases whose name holds this.")
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()
    chosen = [case for case in cases(GRIDS[asked.grid]) if asked.only in case.name][:: asked.every]
    names, start = labels(), time.perf_counter()
    limits = np.array([MEAN if name.endswith("mean") else TAIL for name in names])
    errors = []
    print(f"{'':78}" + " ".join(f"{name.replace('mean', 'm').replace('latency', 'lat'):>8}" for name in names))
    for case in chosen:
        predicted, measured = compared(case, asked.requests, asked.seeds)
        errors.append(np.array(predicted) / np.array(measured) - 1.0)
        print(f"{case.name:78}" + " ".join(f"{error * 100:8.0f}" for error in errors[-1]), flush=True)
    found = np.array(errors)
    within = np.mean(np.abs(found) <= limits, axis=0)
    print(f"{len(chosen)} cases, {time.perf_counter() - start:.0f} s; share of cases within the limits:")
    for name, limit, share in zip(names, limits, within, strict=True):
        print(f"  {name:14} within {limit:.0%}: {share:.1%}")
    agreed, total = labelled(chosen)
    print(f"  saturation labelled the same: {agreed / total:.1%} of {total}")
    if asked.csv:
        with asked.csv.open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["case", *names])
            writer.writerows([case.name, *map(float, error)] for case, error in zip(chosen, found, strict=True))


if __name__ == "__main__":
    main()
