"""The errors of predictions as draws: which parts of them points share.

A predicted time is off by a factor whose logarithm is normal; its standard deviation is that of the row's 90 % band.
TTFT and TPOT have errors of their own (where both were measured these are uncorrelated: r = 0.01 in 656 rows of
InferenceX, -0.2 in 182 of NVIDIA's). Throughput, latency, dollars and joules per token follow both, by the prompt's
share of a request's time, and have the band of throughput. What has no predicted time in it (devices, memory, dollars
per hour, published accuracy) is exact.

An error is a sum: a part common to all, one each of the model, the chip, the formats, the engine and the layout, and a
random walk over the doublings of the batch. The shares of the variance are measured (`dse.calibrate.bands`). What two
points have in common cancels between them. Points that differ in the batch alone keep their order in every objective:
of 9,393 such pairs of measurements 1.3 % were predicted the wrong way round.

Held against fronts that were measured (tests/published/test_front_chances.py): 387 predicted frontier points of four
collections had a mean probability of 0.59 of being on the measured front, and 73 % were; of 1,896 others it was 0.06,
and 4 % were. A probability rests on the band of kernels alone: with a fitted engine it is too modest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import PREFILL, Choices
from dse.cost.mesh import Index, Mesh
from dse.cost.metrics import METRICS, Error
from dse.cost.setting import PHASES, Phase
from dse.run.contests import accelerator
from dse.run.evidence import ERRORS, evidence
from dse.run.groups import box_columns
from dse.run.rows import Columns, Piece, pieces
from dse.run.score import Engine
from dse.search.chance import normals
from dse.spec.bands import CLASSES, error_models

NINE_IN_TEN = 1.6449
"""90 % of a normal distribution lies within so many standard deviations."""

PARTS = ("model", "chip", "scheme", "engine", "layout")
"""Parts of the error by what they follow from (`dse.spec.bands.Shares`), beside the batch."""

PLACE = {name: place for place, name in enumerate(CLASSES)}

AT_ONCE = 2500
"""Points whose columns are computed together: 8 MB of arrays."""

TOLD = ("evidence", *ERRORS, "ttft_ms", "latency_s")
"""Columns that errors follow from."""


@dataclass(frozen=True)
class Standing:
    """What the errors of some points follow from; arrays whose last axis is the points."""

    words: tuple[str, ...]
    """What parts of errors may be the errors of."""
    parts: NDArray[np.intp]
    """What each of `PARTS` is the error of in each of `PHASES`, as a place in `words`, shape (phases, parts, points):
    prompts and generation may run on workers of different kinds."""
    chain: NDArray[np.int64]
    """Equal for points that differ in the batch alone."""
    octave: NDArray[np.float64]
    """Base 2 logarithm of the batch in each of `PHASES`, shape (phases, points)."""
    evidence: NDArray[np.intp]
    """Class of each point, as a place in `CLASSES`."""
    sigma: NDArray[np.float64]
    """Standard deviation of the log error of TTFT, TPOT and throughput, shape (3, points)."""
    prompt: NDArray[np.float64]
    """Share of the prompt in the time of a request."""

    def some(self, points: slice | NDArray[np.intp]) -> Standing:
        """The same of some of the points."""
        arrays = (getattr(self, one.name)[..., points] for one in fields(self) if one.name != "words")
        return Standing(self.words, *arrays)


def standing(engine: Engine, numbers: NDArray[np.int64], rows: Columns) -> Standing:
    """What the errors of at least one point follow from, in the order of their numbers.

    Args:
        engine: the sweep.
        numbers: the points.
        rows: complete rows; what they say of points among these is taken from them.
    """
    words: dict[str, int] = {}
    held = [(piece.where, _placed(engine, piece, words)) for piece in pieces(engine, numbers.tolist())]
    order = np.argsort(np.concatenate([where for where, _ in held]), kind="stable")
    columns = [np.concatenate(column, axis=-1)[..., order] for column in zip(*(one for _, one in held), strict=True)]
    return Standing(tuple(words), *columns, *_told(engine, numbers, rows))


def _told(engine: Engine, numbers: NDArray[np.int64], rows: Columns) -> tuple[NDArray[Any], ...]:
    """Evidence, standard deviations and the prompt's share of points."""
    place = {number: index for index, number in enumerate(rows["number"])}
    known = [place.get(number) for number in numbers.tolist()]
    told: Columns = {name: [None if index is None else rows[name][index] for index in known] for name in TOLD}
    unknown = [index for index, found in enumerate(known) if found is None]
    for start in range(0, len(unknown), AT_ONCE):
        block = unknown[start : start + AT_ONCE]
        for piece in pieces(engine, numbers[block].tolist()):
            for name, values in _computed(piece).items():
                for index, value in zip(piece.where.tolist(), values, strict=True):
                    told[name][block[index]] = value
    with np.errstate(divide="ignore", invalid="ignore"):
        prompt = np.divide(told["ttft_ms"], told["latency_s"]) / 1e3
    return (
        np.array([PLACE[name.partition("+")[0]] for name in told["evidence"]]),
        np.log1p(np.array([told[name] for name in ERRORS]) / 100) / NINE_IN_TEN,
        np.nan_to_num(prompt, nan=0.0).clip(0.0, 1.0),
    )


