"""A plan's answer replayed in the simulator: its replicas, its peak of arrivals, every size of request mixed.

The fleet problem takes loads as additive and each size as if it were alone; the simulator does neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.phases import Point
from dse.run.deployment import Deployment
from dse.run.fleet_facts import Facts
from dse.run.pooled_deployment import PooledDeployment
from dse.run.problem import Problem
from dse.search.fleet import Answer
from dse.simulate.deployment import Deployment as Simulated
from dse.simulate.fleet import Dispatch, Record, simulate
from dse.simulate.pools import transfer_of
from dse.simulate.trace import Trace, draw
from dse.spec.slo import Limit

Floats = NDArray[np.float64]
Plain = dict[str, Any]

RESIDENCES = 25.0
"""Requests are drawn for at least so many times the time one spends: the first wave says little of a queue."""
WARM_UP = 0.2
"""Share of the requests that only fill the replicas."""
MOST_REQUESTS = 30_000
"""Of one deployment: about a second each."""
MOST_REPLICAS = 256
"""Of one deployment, or workers of its pools: so many, with their part of the arrivals, stand for a larger fleet."""
CASE_OF = {"ttft_ms": ("ttft", 1e3), "tpot_ms": ("tpot", 1e3), "latency_s": ("latency", 1.0)}
DISPATCH: Dispatch = "least-loaded"


@dataclass(frozen=True)
class Replay:
    """What the simulator says of an answer."""

    answer: Answer
    measured: Mapping[str, Mapping[str, float]]
    """Model -> limit -> what was measured, in the limit's unit."""
    missed: Mapping[str, tuple[Limit, ...]]
    """Model -> its limits that are missed."""
    excess: Mapping[str, float]
    """Option -> the worst of its own requests' times over their limits: 1.2 is 20 % too long."""
    requests: int

    @property
    def holds(self) -> bool:
        """Whether every limit is kept."""
        return not any(self.missed.values())

    def plain(self) -> Plain:
        """As the answer shows it."""
        return {
            "instances": dict(self.answer.devices),
            "usd_per_hour": self.answer.usd_per_hour,
            "holds": self.holds,
            "measured": {model: dict(values) for model, values in self.measured.items()},
            "missed": {model: [limit.name for limit in limits] for model, limits in self.missed.items() if limits},
            "requests": self.requests,
        }


def can_replay(problem: Problem) -> bool:
    """Whether the answer has limits and deployments that the simulator knows: requests that arrive, no placements."""
    limited = any(model.slo.limits for model in problem.plan.models)
    return limited and bool(problem.deployments) and problem.plan.file.verify.requests > 0


def replay(facts: Facts, seed: int) -> Replay:
    """Run the peak demand through the answer's replicas, spares apart, and compare with the latencies allowed.

    Args:
        facts: of the answer.
        seed: of arrivals and lengths.
    """
    problem, answer = facts.problem, facts.answer
    times: dict[int, list[dict[str, Floats]]] = {}
    excess: dict[str, float] = {}
    total = 0
    for place, option in enumerate(answer.options):
        deployment = problem.deployments[option.name]
        if not facts.rows[place] or deployment.offloaded:
            continue
        found = _served(facts, place, deployment, seed + place)
        total += len(found["ttft"])
        times.setdefault(deployment.model, []).append(found)
        limits = problem.plan.models[deployment.model].slo.limits
        excess[option.name] = max((_measured([found], limit) / limit.most for limit in limits), default=0.0)
    measured, missed = {}, {}
    for index, parts in times.items():
        model = problem.plan.models[index]
        values = {limit: _measured(parts, limit) for limit in model.slo.limits}
        measured[model.name] = {limit.name: value for limit, value in values.items()}
        missed[model.name] = tuple(limit for limit, value in values.items() if value > limit.most)
    return Replay(answer, measured, missed, excess, total)


def _served(facts: Facts, place: int, deployment: Deployment, seed: int) -> dict[str, Floats]:
    """Times of the requests of one kind of replica, in seconds, each with the weight of its part of the demand."""
    problem, answer = facts.problem, facts.answer
    rows = facts.rows[place]
    rates = {index: float(problem.fleet.demand[index] * answer.shares[place, index]) for index in rows}
    whole = sum(rates.values())
    residence = sum(rates[index] * rows[index]["latency_s"] for index in rows) / whole
    if math.isnan(residence):
        residence = 0.0
    standing = max(int(answer.counts[place]) - problem.fleet.spares, 1)
    replicas = min(standing, max(MOST_REPLICAS // deployment.engines, 1))
    rate = whole * replicas / standing
    wanted = max(problem.plan.file.verify.requests, math.ceil(RESIDENCES * rate * residence))
    count = min(wanted, MOST_REQUESTS)
    lengths = [(rows[index]["input"], rows[index]["output"], rates[index]) for index in rows]
    burstiness = deployment.sweep.settings.burstiness
    trace = draw(count, rate=rate, lengths=lengths, burstiness=burstiness, seed=seed)
    record = _played(deployment, max(int(row["batch"]) for row in rows.values()), replicas, trace)
    warm = slice(int(WARM_UP * count), None)
    return {
        "ttft": record.ttft[warm],
        "tpot": record.tpot[warm],
        "latency": record.latency[warm],
        "weight": np.full(count, whole / count)[warm],
    }


def _played(deployment: Deployment, most: int, replicas: int, trace: Trace) -> Record:
    """A trace through so many replicas, each of at most so many running sequences."""
    sweep, mesh = deployment.points([0], [1.0])
    model, choices = sweep.models[0], sweep.choices_of(0, 0)
    if not isinstance(deployment, PooledDeployment):
        one = Simulated(model, replace(choices, batch=[1]), most, deployment.chunk_tokens)
        return simulate([one] * replicas, trace, dispatch=DISPATCH)
    assert choices.pools is not None
    transfer = transfer_of(deployment.served(Point(model, choices, mesh)))
    prefill = choices.pools.prefill
    prompts = Simulated(model, replace(prefill, batch=[1]), max(prefill.batch))
    decodes = Simulated(model, replace(choices, batch=[1], serving="static", pools=None), most)
    x, y = deployment.workers
    return simulate(
        [decodes] * (y * replicas), trace, dispatch=DISPATCH, prefill=[prompts] * (x * replicas), transfer=transfer,
        groups=replicas,
    )  # fmt: skip


def _measured(parts: Sequence[Mapping[str, Floats]], limit: Limit) -> float:
    """A mean or percentile over the requests of all parts, by their part of the demand."""
    name, unit = CASE_OF[limit.metric]
    values = np.concatenate([part[name] for part in parts]) * unit
    weights = np.concatenate([part["weight"] for part in parts])
    there = ~np.isnan(values)
    values, weights = values[there], weights[there]
    if not len(values):
        return 0.0
    if limit.statistic == "mean":
        return float(np.average(values, weights=weights))
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(reached, 0.99 - 1e-12)])
