"""`dse simulate`: a trace of requests through replicas of one deployment, and how full they were."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dse.cost.choices import AXES, Choices
from dse.cost.feasible import OK, STRUCTURE, structure_status
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.techniques import active
from dse.errors import CannotRun, Fault, InputError
from dse.run.evaluate import point_sweep
from dse.run.faults import Faults
from dse.run.resolve import Sweep
from dse.simulate.deployment import Deployment
from dse.simulate.fleet import Dispatch, Record
from dse.simulate.fleet import simulate as run_trace
from dse.simulate.results import Slo, capacity, curve, saturation, summary, sustained, timeline, windows
from dse.simulate.trace import Lengths, Trace, draw, read_trace
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.reading import suggest
from dse.spec.workload import MAX_TOKENS, Workload

if TYPE_CHECKING:
    import pandas as pd

DISPATCH: tuple[Dispatch, ...] = ("round-robin", "least-loaded")

MAX_REQUESTS = 10_000_000
MAX_REPLICAS = 10_000

SHOWN = 20
"""Requests longer than the model's context that are told; the rest are counted."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """A simulated deployment."""

    point: Mapping[str, Any]
    """What was simulated."""
    record: Record
    """What happened to each request."""
    warmup: int
    """Requests at the start that no latency or rate is taken from."""
    slo: Slo | None
    backlogged: float
    """Requests per second that all replicas finished of a backlog of requests like these."""
    rate: float | None
    """Requests per second that were asked for; None: the trace's own."""

    @cached_property
    def _figures(self) -> dict[str, Any]:
        return summary(self.record, warmup=self.warmup, slo=self.slo)

    @property
    def capacity(self) -> float:
        """Requests per second that all replicas sustain: of a backlog, or what this run finished.

        An overloaded run finishes up to 4 % more than the backlog: its own answers are then the better measurement.
        """
        return max(self.backlogged, float(self._figures["requests_per_s"]))

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Everything `dse simulate --json` prints: the point, load and saturation, latencies, throughput, use."""
        found = self._figures
        offered = found["offered_requests_per_s"] if self.rate is None else self.rate
        if offered is None:  # all at once: who finds a place does not wait
            load = math.inf if len(self.record.trace) > sum(found["slots"]) else 0.0
        else:
            load = offered / self.capacity
        return {
            **self.point,
            **found,
            "offered_requests_per_s": offered,
            "capacity_requests_per_s": self.capacity,
            "load": None if offered is None else load,
            "saturation": saturation(load),
        }

    def page(self) -> dict[str, Any]:
        """What `dse.report.simulate.write_simulation` draws."""
        record, kept = self.record, slice(self.warmup, None)
        return {
            "summary": self.summary,
            "timeline": timeline(record),
            "windows": windows(record),
            "curves": {
                "ttft_ms": curve(record.ttft[kept] * 1e3),
                "tpot_ms": curve(record.tpot[kept] * 1e3),
                "latency_s": curve(record.latency[kept]),
            },
        }

    def requests(self) -> pd.DataFrame:
        """One row per request: arrival_s, input, output, ttft_ms, tpot_ms, latency_s, replica, good."""
        import pandas as pd

        record = self.record
        return pd.DataFrame(
            {
                "arrival_s": record.trace.arrival,
                "input": record.trace.input,
                "output": record.trace.output,
                "ttft_ms": record.ttft * 1e3,
                "tpot_ms": record.tpot * 1e3,
                "latency_s": record.latency,
                "replica": record.replica,
                "good": (self.slo or Slo()).met(record),
            }
        )


def simulate(
    model: str | ModelSpec,
    hardware: str | HardwareSpec | Mapping[str, Any],
    *,
    trace: str | Path | Trace | None = None,
    rate: float | None = None,
    requests: int | None = None,
    lengths: Any = None,
    burstiness: float | None = None,
    seed: int | None = None,
    replicas: int = 1,
    dispatch: Dispatch = "round-robin",
    chunk_tokens: int | None = None,
    warmup: float | None = None,
    slo_ttft_ms: float | None = None,
    slo_tpot_ms: float | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **axes: Any,
) -> Simulation:
    """Requests through replicas of a deployment, event by event (`dse.simulate.engine`).

    Args:
        model: a name, a path, or a `ModelSpec`.
        hardware: a name, a path, a mapping with `base`, or a `HardwareSpec`.
        trace: a file (`dse.simulate.trace.read_trace`) or a `Trace`; without one, requests are drawn.
        rate: requests per second, all replicas together: a trace's arrivals are scaled to it, requests drawn at it.
        requests: how many are drawn; 10,000 where nothing is said.
        lengths: of the requests drawn: `1024x256` (the default), a workload's name, a CSV of input, output and weight,
            or pairs.
        burstiness: coefficient of variation of the gaps drawn (gamma); 1, the default: Poisson.
        seed: of what is drawn, by default 0.
        replicas: how many of the deployment.
        dispatch: `round-robin` or `least-loaded`.
        chunk_tokens: tokens of an iteration under chunked prefill; None: prompts are computed whole, first.
        warmup: share of the requests at the start that no figure is taken from; a tenth of those drawn.
        slo_ttft_ms: most time to first token of a good request.
        slo_tpot_ms: most mean time per token after it.
        on_progress: called with requests done and all.
        **axes: as in `dse.evaluate`, one value each; `batch` is the most sequences that run at once in a replica, by
            default as many as the cache holds at their average age.

    Raises:
        InputError: a name, a number or the trace is wrong, or a request is longer than the model's context.
        CannotRun: the layout is impossible, weights do not fit, or the cache has no room for the longest request.
    """
    slo = Slo(slo_ttft_ms, slo_tpot_ms)
    _check(replicas, dispatch, chunk_tokens, warmup, slo)
    _check_axes(axes)
    given = {"requests": requests, "lengths": lengths, "burstiness": burstiness, "seed": seed}
    found, arrivals = _requests(trace, rate, {name: value for name, value in given.items() if value is not None})
    sweep = point_sweep(model, hardware, {"batch": 1} | axes)
    chosen, choices = sweep.models[0], sweep.choices_of(0, 0)
    _check_context(chosen, found)
    most = int(choices.batch[0]) if "batch" in axes else None
    _check_structure(sweep, choices, found, most)
    deployment = Deployment(chosen, choices, most, chunk_tokens)
    if most is None:
        deployment = replace(deployment, max_running=sustained(deployment, found))
    fleet = [deployment] * replicas
    highest = capacity(fleet, found)
    record = run_trace(fleet, found, dispatch=dispatch, on_progress=on_progress)
    left_out = (0.1 if trace is None else 0.0) if warmup is None else warmup
    asked = None if slo == Slo() else slo
    point = {**_point(deployment, replicas, dispatch), "arrivals": arrivals}
    return Simulation(point, record, int(left_out * len(found)), asked, highest, rate)


DRAWN: Mapping[str, Any] = {"requests": 10_000, "lengths": "1024x256", "burstiness": 1.0, "seed": 0}
"""What is drawn where nothing is said."""


def _requests(
    trace: str | Path | Trace | None, rate: float | None, given: Mapping[str, Any]
) -> tuple[Trace, dict[str, Any]]:
    """The requests, and in words where they come from."""
    if trace is not None:
        if given:
            raise InputError([Fault("a trace has requests of its own; give either", name) for name in given])
        found = trace if isinstance(trace, Trace) else read_trace(trace)
        return found if rate is None else found.at_rate(rate), {"trace": found.file, "rate": rate}
    if rate is None:
        raise InputError(Fault("expected requests per second, or a trace", "rate"))
    asked = {**DRAWN, **given}
    if not 1 <= asked["requests"] <= MAX_REQUESTS:
        message = f"expected a whole number from 1 to {MAX_REQUESTS:,}, got {asked['requests']}"
        raise InputError(Fault(message, "requests"))
    drawn = draw(rate=rate, **asked)
    return drawn, {"rate": rate, **asked, "lengths": Lengths.of(asked["lengths"]).text}


def _check(replicas: int, dispatch: str, chunk_tokens: int | None, warmup: float | None, slo: Slo) -> None:
    faults = Faults()
    for name, value, most in (("replicas", replicas, MAX_REPLICAS), ("chunk-tokens", chunk_tokens, MAX_TOKENS)):
        if value is not None and not 1 <= value <= most:
            faults.found.append(Fault(f"expected a whole number from 1 to {most:,}, got {value}", name))
    if dispatch not in DISPATCH:
        hint = suggest(dispatch, DISPATCH) or f"; expected {' or '.join(DISPATCH)}"
        faults.found.append(Fault(f"unknown dispatch {dispatch!r}{hint}", "dispatch"))
    if warmup is not None and not 0 <= warmup < 1:
        faults.found.append(Fault(f"expected a share from 0 to below 1, got {warmup:g}", "warmup"))
    for name, target in (("slo-ttft-ms", slo.ttft_ms), ("slo-tpot-ms", slo.tpot_ms)):
        if target is not None and not target > 0:
            faults.found.append(Fault(f"expected milliseconds above 0, got {target:g}", name))
    faults.check()


def _check_axes(axes: Mapping[str, Any]) -> None:
    """Axes that a simulation has in another form, or not at all."""
    instead = {
        "serving": "a simulation is its own way to serve",
        "offload": "a simulation runs without offloading",
        "workload": "the trace or `lengths` has the lengths",
        "input": "the trace or `lengths` has the lengths",
        "output": "the trace or `lengths` has the lengths",
    }
    faults = [Fault(why, name) for name, why in instead.items() if name in axes]
    if faults:
        raise InputError(faults)


def _check_context(model: ModelSpec, trace: Trace) -> None:
    """Every request must fit into the model's context."""
    limit = model.max_context
    if limit is None:
        return
    beyond = np.flatnonzero(trace.input + trace.output > limit)
    faults = []
    for index in beyond[:SHOWN].tolist():
        where = "" if trace.lines is not None else f"request {index + 1}"
        asked = f"{trace.input[index]:,} + {trace.output[index]:,} tokens"
        message = f"{asked} are longer than the context of {model.name}, {limit:,} tokens"
        faults.append(trace.fault(index, where, message))
    if len(beyond) > SHOWN:
        faults.append(Fault(f"and {len(beyond) - SHOWN:,} more requests like these", file=trace.file))
    if faults:
        raise InputError(faults)


