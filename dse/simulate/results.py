"""What a simulation says: latencies and their percentiles, throughput, how busy the replicas were, goodput."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
"""Requests that measure the highest rate: at least, per slot, and at most."""

ROOMY = 15 / 16
"""Share of the places at which a cache that all of them fill has room: below it nobody is evicted."""

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
"""Its multiples lie evenly between whole numbers, however many of them one takes."""


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
    """The higher of two: with all places, and with as many as leave the cache some room."""
    slots = tabled(deployment, trace).slots
    return max(_finished(deployment, trace), _finished(replace(deployment, max_running=_fewer(slots)), trace))


def _fewer(slots: int) -> int:
    return max(int(slots * ROOMY), 1)


def _finished(deployment: Deployment, trace: Trace) -> float:
    """Requests per second of one replica that are finished while others always wait."""
    least, per_slot, most = SATURATING
    slots = tabled(deployment, trace).slots
    requests = min(max(least, per_slot * slots), most)
    record = simulate([deployment], _backlog(trace, requests, slots))
    done = np.sort(record.last)
    low, high = len(done) // 4, len(done) * 9 // 10
    return (high - low) / float(done[high] - done[low]) if done[high] > done[low] else len(done) / float(done[-1])


def _backlog(trace: Trace, requests: int, slots: int) -> Trace:
    """The first of its requests, over again if they are too few, all at once.

    Those that find a place at once have parts of their outputs left, evenly: sequences of one age would grow old
    together, and fill the cache as those of all ages never do.
    """
    output = np.resize(trace.output, requests)
    first = min(slots, requests)
    left = (np.arange(first) * GOLDEN) % 1.0
    output[:first] = np.maximum(np.ceil(output[:first] * left), 1)
    return Trace(np.zeros(requests), np.resize(trace.input, requests), output)


def sustained(deployment: Deployment, trace: Trace) -> int:
    """Most sequences that run at once without evicting each other: as many as the cache holds at their average age.

    That is the limit of the cost model (`dse.cost.serving.fits`): an engine that lets more in evicts, and computes
    again. A request of twice the output runs twice as long, and counts twice. Of unlike requests many short ones may
    run at once: the number that two standard deviations of what they hold leave room for.
    """
    found, block = tabled(deployment, trace), deployment.choices.kv_block_size
    output, blocks = trace.output.astype(float), np.arange(len(found.held))
    apart = np.vectorize(found.apart, otypes=[float])(trace.input) if found.shared else 0.0

    def held(tokens: NDArray[np.float64]) -> NDArray[np.float64]:
        """Bytes of a sequence, on average over where it stands in its last block."""
        return np.interp((tokens + apart + (block - 1) / 2) / block, blocks, found.held)

    sizes = held(trace.input + deployment.choices.runtime.occupancy * output)
    each = float(np.average(sizes, weights=output))
    if each <= 0:
        return found.slots
    spread = math.sqrt(float(np.average((sizes - each) ** 2, weights=output)))
    room, ranks = found.room / deployment.ranks, deployment.ranks
    root = (math.sqrt(spread**2 + each * room) + spread) / each  # n each - 2 sqrt(n) spread = room
    return min(found.slots, max(int(root**2), 1) * ranks)


def saturation(load: float) -> str:
    """What a load, the share of the highest rate that is offered, means for a queue."""
    return "stable" if load < STABLE else "backlogged" if load < FULL else "overloaded"
