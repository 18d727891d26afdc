"""A plan from file to answer: read, resolve, find candidates, solve, ask what would change it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from dse import __version__
from dse.cost import COST_MODEL
from dse.errors import InputError
from dse.plain import json_bytes, plain
from dse.run.answered import Answered
from dse.run.binding import limitless
from dse.run.fleet_facts import mean_latency
from dse.run.owning import rent_or_buy
from dse.run.planned_table import unused
from dse.run.planning import Plan, resolve_plan
from dse.run.problem import Problem, state_problem
from dse.run.settings import set_values
from dse.run.shipped import PLAN, file_meant
from dse.run.store import Store, write_whole, writing
from dse.run.today_fleet import today
from dse.run.unserved import unserved, unserved_words
from dse.run.verified import Solved, solve
from dse.run.what_if import what_if
from dse.run.wrong import break_even, growth
from dse.search.fleet import Answer
from dse.search.fleet_program import cheapest, most_served
from dse.spec.reading import from_value, read

Plain = dict[str, Any]


def load_plan(source: str | Path | Mapping[str, Any], settings: Sequence[str] = ()) -> Plan:
    """The plan in a file or mapping, with `KEY=VALUE` settings applied.

    Raises:
        InputError: all faults of its syntax, or shape, or meaning.
        CannotRun: no candidate has a price.
    """
    document = from_value(dict(source)) if isinstance(source, Mapping) else read(file_meant(source, PLAN))
    try:
        return resolve_plan(set_values(document, settings))
    except InputError:
        if isinstance(document.value, dict) and "workload" in document.value:
            raise InputError(document.fault((), "is a sweep, it has a workload; run it with 'dse sweep'")) from None
        raise


@dataclass(frozen=True)
class PlanResult:
    """The answer to a plan, as plain values."""

    answer: Plain
    candidates: tuple[Plain, ...] = ()
    """What each deployment it chose from serves of each size."""

    @property
    def feasible(self) -> bool:
        """Whether there is a fleet."""
        return self.answer["status"] in ("optimal", "feasible")

    @property
    def name(self) -> str:
        """Of its folder: the plan's name and the hash of what the answer rests on."""
        return f"{self.answer['name']}-{self.answer['hash']}"


def solved_plan(resolved: Plan) -> Solved:
    """The answer to a resolved plan, replayed where it can be; its status says where there is none."""
    return solve(state_problem(resolved))


def plan(source: str | Path | Mapping[str, Any] | Plan, settings: Sequence[str] = ()) -> PlanResult:
    """Which hardware, how many, at what cost, for a demand, latencies and a budget.

    Args:
        source: a plan file, the name of one of the library, its content as a mapping, or a resolved plan.
        settings: `KEY=VALUE` changes to the plan's fields.

    Returns:
        The answer; where nothing will do, the reason.

    Raises:
        InputError: the plan is at fault.
        CannotRun: no candidate has a price.
    """
    resolved = source if isinstance(source, Plan) else load_plan(source, settings)
    solved = solved_plan(resolved)
    problem = solved.problem
    found: Plain = {"name": resolved.name, "hash": _hash(problem), "version": __version__, "cost_model": COST_MODEL,
                    "objective": resolved.file.objective}  # fmt: skip
    unservable, wanted = len(problem.fleet.unservable), len(problem.fleet.wanted)
    if unservable == wanted or (unservable and not problem.maximising):
        nothing = {**_nothing("infeasible"), "reason": unserved_words(unserved(problem))}
        return PlanResult({**found, **nothing, **_given(problem)}, tuple(_candidates(problem)))
    answer = solved.answer
    if not answer.found or not answer.devices:
        nothing = {**_nothing(answer.status), "reason": _why_not(problem, answer)}
        return PlanResult({**found, **nothing, **_given(problem)}, tuple(_candidates(problem)))
    return PlanResult({**found, **_described(solved), **_given(problem)}, tuple(_candidates(problem)))


