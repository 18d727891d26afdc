"""The fleet problem written out in PuLP: cheapest fleet for a demand, or most demand for a budget.

    min  sum_h price_h n_h                           n_h accelerators of kind h, in whole boxes where sold so
    s.t. sum_o f[b, o] = 1                           all of every bucket (<= 1 where served demand is what is wanted)
         sum_b f[b, o] load[b, o] <= y_o - spares u_o    u_o = 1 where o is used, so that N + spares replicas stand
         sum_(o on h) devices_o y_o <= n_h           and stock, power, capital, dollars over all h

Shares are not split into slices (Mélange's x[s, g] in {0, 1}): identical slices of a bucket are one variable, so that
the program has a row per bucket and option instead of a column per slice, and its answer does not depend on how many.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dse.search.fleet import Answer, Fleet, canonical, pruned, tidied
from dse.search.milp import GAP, Solved, minimise, relax

if TYPE_CHECKING:
    from pulp import LpAffineExpression, LpProblem, LpVariable

TIME_LIMIT = 30.0
"""Seconds for one program."""

ROUGH_GAP = 1e-3
"""Relative gap that decides nothing: of answers to what would change the answer."""

ROUGH_NODES = 200
"""Nodes of the search for the cheapest of what serves as much, in such answers: 7 s for eight models, a hundred buckets
and 1,088 deployments, where 2,000 take 45 and find nothing cheaper."""

UNUSED = 1e-9
"""A share below this is the solver's noise."""

HAIR = 1e-4
"""Replicas' worth of load below which a share needs a row of its own to have a replica stand: up to 1e-6 of one is none
to a solver, and a size that is asked for once a day would be served by nothing."""


@dataclass
class Program:
    """One fleet problem as a PuLP program."""

    fleet: Fleet
    problem: LpProblem
    shares: dict[tuple[int, int], LpVariable]
    """(option, bucket) -> share, or slices of it."""
    counts: list[LpVariable]
    devices: dict[str, LpAffineExpression]
    """Accelerators paid for, by name."""
    limits: dict[str, str]
    """Limit -> its row: PuLP makes one name of `a-b` and `a_b`."""
    whole: int = 1
    """What a share of one is in the unit of the variables: 1, or the slices."""

    @property
    def usd_per_hour(self) -> LpAffineExpression:
        """What the fleet costs."""
        return _total((self.fleet.devices[name].usd_per_hour, held) for name, held in self.devices.items())

    @property
    def ranks(self) -> LpAffineExpression:
        """Accelerators, and a little for options late by name: decides between equally good fleets."""
        places = len(self.fleet.options)
        return _total(
            (option.size + (1 + place) / (1 + places) ** 2, count)
            for place, (option, count) in enumerate(zip(self.fleet.options, self.counts, strict=True))
        )

    @property
    def served(self) -> LpAffineExpression:
        """Requests/s served, by their worth."""
        worths = self.fleet.worths
        return _total((float(worths[bucket]) / self.whole, share) for (_, bucket), share in self.shares.items())

    @property
    def worth(self) -> float:
        """Of all requests/s that are asked for, by their worth."""
        return float(self.fleet.worths.sum())

    @property
    def unserved(self) -> LpAffineExpression:
        """To be minimised for served demand, a share of all that is asked for: solvers' tolerances are absolute too."""
        return -1 / self.worth * self.served if self.worth else -self.served


def cheapest(fleet: Fleet, *, time_limit: float | None = TIME_LIMIT, rough: bool = False) -> Answer:
    """The cheapest fleet that serves all of the demand; of equally cheap ones that of fewest devices, first by name.

    Args:
        fleet: the problem.
        time_limit: seconds per program.
        rough: to `ROUGH_GAP`, and any of equally cheap fleets.
    """
    fleet = canonical(fleet)
    if len(fleet.unservable):
        return Answer("infeasible", math.inf, math.nan)
    return joined(fleet, [_cheapest(pruned(part), time_limit, rough) for part in parted(fleet)])


def _cheapest(fleet: Fleet, time_limit: float | None, rough: bool) -> Answer:
    program = written(fleet, all_of_it=True)
    aims = [program.usd_per_hour] if rough else [program.usd_per_hour, program.ranks]
    return _answer(program, minimise(program.problem, aims, time_limit, ROUGH_GAP if rough else GAP))


