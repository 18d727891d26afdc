"""What would change a plan's answer: other hardware, other latencies, more traffic, other prices, wrong throughputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from dse.run.fleet_facts import Facts, mean_latency
from dse.run.parallel import mapped
from dse.run.problem import Problem, balanced
from dse.search.fleet import Answer, Device, Fleet
from dse.search.fleet_distinct import best_distinct
from dse.search.fleet_program import Multipliers, cheapest, growth_left, multipliers
from dse.spec.slo import Slo

Plain = dict[str, Any]

MORE_TRAFFIC = 1.1
LOOSER = 1.25
"""Factor on one latency to see what it costs."""
OFF = 0.1
"""Error of prices and throughputs that the answer is tried against."""
SERVED = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Points of the frontier of cost against demand, in demands of the plan."""
TIGHTNESS = (0.25, 0.5, 1.0, 2.0)
"""Points of the frontier of cost against latency, in latencies of the plan."""
NEAR = 4
"""Kinds of accelerator, beside those of the answer, that are looked at under other latencies: the cheapest alone."""
FORKED = 300
"""Deployments to choose from, some ten seconds of programs, from which the questions are shared among the cores."""
NOISE = 2e-3
"""Relative difference of two answers that their gaps may explain."""
PRICED = 3
"""Kinds of accelerator whose prices are changed: those most is spent on."""
HORIZON_YEARS = 20.0


