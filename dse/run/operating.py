"""A deployment at work: latencies, energy and evidence at the rate it runs at, a row per size of request it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dse.cost.at_a_rate import ATTAINED
from dse.cost.blocks import Blocks
from dse.cost.capacity import most_running
from dse.cost.metrics import METRICS, Scored
from dse.cost.serving import Static
from dse.cost.techniques import active
from dse.run.axes import word_of
from dse.run.deployment import Deployment, worker_facts
from dse.run.evidence import evidence

Plain = dict[str, Any]

LATENCIES = ("ttft_ms", "tpot_ms", "latency_s", "ttft_p99_ms", "tpot_p99_ms", "latency_p99_s")
MEASURES = (*LATENCIES, "joules_per_output_token", "memory_gb_per_device", "accuracy_drop_pct")


def operating_points(deployment: Deployment, buckets: Sequence[int], rates: Sequence[float]) -> list[Plain]:
    """One row per size: its configuration, `MEASURES`, evidence, most sequences at once, share of the time for prompts.

    Of static blocks also the seconds to the first token, `block_first_s`, and to the end of a block, `block_s`.

    Args:
        deployment: of the plan.
        buckets: of its model's.
        rates: requests/s of one replica that serves each alone.
    """
    if not buckets:
        return []
    sweep, mesh = deployment.points(buckets, rates)
    model, choices, size = sweep.models[0], sweep.choices_of(0, 0), len(buckets)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scored = Scored.of(model, choices, mesh)
        scored.__dict__["served"] = deployment.served(scored.asked)
        columns = {name: METRICS[name].of(scored) for name in MEASURES}
        columns |= {"slots": most_running(scored.served)}
        if type(scored.served) is Static:
            columns |= _of_blocks(scored.served, rates)
        if deployment.prompt_devices is None:  # of two pools it is the share of their devices
            prompts, steps, _ = scored.served.spent
            columns["prompt_share"] = prompts / (prompts + steps)
        trust = evidence(scored.worker("decode"), prompts=scored.worker("prefill"))
    values = {name: np.broadcast_to(np.asarray(of, dtype=float), (size,)).tolist() for name, of in columns.items()}
    of_all = {
        **worker_facts(scored.point),
        "devices": sum(deployment.held.values()),
        **{name: word_of(sweep.variants[0][name]) for name in ("serving", "offload", "runtime")},
        "techniques": {technique.name: str(value) for technique, value in active(sweep.variants[0])},
    }
    return [
        {
            **of_all,
            "input": sweep.axes.workload[place].input,
            "output": sweep.axes.workload[place].output,
            "batch": deployment.most(bucket),
            **{name: of[place] for name, of in values.items()},
            **{name: of[place] for name, of in trust.items()},
        }
        for place, bucket in enumerate(buckets)
    ]


def _of_blocks(served: Static, rates: Sequence[float]) -> Plain:
    """Latencies of static blocks, the wait for one included; where a request generates one token, without a TPOT."""
    queue = Blocks.of(served, tuple(np.indices(served.point.mesh.shape))).at(np.array(rates))
    blocks, late = queue.blocks, queue.late(ATTAINED)
    tpot = np.where(served.point.steps > 0, queue.tpot, np.nan) * 1e3
    return {
        "ttft_ms": queue.ttft * 1e3, "tpot_ms": tpot, "latency_s": queue.latency,
        "ttft_p99_ms": (late + blocks.prompt) * 1e3, "tpot_p99_ms": tpot, "latency_p99_s": late + blocks.seconds,
        "block_first_s": blocks.prompt, "block_s": blocks.seconds,
    }  # fmt: skip