def most_served(fleet: Fleet, *, time_limit: float | None = TIME_LIMIT, rough: bool = False) -> Answer:
    """The fleet within the limits that serves most; of equal ones the cheapest, of fewest devices, first by name.

    Args:
        fleet: the problem.
        time_limit: seconds per program.
        rough: to `ROUGH_GAP`, and any of those that serve as much and cost as little.
    """
    program = written(pruned(canonical(fleet)), all_of_it=False)
    # Without the cost as an aim, a solver fills any budget: what serves as much for less is not a tie but the answer.
    aims = [program.unserved, program.usd_per_hour, *([] if rough else [program.ranks])]
    solved = minimise(program.problem, aims, time_limit, *((ROUGH_GAP, ROUGH_GAP, ROUGH_NODES) if rough else (GAP,)))
    return _answer(program, Solved(solved.status, -solved.value * program.worth, -solved.bound * program.worth))


def cheapest_serving(fleet: Fleet, worth: float, *, time_limit: float | None = TIME_LIMIT) -> Answer:
    """The cheapest fleet that serves at least so much of the demand, to `ROUGH_GAP`.

    Args:
        fleet: the problem.
        worth: requests/s, by their worth.
        time_limit: seconds.
    """
    program = written(pruned(canonical(fleet)), all_of_it=False)
    if program.worth:
        program.problem += program.unserved <= -(worth / program.worth) * (1 - UNUSED), "served_at_least"
    return _answer(program, minimise(program.problem, [program.usd_per_hour], time_limit, ROUGH_GAP))


@dataclass(frozen=True)
class Multipliers:
    """Multipliers of the relaxed program: what one unit more of each limit, or of demand, changes the answer by."""

    bound: float
    """Cost of the relaxed program, or what it serves: no fleet is better."""
    limits: Mapping[str, float]
    """Limit -> dollars per hour saved, or requests/s served, per unit more (a dollar per hour, a watt, a dollar, a
    device)."""
    demand: NDArray[np.float64]
    """Dollars per hour for one request/s more of each bucket; NaN where served demand is what is wanted."""


def multipliers(fleet: Fleet, *, serving: bool = False) -> Multipliers | None:
    """What the limits cost at the margin; None where even the relaxed program is infeasible.

    Args:
        fleet: the problem.
        serving: whether as much as possible is to be served, rather than all for as little as possible.
    """
    fleet = canonical(fleet)
    if len(fleet.unservable) and not serving:
        return None
    program = written(fleet, all_of_it=not serving)
    solved = relax(program.problem, program.unserved if serving else program.usd_per_hour)
    if solved.status != "optimal":
        return None
    unit = (program.worth or 1.0) if serving else 1.0
    duals = {row.name: float(row.pi or 0.0) for row in program.problem.constraints() if row.name}
    limits = {name: max(-duals[row], 0.0) * unit for name, row in program.limits.items()}
    demand = np.zeros(len(fleet.demand))
    if serving:
        return Multipliers(-solved.value * unit, limits, np.full_like(demand, math.nan))
    for bucket in fleet.wanted:
        # A row reads sum f = whole; a request/s more of the bucket makes its loads so much larger.
        paid = sum(
            -duals[f"load_{place}"] * fleet.loads[place, bucket] * float(share.value() or 0.0) / program.whole
            for (place, of), share in program.shares.items()
            if of == bucket
        )
        demand[bucket] = paid / fleet.demand[bucket]
    return Multipliers(solved.value, limits, demand)


def growth_left(fleet: Fleet, answer: Answer) -> float:
    """The largest factor on the demand that the replicas of an answer carry, their headroom and spares kept."""
    import pulp

    options = answer.options
    rates = np.array([option.rates for option in options]) * (1 - fleet.headroom)
    problem = pulp.LpProblem("growth", pulp.LpMinimize)
    factor = problem.add_variable("factor", 0)
    served: dict[int, list[LpVariable]] = {int(bucket): [] for bucket in fleet.wanted}
    for place, count in enumerate(answer.counts):
        terms = []
        for bucket, into in served.items():
            if rates[place, bucket] > 0:
                into.append(problem.add_variable(f"served_{place}_{bucket}", 0))
                terms.append((fleet.demand[bucket] / rates[place, bucket], into[-1]))
        problem += _total(terms) <= int(count) - fleet.spares
    for shares in served.values():
        problem += pulp.lpSum(shares) >= factor
    return float(-minimise(problem, [-1 * factor]).value)