def _check_structure(sweep: Sweep, choices: Choices, trace: Trace, most: int | None) -> None:
    """Raises CannotRun where the layout is impossible."""
    mesh = Mesh.open(AXES, [slice(0, 1) for _ in AXES])
    shape = Workload(int(np.max(trace.input)), int(np.max(trace.output)))
    batch = choices.layout[0].dp if most is None else most
    point = Point(sweep.models[0], replace(choices, workload=[_within(shape, sweep.models[0])], batch=[batch]), mesh)
    reasons = sweep.question.reasons
    code_of = {reason: code for code, reason in enumerate(reasons)}
    reason = reasons[int(np.ravel(structure_status([point], code_of))[0])]
    if reason != OK:
        raise CannotRun(f"{reason}: {STRUCTURE[reason][1]}")


def _within(shape: Workload, model: ModelSpec) -> Workload:
    """The longest prompt and the longest answer may be of different requests, which fit each for itself."""
    limit = model.max_context
    return shape if limit is None else Workload(shape.input, min(shape.output, limit - shape.input))


def _point(deployment: Deployment, replicas: int, dispatch: str) -> dict[str, Any]:
    choices, layout = deployment.choices, deployment.choices.layout[0]
    return {
        "model": deployment.model.name,
        "hardware": choices.hardware[0].name,
        "precision": choices.precision[0].name,
        "tp": layout.tp,
        "pp": layout.pp,
        "dp": layout.dp,
        "runtime": choices.runtime.name,
        "fidelity": choices.fidelity[0],
        "techniques": {technique.name: str(value) for technique, value in active(choices.techniques)},
        "scheduler": "prefill-first" if deployment.chunk_tokens is None else "chunked",
        "chunk_tokens": deployment.chunk_tokens,
        "dispatch": dispatch if replicas > 1 else None,
    }
