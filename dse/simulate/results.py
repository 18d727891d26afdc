"""What a simulation says: latencies and their percentiles, throughput, how busy the replicas were, goodput."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.simulate.deployment import Deployment
from dse.simulate.fleet import Record, simulate, tabled
from dse.simulate.trace import Trace

PERCENTILES = (50, 90, 99)

STABLE, FULL = 0.85, 1.0
"""Loads from which a replica is called backlogged, and overloaded."""

SATURATING = 2_000, 20, 20_000
"""Requests that measure the highest rate: at least, per slot, and at most. All start together and so end in waves, of
which there must be several."""


@dataclass(frozen=True)
class Slo:
    """What a request must meet to count as good; None asks nothing."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None

    def met(self, record: Record) -> NDArray[np.bool_]:
        """Per request; one that generates a single token has no TPOT to miss."""
        good: NDArray[np.bool_] = np.ones(len(record.trace), dtype=bool)
        if self.ttft_ms is not None:
            good &= record.ttft * 1e3 <= self.ttft_ms
        if self.tpot_ms is not None:
            good &= ~(record.tpot * 1e3 > self.tpot_ms)
        return good


def summary(record: Record, *, warmup: int = 0, slo: Slo | None = None) -> dict[str, Any]:
    """Figures of a simulation as plain values, units in their names.

    Latencies are of the requests after the warm-up. Rates count what finishes from the arrival of the first of these to
    the end, when the last request is done; what the replicas did is told of the whole time.

    Args:
        record: the simulation.
        warmup: requests at the start that no latency or rate is taken from.
        slo: targets for the goodput.
    """
    trace = record.trace
    kept = slice(warmup, None)
    steps = record.tpot[kept][~np.isnan(record.tpot[kept])]
    begin = float(trace.arrival[warmup])
    finished = record.last > begin
    rate = np.count_nonzero(finished) / (record.end - begin)
    found = {
        "requests": len(trace),
        "measured": len(trace) - warmup,
        "span_s": record.end,
        "offered_requests_per_s": None if math.isnan(trace.rate) else trace.rate,
        "requests_per_s": rate,
        "output_tokens_per_s": float(np.sum((trace.output * record.answers)[finished])) / (record.end - begin),
        "ttft_ms": spread(record.ttft[kept] * 1e3),
        "tpot_ms": spread(steps * 1e3),
        "latency_s": spread(record.latency[kept]),
        **_usage(record),
    }
    if slo is not None:
        share = float(np.mean(slo.met(record)[kept]))
        found |= {
            "slo": {"ttft_ms": slo.ttft_ms, "tpot_ms": slo.tpot_ms},
            "share_within_slo": share,
            "goodput_requests_per_s": share * rate,
        }
    return found


def spread(values: NDArray[np.float64]) -> dict[str, float | None]:
    """Mean and percentiles, linear between order statistics; nothing of nothing."""
    if not len(values):
        return {"mean": None, **{f"p{percent}": None for percent in PERCENTILES}}
    at = np.percentile(values, PERCENTILES)
    return {"mean": float(np.mean(values)), **{f"p{p}": float(v) for p, v in zip(PERCENTILES, at, strict=True)}}


def _usage(record: Record) -> dict[str, Any]:
    """What the replicas did, means over them."""
    whole = record.end * len(record.usage)

    def share(name: str) -> float:
        return float(sum(getattr(usage, name) for usage in record.usage) / whole)

    shares = {name: share(name) for name in ("prompt", "mixed", "decode")}
    running = [usage.running / record.end for usage in record.usage]
    waiting = [usage.waiting / record.end for usage in record.usage]
    return {
        "utilisation": {**shares, "idle": 1.0 - sum(shares.values())},
        "running": {"mean": float(np.mean(running)), "most": max(usage.most_running for usage in record.usage)},
        "waiting": {"mean": float(np.mean(waiting)), "most": max(usage.most_waiting for usage in record.usage)},
        "slots": [fitted.slots for fitted in record.fleet],
        "preemptions": sum(usage.preemptions for usage in record.usage),
        "recomputed_tokens": sum(usage.prompt_tokens + usage.cached_tokens for usage in record.usage)
        - int(np.sum(record.trace.input)),
        "replicas": len(record.fleet),
        "devices": sum(fitted.deployment.devices for fitted in record.fleet),
    }


def timeline(record: Record, points: int = 500) -> dict[str, list[float]]:
    """Requests that wait for their first token, and that decode, at evenly spaced `seconds`."""
    seconds = np.linspace(0.0, record.end, points)
    arrived, begun, done = (
        np.searchsorted(np.sort(events), seconds, side="right")
        for events in (record.trace.arrival, record.first, record.last)
    )
    return {"seconds": seconds.tolist(), "waiting": (arrived - begun).tolist(), "decoding": (begun - done).tolist()}


def windows(record: Record, count: int = 40) -> dict[str, list[float | None]]:
    """Median and 99th percentile of the TTFT in ms, of those who arrive in each of `count` spans from `begin`."""
    arrival, ttft = record.trace.arrival, record.ttft * 1e3
    edges = np.linspace(arrival[0], arrival[-1], count + 1)
    parts = np.split(ttft, np.searchsorted(arrival, edges[1:-1]))
    found = [spread(part) for part in parts]
    return {
        "begin": edges[:-1].tolist(),
        "median": [each["p50"] for each in found],
        "p99": [each["p99"] for each in found],
    }


def curve(values: NDArray[np.float64], points: int = 400) -> dict[str, list[float]]:
    """The distribution of values: below each `value` lies a `share`, in percent."""
    kept = values[~np.isnan(values)]
    share = np.linspace(0.0, 100.0, points)
    return {"share": share.tolist(), "value": np.percentile(kept, share).tolist() if len(kept) else []}


def capacity(fleet: Sequence[Deployment], trace: Trace) -> float:
    """The highest rate that replicas sustain on requests like these, requests per second.

    Each kind of replica runs the trace's requests with all of them waiting from the start; the rate is that at which
    they are finished, without the first quarter and the last tenth.
    """
    measured: Mapping[Deployment, float] = {kind: _highest(kind, trace) for kind in dict.fromkeys(fleet)}
    return sum(measured[deployment] for deployment in fleet)


def _highest(deployment: Deployment, trace: Trace) -> float:
    least, per_slot, most = SATURATING
    requests = min(max(least, per_slot * tabled(deployment, trace).slots), most)
    record = simulate([deployment], _backlog(trace, requests))
    done = np.sort(record.last)
    low, high = len(done) // 4, len(done) * 9 // 10
    return (high - low) / float(done[high] - done[low]) if done[high] > done[low] else len(done) / float(done[-1])


def _backlog(trace: Trace, requests: int) -> Trace:
    """The first of its requests, over again if they are too few, all at once."""
    return Trace(np.zeros(requests), np.resize(trace.input, requests), np.resize(trace.output, requests))


def saturation(load: float) -> str:
    """What a load, the share of the highest rate that is offered, means for a queue."""
    return "stable" if load < STABLE else "backlogged" if load < FULL else "overloaded"
