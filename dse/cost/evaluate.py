"""The straight line: a model and choices on a mesh -> work -> seconds and bytes -> objectives and a status.

Read this file first. `score` is the mesh pass: it computes what a sweep compares and nothing else. `columns`
computes everything that is reported, by the same functions, for the points that are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import Choices
from dse.cost.feasible import MEMORY, reasons, structure_status
from dse.cost.mesh import Mesh
from dse.cost.metrics import METRICS, Scored
from dse.cost.phases import Point
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


def score(model: ModelSpec, choices: Choices, mesh: Mesh, question: Question) -> Scores:
    """Objectives and status of every point of a mesh.

    Returns:
        Arrays broadcastable to `mesh.shape`; the status has that shape.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        scored = Scored(Point(model, choices, mesh))
        code_of = {reason: code for code, reason in enumerate(question.reasons)}
        values = {
            name: METRICS[name].of(scored) for name in dict.fromkeys((*question.objectives, *question.constraints))
        }
        excess: dict[int, Array] = {}
        status = _user_status(values, question, code_of, excess)
        over = scored.memory.total / scored.memory.limit
        excess[code_of[MEMORY]] = over
        status = np.where(over > 1.0, np.int8(code_of[MEMORY]), status)
        structure = structure_status(scored.point, code_of)
        if np.any(structure):
            status = np.where(structure != 0, structure, status)
        costs = [-values[name] if METRICS[name].sense == "max" else values[name] for name in question.objectives]
    return Scores(costs, np.broadcast_to(status, mesh.shape), excess)


def _user_status(
    values: Mapping[str, Array], question: Question, code_of: Mapping[str, int], excess: dict[int, Array]
) -> NDArray[np.int8]:
    """Constraints, and objectives that do not exist; in reverse order, so that the first reason stays."""
    status: NDArray[np.int8] = np.zeros(1, dtype=np.int8)
    for name, (least, most) in reversed([*question.constraints.items()]):
        code, value = code_of[f"constraint:{name}"], values[name]
        beyond: Array = 0.0
        if most is not None:
            status = np.where(value <= most, status, np.int8(code))
            beyond = value / most if most > 0 else 1.0 + value - most
        if least is not None:
            status = np.where(value >= least, status, np.int8(code))
            beyond = np.maximum(beyond, least / value if least > 0 else 1.0 + least - value)
        excess[code] = beyond
    for name, value in reversed([*values.items()]):
        missing = np.isnan(value)
        if np.any(missing):
            status = np.where(missing, np.int8(code_of[f"undefined:{name}"]), status)
    return status


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
        scored = Scored(Point(model, choices, mesh))
        return {
            name: np.broadcast_to(np.asarray(METRICS[name].of(scored), dtype=float), mesh.shape)
            for name in (METRICS if names is None else names)
        }
