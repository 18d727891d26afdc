"""Points by number -> complete rows: axes, metrics, bounds, prices, evidence; for points that are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.breakdown import ByBound, timed_operators
from dse.cost.choices import Choices
from dse.cost.evaluate import judged
from dse.cost.mesh import Mesh
from dse.cost.metrics import METRICS, Metric, Scored
from dse.cost.open_loop import SATURATION, OpenLoop
from dse.cost.pooled import Pooled
from dse.cost.setting import PHASES, Phase
from dse.cost.techniques import TECHNIQUES
from dse.run.axes import PREFILL_COLUMNS
from dse.run.evidence import ByRest, evidence
from dse.run.groups import axis_columns, box_columns
from dse.run.placed import placement_columns, tensors_of
from dse.run.resolve import Sweep
from dse.run.score import Engine
from dse.run.store import table
from dse.search.rows import distinct
from dse.spec.accuracy import AccuracyDrop
from dse.spec.price import Price

if TYPE_CHECKING:
    import pyarrow as pa

LEADING = (
    "number", "model", "hardware", "precision", "workload", "input", "output", "tp", "pp", "dp", "ep",
    "rate", "batch", "serving", *PREFILL_COLUMNS, "offload", "runtime", "fidelity", *TECHNIQUES,
)  # fmt: skip

CHUNK = 20_000
"""Points completed at once when all are kept, in 0.2 GB; fewer take more space on disk."""

PIECE = 4096
"""Points scored at once as a list: some hundred arrays of them stay in cache and take 20 MB."""

Columns = dict[str, list[Any]]


def complete(engine: Engine, numbers: Sequence[int], held: Iterable[Piece] | None = None) -> Columns:
    """All columns of the points with these numbers, in this order.

    Args:
        engine: the resolved sweep.
        numbers: which points.
        held: the pieces of these points, where they are kept.

    Raises:
        ValueError: a number lies outside the space.
    """
    found = [(piece.where, _rows(piece)) for piece in (pieces(engine, numbers) if held is None else held)]
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return _rows(Piece(engine, 0, 0, _nothing(engine), none, none))
    order = np.argsort(np.concatenate([where for where, _ in found]), kind="stable").tolist()
    joined = {name: [value for _, rows in found for value in rows[name]] for name in found[0][1]}
    return {name: [values[i] for i in order] for name, values in joined.items()}


def complete_in_chunks(engine: Engine, numbers: range) -> Iterator[pa.Table]:
    """All columns of a range of points, as tables of bounded size."""
    for start in range(numbers.start, numbers.stop, CHUNK):
        chunk = range(start, min(start + CHUNK, numbers.stop))
        yield table(complete(engine, chunk), engine.sweep.text_columns)


@dataclass(frozen=True)
class Piece:
    """Points of one box and model, as a list."""

    engine: Engine
    box: int
    model: int
    mesh: Mesh
    numbers: NDArray[np.int64]
    where: NDArray[np.intp]
    """Their places among the numbers asked for."""

    @cached_property
    def scored(self) -> Scored:
        """Their metrics; who keeps the piece keeps what was computed."""
        sweep = self.engine.sweep
        return Scored.of(sweep.models[self.model], sweep.choices_of(self.box, self.model), self.mesh)


def pieces(engine: Engine, numbers: Sequence[int]) -> Iterator[Piece]:
    """Points by number, gathered by box and model, at most `PIECE` of them.

    Raises:
        ValueError: a number lies outside the space.
    """
    wanted = np.asarray(numbers, dtype=np.int64)
    boxes, local = engine.space.locate(wanted)
    for box in distinct(boxes).tolist():
        of_box = np.flatnonzero(boxes == box)
        model, *coordinates = engine.space.boxes[box].decode(local[of_box])
        for index in distinct(model).tolist():
            every = np.flatnonzero(model == index)
            for start in range(0, len(every), PIECE):
                chosen = every[start : start + PIECE]
                axes = engine.sweep.choices_of(box, index).axes
                mesh = Mesh.points(axes, [coordinate[chosen] for coordinate in coordinates])
                where = of_box[chosen]
                yield Piece(engine, box, index, mesh, wanted[where], where)


def select(columns: Columns, numbers: Sequence[int]) -> Columns:
    """The rows of complete columns that have these point numbers, in this order."""
    place = {number: index for index, number in enumerate(columns["number"])}
    chosen = [place[number] for number in numbers]
    return {name: [values[i] for i in chosen] for name, values in columns.items()}


def row(columns: Columns, index: int) -> dict[str, Any]:
    """One row of complete columns."""
    return {name: values[index] for name, values in columns.items()}


def _nothing(engine: Engine) -> Mesh:
    axes = engine.sweep.choices_of(0, 0).axes
    return Mesh.points(axes, [np.zeros(0, dtype=np.intp) for _ in axes])


def _rows(piece: Piece) -> Columns:
    engine, box, model_index, mesh = piece.engine, piece.box, piece.model, piece.mesh
    sweep, choices = engine.sweep, engine.sweep.choices_of(box, model_index)
    size, scored = len(piece.numbers), piece.scored
    shown = shown_metrics(sweep)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        metrics = {
            name: np.broadcast_to(np.asarray(metric.of(scored), dtype=float), (size,)).tolist()
            for name, metric in METRICS.items()
            if name in shown
        }
        bounds, rests = _accounts(scored)
        status = judged(scored, sweep.question).status
    labels: Columns = {}
    for axis, columns in axis_columns(sweep, box, model_index).items():
        index = mesh.index[axis].tolist() if axis in mesh.index else [0] * size
        labels |= {name: [values[i] for i in index] for name, values in columns.items()}
    rows: Columns = {"number": piece.numbers.tolist(), "model": [sweep.models[model_index].name] * size}
    rows |= labels
    rows |= {name: [value] * size for name, value in box_columns(sweep, box).items()}
    rows |= metrics
    whole = {"devices", "prefill_workers", "decode_workers", "max_context", "max_batch", "speculation_break_even_batch"}
    for name in whole & rows.keys():
        rows[name] = [None if value != value else int(value) for value in rows[name]]
    rows |= bounds
    if "lp" in sweep.axes.offload:
        rows |= placement_columns(scored, tensors_of(sweep.models), size)
    rows |= _of_precision(engine, box, model_index, mesh)
    rows |= evidence(scored.worker("decode"), rests, scored.worker("prefill"))
    rows |= _of_price(choices, mesh.index["hardware"], "", size)
    if sweep.axes.pools is not None:
        prefill = choices if choices.pools is None else choices.pools.prefill
        rows |= _of_price(prefill, mesh.index.get("prefill_hardware"), "prefill_", size)
    if sweep.axes.rate:
        rows["saturation"] = _saturation(scored, size)
    reasons = sweep.question.reasons
    rows["status"] = [reasons[code] for code in np.broadcast_to(status, (size,)).tolist()]
    leading = [name for name in LEADING if name in rows]
    return {name: rows[name] for name in (*leading, *(name for name in rows if name not in leading))}


def shown_metrics(sweep: Sweep) -> list[str]:
    """Metrics with a column: all but those of an axis, or a way to serve, that the sweep does not have."""
    asked = {*sweep.question.objectives, *sweep.question.constraints}

    def says_something(metric: Metric) -> bool:
        if metric.of_axis is not None:
            return bool(getattr(sweep.axes, metric.of_axis) != (TECHNIQUES[metric.of_axis].neutral,))
        return bool(sweep.axes.rate) or not metric.of_arrivals

    return [name for name, metric in METRICS.items() if name in asked or says_something(metric)]


def _accounts(scored: Scored) -> tuple[Columns, dict[Phase, ByRest]]:
    """What bounds each phase, and what its time rests on."""
    bounds: Columns = {}
    rests: dict[Phase, ByRest] = {}
    for phase in PHASES:
        point = scored.worker(phase)
        by_bound, rests[phase] = ByBound(point), ByRest(point)
        for timed in timed_operators(point, phase):
            by_bound.add(timed)
            rests[phase].add(timed)
        bounds[f"{phase}_bound"] = by_bound.names(point, phase).tolist()
    return bounds, rests


def _saturation(scored: Scored, size: int) -> list[str]:
    """How close arrivals come to what a replica sustains; empty where they come at no rate."""
    if not isinstance(scored.served, OpenLoop | Pooled):
        return [""] * size
    return [SATURATION[int(index)] for index in np.broadcast_to(scored.served.saturation, (size,)).tolist()]


def _of_precision(engine: Engine, box: int, model_index: int, mesh: Mesh) -> Columns:
    """What the precision of a point rests on: who measured its accuracy, what the chip computes in.

    Of two pools that differ, the accuracy of the worse, and what both compute in.
    """
    choices, drops = engine.sweep.choices_of(box, model_index), engine.sweep.drops(box, model_index)
    drop = [drops[i] for i in mesh.index["precision"].tolist()]
    computes = _compute_texts(choices, mesh.index["hardware"], mesh.index["precision"])
    if choices.pools is not None:
        of_prefill = engine.sweep.drops(box, model_index, "prefill")
        others = [of_prefill[i] for i in mesh.index["prefill_precision"].tolist()]
        drop = [max(pair, key=_severity) for pair in zip(drop, others, strict=True)]
        first = _compute_texts(choices.pools.prefill, mesh.index["prefill_hardware"], mesh.index["prefill_precision"])
        pairs = zip(first, computes, strict=True)
        computes = [ours if ours == theirs else f"{theirs}, then {ours}" for theirs, ours in pairs]
    return {"accuracy_evidence": [one.evidence for one in drop], "compute_dtype": computes}


def _severity(drop: AccuracyDrop) -> float:
    return math.inf if math.isnan(drop.pct) else drop.pct


def _compute_texts(choices: Choices, hardware: NDArray[np.intp], precision: NDArray[np.intp]) -> list[str]:
    pairs = list(zip(hardware.tolist(), precision.tolist(), strict=True))
    texts = {pair: compute_text(choices, *pair) for pair in set(pairs)}
    return [texts[pair] for pair in pairs]


def compute_text(choices: Choices, hardware: int, precision: int) -> str:
    """The type matrix products run in, and the one the chip lacks where they differ."""
    wanted, used = choices.compute_type(choices.hardware[hardware], choices.precision[precision], "weights")
    return used if wanted == used else f"{used} (no {wanted})"


def _of_price(choices: Choices, index: NDArray[np.intp] | None, pool: str, size: int) -> Columns:
    """The quote behind each point's dollars, of the accelerators at `index`; blank where there are none."""
    quotes: list[Price | None] = [None] * size
    if index is not None:
        override = choices.price_override
        found = [chip.price(choices.price_kind, override.get(chip.name)) for chip in choices.hardware]
        quotes = [found[i] for i in index.tolist()]
    return {
        f"{pool}price_usd_per_device_hour": [None if quote is None else quote.usd_per_hour for quote in quotes],
        f"{pool}price_kind": ["" if quote is None else quote.kind for quote in quotes],
        f"{pool}price_date": ["" if quote is None else quote.date for quote in quotes],
        f"{pool}price_source": ["" if quote is None else quote.source for quote in quotes],
    }
