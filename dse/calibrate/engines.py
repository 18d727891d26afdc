"""What engines add to the kernels, fitted to end-to-end rows: a few figures per engine, none per model or chip.

Figures are positive and known to a factor before anything is measured, so each is a prior times exp(z), z normal with
the spread below; rows then move it as far as they agree (maximum a posteriori). Residuals are logarithms of
predicted / measured under the robust loss sqrt(1 + r^2); of every (source, model, accelerator) n rows
count as n^SHARE, or the large tables would drown the small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.cases import Case
from dse.calibrate.predict import Group, groups
from dse.spec.runtime import RuntimeSpec

Floats = NDArray[np.float64]

SIGMA = 0.3
"""Spread of log(predicted / measured) of one (source, model, accelerator) under the right figures."""

SIGMA_QUEUED = 1.0
"""The same of a closed loop's time to first token, most of which is waiting."""

QUEUEING = ("closed-loop", "equal-lengths", "at-once")

STEPS = 5
"""Gauss-Newton steps; the residuals are nearly linear in the figures."""

SHARE = 0.5
"""Rows of one (source, model, accelerator) share their errors: n of them say as much as n^SHARE."""

OWN_WEIGHT = 3.0
"""Of a row of the user's own deployment: what all its rows share is what the fit is for, and runs repeat to a tenth."""

PRIORS: Mapping[str, tuple[float, float]] = {
    "prefill_slowdown": (1.05, 0.25),
    "decode_slowdown": (1.05, 0.25),
    "unpack_prefill": (1.0, 0.3),
    "unpack_decode": (1.0, 0.3),
    # Per step: scheduling, graph launch, sampling: 0.1 ms of C++ (BLIS fits 126 us) to a few ms of Python.
    "step_us": (300.0, 1.0),
    "layer_us": (2.0, 1.0),
    "sequence_us": (4.0, 1.0),
    "collective_us": (2.0, 1.0),
    # HTTP, queues and the first detokenised token: BLIS fits 15.6 ms.
    "request_ms": (15.0, 0.3),
    # Tokenisers read about 200,000 tokens per second.
    "prompt_token_us": (5.0, 0.4),
    "admission_steps": (1.5, 0.2),
    # Load generators send ten times the concurrency: a tenth of the requests start together.
    "lockstep": (0.1, 0.2),
    "busy": (0.95, 0.05),
    "attention_vector_share": (0.13, 0.4),
    "core_gb_per_s": (9.0, 0.3),
    # About 14 kernels of a layer at 20-35 us of Python and PyTorch each.
    "launch_us": (400.0, 0.3),
}
"""Figure -> (what it is before measurement, spread of its logarithm)."""

NEUTRAL = ("attention_vector_share", "core_gb_per_s", "launch_us")
"""Fitted only where the engine's file says it has such a figure."""

MOST_ONE = ("lockstep", "busy", "attention_vector_share")


@dataclass(frozen=True)
class Rows:
    """Measured rows of one engine, as meshes."""

    runtime: RuntimeSpec
    groups: Sequence[Group]
    measured: Sequence[Floats]
    weights: Sequence[Floats]

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self.measured))


def collect(cases: Sequence[tuple[int, Case]], measured: Mapping[int, float], sources: Mapping[int, str],
            fidelity: str, *, own: bool = False) -> list[Rows]:  # fmt: skip
    """Rows gathered by engine.

    Args:
        cases: places and points.
        measured: by place; places without one are left out.
        sources: who measured, by place.
        fidelity: of the kernels.
        own: one deployment's rows, that the engine is to fit by itself.
    """
    known = [(place, case) for place, case in cases if place in measured]
    cells = {place: (sources[place], case.model.name, case.hardware.name) for place, case in known}
    sizes: dict[Hashable, int] = {}
    for cell in cells.values():
        sizes[cell] = sizes.get(cell, 0) + 1
    weights = {place: OWN_WEIGHT if own else sizes[cell] ** ((SHARE - 1) / 2) for place, cell in cells.items()}
    found: dict[str, list[Group]] = {}
    for group in groups(known, fidelity):
        found.setdefault(group.cases[0].runtime.name, []).append(group)
    return [
        Rows(
            held[0].cases[0].runtime,
            held,
            [np.array([measured[place] for place in group.where]) for group in held],
            [np.array([weights[place] for place in group.where]) for group in held],
        )
        for held in found.values()
    ]


