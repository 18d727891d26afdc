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
from dse.errors import CannotRun
from dse.run.deployment import Deployment
from dse.run.fleet_facts import Facts
from dse.run.pooled_deployment import PooledDeployment
from dse.run.problem import Problem
from dse.search.fleet import Answer
from dse.simulate.blocks import Block, BlocksRecord, run_blocks
from dse.simulate.deployment import Deployment as Simulated
from dse.simulate.fleet import Dispatch, Record, simulate
from dse.simulate.pools import transfer_of
from dse.simulate.trace import Trace, draw
from dse.spec.slo import Limit

Floats = NDArray[np.float64]
Plain = dict[str, Any]

RESIDENCES = 25.0
"""Requests are drawn for so many times the time one spends: the first wave says little of a queue."""
WARM_UP = 0.2
"""Share of the requests that only fill the replicas."""
MOST_REQUESTS = 30_000
"""Of one deployment, about a second each: beyond it only some of its replicas are replayed, with their share of the
arrivals."""
FEWEST, MOST_ENGINES = 4, 32
"""Replicas that are replayed where there are more, and engines of these: few even out the arrivals less than many do,
which is on the safe side; a dispatcher looks at every one of them for each request."""
CASE_OF = {"ttft_ms": ("ttft", 1e3), "tpot_ms": ("tpot", 1e3), "latency_s": ("latency", 1.0)}
DISPATCH: Dispatch = "least-loaded"


@dataclass(frozen=True)
class Played:
    """How much of a deployment was replayed."""

    replicas: int
    of: int
    """Those that the demand is sized for, spares apart."""
    requests: int

    def plain(self) -> Plain:
        """As the answer shows it."""
        return {"replicas": self.replicas, "of": self.of, "requests": self.requests}


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
    played: Mapping[str, Played]
    """By option."""
    left_out: Mapping[str, str]
    """Option -> why it was not replayed."""
    share: float
    """Of the requests that arrive, those that options of `played` serve."""

    @property
    def requests(self) -> int:
        """That were drawn and counted."""
        return sum(each.requests for each in self.played.values())

    @property
    def holds(self) -> bool | None:
        """Whether every limit is kept; None where nothing was replayed."""
        return not any(self.missed.values()) if self.played else None

    def plain(self) -> Plain:
        """As the answer shows it."""
        return {
            "instances": dict(self.answer.devices),
            "usd_per_hour": self.answer.usd_per_hour,
            "holds": self.holds,
            "measured": {model: dict(values) for model, values in self.measured.items()},
            "missed": {model: [limit.name for limit in limits] for model, limits in self.missed.items() if limits},
            "requests": self.requests,
            "replayed": {name: each.plain() for name, each in self.played.items()},
            "not_replayed": dict(self.left_out),
            "share_of_requests": self.share,
        }


def obstacle(problem: Problem) -> str:
    """Why no answer to the problem can be replayed; empty where one can."""
    if not problem.deployments:
        return "throughputs are those of a table, which says nothing of how requests are served"
    if not any(model.slo.limits for model in problem.plan.models):
        return "the plan limits no latency"
    return "" if problem.plan.file.verify.requests else "verify.requests is 0"


def replay(facts: Facts, seed: int, most: int = MOST_REQUESTS) -> Replay:
    """Run the peak demand through the answer's replicas, spares apart, and compare with the latencies allowed.

    Args:
        facts: of the answer.
        seed: of arrivals and lengths.
        most: requests of one deployment, as `MOST_REQUESTS` says.
    """
    problem, answer = facts.problem, facts.answer
    times: dict[int, list[dict[str, Floats]]] = {}
    excess: dict[str, float] = {}
    played: dict[str, Played] = {}
    left_out: dict[str, str] = {}
    served = answer.shares @ problem.fleet.demand
    for place, option in enumerate(answer.options):
        deployment = problem.deployments[option.name]
        limits = problem.plan.models[deployment.model].slo.limits
        if not facts.rows[place] or not limits:
            continue
        try:
            found, played[option.name] = _served(facts, place, deployment, seed + place, most)
        except CannotRun as error:
            left_out[option.name] = str(error)
            continue
        times.setdefault(deployment.model, []).append(found)
        excess[option.name] = max(_measured([found], limit) / limit.most for limit in limits)
    measured, missed = {}, {}
    for index, parts in times.items():
        model = problem.plan.models[index]
        values = {limit: _measured(parts, limit) for limit in model.slo.limits}
        measured[model.name] = {limit.name: value for limit, value in values.items()}
        missed[model.name] = tuple(limit for limit, value in values.items() if value > limit.most)
    of_played = sum(float(served[place]) for place, option in enumerate(answer.options) if option.name in played)
    return Replay(answer, measured, missed, excess, played, left_out, of_played / float(served.sum()))


def _served(
    facts: Facts, place: int, deployment: Deployment, seed: int, most: int
) -> tuple[dict[str, Floats], Played]:
    """Times of the requests of one kind of replica, in seconds, each with the weight of its part of the demand."""
    problem, answer = facts.problem, facts.answer
    rows = facts.rows[place]
    rates = {index: float(problem.fleet.demand[index] * answer.shares[place, index]) for index in rows}
    whole = sum(rates.values())
    residence = sum(rates[index] * rows[index]["latency_s"] for index in rows) / whole
    # The warm-up lasts as long as the longest request.
    residence = max(residence, max(row["latency_s"] for row in rows.values()) / (RESIDENCES * WARM_UP))
    if math.isnan(residence):
        residence = 0.0
    standing = max(int(answer.counts[place]) - problem.fleet.spares, 1)
    each = RESIDENCES * whole / standing * residence
    replicas = min(standing, max(min(int(most / max(each, 1.0)), MOST_ENGINES // deployment.engines), FEWEST))
    part = replicas / standing
    count = max(problem.plan.file.verify.requests, math.ceil(each * replicas))
    count = min(count, most * FEWEST)
    lengths = [(rows[index]["input"], rows[index]["output"], rates[index]) for index in rows]
    spread = deployment.sweep.settings.burstiness
    # A part of the arrivals drawn at random has gaps more like those of a Poisson process; what is burstier stays so.
    spread = max(spread, math.sqrt(1.0 + part * (spread**2 - 1.0)))
    trace = draw(count, rate=whole * part, lengths=lengths, burstiness=spread, seed=seed)
    record = _played(deployment, rows, replicas, trace)
    warm = slice(int(WARM_UP * count), None)
    times = {
        "ttft": record.ttft[warm],
        "tpot": record.tpot[warm],
        "latency": record.latency[warm],
        "weight": np.full(count, whole / count)[warm],
    }
    return times, Played(replicas, standing, count)


def _played(deployment: Deployment, rows: Mapping[int, Plain], replicas: int, trace: Trace) -> Record | BlocksRecord:
    """A trace through so many replicas, which run at most what their rows say at once."""
    most = int(max(row["slots"] for row in rows.values()))
    sweep, mesh = deployment.points([0], [1.0])
    model, choices = sweep.models[0], sweep.choices_of(0, 0)
    if choices.serving == "static" and not isinstance(deployment, PooledDeployment):
        return run_blocks(trace, replicas, _blocks(rows))
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


def _blocks(rows: Mapping[int, Plain]) -> dict[tuple[int, int], Block]:
    """The block of each size."""
    return {
        (int(row["input"]), int(row["output"])): Block(int(row["slots"]), row["block_first_s"], row["block_s"])
        for row in rows.values()
    }


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
