"""The k best fleets that differ in kind: without cuts in the program, by leaving kinds of device out of it."""

from __future__ import annotations

from collections.abc import Set

from dse.search.fleet import Answer, Fleet, canonical
from dse.search.fleet_program import TIME_LIMIT, cheapest, joined, parted


def best_distinct(fleet: Fleet, first: Answer, count: int, *, time_limit: float | None = TIME_LIMIT) -> list[Answer]:
    """The cheapest fleets of different kinds of device after the best, cheapest first: none holds all kinds of another.

    What does not hold all kinds of the best lacks one of them, so it is found where that kind is left out; what lacks
    kinds of several, where these are (Lawler 1972). That needs no cuts in the program, and what shares nothing stays
    in parts.

    Args:
        fleet: the problem.
        first: its best answer.
        count: fleets wanted beside it.
        time_limit: seconds per program.
    """
    fleet = canonical(fleet)
    parts = parted(fleet)
    found: list[Answer] = []
    waiting = {frozenset[str](): [_of_part(first, part) for part in parts] if len(parts) > 1 else [first]}
    seen = set(waiting)
    while waiting:
        whole = {lacking: joined(fleet, answers) for lacking, answers in waiting.items()}
        lacking = min(whole, key=lambda key: (whole[key].usd_per_hour, sorted(key)))
        answers, kinds = waiting.pop(lacking), whole[lacking].devices
        inside = next((each.devices for each in found if each.devices.keys() <= kinds.keys()), None)
        if inside is None:
            found.append(whole[lacking])
            if len(found) > count:
                break
        for name in kinds if inside is None else inside:
            without = lacking | {name}
            if without in seen:
                continue
            seen.add(without)
            again = [
                _without(part, without, time_limit) if name in answer.devices else answer
                for part, answer in zip(parts, answers, strict=True)
            ]
            if all(answer.found for answer in again):
                waiting[without] = again
    return found[1:]


def _without(fleet: Fleet, names: Set[str], time_limit: float | None) -> Answer:
    left = fleet.of([option for option in fleet.options if not names & option.held.keys()])
    return cheapest(left, time_limit=time_limit, rough=True)


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
