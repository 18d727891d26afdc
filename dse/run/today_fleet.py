"""Today's fleet against the recommended one: what it serves of the demand, what it costs, the regret of staying."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from dse.run.candidates import deployments_of
from dse.run.deployment import Deployment
from dse.run.planned_table import library_chip, rows_of, table_rates
from dse.run.planning import Today
from dse.run.prices import PricedDevice, priced_device
from dse.run.problem import Problem
from dse.run.resolve import Sweep
from dse.search.fleet import Answer, Device, Fleet, Option
from dse.search.fleet_program import growth_left, most_served_by

Plain = dict[str, Any]


def today(problem: Problem, answer: Answer) -> Plain | None:
    """What today's fleet does with the plan's demand; None where the plan names none.

    `difference_usd_per_hour` is what staying costs more than the recommended fleet, `difference_served` what it serves
    less of the demand. `regret_usd_per_hour` is what is lost by staying, in dollars alone: the difference, also where
    today's fleet serves less. Where it costs less and serves less, dollars do not say which is better, and it is None.
    """
    plan = problem.plan
    if not plan.today:
        return None
    options, counts, devices, unknown, cannot = [], [], dict[str, Device](), set[str](), list[str]()
    for place, part in enumerate(plan.today):
        option, priced, lacking = _part(problem, part, f"today-{place}")
        if priced is None:
            unknown.add(option.device)
        devices[option.device] = priced.device if priced is not None else Device(option.device, math.nan)
        if lacking:
            cannot.append(lacking)
        options.append(option)
        counts.append(part.entry.replicas)
    fleet = _bare(problem.fleet, options, devices)
    served = most_served_by(replace(fleet, headroom=0.0, spares=0), counts)
    held = Answer("optimal", 0.0, math.nan, tuple(options), np.array(counts))
    factor = 0.0 if len(fleet.unservable) else growth_left(fleet, held)
    share = problem.served_share(served, fleet) if served.found else 0.0
    return {
        "instances": _instances(options, counts),
        **_cost(options, counts, devices, answer, carries=factor >= 1 - 1e-9),
        "served": share,
        "difference_served": problem.served_share(answer) - share,
        "demand_factor": factor,
        "no_price": sorted(unknown),
        "cannot": cannot,
    }


def _part(problem: Problem, part: Today, name: str) -> tuple[Option, PricedDevice | None, str]:
    """A part of today's fleet as an option, its price, and why it serves nothing where it does not."""
    plan = problem.plan
    if part.sweep is None:
        device = part.entry.hardware
        rows = rows_of(plan.table, device, plan.models[part.model].name, single=len(plan.models) == 1)
        rates, _ = table_rates(rows, plan.buckets, part.model)
        lacking = "" if np.any(rates > 0) else f"{device}: its throughput is 0 everywhere, or no row is as large"
        return Option(name, device, 1, rates), priced_device(device, library_chip(device), plan.file), lacking
    chip, (found, lacking) = part.sweep.hardware[0], _deployment(problem, part, part.sweep)
    rates = np.zeros(len(plan.buckets))
    if found is not None:
        rates[[index for index, bucket in enumerate(plan.buckets) if bucket.model == part.model]] = found.rates
    option = Option(name, chip.name, part.sweep.axes.layout[0].devices, rates)
    return option, priced_device(chip.name, chip, plan.file), "" if found is not None else lacking


def _deployment(problem: Problem, part: Today, sweep: Sweep) -> tuple[Deployment | None, str]:
    """Today's deployment with what it serves within the latencies; None where it serves nothing, and why."""
    plan = problem.plan
    buckets = [bucket for bucket in plan.buckets if bucket.model == part.model]
    found, misses, _ = deployments_of(sweep, part.model, buckets, plan.models[part.model].slo, None)
    return max(found, key=lambda each: float(each.rates.sum()), default=None), misses[0].words


def _bare(fleet: Fleet, options: list[Option], devices: dict[str, Device]) -> Fleet:
    """The demand, and what is there: no box and no stock is to be kept to."""
    free = {name: replace(device, box=1, stock=None, usd_per_hour=0.0) for name, device in devices.items()}
    return replace(fleet, options=tuple(options), devices=free, slices=None)


def _instances(options: list[Option], counts: list[int]) -> dict[str, int]:
    held: dict[str, int] = {}
    for option, count in zip(options, counts, strict=True):
        held[option.device] = held.get(option.device, 0) + option.devices * count
    return held


def _cost(
    options: list[Option], counts: list[int], devices: dict[str, Device], answer: Answer, *, carries: bool
) -> Plain:
    cost = sum(n * o.devices * devices[o.device].usd_per_hour for o, n in zip(options, counts, strict=True))
    known, more = not math.isnan(cost), cost - answer.usd_per_hour
    return {
        "usd_per_hour": cost if known else None,
        "difference_usd_per_hour": more if known else None,
        "regret_usd_per_hour": more if known and (carries or more >= 0) else None,
        "carries_the_demand": carries,
    }
