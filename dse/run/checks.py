"""Names in a sweep that mean nothing: objectives, constraints, comparison groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dse.cost.metrics import METRICS
from dse.cost.techniques import TECHNIQUES
from dse.errors import Fault
from dse.run.axes import PREFILL_COLUMNS, Axes
from dse.search.space import LIMIT
from dse.spec.reading import Document, suggest
from dse.spec.sweep import Bound, SweepFile

GROUPABLE = (
    "model", "hardware", "precision", "workload", "input", "output", "tp", "pp", "dp", "ep", "devices",
    "rate", "batch", "serving", "offload", "runtime", "fidelity", *TECHNIQUES, "accuracy_drop_pct",
)  # fmt: skip
"""Columns that points may be grouped by: axes, and what follows from one axis alone."""

OF_BOTH_POOLS = ("devices", "accuracy_drop_pct")
"""Those of them that follow from two axes where serving is disaggregated."""


def check_names(file: SweepFile, axes: Axes, document: Document) -> Iterator[Fault]:
    """Everything in a sweep file, beside its axes, that no sweep could mean."""
    yield from _objectives(file, document)
    for name, bound in file.constraints.items():
        yield from _constraint(name, bound, document)
    yield from _group_by(file, axes, document)
    if axes.points > LIMIT:
        yield document.fault((), f"the axes make {axes.points:,} points; at most 2**62")


def _objectives(file: SweepFile, document: Document) -> Iterator[Fault]:
    for position, name in enumerate(file.objectives):
        if name not in METRICS:
            yield document.fault(("objectives", position), f"unknown objective {name!r}{_near(name, METRICS)}")
        elif name in file.objectives[:position]:
            yield document.fault(("objectives", position), f"{name!r} stands twice; keep one")


def _constraint(name: str, bound: Bound, document: Document) -> Iterator[Fault]:
    path = ("constraints", name)
    if name not in METRICS:
        yield document.fault(path, f"unknown metric {name!r}{_near(name, METRICS)}", key=True)
    elif bound.min is None and bound.max is None:
        yield document.fault(path, "a constraint needs 'min' or 'max'")
    elif bound.min is not None and bound.max is not None and bound.min > bound.max:
        yield document.fault(path, f"no value is at least {bound.min:g} and at most {bound.max:g}")


def _group_by(file: SweepFile, axes: Axes, document: Document) -> Iterator[Fault]:
    known = (*GROUPABLE, *axes.changed, *(PREFILL_COLUMNS if axes.pools else ()))
    for position, name in enumerate(file.group_by):
        path = ("group_by", position)
        if axes.pools and name in OF_BOTH_POOLS:
            message = f"cannot group by {name!r} where serving is disaggregated: both pools decide it"
            yield document.fault(path, message)
        elif name not in known:
            yield document.fault(path, f"cannot group by {name!r}{_near(name, known)}")
        elif name in file.group_by[:position]:
            yield document.fault(path, f"{name!r} stands twice; keep one")


def _near(name: str, options: Collection[str]) -> str:
    return suggest(name, options) or f"; expected one of {', '.join(options)}"
