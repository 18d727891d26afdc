"""The nearest miss per reason: which point came closest, and what it lacked, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dse.cost.feasible import MEMORY, OVERLOADED, STRUCTURE
from dse.cost.metrics import METRICS, NO_PRICE
from dse.run.explain import memory_gb
from dse.run.rows import Columns, pieces, row, select
from dse.run.score import Engine, Tally


def missed_points(tally: Tally) -> list[int]:
    """Numbers of the nearest misses."""
    return sorted({number for code, (_, number) in tally.nearest.items() if code in tally.statuses})


def nearest_misses(engine: Engine, tally: Tally, known: Columns) -> dict[str, dict[str, Any]]:
    """Per reason a point failed: the row of the nearest miss with `reason` in words.

    A structural reason has no nearest miss: its rule is told instead.

    Args:
        engine: the resolved sweep.
        tally: what its parts found.
        known: complete columns that hold the points of `missed_points`.
    """
    codes = sorted(code for code in tally.statuses if code)
    numbers = missed_points(tally)
    columns = select(known, numbers)
    rows = {number: row(columns, index) for index, number in enumerate(numbers)}
    memory = _memory(engine, numbers)
    reasons = engine.sweep.question.reasons
    found: dict[str, dict[str, Any]] = {}
    for code in codes:
        if code in tally.nearest:
            number = tally.nearest[code][1]
            text = _missed(engine, reasons[code], rows[number], memory[number])
            found[reasons[code]] = {**rows[number], "reason": text}
        else:
            found[reasons[code]] = {"number": None, "reason": _rule(engine, reasons[code])}
    return found


def _memory(engine: Engine, numbers: list[int]) -> dict[int, dict[str, float]]:
    found: dict[int, dict[str, float]] = {}
    for piece in pieces(engine, numbers):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            memory = memory_gb(piece.scored, len(piece.numbers))
        found |= dict(zip(piece.numbers.tolist(), memory, strict=True))
    return found


def _rule(engine: Engine, reason: str) -> str:
    """The rule behind a reason that has no amounts."""
    if reason in STRUCTURE:
        return STRUCTURE[reason][1]
    return _absent(engine, reason.partition(":")[2])


def _absent(engine: Engine, name: str) -> str:
    """Why a metric does not exist for some points, with the accelerators that have no price."""
    text = METRICS[name].absent
    if text != NO_PRICE:
        return text
    kind, override = engine.sweep.settings.price_kind, engine.sweep.settings.price_override
    without = [chip.name for chip in engine.sweep.axes.hardware if chip.price(kind, override.get(chip.name)) is None]
    return f"{text}; {kind} is missing for {', '.join(without[:10])}{' ...' if len(without) > 10 else ''}"


def _missed(engine: Engine, reason: str, values: Mapping[str, Any], memory: Mapping[str, float]) -> str:
    """By how much a point missed a limit."""
    if reason == MEMORY:
        return f"needs {memory['total_gb']:.1f} of {memory['limit_gb']:.1f} GB on the accelerator"
    if reason == OVERLOADED:
        return f"{values['rate']:.4g} requests/s arrive, {values['rate'] / values['load']:.4g} is the most it finishes"
    name = reason.partition(":")[2]
    least, most = engine.sweep.question.constraints[name]
    value, unit = values[name], METRICS[name].unit
    if value is None or value != value:
        return _absent(engine, name)
    limit = f"at most {most:g}" if most is not None and value > most else f"at least {least:g}"
    return f"{name} is {value:.4g} {unit}; wanted {limit}"
