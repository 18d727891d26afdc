"""A plan as a fleet problem: its options by deployment, and what each says when it is chosen."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.run.candidates import Candidates, find_candidates
from dse.run.deployment import Deployment
from dse.run.plan_axes import on_hardware
from dse.run.planned_table import rows_of, table_rates
from dse.run.planning import Plan
from dse.search.fleet import Answer, Fleet, Option, tidied
from dse.search.fleet_program import UNUSED, cheapest, most_served
from dse.spec.slo import Slo

Floats = NDArray[np.float64]

SERVED_IN_FULL = 1e-8
"""Distance of a served share from one that sums of floats explain: shares are held to nine decimals."""


@dataclass(frozen=True)
class Problem:
    """What is to be solved, with the way back from options to deployments."""

    plan: Plan
    fleet: Fleet
    deployments: Mapping[str, Deployment]
    """By option; empty where a table says what serves what."""
    candidates: Candidates
    sources: Mapping[str, Sequence[str]]
    """By option of a table, the size whose row each bucket takes; empty text where it has none."""

    @cached_property
    def model_of(self) -> NDArray[np.intp]:
        """The model of each bucket."""
        return np.array([bucket.model for bucket in self.plan.buckets])

    @property
    def maximising(self) -> bool:
        """Whether as much as possible is to be served, rather than all for as little as possible."""
        return self.plan.file.objective == "served_rate"

    def best(self, fleet: Fleet | None = None) -> Answer:
        """The answer the plan asks for; of a changed problem without the last digits."""
        solve = most_served if self.maximising else cheapest
        limit = self.plan.file.time_limit_s
        return solve(self.fleet, time_limit=limit) if fleet is None else solve(fleet, time_limit=limit, rough=True)

    def power_kw(self, answer: Answer) -> float | None:
        """The most an answer draws, hosts included; None where the power of one of its accelerators is not known."""
        known = all(self.fleet.devices[name].watts for name in answer.devices)
        return answer.watts / 1e3 if known else None

    def served_share(self, answer: Answer, fleet: Fleet | None = None) -> float:
        """Share of the demand, or of that of a changed problem, that an answer serves."""
        fleet = self.fleet if fleet is None else fleet
        share = answer.served(fleet) / float(fleet.demand.sum()) if answer.found else math.nan
        return 1.0 if abs(share - 1) < SERVED_IN_FULL else share

    def under(self, slos: Sequence[Slo], hardware: Collection[str]) -> Problem:
        """The same plan with other latencies, on some of its accelerators.

        Args:
            slos: by model.
            hardware: names.
        """
        models = tuple(
            replace(model, slo=slo, sweep=None if model.sweep is None else on_hardware(model.sweep, hardware))
            for model, slo in zip(self.plan.models, slos, strict=True)
        )
        return state_problem(replace(self.plan, models=models))


def state_problem(plan: Plan) -> Problem:
    """The fleet problem of a plan."""
    if plan.table:
        options, sources = _of_table(plan)
        return Problem(plan, _fleet(plan, options), {}, Candidates(), sources)
    found = find_candidates(plan)
    by_name = {}
    options = []
    for each in sorted(found.deployments, key=lambda each: each.name):
        for site in _sites(plan, each):
            name = f"{each.name} @{site}" if site else each.name
            by_name[name] = each
            options.append(each.option(name, _placed(plan, each.model, each.rates), site))
    return Problem(plan, _fleet(plan, options), by_name, found, {})


def _sites(plan: Plan, deployment: Deployment) -> list[str]:
    """Where all accelerators of a deployment can be had; the empty text where there are no regions."""
    there = [{each.device.site for each in plan.devices.values() if each.chip == chip} for chip in deployment.held]
    return [each.device.site for each in plan.devices.values()
            if each.chip == deployment.chip.name and all(each.device.site in sites for sites in there)]  # fmt: skip


def _placed(plan: Plan, model: int, rates: Floats) -> Floats:
    """Rates of a model's buckets among those of all models."""
    placed = np.zeros(len(plan.buckets))
    placed[[place for place, bucket in enumerate(plan.buckets) if bucket.model == model]] = rates
    return placed


def _fleet(plan: Plan, options: Sequence[Option]) -> Fleet:
    file = plan.file
    weights = np.array([plan.models[bucket.model].weight for bucket in plan.buckets])
    return Fleet(
        demand=np.array([bucket.peak for bucket in plan.buckets]),
        options=tuple(options),
        devices={name: each.device for name, each in plan.devices.items()},
        headroom=file.headroom,
        spares=file.redundancy,
        usd_per_hour=file.budget.hourly,
        capital_usd=file.budget.capital_usd,
        watts=None if file.budget.power_kw is None else file.budget.power_kw * 1e3,
        site_watts={
            name: region.power_kw * 1e3 for name, region in file.budget.regions.items() if region.power_kw is not None
        },
        slices=file.slices,
        weights=weights / weights.max(),  # only their ratios count; a solver's tolerances are absolute
    )


def _of_table(plan: Plan) -> tuple[list[Option], dict[str, list[str]]]:
    """An option per model and accelerator of a table."""
    options, sources = [], {}
    single = len(plan.models) == 1
    for index, model in enumerate(plan.models):
        for device, priced in plan.devices.items():
            rows = rows_of(plan.table, priced.chip, model.name, single=single)
            name = device if single else f"{model.name} {device}"
            rates, sources[name] = table_rates(rows, plan.buckets, index)
            options.append(Option(name, device, 1, rates))
    return options, sources


def balanced(fleet: Fleet, answer: Answer) -> Answer:
    """The same replicas with the demand spread so that the busiest kind of them is as little busy as can be.

    Any shares that fit are as cheap; these leave the most room where a queue would form first.
    """
    if fleet.slices or not answer.found or not len(answer.options):
        return answer
    from scipy.optimize import linprog
    from scipy.sparse import coo_matrix

    served = answer.shares.sum(axis=0)
    rates = np.array([option.rates for option in answer.options])
    pairs = [(int(o), int(b)) for o, b in zip(*np.nonzero(rates > 0), strict=True) if served[b] > 0]
    usable = np.maximum(answer.counts - fleet.spares, 0) * (1 - fleet.headroom)
    loads = [fleet.demand[b] / rates[o, b] / usable[o] if usable[o] > 0 else np.inf for o, b in pairs]
    pairs = [pair for pair, load in zip(pairs, loads, strict=True) if np.isfinite(load)]
    loads = [load for load in loads if np.isfinite(load)]
    width = len(pairs)
    places = np.arange(width)
    busy = coo_matrix((loads, ([o for o, _ in pairs], places)), shape=(len(rates), width + 1)).tolil()
    busy[:, width] = -1.0
    of_bucket = coo_matrix((np.ones(width), ([b for _, b in pairs], places)), shape=(len(served), width + 1))
    aim = np.zeros(width + 1)
    aim[width] = 1.0
    found = linprog(aim, busy.tocsr(), np.zeros(len(rates)), of_bucket.tocsr(), served, method="highs-ds")
    if found.status != 0:
        return answer
    shares = np.zeros_like(answer.shares)
    for (o, b), share in zip(pairs, found.x, strict=False):
        shares[o, b] = share if share > UNUSED else 0.0
    return replace(answer, shares=tidied(shares))