def most_served_by(fleet: Fleet, counts: Sequence[int]) -> Answer:
    """The most of the demand that so many replicas of each option serve; limits on the fleet do not matter.

    Args:
        fleet: the problem, with the options that are there.
        counts: replicas of each.
    """
    free = replace(fleet, usd_per_hour=None, watts=None, site_watts={}, capital_usd=None)
    program = written(free, all_of_it=False)
    for variable, count in zip(program.counts, counts, strict=True):
        variable.lowBound = variable.upBound = count
    return _answer(program, minimise(program.problem, [program.unserved]))


def parted(fleet: Fleet) -> list[Fleet]:
    """The problem in parts that can be solved apart: those that share no option, unless something else ties them."""
    return [fleet] if fleet.coupled else list(components(fleet))


def components(fleet: Fleet) -> Iterator[Fleet]:
    """The problem in parts that share no option: without common limits each is solved apart."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    wanted = fleet.wanted
    if not len(wanted):
        return
    touches = fleet.rates[:, wanted] > 0
    count, label = connected_components(csr_matrix(touches.T.astype(int) @ touches.astype(int)), directed=False)
    for part in range(count):
        mine = np.zeros(len(fleet.demand), dtype=bool)
        mine[wanted[label == part]] = True
        options = [option for option in fleet.options if np.any(option.rates[mine] > 0)]
        demand = np.where(mine, fleet.demand, 0.0)
        yield Fleet(demand, tuple(options), fleet.devices, fleet.headroom, fleet.spares, slices=fleet.slices)


def joined(fleet: Fleet, parts: Sequence[Answer]) -> Answer:
    """The answers of parts that share nothing, as one."""
    worst = [part.status for part in parts if part.status != "optimal"]
    if any(not part.found for part in parts):
        return Answer(next(part.status for part in parts if not part.found), math.inf, math.nan)
    cost, bound = sum(part.usd_per_hour for part in parts), sum(part.bound for part in parts)
    devices: dict[str, int] = {}
    for part in parts:
        for name, held in part.devices.items():
            devices[name] = devices.get(name, 0) + held
    options = [option for part in parts for option in part.options]
    order = sorted(range(len(options)), key=lambda place: options[place].name)
    width = len(fleet.demand)
    return Answer(
        worst[0] if worst else "optimal",
        max((cost - bound) / cost, 0.0) if cost else 0.0,
        bound,
        tuple(options[place] for place in order),
        np.concatenate([np.zeros(0, dtype=np.int64), *(part.counts for part in parts)])[order],
        np.concatenate([np.zeros((0, width)), *(part.shares for part in parts if len(part.options))])[order],
        dict(sorted(devices.items())),
        cost,
        sum(part.capital_usd for part in parts),
        sum(part.watts for part in parts),
    )


def written(fleet: Fleet, *, all_of_it: bool) -> Program:
    """The program, without an objective.

    Args:
        fleet: the problem.
        all_of_it: every bucket is served in full; else as much as is worth it.
    """
    import pulp

    problem = pulp.LpProblem("fleet", pulp.LpMinimize)
    whole = fleet.slices or 1
    kind = "Integer" if fleet.slices else "Continuous"
    loads = fleet.loads
    shares = {
        (place, int(bucket)): problem.add_variable(f"share_{place}_{bucket}", 0, whole, kind)
        for place in range(len(fleet.options))
        for bucket in fleet.wanted
        if np.isfinite(loads[place, bucket])
    }
    counts = [
        problem.add_variable(f"replicas_{place}", 0, _most(fleet, place), "Integer")
        for place in range(len(fleet.options))
    ]
    by_bucket: dict[int, list[LpVariable]] = {int(bucket): [] for bucket in fleet.wanted}
    by_option: list[list[tuple[float, LpVariable]]] = [[] for _ in fleet.options]
    for (place, bucket), share in shares.items():
        by_bucket[bucket].append(share)
        by_option[place].append((float(loads[place, bucket]) / whole, share))
    for bucket, parts in by_bucket.items():
        total = pulp.lpSum(parts)
        problem += (total == whole if all_of_it else total <= whole), f"all_of_bucket_{bucket}"
    for place, terms in enumerate(by_option):
        standing = 1 * counts[place]
        if fleet.spares:
            used = problem.add_variable(f"used_{place}", 0, 1, "Integer")
            standing = standing - fleet.spares * used
            for _, share in terms:  # each share by itself: the sum of them would leave the relaxation loose
                problem += share <= whole * used
        for load, share in terms:
            if load * whole < HAIR:
                problem += share <= whole * standing
        problem += _total(terms) <= standing, f"load_{place}"
    program = Program(fleet, problem, shares, counts, _devices(fleet, problem, counts), {}, whole)
    _limit(program)
    return program


def _devices(fleet: Fleet, problem: LpProblem, counts: Sequence[LpVariable]) -> dict[str, Any]:
    """Accelerators paid for, by name: those of the replicas, or of whole boxes."""
    held: dict[str, Any] = {}
    for name in sorted({name for option in fleet.options for name in option.held}):
        needed = _total((o.held[name], y) for o, y in zip(fleet.options, counts, strict=True) if name in o.held)
        box = fleet.devices[name].box
        if box > 1:
            boxes = problem.add_variable(f"boxes_{len(held)}", 0, None, "Integer")
            problem += needed <= box * boxes, f"in_boxes_{len(held)}"
            needed = box * boxes
        held[name] = needed
    return held


def _limit(program: Program) -> None:
    """The rows of the limits."""
    fleet, held = program.fleet, program.devices
    rows: dict[str, tuple[Any, float | None]] = {
        "usd_per_hour": (program.usd_per_hour, fleet.usd_per_hour),
        "capital_usd": (_total((fleet.devices[h].capital_usd, n) for h, n in held.items()), fleet.capital_usd),
        "watts": (_total((fleet.devices[h].watts, n) for h, n in held.items()), fleet.watts),
    }
    for kind, stock in fleet.stocks.items():
        if of_kind := [(1.0, n) for h, n in held.items() if fleet.devices[h].kind == kind]:
            rows[f"stock:{kind}"] = (_total(of_kind), stock)
    for site, limit in fleet.site_watts.items():
        there = ((fleet.devices[h].watts, n) for h, n in held.items() if fleet.devices[h].site == site)
        rows[f"watts@{site}"] = (_total(there), limit)
    for name, (total, most) in rows.items():
        if most is not None:
            program.limits[name] = f"limit_{len(program.limits)}"
            program.problem += total <= most, program.limits[name]


def _most(fleet: Fleet, place: int) -> int:
    """Replicas of an option that could carry all it can serve: more are never of use."""
    loads = fleet.loads[place]
    return math.ceil(float(np.sum(loads[np.isfinite(loads)])) * (1 + 1e-9)) + fleet.spares


def _total(terms: Any) -> Any:
    """A sum of factor times variable."""
    import pulp

    return pulp.lpSum(float(factor) * variable for factor, variable in terms)


def _answer(program: Program, solved: Solved) -> Answer:
    """What the variables hold, in whole numbers."""
    if solved.status not in ("optimal", "feasible"):
        return Answer(solved.status, math.inf, math.nan)
    fleet = program.fleet
    counts = np.array([round(count.value() or 0.0) for count in program.counts], dtype=np.int64)
    used = np.flatnonzero(counts)
    shares = np.zeros((len(fleet.options), len(fleet.demand)))
    for (place, bucket), share in program.shares.items():
        value = (share.value() or 0.0) / program.whole
        shares[place, bucket] = value if value > UNUSED else 0.0
    devices = {name: round(held.value() or 0.0) for name, held in program.devices.items()}
    devices = {name: held for name, held in devices.items() if held}
    of = {name: fleet.devices[name] for name in devices}
    return Answer(
        solved.status,
        solved.gap,
        solved.bound,
        tuple(fleet.options[place] for place in used),
        counts[used],
        tidied(shares[used]),
        devices,
        sum(of[name].usd_per_hour * held for name, held in devices.items()),
        sum(of[name].capital_usd * held for name, held in devices.items()),
        sum(of[name].watts * held for name, held in devices.items()),
    )