def _described(solved: Solved) -> Plain:
    problem, answer = solved.problem, solved.answer
    facts, asked = solved.facts, Answered(problem, answer, solved.tried)
    deployments = facts.deployments()
    errors = [entry["throughput_error_pct"] for entry in deployments if "throughput_error_pct" in entry]
    changes = what_if(asked, max(errors, default=None))
    changes["alternatives"][0] |= mean_latency(facts)
    return {
        "status": answer.status,
        "gap": answer.gap,
        "bound": answer.bound,
        "recommendation": _sentence(problem, answer, changes["alternatives"]),
        "cost_usd_per_hour": answer.usd_per_hour,
        "instances": dict(answer.devices),
        "deployments": deployments,
        "buckets": facts.buckets(None if problem.maximising else asked.margins),
        "served": problem.served_share(answer),
        "latency": dict(mean_latency(facts)),
        "alternatives": [*changes["alternatives"], *changes["latency"]["fastest"]],
        "binding": changes["binding"],
        "economics": facts.economics(),
        "frontier": {"served": changes["frontier_served"], "latency": changes["latency"]["frontier"]},
        "growth": growth(asked),
        "sensitivity": changes["sensitivity"],
        "break_even": break_even(asked),
        "rent_or_buy": rent_or_buy(problem, answer),
        "current": today(problem, answer),
        "verification": _verification(solved),
    }


def _candidates(problem: Problem) -> Iterator[Plain]:
    """One row per deployment to choose from and size it can serve."""
    plan_ = problem.plan
    for option in problem.fleet.options:
        for bucket, rate in zip(plan_.buckets, option.rates.tolist(), strict=True):
            if rate > 0:
                yield {
                    "model": plan_.models[bucket.model].name, "deployment": option.name, "hardware": option.device,
                    "devices": option.size, "usd_per_hour": problem.fleet.usd_of(option),
                    "input": bucket.input, "output": bucket.output, "requests_per_s": rate,
                }  # fmt: skip


def _verification(solved: Solved) -> Plain:
    """What the simulator said; `holds` is None, and `because` says why, where nothing was replayed."""
    demoted = len(solved.tried) - 1 if solved.verified else len(solved.tried)
    return {
        "holds": solved.verified,
        "because": solved.because,
        "seed": solved.problem.plan.file.verify.seed,
        "demoted": demoted,
        "tried": [each.plain() for each in solved.tried],
    }


def _given(problem: Problem) -> Plain:
    """What an answer rests on."""
    plan_ = problem.plan
    return {
        "prices": [plan_.devices[name].plain() for name in sorted(plan_.devices)],
        "slo": {model.name: {limit.name: limit.most for limit in model.slo.limits} for model in plan_.models},
        "time_limit_s": plan_.file.time_limit_s,
        "unserved": unserved(problem),
        "left_out": {"no_price": list(plan_.unpriced)},
        "candidates": {
            "points": problem.candidates.points,
            "deployments": len(problem.fleet.options),
            "hardware": len(plan_.devices),
        },
        "assumptions": _assumptions(problem),
        "plan": dict(plan_.source),
    }


def _assumptions(problem: Problem) -> list[str]:
    found = [
        "The load of a replica is additive: where it could serve 4 requests/s of one size or 2 of another, it serves "
        "half of each.",
    ]
    if problem.plan.table:
        found.append("Throughputs are those of the table; a size without a row takes that of the next larger one.")
        if ignored := unused(problem.plan.source):
            mean = "mean" if len(ignored) > 1 else "means"
            found.append(f"Of the candidates, {' and '.join(ignored)} {mean} nothing beside a table: its rows rest on "
                         "what they were measured with.")  # fmt: skip
    if any(deployment.pool_facts for deployment in problem.deployments.values()):
        found.append(
            "Workers of two pools serve their own deployment alone, caches travel over links that nothing else uses, "
            "and unlike accelerators are of one vendor."
        )
    if problem.plan.file.price.kinds == ("purchase",):
        found.append("Owned devices pay for power and cooling at full draw.")
    return found


def _nothing(status: str) -> Plain:
    """The keys of an answer without a fleet."""
    return {
        "status": "infeasible" if status == "optimal" else status, "gap": None, "cost_usd_per_hour": None,
        "instances": {}, "deployments": [], "buckets": [], "alternatives": [], "binding": [],
    }  # fmt: skip


