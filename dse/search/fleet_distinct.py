"""The k best fleets that differ in kind: without cuts in the program, by leaving kinds of device out of it."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from dse.search.fleet import Answer, Fleet, canonical
from dse.search.fleet_program import TIME_LIMIT, cheapest, joined, most_served, parted


def best_distinct(
    fleet: Fleet, first: Answer, count: int, *, time_limit: float | None = TIME_LIMIT, serving: bool = False
) -> list[Answer]:
    """The best fleets of different kinds of device after the first, best first: none holds all kinds of another.

    What does not hold all kinds of the best lacks one of them, so it is found where that kind is left out; what lacks
    kinds of several, where these are (Lawler 1972). That needs no cuts in the program, and what shares nothing stays
    in parts.

    Args:
        fleet: the problem.
        first: its best answer.
        count: fleets wanted beside it.
        time_limit: seconds per program.
        serving: whether as much as possible is to be served, rather than all for as little as possible.
    """
    fleet = canonical(fleet)
    parts = [fleet] if serving else parted(fleet)
    found: list[Answer] = []
    waiting = {frozenset[str](): [_of_part(first, part) for part in parts] if len(parts) > 1 else [first]}
    seen = set(waiting)

    def rank(lacking: frozenset[str]) -> tuple[Any, ...]:
        """Of what serves equally much the cheapest first; solvers leave the sixth digit open."""
        answer = whole[lacking]
        served = float(f"{answer.worth(fleet):.5g}") if serving else 0.0
        return -served, answer.usd_per_hour, sorted(lacking)

    while waiting:
        whole = {lacking: joined(fleet, answers) if len(answers) != 1 else answers[0]
                 for lacking, answers in waiting.items()}  # fmt: skip
        lacking = min(whole, key=rank)
        answers, kinds = waiting.pop(lacking), fleet.kinds_of(whole[lacking].devices)
        held = [fleet.kinds_of(each.devices) for each in found]
        inside = next((each for each in held if each <= kinds), None)
        if inside is None:
            found.append(whole[lacking])
            if len(found) > count:
                break
        for name in sorted(kinds if inside is None else inside):
            without = lacking | {name}
            if without in seen:
                continue
            seen.add(without)
            again = [
                _without(part, without, time_limit, serving) if name in fleet.kinds_of(answer.devices) else answer
                for part, answer in zip(parts, answers, strict=True)
            ]
            if all(answer.found and answer.devices for answer in again):
                waiting[without] = again
    return found[1:]


def _without(fleet: Fleet, kinds: Set[str], time_limit: float | None, serving: bool) -> Answer:
    left = fleet.of([option for option in fleet.options if not kinds & fleet.kinds_of(option.held)])
    solve = most_served if serving else cheapest
    return solve(left, time_limit=time_limit, rough=True)


def _of_part(whole: Answer, part: Fleet) -> Answer:
    """What an answer holds for a part that shares nothing with the others."""
    names = {option.name for option in part.options}
    mine = [place for place, option in enumerate(whole.options) if option.name in names]
    options, counts = tuple(whole.options[place] for place in mine), whole.counts[mine]
    devices: dict[str, int] = {}
    for option, count in zip(options, counts, strict=True):
        for name, each in option.held.items():
            devices[name] = devices.get(name, 0) + each * int(count)
    cost = sum(part.devices[name].usd_per_hour * held for name, held in devices.items())
    watts = sum(part.devices[name].watts * held for name, held in devices.items())
    capital = sum(part.devices[name].capital_usd * held for name, held in devices.items())
    return Answer(whole.status, whole.gap, cost, options, counts, whole.shares[mine], devices, cost, capital, watts)
