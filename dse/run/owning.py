"""Renting against buying: when what the answer rents would have paid for itself."""

from __future__ import annotations

from typing import Any

from dse.run.prices import purchase
from dse.run.problem import Problem
from dse.search.fleet import Answer
from dse.spec.plan import HOURS_PER_MONTH

Plain = dict[str, Any]


def rent_or_buy(problem: Problem, answer: Answer) -> list[Plain]:
    """After how many months a bought accelerator of the answer has cost less than a rented one, its power paid."""
    file, found = problem.plan.file, []
    for name in answer.devices:
        device = problem.plan.devices[name]
        rented = device.price.usd_per_hour
        bought = purchase(device.chip, device.hardware, file)
        if rented is None or bought is None or bought.usd is None:
            continue
        region = file.budget.regions.get(device.device.site)
        capital = bought.usd * (region.price_factor if region is not None else 1.0)
        power = device.device.watts / 1e3 * file.economics.pue * file.economics.usd_per_kwh
        saved = device.device.usd_per_hour - power
        found.append({
            "hardware": name, "rent_usd_per_hour": device.device.usd_per_hour, "purchase_usd": capital,
            "power_usd_per_hour": power, "purchase_source": bought.source,
            "months_to_break_even": capital / saved / HOURS_PER_MONTH if saved > 0 else None,
        })  # fmt: skip
    return found