def _why_not(problem: Problem, answer: Answer) -> str:
    """What stands in the way where every size could be served."""
    if answer.status == "unknown":
        return f"no answer within {problem.plan.file.time_limit_s:g} s; raise time_limit_s"
    if problem.maximising:
        return "the limits allow not one replica of any candidate"
    fleet = problem.fleet
    free = cheapest(limitless(fleet), time_limit=problem.plan.file.time_limit_s)
    within = most_served(fleet, time_limit=problem.plan.file.time_limit_s)
    share = problem.served_share(within) if within.found else 0.0
    text = f"the limits allow {'at most ' if share else ''}{_share_words(share)} of the demand"
    if free.found:
        text += (
            f"; without them {_fleet_words(free)} would serve it for ${free.usd_per_hour:,.2f}/h"
            f" and {free.watts / 1e3:,.1f} kW"
        )
    return text


def _sentence(problem: Problem, answer: Answer, alternatives: Sequence[Plain]) -> str:
    """The recommendation in one sentence."""
    facts = f"{_fleet_words(answer)} for ${answer.usd_per_hour:,.2f}/h"
    served = "all of the demand"
    if problem.maximising:
        served = f"{problem.served_share(answer):.0%} of the demand"
    text = f"{facts} serves {served}"
    single = next((entry for entry in alternatives if entry["title"] == "best single type"), None)
    if single is None:
        return f"{text}; no single type could."
    if problem.maximising and set(single["instances"]) == set(answer.devices):
        return f"{text}, and no mix serves more."
    if problem.maximising:
        return f"{text}; the best single type, {_count_words(single['instances'])}, serves {single['served']:.0%}."
    if set(single["instances"]) == set(answer.devices):
        return f"{text}, and no mix is cheaper."
    saved = _share_words(single["difference_usd_per_hour"] / single["usd_per_hour"])
    return (
        f"{text}, {saved} less than the best single type"
        f" ({_count_words(single['instances'])}, ${single['usd_per_hour']:,.2f}/h)."
    )


def _share_words(share: float) -> str:
    """Per cent without digits, of less than one two: `6%`, `0.12%`, `none`."""
    if not share:
        return "none"
    return f"{share:.0%}" if share >= 0.01 else f"{100 * share:.2g}%"


def _fleet_words(answer: Answer) -> str:
    return _count_words(answer.devices)


def _count_words(devices: Mapping[str, int]) -> str:
    return " and ".join(f"{count} x {name}" for name, count in sorted(devices.items(), key=lambda item: -item[1]))


_READ_ELSEWHERE = {"name", "notes", "models", "candidates", "throughput"}
"""Fields whose order or spelling changes no answer: what they mean is hashed instead."""


def _hash(problem: Problem) -> str:
    """Twelve digits of what the answer rests on: demand, throughputs, prices, limits, the cost model."""
    plan_ = problem.plan
    content = {
        "cost_model": COST_MODEL,
        "models": sorted((each.name, each.weight, each.growth, each.slo.limits) for each in plan_.models),
        "buckets": sorted((plan_.models[each.model].name, *astuple(each)[1:]) for each in plan_.buckets),
        "options": sorted(
            (o.name, o.device, o.devices, sorted(o.rates.tolist()), *sorted(o.others.items()))
            for o in problem.fleet.options
        ),
        "table": sorted(map(astuple, plan_.table)),  # today's fleet may be of rows that are no options
        "prices": [each.plain() for _, each in sorted(plan_.devices.items())],
        "file": plan_.file.model_dump(mode="json", exclude=_READ_ELSEWHERE),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def write_plan(found: PlanResult, out: str | Path = "results") -> Path:
    """Write `plan.json`, `candidates.csv` and `report.html` into the plan's folder, each whole or not at all.

    Raises:
        CannotRun: the folder cannot be written.
    """
    from dse.report.plan_html import write_plan_report

    folder = Store.of(Path(out), found.answer["name"], found.answer["hash"]).folder
    text = json_bytes(found.answer, pretty=True)
    write_whole(folder / "plan.json", lambda path: path.write_bytes(text))
    write_whole(folder / "candidates.csv", lambda path: _write_csv(path, found.candidates))
    with writing(folder / "report.html"):
        write_plan_report(plain(found.answer), folder / "report.html")
    return folder


def _write_csv(path: Path, rows: Sequence[Plain]) -> None:
    """Rows of equal keys as CSV; without any, the file is empty."""
    with path.open("w", newline="", encoding="utf-8") as lines:
        if rows:
            writer = csv.DictWriter(lines, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