def _computed(piece: Piece) -> Columns:
    """The columns `TOLD` of some points."""
    scored = piece.scored
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        metrics = {name: METRICS[name].of(scored) for name in ("ttft_ms", "latency_s")}
        of_metrics = {name: np.broadcast_to(value, piece.mesh.shape).tolist() for name, value in metrics.items()}
        return evidence(scored.worker("decode"), prompts=scored.worker("prefill")) | of_metrics


def _placed(engine: Engine, piece: Piece, words: dict[str, int]) -> tuple[NDArray[Any], ...]:
    """What of `Standing` follows from where points stand; new words are added to those known."""
    sweep, choices = engine.sweep, engine.sweep.choices_of(piece.box, piece.model)
    index, size = piece.mesh.index, len(piece.numbers)

    def coded(part: str, names: Iterable[object]) -> NDArray[np.intp]:
        return np.array([words.setdefault(f"{part} {name}", len(words)) for name in names], dtype=np.intp)

    boxed = [f"{name} {value}" for name, value in box_columns(sweep, piece.box).items() if name != "runtime"]

    def parts(phase: Phase) -> list[NDArray[np.intp]]:
        chosen, at = _worker(choices, piece.mesh, phase)
        return [
            np.repeat(coded("model", [sweep.models[piece.model].name]), size),
            coded("chip", map(accelerator, chosen.hardware))[at["hardware"]],
            coded("scheme", [scheme.name for scheme in chosen.precision])[at["precision"]],
            np.repeat(coded("engine", [chosen.runtime.name]), size),
            coded("layout", [" ".join([*map(str, layout), *boxed]) for layout in chosen.layout])[at["layout"]],
        ]

    def octave(phase: Phase) -> NDArray[np.float64]:
        chosen, at = _worker(choices, piece.mesh, phase)
        found: NDArray[np.float64] = np.log2(np.asarray(chosen.batch, dtype=float))[at["batch"]]
        return found

    return (
        np.array([parts(phase) for phase in PHASES]),
        piece.numbers - index["batch"],  # batches are the fastest axis
        np.array([octave(phase) for phase in PHASES]),
    )


def _worker(choices: Choices, mesh: Mesh, phase: Phase) -> tuple[Choices, Mapping[str, Index]]:
    """What the workers of a phase choose from, and their places on those axes."""
    if choices.pools is None or phase == "decode":
        return choices, mesh.index
    return choices.pools.prefill, mesh.renamed(PREFILL).index


def logarithms(costs: NDArray[np.float64], objectives: Sequence[str]) -> NDArray[np.float64]:
    """Costs on the scale on which errors add: of what has an error the logarithm, smaller still being better.

    Args:
        costs: shape (points, objectives), what is to be maximised negated.
        objectives: their names.
    """
    found = costs.copy()
    for column, name in enumerate(objectives):
        if METRICS[name].error is not None:
            sign = -1.0 if METRICS[name].sense == "max" else 1.0
            with np.errstate(divide="ignore", invalid="ignore"):
                found[:, column] = sign * np.log(sign * costs[:, column])
    return found


