"""How many recommended plans keep their latencies: generated demands, planned, then simulated with seeds of their own.

    python docs/plans.py [DEMANDS] [SERVING ...]

Plans choose among the ways to serve that are named, by default what their latencies ask for: `open-loop disaggregated`
lets pools compete. Prints a line per demand and the share that holds. The seeds of the last replay are none of those a
plan ranks its answers with, so that nothing is tuned to the arrivals it is judged by.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from dse.run.plan import load_plan, solved_plan
from dse.run.replay import replay

SEED = 20261128
OTHER_SEEDS = 1_000_000
"""Added to a plan's own seed."""

MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b", "mixtral-8x7b", "qwen3-30b-a3b", "gpt-oss-20b")
SLOS: tuple[Any, ...] = (
    "standard",
    "relaxed",
    {"ttft_ms": {"p99": 1000}, "tpot_ms": {"p99": 60}},
    {"ttft_ms": {"p99": 3000}, "tpot_ms": {"mean": 40}},
    {"ttft_ms": {"mean": 500}, "tpot_ms": {"p99": 80}},
    {"latency_s": {"p99": 30}},
)
HARDWARE = ["l4", "l40s", "a10g", "a100-sxm-80gb", "a100-sxm-40gb", "h100-sxm", "h100-pcie", "h200-sxm", "b200",
            "mi300x", "rtx-a6000"]  # fmt: skip


PRECISIONS = ["bf16", "fp8"]


def demand(number: int, servings: Sequence[str] = ()) -> dict[str, Any]:
    """A plan drawn at random: a model, one to six sizes of request, a rate, latencies."""
    random = np.random.default_rng([SEED, number])
    sizes = int(random.integers(1, 7))
    inputs = np.exp(random.uniform(np.log(64), np.log(6000), sizes)).astype(int)
    outputs = np.exp(random.uniform(np.log(8), np.log(1000), sizes)).astype(int)
    rates = random.dirichlet(np.ones(sizes)) * np.exp(random.uniform(np.log(2), np.log(300)))
    buckets = [
        {"input": int(i), "output": int(o), "requests_per_s": float(r)}
        for i, o, r in zip(inputs, outputs, rates, strict=True)
    ]
    found: dict[str, Any] = {
        "name": f"demand-{number}",
        "models": [
            {
                "model": str(random.choice(MODELS)),
                "demand": {
                    "buckets": buckets,
                    "peak_factor": float(random.uniform(1, 3)),
                    "burstiness": float(random.choice([1.0, 1.0, 2.0])),
                },
            }
        ],
        "slo": SLOS[int(random.integers(len(SLOS)))],
        "redundancy": int(random.integers(0, 2)),
        "candidates": {"hardware": [str(name) for name in random.choice(HARDWARE, 5, False)], "precision": PRECISIONS},
        "price": {"kind": ["on-demand", "neocloud", "tco-neocloud"]},
        "verify": {"seed": number},
    }
    if servings:
        found["candidates"]["serving"] = list(servings)
    return found


def main(count: int, servings: Sequence[str]) -> None:
    """Plan and replay so many demands."""
    held = planned = first = pooled = 0
    for number in range(count):
        start = time.perf_counter()
        plan = load_plan(demand(number, servings))
        solved = solved_plan(plan)
        if not solved.answer.found:
            print(f"{number}: {solved.answer.status}", flush=True)
            continue
        again = replay(solved.facts, OTHER_SEEDS + number)
        planned += 1
        held += again.holds
        first += len(solved.tried) == 1
        pools = any(solved.problem.deployments[option.name].pool_facts for option in solved.answer.options)
        pooled += pools
        worst, cost = max(again.excess.values()), f"${solved.answer.usd_per_hour:.2f}/h{' with pools' if pools else ''}"
        print(
            f"{number}: {'holds' if again.holds else 'MISSES'} at {worst:.2f} of its limits, {len(solved.tried)} tried,"
            f" {cost}, {time.perf_counter() - start:.1f} s",
            flush=True,
        )
    print(f"{held} of {planned} plans hold ({held / planned:.1%}); {first} of them with the first answer, "
          f"{pooled} with pools")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100, sys.argv[2:])
