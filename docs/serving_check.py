"""Hold the analytic latencies under load against the discrete-event simulation, over a grid of deployments and loads.

    python docs/serving_check.py [--requests 20000] [--seeds 5] [--every 1] [--csv FILE]

Both see the same iterations of the same cost model; the simulator plays every request, the formulas of
`dse.cost.queueing` do not. Cases: models x accelerators x lengths x chunked or not x batch limits x loads below 85 % of
the capacity. Prints the share of the cases within the limits, per figure, and the worst.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.open_loop import OpenLoop
from dse.cost.phases import Point
from dse.simulate.deployment import Deployment
from dse.simulate.fleet import simulate
from dse.simulate.trace import draw
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.layout import Layout
from dse.spec.runtime import load_runtime
from dse.spec.workload import load_workload

REPLICAS = (
    ("llama-3.1-8b", "h100-sxm", "fp8", (1, 1, 1, 1), "ideal"),
    ("llama-3.1-8b", "l4", "fp8", (1, 1, 1, 1), "ideal"),
    ("llama-3.1-70b", "h200-sxm", "fp8", (4, 1, 1, 1), "vllm"),
    ("mixtral-8x7b", "a100-sxm-80gb", "bf16", (2, 1, 1, 1), "ideal"),
    ("deepseek-v3", "h200-sxm", "fp8", (8, 1, 1, 1), "ideal"),
)
"""Model, accelerator, precision, (tp, pp, dp, ep), engine."""

LENGTHS = ("1155x211", "4096x512", "512x64", "128x1024", {"trace": "azure-conversation"}, {"trace": "azure-code"})
CHUNKS = ("none", 512)
BATCHES = (16, 128)
LOADS = (0.3, 0.6, 0.8)

FIGURES = {
    "ttft": ("first_tokens", 0.10), "tpot": ("gaps", 0.10), "latency": ("latencies", 0.10),
}  # fmt: skip
"""Figure -> the analytic distribution, and the limit of the mean's error."""

PERCENTILES = (0.5, 0.9, 0.99)
TAIL = 0.25
"""Limit of the error of percentiles."""


@dataclass(frozen=True)
class Case:
    """One deployment at one load."""

    replica: tuple[str, str, str, tuple[int, int, int, int], str]
    lengths: Any
    chunk: int | str
    batch: int
    load: float
    burstiness: float = 1.0

    @property
    def name(self) -> str:
        """One line."""
        model, chip, _, layout, engine = self.replica
        lengths = self.lengths if isinstance(self.lengths, str) else next(iter(self.lengths.values()))
        return f"{model} {chip} tp{layout[0]} {engine} {lengths} chunk {self.chunk} batch {self.batch} load {self.load}"

    def loop(self, rate: float = 1.0) -> OpenLoop:
        """The analytic steady state at a rate."""
        model, chip, precision, layout, engine = self.replica
        choices = Choices(
            [load_hardware(chip)], load_workload(self.lengths), [load_precision(precision)], ["datasheet"],
            [Layout(*layout)], [self.batch], techniques={"chunk_tokens": self.chunk}, rate=[rate],
            burstiness=self.burstiness, serving="open-loop", runtime=load_runtime(engine),
        )  # fmt: skip
        mesh = Mesh.points(AXES, [np.zeros(1, dtype=np.intp)] * len(AXES))
        return OpenLoop(Point(load_model(model), choices, mesh), choices.runtime)


def cases() -> Iterator[Case]:
    """The grid."""
    for replica in REPLICAS:
        for lengths in LENGTHS:
            for chunk in CHUNKS:
                for batch in BATCHES:
                    for load in LOADS:
                        yield Case(replica, lengths, chunk, batch, load)


def one(values: Any) -> float:
    """The number of a single point."""
    return float(np.ravel(values)[0])


def analytic(loop: OpenLoop) -> list[float]:
    """Mean and percentiles of each figure."""
    queue = loop.queue
    found = []
    for name, (distribution, _) in FIGURES.items():
        found.append(one(getattr(queue, name)))
        found += [one(queue.quantile(distribution, share)) for share in PERCENTILES]
    return found


def simulated(case: Case, loop: OpenLoop, rate: float, requests: int, seeds: int) -> list[float]:
    """The same, from simulations with the first tenth left out; the mean over seeds."""
    chunk = None if case.chunk == "none" else int(case.chunk)
    choices = loop.point.choices
    deployment = Deployment(loop.point.model, choices, max_running=case.batch, chunk_tokens=chunk)
    lengths = [(round(i), max(round(o), 1), share) for i, o, share in choices.workload[0].requests]
    warm = requests // 10
    runs = []
    for seed in range(seeds):
        trace = draw(requests + warm, rate=rate, lengths=lengths, burstiness=case.burstiness, seed=seed)
        record = simulate([deployment], trace)
        found: list[float] = []
        for name in FIGURES:
            values = getattr(record, name)[warm:]
            values = values[~np.isnan(values)]
            found += [float(values.mean()), *map(float, np.quantile(values, PERCENTILES))]
        runs.append(found)
    return [float(value) for value in np.mean(runs, axis=0)]


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
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="Only each so many cases.")
    parser.add_argument("--only", default="", help="Only cases whose name holds this.")
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()
    chosen = [case for case in cases() if asked.only in case.name][:: asked.every]
    names, start = labels(), time.perf_counter()
    limits = np.array([limit if name.endswith("mean") else TAIL for name in names for limit in [0.10]])
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
    if asked.csv:
        with asked.csv.open("w", newline="") as lines:
            writer = csv.writer(lines)
            writer.writerow(["case", *names])
            writer.writerows([case.name, *map(float, error)] for case, error in zip(chosen, found, strict=True))


if __name__ == "__main__":
    main()
