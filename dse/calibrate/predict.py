"""Cases -> predictions: rows of one model, engine and steady state are one list of points."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.cases import QUEUED, Case
from dse.calibrate.states import STATES
from dse.cost.choices import AXES, Choices
from dse.cost.feasible import MEMORY, OVERLOADED, STRUCTURE
from dse.cost.mesh import Mesh
from dse.cost.metrics import METRICS, Scored
from dse.cost.modes import SERVING
from dse.cost.open_loop import OpenLoop
from dse.cost.phases import Point
from dse.run.evidence import evidence
from dse.spec.runtime import RuntimeSpec

OK = "ok"
NOT_SCORED = "not_scored"
"""Predicted, and compared with nothing."""

TOLD_ONLY = ("context_exceeds_model", "runtime_unsupported")
"""Rules that a measured row has shown not to hold: it is predicted, and the reason says so."""

TIMES = ("ttft_ms", "tpot_ms", "latency_s")

GROWING = "requests arrive faster than they are served: queues grow for as long as the run lasts"

UTILIZATION = {"static": 1.0}
"""Share of the memory: a static batch that ran had what it needed, whatever an engine would keep back."""


@dataclass
class Prediction:
    """What the cost model says of one row."""

    status: str
    reason: str
    predicted: float | None = None
    evidence: str = ""


@dataclass
class Group:
    """Cases of one model, engine and steady state, as points of one mesh."""

    cases: Sequence[Case]
    where: Sequence[int]
    """Their places among the rows."""
    fidelity: str
    _tables: dict[str, list[Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._tables = {
            axis: _distinct(getattr(case, axis) for case in self.cases)
            for axis in ("hardware", "precision", "workload", "layout", "rate", "batch")
        }

    def choices(self, runtime: RuntimeSpec) -> Choices:
        """The values of the axes."""
        serving = self.cases[0].serving
        return Choices(
            hardware=self._tables["hardware"],
            precision=self._tables["precision"],
            workload=self._tables["workload"],
            layout=self._tables["layout"],
            batch=self._tables["batch"],
            rate=self._tables["rate"],
            burstiness=self.cases[0].burstiness,
            fidelity=[self.fidelity],
            serving=serving if serving in SERVING else "closed-loop",
            runtime=runtime,
            memory_utilization=UTILIZATION.get(serving, 0.9),
        )

    @cached_property
    def mesh(self) -> Mesh:
        """One point per case."""
        index = {"fidelity": np.zeros(len(self.cases), dtype=np.intp)}
        for axis, table in self._tables.items():
            place = {_key(value): position for position, value in enumerate(table)}
            index[axis] = np.array([place[_key(getattr(case, axis))] for case in self.cases], dtype=np.intp)
        return Mesh.points(AXES, [index[axis] for axis in AXES])

    @cached_property
    def scored(self) -> Scored:
        """The points in their steady states."""
        case = self.cases[0]
        scored = Scored(Point(case.model, self.choices(case.runtime), self.mesh))
        if case.serving in STATES:
            scored.__dict__["served"] = STATES[case.serving](scored.asked, case.runtime)
        return scored

    def values(self, runtime: RuntimeSpec | None = None) -> NDArray[np.float64]:
        """The metric of each case, in the row's unit; under another engine that fills the batch alike."""
        scored = self.scored
        if runtime is not None:
            scored = Scored(scored.asked)
            scored.__dict__["served"] = self.scored.served.under(runtime)
        found = np.empty(len(self.cases))
        for name, wanted in self._metrics.items():
            metric = np.broadcast_to(np.asarray(METRICS[name].of(scored), dtype=float), found.shape)
            found[wanted] = metric[wanted]
        return found * self._factors

    @cached_property
    def _metrics(self) -> dict[str, NDArray[np.intp]]:
        """Which cases ask for each metric."""
        names = np.array([case.metric for case in self.cases])
        return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}

    @cached_property
    def _factors(self) -> NDArray[np.float64]:
        return np.array([case.factor for case in self.cases])

    def predictions(self) -> list[Prediction]:
        """One per case."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            values = self.values()
            kinds = evidence(self.scored.point)["evidence"]
            faults = self._faults()
        found = []
        for case, value, kind, (status, told) in zip(self.cases, values.tolist(), kinds, faults, strict=True):
            reason = "; ".join((*told, *case.notes))
            if status == OK and not (np.isfinite(value) and value > 0):
                status, reason = "undefined", f"the cost model gives no value of {case.metric}"
            found.append(Prediction(OK, reason, value, kind) if status == OK else Prediction(status, reason))
        return found

    def _faults(self) -> list[tuple[str, list[str]]]:
        """Per case a status, and what is to be told of it."""
        size = len(self.cases)
        broken = {
            rule: np.broadcast_to(violated(self.scored.point), (size,)) for rule, (violated, _) in STRUCTURE.items()
        }
        served = self.scored.served
        over = np.broadcast_to(served.memory.total / served.memory.limit, (size,))
        if isinstance(served, OpenLoop):  # its batch is what arrivals make it, not what was asked for
            queued, endless = np.zeros(size, bool), np.broadcast_to(served.load >= 1.0, (size,))
        else:
            queued = np.broadcast_to(np.greater(served.point.batch, self.scored.point.batch), (size,))
            endless = np.zeros(size, bool)
        found = []
        for index in range(size):
            rules = [rule for rule, mask in broken.items() if mask[index]]
            fatal = [rule for rule in rules if rule not in TOLD_ONLY]
            told = [STRUCTURE[rule][1] for rule in fatal[:1] or rules]
            if fatal:
                found.append((fatal[0], told))
            elif over[index] > 1:
                found.append((MEMORY, [f"needs {over[index]:.2f} of the memory there is"]))
            elif endless[index] and self.cases[index].metric in TIMES:
                found.append((OVERLOADED, [GROWING]))
            else:
                found.append((OK, [*told, *([QUEUED] if queued[index] else [])]))
        return found


def groups(cases: Iterable[tuple[int, Case]], fidelity: str) -> list[Group]:
    """Cases with their places, gathered into meshes; blocks whose tensors are placed are no part of one."""
    found: dict[Hashable, list[tuple[int, Case]]] = {}
    for where, case in cases:
        if case.serving != "offload":
            key = (case.model.name, case.serving, case.runtime.name, case.burstiness)
            found.setdefault(key, []).append((where, case))
    return [Group([case for _, case in held], [where for where, _ in held], fidelity) for held in found.values()]


def _key(value: Any) -> Hashable:
    """Chips are told apart by name: hashing their content takes longer than pricing them; no rate is like another."""
    key: Hashable = getattr(value, "name", value)
    return key if key == key else None


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({_key(value): value for value in values}.values())
