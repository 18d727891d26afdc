"""The straight line: a model and choices on a mesh -> work -> seconds and bytes -> objectives and a status.

Read this file first. `score` is the mesh pass: it computes what a sweep compares and nothing else. `columns`
computes everything that is reported, by the same functions, for the points that are kept. Both ask metrics of a
`Point`, and each metric computes what it needs of this line:

    Choices, Mesh    the values along the axes; index arrays, one per axis        choices.py, mesh.py
    Setting          one pass of one micro-batch: tokens, degrees, widths         setting.py
    Part -> Work     FLOPs, bytes and messages of every operator of the model     parts.py, operators/, techniques/
    Work -> seconds  by the roofs and links of the accelerator                    roofline.py, collectives.py
    Point            micro-batches through stages: TTFT, TPOT                     phases.py
    Memory, dollars, joules                                                       memory.py, economics.py
    METRICS          what points are judged by                                    metrics.py
    reasons          why a point cannot run                                       feasible.py
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dse.cost.at_a_rate import AtARate
from dse.cost.choices import Choices
from dse.cost.feasible import MEMORY, OVERLOADED, reasons, structure_status
from dse.cost.mesh import Mesh
from dse.cost.metrics import METRICS, Scored
from dse.cost.work import Array
from dse.spec.model import ModelSpec


@dataclass(frozen=True)
class Question:
    """What a sweep asks of each point."""

    objectives: tuple[str, ...]
    """Metric names; each metric knows its own sense."""
    constraints: Mapping[str, tuple[float | None, float | None]]
    """Metric name -> (min, max)."""

    @property
    def reasons(self) -> list[str]:
        """Status texts by code."""
        return reasons(tuple(self.constraints), self.objectives)


@dataclass(frozen=True)
class Scores:
    """The mesh pass over one block."""

    costs: list[Array]
    """One array per objective, smaller is better (maximised ones negated), broadcastable to the block."""
    status: NDArray[np.int8]
    """Codes into `Question.reasons`, the block's shape."""
    excess: Mapping[int, Array]
    """Code -> how far beyond the limit, as a ratio (1.1: 10 % too much), broadcastable."""
    programs: Mapping[str, int] = field(default_factory=dict)
    """Linear programs of placements: `solved`, and of those `by_highs`."""


def score(model: ModelSpec, choices: Choices, mesh: Mesh, question: Question) -> Scores:
    """Objectives and status of every point of a mesh.

    Args:
        model: the model.
        choices: the values along the axes.
        mesh: the points.
        question: objectives, and the constraints that are checked.
    """
    return judged(Scored.of(model, choices, mesh), question)


def judged(scored: Scored, question: Question) -> Scores:
    """Objectives and status of points, some metrics of which may be known already."""
    shape, code_of = scored.asked.mesh.shape, {reason: code for code, reason in enumerate(question.reasons)}
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        structure = structure_status(scored.served.kinds, code_of)
        if np.all(structure):  # nothing here can run, whatever it would cost
            nothing = np.zeros((1,) * len(shape))
            return Scores([nothing] * len(question.objectives), np.broadcast_to(structure, shape), {})
        wanted = dict.fromkeys((*question.objectives, *question.constraints))
        values = {name: METRICS[name].of(scored) for name in wanted}
        costs = [-values[name] if METRICS[name].sense == "max" else values[name] for name in question.objectives]
        status, excess = _status(scored, values, question, code_of)
        status = np.where(structure != 0, structure, status) if np.any(structure) else status
        programs = scored.programs
    return Scores(costs, np.broadcast_to(status, shape), excess, programs)


def _status(
    scored: Scored, values: Mapping[str, Array], question: Question, code_of: dict[str, int]
) -> tuple[NDArray[np.int8], dict[int, Array]]:
    """The reason of each point that could run, and how far it is beyond its limit, each as small as it can be.

    Reasons are laid over each other in reverse order of precedence, so that the first that applies stays.
    """
    status: NDArray[np.int8] = np.zeros(1, dtype=np.int8)
    excess: dict[int, Array] = {}
    for name, bound in reversed([*question.constraints.items()]):
        code = code_of[f"constraint:{name}"]
        within, excess[code] = _held(values[name], *bound)
        status = np.where(within, status, np.int8(code))
    for name, value in reversed([*values.items()]):
        missing = np.isnan(value)
        if np.any(missing):
            status = np.where(missing, np.int8(code_of[f"undefined:{name}"]), status)
    if isinstance(scored.served, AtARate):
        load = scored.served.load
        excess[code_of[OVERLOADED]] = load
        status = np.where(load >= 1.0, np.int8(code_of[OVERLOADED]), status)
    over = scored.over
    excess[code_of[MEMORY]] = over
    return np.where(over > 1.0, np.int8(code_of[MEMORY]), status), excess


def _held(value: Array, least: float | None, most: float | None) -> tuple[NDArray[np.bool_], Array]:
    """Where a value is within its limits, and how far beyond it is, as a ratio."""
    within: NDArray[np.bool_] = np.ones(1, dtype=bool)
    beyond: Array = 0.0
    if most is not None:
        within = within & (value <= most)
        beyond = value / most if most > 0 else 1.0 + value - most
    if least is not None:
        within = within & (value >= least)
        beyond = np.maximum(beyond, least / value if least > 0 else 1.0 + least - value)
    return within, beyond


def columns(
    model: ModelSpec, choices: Choices, mesh: Mesh, names: Sequence[str] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Metrics of every point of a mesh, each broadcast to its shape.

    Args:
        model: the model.
        choices: the values along the axes.
        mesh: the points.
        names: metrics wanted; None for all.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scored = Scored.of(model, choices, mesh)
        return {
            name: np.broadcast_to(np.asarray(METRICS[name].of(scored), dtype=float), mesh.shape)
            for name in (METRICS if names is None else names)
        }
