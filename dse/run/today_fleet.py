"""Today's fleet against the recommended one: what it serves of the demand, what it costs, the regret of staying."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from dse.run.candidates import deployments_of
from dse.run.deployment import Deployment
from dse.run.planning import Today
from dse.run.prices import priced_device
from dse.run.problem import Problem
from dse.search.fleet import Answer, Device, Fleet, Option
from dse.search.fleet_program import growth_left, most_served_by

Plain = dict[str, Any]


def today(problem: Problem, answer: Answer) -> Plain | None:
    """What today's fleet does with the plan's demand; None where the plan names none.

    `regret_usd_per_hour` is what staying costs more than the recommended fleet, where today's carries the demand.
    """
    plan = problem.plan
    if not plan.today:
        return None
    options, counts, devices, unknown, cannot = [], [], dict[str, Device](), set[str](), list[str]()
    for place, part in enumerate(plan.today):
        found, lacking = _deployment(problem, part)
        chip = part.sweep.hardware[0]
        priced = priced_device(chip.name, chip, plan.file)
        if priced is None:
            unknown.add(chip.name)
        devices[chip.name] = priced.device if priced is not None else Device(chip.name, math.nan)
        rates = np.zeros(len(plan.buckets))
        if found is not None:
            rates[[index for index, bucket in enumerate(plan.buckets) if bucket.model == part.model]] = found.rates
        else:
            cannot.append(lacking)
        options.append(Option(f"today-{place}", chip.name, part.sweep.axes.layout[0].devices, rates))
        counts.append(part.entry.replicas)
    fleet = _bare(problem.fleet, options, devices)
    served = most_served_by(replace(fleet, headroom=0.0, spares=0), counts)
    held = Answer("optimal", 0.0, math.nan, tuple(options), np.array(counts))
    factor = 0.0 if len(fleet.unservable) else growth_left(fleet, held)
    return {
        "instances": _instances(options, counts),
        **_cost(options, counts, devices, answer, carries=factor >= 1 - 1e-9),
        "served": served.served(fleet) / float(fleet.demand.sum()) if served.found else 0.0,
        "demand_factor": factor,
        "no_price": sorted(unknown),
        "cannot": cannot,
    }


def _deployment(problem: Problem, part: Today) -> tuple[Deployment | None, str]:
    """Today's deployment with what it serves within the latencies; None where it serves nothing, and why."""
    plan = problem.plan
    buckets = [bucket for bucket in plan.buckets if bucket.model == part.model]
    found, misses, _ = deployments_of(part.sweep, part.model, buckets, plan.models[part.model].slo, None)
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
    known = not math.isnan(cost)
    return {
        "usd_per_hour": cost if known else None,
        "regret_usd_per_hour": cost - answer.usd_per_hour if known and carries else None,
        "carries_the_demand": carries,
    }
