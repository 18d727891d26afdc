"""Points by number -> complete rows: axes, metrics, bounds, prices, evidence; for points that are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.at_a_rate import SATURATION, AtARate
from dse.cost.breakdown import ByBound, timed_operators
from dse.cost.choices import Choices
from dse.cost.evaluate import judged
from dse.cost.mesh import Mesh
from dse.cost.metrics import METRICS, Metric, Scored
from dse.cost.setting import PHASES, Phase
from dse.cost.techniques import TECHNIQUES
from dse.run.arrow import table
from dse.run.axes import OPEN, PREFILL_COLUMNS
from dse.run.cells import Cells, Coded, Counted, listed
from dse.run.evidence import ByRest, evidence_cells
from dse.run.groups import axis_columns, box_columns
from dse.run.placed import placement_columns, tensors_of
from dse.run.resolve import Sweep
from dse.run.score import Engine
from dse.search.rows import distinct
from dse.search.space import Part, cut
from dse.spec.accuracy import AccuracyDrop
from dse.spec.price import Price

if TYPE_CHECKING:
    import pyarrow as pa

LEADING = (
    "number", "model", "hardware", "precision", "workload", "input", "output", "tp", "pp", "dp", "ep",
    "rate", "batch", "serving", *PREFILL_COLUMNS, "offload", "runtime", "fidelity", *TECHNIQUES,
)  # fmt: skip

CHUNK = 50_000
"""Points completed at once as a block when all are kept, in 0.2 GB."""

LISTED = 20_000
"""The same of points that are completed as a list; fewer than this are not written alone, which takes more space."""

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
    found = [(piece.where, listed(_cells(piece))) for piece in (pieces(engine, numbers) if held is None else held)]
    if not found:
        none = np.zeros(0, dtype=np.int64)
        return listed(_cells(Piece(engine, 0, 0, _nothing(engine), none, none)))
    order = np.argsort(np.concatenate([where for where, _ in found]), kind="stable").tolist()
    joined = {name: [value for _, rows in found for value in rows[name]] for name in found[0][1]}
    return {name: [values[i] for i in order] for name, values in joined.items()}


def complete_in_chunks(engine: Engine, part: Part) -> Iterator[pa.Table]:
    """All columns of the points of a part, in order, as tables of bounded size."""
    import pyarrow as pa

    held: list[pa.Table] = []
    for rows in _completed(engine, part):
        held.append(rows)
        if sum(rows.num_rows for rows in held) >= LISTED:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _completed(engine: Engine, part: Part) -> Iterator[pa.Table]:
    text = engine.sweep.text_columns
    for box, block in part.blocks:
        of_box = engine.space.boxes[box]
        if not on_mesh(engine, box):
            every = of_box.numbers(block)
            for start in range(every.start, every.stop, LISTED):
                yield table(complete(engine, range(start, min(start + LISTED, every.stop))), text)
            continue
        for small in cut(block, CHUNK):
            model, *rest = small
            mesh = Mesh.open(engine.sweep.choices_of(box, model.start).axes, rest)
            own = of_box.numbers(small)
            numbers = np.arange(own.start, own.stop)
            yield table(_cells(Piece(engine, box, model.start, mesh, numbers, numbers)), text)


def on_mesh(engine: Engine, box: int) -> bool:
    """Whether the points of a box are completed as blocks: where what is computed has the shape of the mesh.

    Each placement is a program of its own, chains of states and pairs of workers hold more than a number per point.
    """
    choices = engine.sweep.choices_of(box, 0)
    return choices.offload == "none" and choices.serving != OPEN and choices.pools is None


@dataclass(frozen=True)
class Piece:
    """Points of one box and model: a list, or a block in the order of its numbers."""

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


def _cells(piece: Piece) -> dict[str, Cells]:
    engine, box, model_index, mesh = piece.engine, piece.box, piece.model, piece.mesh
    sweep, choices = engine.sweep, engine.sweep.choices_of(box, model_index)
    size, scored = len(piece.numbers), piece.scored
    shown = shown_metrics(sweep)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        metrics: dict[str, Cells] = {
            name: _flat(np.asarray(metric.of(scored), dtype=float), mesh)
            for name, metric in METRICS.items()
            if name in shown
        }
        bounds, rests = _accounts(scored)
        status = judged(scored, sweep.question).status
    columns: dict[str, Cells] = {"number": piece.numbers, "model": Coded.same(sweep.models[model_index].name, size)}
    for axis, labels in axis_columns(sweep, box, model_index).items():
        index = _flat(mesh.index.get(axis, np.zeros(1, dtype=np.intp)), mesh)
        columns |= {name: Coded(values, index) for name, values in labels.items()}
    columns |= {name: Coded.same(value, size) for name, value in box_columns(sweep, box).items()}
    columns |= metrics
    for name in WHOLE_METRICS & metrics.keys():
        columns[name] = Counted(np.asarray(metrics[name]))
    columns |= bounds
    if "lp" in sweep.axes.offload:
        columns |= placement_columns(scored, tensors_of(sweep.models), size)
    columns |= _of_precision(engine, box, model_index, mesh)
    columns |= evidence_cells(scored.worker("decode"), rests, scored.worker("prefill"))
    columns |= _of_price(choices, _flat(mesh.index["hardware"], mesh), "", size)
    if sweep.axes.pools is not None:
        prefill = choices if choices.pools is None else choices.pools.prefill
        columns |= _of_price(prefill, mesh.index.get("prefill_hardware"), "prefill_", size)
    if sweep.axes.rate:
        columns["saturation"] = _saturation(scored, size)
    columns["status"] = Coded(sweep.question.reasons, _flat(status, mesh).astype(np.intp))
    leading = [name for name in LEADING if name in columns]
    return {name: columns[name] for name in (*leading, *(name for name in columns if name not in leading))}


WHOLE_METRICS = {
    "devices", "prefill_workers", "decode_workers", "max_context", "max_batch", "speculation_break_even_batch",
}  # fmt: skip
"""Metrics that are whole numbers."""


def _flat(values: NDArray[Any], mesh: Mesh) -> NDArray[Any]:
    """One value per point, in the order of the mesh."""
    return np.ascontiguousarray(np.broadcast_to(values, mesh.shape)).ravel()


def shown_metrics(sweep: Sweep) -> list[str]:
    """Metrics with a column: all but those of an axis, or a way to serve, that the sweep does not have."""
    asked = {*sweep.question.objectives, *sweep.question.constraints}

    def says_something(metric: Metric) -> bool:
        if metric.of_axis is not None:
            return bool(getattr(sweep.axes, metric.of_axis) != (TECHNIQUES[metric.of_axis].neutral,))
        return bool(sweep.axes.rate) or not metric.of_arrivals

    return [name for name, metric in METRICS.items() if name in asked or says_something(metric)]


def _accounts(scored: Scored) -> tuple[dict[str, Cells], dict[Phase, ByRest]]:
    """What bounds each phase, and what its time rests on."""
    bounds: dict[str, Cells] = {}
    rests: dict[Phase, ByRest] = {}
    for phase in PHASES:
        point = scored.worker(phase)
        by_bound, rests[phase] = ByBound(point), ByRest(point)
        for timed in timed_operators(point, phase):
            by_bound.add(timed)
            rests[phase].add(timed)
        names, codes = by_bound.coded(point, phase)
        bounds[f"{phase}_bound"] = Coded(names, codes.ravel())
    return bounds, rests


def _saturation(scored: Scored, size: int) -> list[str]:
    """How close arrivals come to what a replica sustains; empty where they come at no rate."""
    if not isinstance(scored.served, AtARate):
        return [""] * size
    return [SATURATION[int(index)] for index in np.broadcast_to(scored.served.saturation, (size,)).tolist()]


def _of_precision(engine: Engine, box: int, model_index: int, mesh: Mesh) -> dict[str, Cells]:
    """What the precision of a point rests on: who measured its accuracy, what the chip computes in.

    Of two pools that differ, the accuracy of the worse, and what both compute in.
    """
    choices, drops = engine.sweep.choices_of(box, model_index), engine.sweep.drops(box, model_index)
    hardware, precision = (_flat(mesh.index[axis], mesh) for axis in ("hardware", "precision"))
    computes = _compute_texts(choices, hardware, precision)
    if choices.pools is None:
        evidence = Coded([drop.evidence for drop in drops], precision)
        return {"accuracy_evidence": evidence, "compute_dtype": computes}
    of_prefill = engine.sweep.drops(box, model_index, "prefill")
    of_pools = zip(precision.tolist(), mesh.index["prefill_precision"].tolist(), strict=True)
    drop = [max((drops[own], of_prefill[other]), key=_severity) for own, other in of_pools]
    first = _compute_texts(choices.pools.prefill, mesh.index["prefill_hardware"], mesh.index["prefill_precision"])
    pairs = zip(first.tolist(), computes.tolist(), strict=True)
    both = [ours if ours == theirs else f"{theirs}, then {ours}" for theirs, ours in pairs]
    return {"accuracy_evidence": [one.evidence for one in drop], "compute_dtype": both}


def _severity(drop: AccuracyDrop) -> float:
    return math.inf if math.isnan(drop.pct) else drop.pct


def _compute_texts(choices: Choices, hardware: NDArray[np.intp], precision: NDArray[np.intp]) -> Coded:
    schemes = len(choices.precision)
    pairs, index = np.unique(hardware * schemes + precision, return_inverse=True)
    return Coded([compute_text(choices, *divmod(pair, schemes)) for pair in pairs.tolist()], index.ravel())


def compute_text(choices: Choices, hardware: int, precision: int) -> str:
    """The type matrix products run in, and the one the chip lacks where they differ."""
    wanted, used = choices.compute_type(choices.hardware[hardware], choices.precision[precision], "weights")
    return used if wanted == used else f"{used} (no {wanted})"


def _of_price(choices: Choices, index: NDArray[np.intp] | None, pool: str, size: int) -> dict[str, Cells]:
    """The quote behind each point's dollars, of the accelerators at `index`; blank where there are none."""
    quotes: list[Price | None] = [None]
    if index is None:
        index = np.zeros(size, dtype=np.intp)
    else:
        override = choices.price_override
        quotes = [chip.price(choices.price_kind, override.get(chip.name)) for chip in choices.hardware]
    columns: dict[str, list[Any]] = {
        "usd_per_device_hour": [None if quote is None else quote.usd_per_hour for quote in quotes],
        "kind": ["" if quote is None else quote.kind for quote in quotes],
        "date": ["" if quote is None else quote.date for quote in quotes],
        "source": ["" if quote is None else quote.source for quote in quotes],
    }
    return {f"{pool}price_{name}": Coded(values, index) for name, values in columns.items()}