@dataclass
class WhatIf:
    """An answer, and the same problem changed in one thing after the other."""

    problem: Problem
    answer: Answer

    @cached_property
    def fleet(self) -> Fleet:
        """The problem as solved."""
        return self.problem.fleet

    @cached_property
    def margins(self) -> Multipliers | None:
        """Multipliers of the relaxed problem; None where served demand is what is wanted."""
        return None if self.problem.maximising else multipliers(self.fleet)

    def all(self, error_pct: float | None) -> dict[str, Any]:
        """Every change that is tried, by name.

        Args:
            error_pct: as `sensitivity` has it.
        """
        asked: dict[str, Callable[[], Any]] = {
            "alternatives": lambda: list(self.alternatives()),
            "latency": lambda: {"frontier": self.frontier_latency(), "fastest": list(self._fastest())},
            "binding": self.binding,
            "sensitivity": lambda: self.sensitivity(error_pct),
            "frontier_served": self.frontier_served,
        }
        _ = self.near, self.margins  # what several ask for is asked once
        worth_it = len(self.fleet.options) > FORKED
        answers = mapped(lambda name: asked[name](), list(asked), worth_it=worth_it)
        return dict(zip(asked, answers, strict=True))

    def worth(self, answer: Answer) -> float:
        """What an answer is judged by: dollars per hour, or requests/s served."""
        if not answer.found:
            return math.nan
        return answer.served(self.fleet) if self.problem.maximising else answer.usd_per_hour

    # -- other fleets -------------------------------------------------------------------------------

    @cached_property
    def singles(self) -> dict[str, Answer]:
        """The best fleet of each kind of device alone, best first; kinds that cannot do it alone are left out."""
        found = {}
        for name in sorted(self.fleet.devices):
            options = [option for option in self.fleet.options if set(option.held) == {name}]
            if not options or (len(self.fleet.of(options).unservable) and not self.problem.maximising):
                continue
            answer = self.problem.best(self.fleet.of(options))
            if answer.found and answer.devices:
                found[name] = answer
        sign = -1 if self.problem.maximising else 1

        def place(item: tuple[str, Answer]) -> tuple[float, float, str]:
            """What serves equally much comes by its cost; solvers leave the sixth digit open."""
            return sign * float(f"{self.worth(item[1]):.5g}"), item[1].usd_per_hour, item[0]

        return dict(sorted(found.items(), key=place))

    @cached_property
    def fastest(self) -> tuple[float, Facts] | None:
        """The tightest latencies, in those of the plan, that some fleet within the limits meets, and that fleet."""
        if not self._limited or self.problem.maximising:
            return None
        for scale in (scale for scale in TIGHTNESS if scale < 1):
            under = self._at(scale)
            if not len(under.fleet.unservable) and (answer := under.best()).found:
                return scale, Facts(under, balanced(under.fleet, answer))
        return None

    @property
    def _limited(self) -> bool:
        """Whether latencies play a part, and can be changed: measured throughputs rest on theirs."""
        return bool(self.problem.deployments) and any(model.slo.limits for model in self.problem.plan.models)

    @cached_property
    def near(self) -> frozenset[str]:
        """The kinds of accelerator that are looked at under other latencies."""
        devices = self.problem.plan.devices
        return frozenset(devices[name].chip for name in (*self.answer.devices, *list(self.singles)[:NEAR]))

    def _at(self, scale: float) -> Problem:
        """The problem with all latencies times a factor."""
        if scale not in self._scaled:
            slos = [model.slo.scaled(scale) for model in self.problem.plan.models]
            self._scaled[scale] = self.problem.under(slos, self.near)
        return self._scaled[scale]

    @cached_property
    def _scaled(self) -> dict[float, Problem]:
        return {}

    def alternatives(self) -> Iterator[Plain]:
        """The recommendation beside what else could be had, each with its cost over the recommended."""
        yield self._row("recommended", self.answer)
        for place, (name, answer) in enumerate(self.singles.items()):
            yield self._row("best single type" if place == 0 else f"only {name}", answer)
        if not self.problem.maximising:
            mine = frozenset(self.answer.devices)
            seen = {mine, *(frozenset(single.devices) for single in self.singles.values())}
            for answer in self._runners_up():
                if frozenset(answer.devices) not in seen:
                    yield self._row("next best mix", answer)

    def _fastest(self) -> Iterator[Plain]:
        if self.fastest is not None:
            scale, facts = self.fastest
            yield {**self._row("fastest", facts.answer), "slo_scale": scale, **_rounded(mean_latency(facts))}

    def _runners_up(self) -> list[Answer]:
        file = self.problem.plan.file
        return best_distinct(self.fleet, self.answer, file.alternatives, time_limit=file.time_limit_s)

    def _row(self, title: str, answer: Answer) -> Plain:
        mine, its = self.answer.usd_per_hour, answer.usd_per_hour
        return {
            "title": title,
            "instances": dict(answer.devices),
            "usd_per_hour": its,
            "difference_usd_per_hour": its - mine,
            "difference_pct": (its / mine - 1) * 100 if mine else math.nan,
            "served": self.problem.served_share(answer),
            "power_kw": self.problem.power_kw(answer),
            "status": answer.status,
            "gap": answer.gap,
        }

    # -- what binds ---------------------------------------------------------------------------------

    def binding(self) -> list[Plain]:
        """What the answer would be cheaper (or serve more) without, most valuable first."""
        found = [*self._limits(), *self._latencies(), *self._rules()]
        least = NOISE * abs(self.worth(self.answer))
        held = [entry for entry in found if abs(entry["change"]) > least or entry.get("dual")]
        held.sort(key=lambda entry: (-abs(entry["change"]), str(entry["what"])))
        return [*held, *self._traffic()]

    def _change(self, what: str, fleet: Fleet, **more: Any) -> Plain:
        """The answer of a changed problem against the plan's; `change` in dollars per hour, or requests/s served."""
        changed = self.problem.best(fleet)
        unit = "requests_per_s" if self.problem.maximising else "usd_per_hour"
        change = self.worth(changed) - self.worth(self.answer) if changed.found else math.nan
        return {"what": what, "change": change, "unit": unit, "instances": dict(changed.devices), **more}

    def _limits(self) -> Iterator[Plain]:
        """Limits that are reached: the multiplier of the relaxed problem, and the answer without the limit."""
        duals = self.margins.limits if self.margins is not None else {}
        for name, used, most, without in self._reached():
            dual = duals.get(name, 0.0)
            if dual > 0 or used + self._least(name) > most:
                yield self._change(f"limit {name}", without, used=used, limit=most, dual=dual)

    def _least(self, name: str) -> float:
        """What one replica more takes of a limit, at least."""
        least = math.inf
        for option in self.fleet.options:
            taken = sum(count * self._amount(name, self.fleet.devices[held]) for held, count in option.held.items())
            least = min(least, taken) if taken > 0 else least
        return least

    @staticmethod
    def _amount(name: str, device: Device) -> float:
        """What an accelerator takes of a limit."""
        if name == "usd_per_hour":
            return device.usd_per_hour
        if name == "capital_usd":
            return device.capital_usd
        if name.startswith("stock:"):
            return float(name == f"stock:{device.name}")
        return device.watts if name in ("watts", f"watts@{device.site}") else 0.0

    def _reached(self) -> Iterator[tuple[str, float, float, Fleet]]:
        fleet, answer = self.fleet, self.answer
        if fleet.usd_per_hour is not None:
            yield "usd_per_hour", answer.usd_per_hour, fleet.usd_per_hour, replace(fleet, usd_per_hour=None)
        if fleet.capital_usd is not None:
            yield "capital_usd", answer.capital_usd, fleet.capital_usd, replace(fleet, capital_usd=None)
        if fleet.watts is not None:
            yield "watts", answer.watts, fleet.watts, replace(fleet, watts=None)
        for site, most in fleet.site_watts.items():
            used = sum(
                fleet.devices[name].watts * held
                for name, held in answer.devices.items()
                if fleet.devices[name].site == site
            )
            others = {name: limit for name, limit in fleet.site_watts.items() if name != site}
            yield f"watts@{site}", used, most, replace(fleet, site_watts=others)
        for name, device in fleet.devices.items():
            if device.stock is not None:
                freed = {**fleet.devices, name: replace(device, stock=None)}
                yield f"stock:{name}", answer.devices.get(name, 0), device.stock, replace(fleet, devices=freed)

    def _latencies(self) -> Iterator[Plain]:
        """Each latency a quarter looser."""
        if not self._limited:
            return
        models = self.problem.plan.models
        for name in dict.fromkeys(limit.name for model in models for limit in model.slo.limits):
            looser = self.problem.under([_looser(model.slo, name) for model in models], self.near)
            yield self._change(f"slo {name}", looser.fleet, factor=LOOSER)

    def _rules(self) -> Iterator[Plain]:
        if self.fleet.headroom:
            yield self._change("headroom", replace(self.fleet, headroom=0.0), limit=self.fleet.headroom)
        if self.fleet.spares:
            yield self._change("redundancy", replace(self.fleet, spares=0), limit=self.fleet.spares)
        if any(device.box > 1 for device in self.fleet.devices.values()):
            singly = {name: replace(device, box=1) for name, device in self.fleet.devices.items()}
            yield self._change("whole boxes", replace(self.fleet, devices=singly))

    def _traffic(self) -> Iterator[Plain]:
        if not self.problem.maximising:
            yield self._change("10 % more traffic", self.fleet.scaled(MORE_TRAFFIC), factor=MORE_TRAFFIC)

    # -- frontiers ----------------------------------------------------------------------------------

    def frontier_served(self) -> list[Plain]:
        """The cheapest fleet for each multiple of the demand, without regard to limits on dollars."""
        free = replace(self.fleet, usd_per_hour=None)
        return list(self._frontier("demand_factor", SERVED, lambda factor: free.scaled(factor)))

    def frontier_latency(self) -> list[Plain]:
        """The cheapest fleet for each multiple of the latencies allowed."""
        if not self._limited:
            return []

        def under(scale: float) -> Fleet:
            fleet = self.fleet if scale == 1.0 else self._at(scale).fleet
            return replace(fleet, usd_per_hour=None)

        return list(self._frontier("slo_scale", TIGHTNESS, under))

    def _frontier(self, key: str, values: tuple[float, ...], fleet_at: Callable[[float], Fleet]) -> Iterator[Plain]:
        for value in values:
            answer = cheapest(fleet_at(value), time_limit=self.problem.plan.file.time_limit_s, rough=True)
            if answer.found:
                yield {
                    key: value, "usd_per_hour": answer.usd_per_hour, "lower_bound": answer.bound,
                    "instances": dict(answer.devices),
                }  # fmt: skip

    # -- time, error --------------------------------------------------------------------------------

    def growth(self) -> Plain | None:
        """When growing demand outruns the answer: the head-room first, then everything."""
        growths = np.array([self.problem.plan.models[m].growth for m in self.problem.model_of])
        if not np.any(growths > 0) or not self.answer.found or self.problem.maximising:
            return None

        def years(fleet: Fleet) -> float | None:
            def carried(after: float) -> bool:
                grown = replace(fleet, demand=fleet.demand * (1 + growths) ** after)
                return growth_left(grown, self.answer) >= 1 - 1e-9

            low, high = 0.0, HORIZON_YEARS
            if carried(high):
                return None
            for _ in range(24):  # to a minute of the horizon
                middle = (low + high) / 2
                low, high = (middle, high) if carried(middle) else (low, middle)
            return low

        return {
            "demand_factor_left": growth_left(self.fleet, self.answer),
            "years_until_headroom_is_used": years(self.fleet),
            "years_until_saturated": years(replace(self.fleet, headroom=0.0)),
        }

    def sensitivity(self, error_pct: float | None) -> list[Plain]:
        """The answer again with other prices and throughputs, and whether the recommended fleet would still do.

        Args:
            error_pct: what the throughputs of the recommended deployments may be off by, where that was measured.
        """
        either = (1 - OFF, 1 + OFF)
        spent = {name: count * self.fleet.devices[name].usd_per_hour for name, count in self.answer.devices.items()}
        found = [
            self._tried(f"price of {name}", factor, self.fleet.priced({name: factor}))
            for name in sorted(spent, key=lambda name: (-spent[name], name))[:PRICED]
            for factor in either
        ]
        found += [self._tried("all throughputs", factor, self.fleet.slower(factor)) for factor in either]
        if error_pct is not None and error_pct > 0:
            factor = 1 / (1 + error_pct / 100)
            found.append(self._tried(f"all throughputs at the edge of their error ({error_pct:g} %)", factor,
                                     self.fleet.slower(factor)))  # fmt: skip
        return found

    def _tried(self, what: str, factor: float, fleet: Fleet) -> Plain:
        again = self.problem.best(fleet)
        kept = replace(self.answer, options=tuple(
            replace(option, rates=_rates_in(fleet, option.name, option.rates)) for option in self.answer.options
        ))  # fmt: skip
        cost = sum(fleet.devices[name].usd_per_hour * held for name, held in self.answer.devices.items())
        holds = self.problem.maximising or growth_left(fleet, kept) >= 1 - 1e-9
        return {
            "what": what, "factor": factor, "usd_per_hour": again.usd_per_hour, "instances": dict(again.devices),
            "same_hardware": set(again.devices) == set(self.answer.devices),
            "recommended_still_carries_the_demand": holds,
            "regret_usd_per_hour": cost - again.usd_per_hour if again.found and holds else None,
        }  # fmt: skip

    def break_even(self) -> list[Plain]:
        """The price at which each kind of device alone would be as cheap as the recommendation, nearest first."""
        if self.problem.maximising:
            return []
        found = []
        for name, single in self.singles.items():
            if set(self.answer.devices) == {name} or not single.usd_per_hour:
                continue
            price = self.fleet.devices[name].usd_per_hour
            at = price * self.answer.usd_per_hour / single.usd_per_hour
            found.append({"hardware": name, "usd_per_device_hour": price, "break_even_usd_per_device_hour": at,
                          "change_pct": (at / price - 1) * 100})  # fmt: skip
        return sorted(found, key=lambda entry: (-entry["change_pct"], str(entry["hardware"])))


def _looser(slo: Slo, name: str) -> Slo:
    """The objectives with one limit looser."""
    changed: dict[str, dict[str, float]] = {}
    for limit in slo.limits:
        most = limit.most * LOOSER if limit.name == name else limit.most
        changed.setdefault(limit.metric, {})[limit.statistic] = most
    return Slo.model_validate(changed)


def _rates_in(fleet: Fleet, name: str, otherwise: Any) -> Any:
    return next((option.rates for option in fleet.options if option.name == name), otherwise)


def _rounded(values: Any) -> Plain:
    return {name: float(value) for name, value in values.items()}