@dataclass
class Fit:
    """Gauss-Newton on the figures of one engine; those its rows say nothing of stay at their priors."""

    rows: Rows

    @cached_property
    def names(self) -> list[str]:
        """Figures that change a prediction."""
        known = [name for name in PRIORS if name not in NEUTRAL or getattr(self.rows.runtime, name) is not None]
        at_prior = self.residuals((), np.zeros(0))
        return [name for name in known if np.any(self.residuals((name,), np.full(1, 0.1)) != at_prior)]

    @cached_property
    def spread(self) -> Floats:
        """Of the logarithm of each figure before measurement."""
        return np.array([PRIORS[name][1] for name in self.names])

    def residuals(self, names: Sequence[str], z: Floats) -> Floats:
        """Weighted robust residuals of all rows."""
        engine = with_figures(self.rows.runtime, names, z)
        found = [np.zeros(0)]
        for group, measured, weights in zip(self.rows.groups, self.rows.measured, self.rows.weights, strict=True):
            with np.errstate(all="ignore"):
                ratio = np.log(group.values(engine) / measured) / _sigma(group)
            found.append(weights * _robust(np.nan_to_num(ratio, posinf=0.0, neginf=0.0)))
        return np.concatenate(found)

    def slopes(self, z: Floats) -> tuple[Floats, Floats]:
        """Residuals and their derivatives by each figure."""
        here = self.residuals(self.names, z)
        steps = np.eye(len(z)) * 1e-3
        columns = [(self.residuals(self.names, z + step) - here) / 1e-3 for step in steps]
        return here, np.stack(columns, axis=1) if columns else np.zeros((len(here), 0))

    def step(self, z: Floats, here: Floats, slopes: Floats, keep: NDArray[np.bool_]) -> Floats:
        """The figures after a Gauss-Newton step on the rows that are kept, at most a factor of 2 each."""
        slopes, here = slopes[keep], here[keep]
        curvature = slopes.T @ slopes + np.diag(self.spread**-2.0)
        moved = np.linalg.solve(curvature, -(slopes.T @ here + z / self.spread**2))
        found: Floats = z + np.clip(moved, -0.7, 0.7)
        return found

    @cached_property
    def whole(self) -> tuple[Floats, Floats, Floats]:
        """The figures fitted to all rows, with residuals and slopes there."""
        z = np.zeros(len(self.names))
        for _ in range(STEPS):
            z = self.step(z, *self.slopes(z), np.ones(self.rows.count, dtype=bool))
        return z, *self.slopes(z)

    def without(self, left: NDArray[np.bool_]) -> RuntimeSpec:
        """The engine fitted to the other rows."""
        z = self.step(*self.whole, ~left)
        z = self.step(z, *self.slopes(z), ~left)
        return with_figures(self.rows.runtime, self.names, z)

    @property
    def engine(self) -> RuntimeSpec:
        """The engine fitted to all rows."""
        return with_figures(self.rows.runtime, self.names, self.whole[0])


def with_figures(runtime: RuntimeSpec, names: Sequence[str], z: Floats) -> RuntimeSpec:
    """The engine at its priors times exp(z), z of the figures named."""
    steps = dict(zip(names, z.tolist(), strict=True))
    found = {
        name: runtime.priors.get(name, middle) * float(np.exp(steps.get(name, 0.0)))
        for name, (middle, _) in PRIORS.items()
        if name not in NEUTRAL or getattr(runtime, name) is not None
    }
    return runtime.model_copy(
        update={name: min(value, 1.0) if name in MOST_ONE else value for name, value in found.items()}
    )


def from_present(runtime: RuntimeSpec) -> RuntimeSpec:
    """The engine with its present figures for priors."""
    present = {name: value for name in PRIORS if (value := getattr(runtime, name)) is not None}
    return runtime.model_copy(update={"priors": present})


def _sigma(group: Group) -> Floats:
    """Spread of the residual of each case."""
    queued = [case.serving in QUEUEING and case.metric == "ttft_ms" for case in group.cases]
    return np.where(queued, SIGMA_QUEUED, SIGMA)


def _robust(ratio: Floats) -> Floats:
    """Residuals whose squares are 2 (sqrt(1 + r^2) - 1)."""
    found: Floats = np.sign(ratio) * np.sqrt(2 * (np.sqrt(1 + ratio * ratio) - 1))
    return found


def left_out(every: Sequence[Fit], key: Callable[[Case], Hashable]) -> dict[int, float]:
    """Predictions of every row by engines fitted without the rows of its own key (its model, its accelerator).

    Returns:
        By place.
    """
    found: dict[int, float] = {}
    for fit in every:
        cases = [case for group in fit.rows.groups for case in group.cases]
        places = [place for group in fit.rows.groups for place in group.where]
        keys = [key(case) for case in cases]
        for one in dict.fromkeys(keys):
            left = np.array([of_case == one for of_case in keys])
            engine = fit.without(left)
            with np.errstate(all="ignore"):
                values = np.concatenate([group.values(engine) for group in fit.rows.groups])
            found |= {places[index]: float(values[index]) for index in np.flatnonzero(left).tolist()}
    return found


def by_model(case: Case) -> Hashable:
    """The architecture: releases of one structure are one model."""
    return case.model.hidden, case.model.vocab, case.model.layers


def by_accelerator(case: Case) -> Hashable:
    """The chip."""
    return case.hardware.name
