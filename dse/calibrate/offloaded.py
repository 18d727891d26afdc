"""Rows with offloading -> predictions: a block of given size, placed as the engine places it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from dse.calibrate.cases import Case
from dse.calibrate.predict import OK, Group, Prediction
from dse.run.evidence import evidence
from dse.run.place import place
from dse.spec.hardware import HardwareSpec

MOST_BATCHES = 16
"""GPU batches of a block that are tried."""

FOUND = {"output_tokens_per_s": ("output_tokens_per_s", 1.0), "ttft_ms": ("ttft_ms", 1.0), "tpot_ms": ("tpot_ms", 1.0),
         "latency_s": ("latency_s", 1.0), "requests_per_s": ("output_tokens_per_s", 0.0)}  # fmt: skip
"""Metric of the cost model -> figure of a placement, and a factor; 0: one over the output's tokens."""


def predict_offloaded(case: Case, fidelity: str) -> Prediction:
    """The fastest way that the engine has to run the block."""
    answers = list(_ways(case, fidelity))
    ran = [answer for answer in answers if answer["status"] == OK]
    if not ran:
        return Prediction(answers[0]["status"], "no placement that the engine has fits")
    best = max(ran, key=lambda answer: answer["output_tokens_per_s"])
    name, factor = FOUND[case.metric]
    value = best[name] * case.factor * (factor or 1 / case.workload.output)
    kinds = evidence(Group([replace(case, serving="static")], [0], fidelity).scored.asked)["evidence"]
    return Prediction(OK, "; ".join(case.notes), value, kinds[0])


def _ways(case: Case, fidelity: str) -> Iterator[dict[str, Any]]:
    """What placing the block does, cut into GPU batches in every way, or with each number of layers at hand."""
    how = case.runtime.offloading
    kernels = case.runtime.beside if fidelity == "calibrated" else fidelity
    # What ran had the memory it needed, and took a GPU batch's prompts in one pass.
    asked: dict[str, Any] = {
        "precision": case.precision, "tp": case.layout.tp, "pp": case.layout.pp, "input": case.workload.input,
        "output": case.workload.output, "overlap": how.overlap, "fidelity": kernels,
        "max_prefill_tokens": "unlimited", "memory_utilization": 1.0, "host_utilization": 1.0,
        "dequantization": how.unpacked_bytes if how.unpacked_bytes and not case.precision.weights.wide else "fused",
    }  # fmt: skip
    machine = _linked(case.hardware, how.link_share)
    if how.weights == "best":
        for number in range(1, MOST_BATCHES + 1):
            if case.batch % number == 0:
                yield place(case.model, machine, gpu_batch=case.batch // number, num_batches=number, **asked)
        return
    layers = len(case.model.layers)
    for near in range(layers if how.weights == "fill" else 0, -1, -1):
        weights = 100 * near / layers
        policy = (weights, 100 - weights, 100, 0, 100, 0)
        answer = place(case.model, machine, gpu_batch=case.batch, num_batches=1, policy=policy, host=(), **asked)
        yield answer
        if answer["status"] == OK:
            return


def _linked(machine: HardwareSpec, share: float) -> HardwareSpec:
    """The machine with a slower link to the host."""
    link = machine.host_link
    if link is None or share == 1.0:
        return machine
    slower = link.model_copy(update={"gb_per_s": link.gb_per_s * share, "to_host_gb_per_s": None})
    return machine.model_copy(update={"host_link": slower})