class Errors:
    """Draws of the log errors of points, in every objective."""

    def __init__(self, points: Standing, objectives: Sequence[str]) -> None:
        self._points = points
        self._kinds = [METRICS[name].error for name in objectives]
        self._words = {phase: normals([f"{word} {phase}" for word in points.words]).T for phase in PHASES}

    def of(self, points: slice) -> Callable[[slice], NDArray[np.float64]]:
        """A function from draws to the errors of some points, shape (draws, points, objectives).

        What it makes is as large as the draws that are asked for: all draws of ten thousand points are 10 MB an array.
        """
        some = self._points.some(points)
        wanted = {"ttft": ("prefill",), "tpot": ("decode",), "throughput": PHASES}
        phases = {phase for kind in self._kinds if kind is not None for phase in wanted[kind]}
        terms = {phase: self._terms(some, phase) for phase in PHASES if phase in phases}

        def errors(draws: slice) -> NDArray[np.float64]:
            found = np.zeros((draws.stop - draws.start, points.stop - points.start, len(self._kinds)))
            units = {phase: _sum(of_phase, draws) for phase, of_phase in terms.items()}
            for objective, kind in enumerate(self._kinds):
                if kind is not None:
                    found[:, :, objective] = _error(kind, some, units)
            return found

        return errors

    def _terms(self, points: Standing, phase: Phase) -> list[Term]:
        """What the errors of a phase are the sum of, in standard deviations."""
        shares = [error_models()[name].shares for name in CLASSES]

        def weight(of_class: Sequence[float]) -> NDArray[np.float64]:
            found: NDArray[np.float64] = np.sqrt(of_class)[points.evidence]
            return found

        common = [max(0.0, 1.0 - sum(getattr(one, part) for part in PARTS)) for one in shares]
        everywhere = np.zeros(len(points.evidence), dtype=np.intp)
        words = zip(PARTS, points.parts[PHASES.index(phase)], strict=True)
        walk, batch = _walk(points.octave[PHASES.index(phase)], phase)
        return [
            (normals([f"all {phase}"]).T, everywhere, weight(common)),
            *((self._words[phase], word, weight([getattr(one, part) for one in shares])) for part, word in words),
            (walk, batch, weight([one.octave for one in shares])),
        ]


Term = tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]
"""Draws of variables, shape (SAMPLES, variables); the variable of each point, and what it counts there."""


def _sum(terms: Sequence[Term], draws: slice) -> NDArray[np.float64]:
    """Some draws of a sum, shape (draws, points)."""
    (table, place, weight), *others = terms
    found: NDArray[np.float64] = table[draws][:, place] * weight
    for table, place, weight in others:
        found += table[draws][:, place] * weight
    return found


def _error(kind: Error, points: Standing, units: Mapping[Phase, NDArray[np.float64]]) -> NDArray[np.float64]:
    """The log errors of a kind, given those of both phases in standard deviations."""
    ttft, tpot, throughput = points.sigma
    found: NDArray[np.float64]
    if kind == "throughput":
        length = np.hypot(points.prompt, 1 - points.prompt)
        found = throughput / length * (points.prompt * units["prefill"] + (1 - points.prompt) * units["decode"])
        return found
    found = ttft * units["prefill"] if kind == "ttft" else tpot * units["decode"]
    return found


def _walk(octave: NDArray[np.float64], phase: Phase) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """A random walk of unit steps over doublings of the batch, straight in between, and where on it points are."""
    batches, place = np.unique(octave, return_inverse=True)
    below = batches.astype(np.intp)
    steps = normals([f"octave {step} {phase}" for step in range(int(below.max()) + 2)]).T
    reached = np.cumsum(steps, axis=1)
    path: NDArray[np.float64] = reached[:, below] + (batches - below) * steps[:, below + 1]
    return path, place
