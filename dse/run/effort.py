"""What a sweep costs to run, in plain points: where it pays to start Ray, and what one part holds."""

from __future__ import annotations

from dse.run.axes import OPEN
from dse.run.score import Engine
from dse.search.space import Part, tasks

PART_POINTS = 2_000_000
"""Work of one part in plain points: what a task computes, and what an interruption may lose, about a second of it."""

IN_BLOCKS = 12
"""Completing and writing one point with `keep: all`, in plain points; measured with the scoring of the same points
(0.6 us each on a busy core): 2.8 us to 6.6 us for all columns of a dense model and of two with experts."""

WITH_SPECULATION = 120
"""The same where a search over batches finds the one from which speculation no longer pays (100 us)."""

OF_POOLS = 50
"""The same of pairs of workers, which are completed one by one (38 us)."""

OF_ARRIVALS = 200
"""The same of arrivals at a rate (117 us, against 24 us for scoring): chains of states for each percentile."""


def effort(engine: Engine) -> int:
    """Work of all points of a sweep, those that are kept completed and written."""
    return sum(box.size * (box.weight + extra) for box, extra in zip(engine.space.boxes, _kept(engine), strict=True))


def parts(engine: Engine, part_points: int = PART_POINTS) -> list[Part]:
    """A sweep in parts of about so much work, which follow from it alone."""
    return list(tasks(engine.space, part_points, beside=_kept(engine)))


def _kept(engine: Engine) -> list[int]:
    """Work of completing and writing one point of each box."""
    if engine.sweep.keep != "all":
        return [0] * len(engine.space.boxes)
    return [_of_box(engine, number) for number in range(len(engine.space.boxes))]


def _of_box(engine: Engine, number: int) -> int:
    choices, variant = engine.sweep.choices_of(number, 0), engine.sweep.variants[number]
    if choices.pools is not None:
        return OF_POOLS + (OF_ARRIVALS if engine.sweep.axes.rate else 0)
    if choices.offload == "lp":  # its tensors are placed once more
        return engine.space.boxes[number].weight
    if choices.serving == OPEN:
        return OF_ARRIVALS
    return IN_BLOCKS if variant["speculation"] == "none" else WITH_SPECULATION
