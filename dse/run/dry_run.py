"""What a sweep would do, before it does it: sizes, estimates, where it would run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dse.cost.techniques import active
from dse.run.axes import ARRIVING, word_of
from dse.run.effort import PART_POINTS, effort
from dse.run.executors import RATE, Executor
from dse.run.placed import placement_caps
from dse.run.score import Engine
from dse.run.sweep import POINT_BYTES


def plan(engine: Engine, choice: tuple[Executor, str]) -> Iterator[str]:
    """The plan of `dse sweep --dry-run`, line by line.

    Args:
        engine: the resolved sweep.
        choice: the executor and why, as `dse.run.executors.choose` gives them.
    """
    executor, why = choice
    size = engine.space.size
    work = effort(engine)
    count = -(-work // PART_POINTS)
    yield f"{engine.sweep.name}: {size:,} points, {count:,} {'part' if count == 1 else 'parts'}"
    for number, box in enumerate(engine.space.boxes):
        arrive = engine.sweep.axes.rate and engine.sweep.variants[number]["serving"] in ARRIVING
        absent = () if arrive else ("rate",)
        sizes = " x ".join(f"{axis.size:,} {axis.name}" for axis in box.axes if axis.name not in absent)
        chosen = list(_chosen(engine.sweep.variants[number]))
        yield f"  {', '.join(chosen) or 'plain'}: {sizes} = {box.size:,}"
    yield f"groups: {engine.groups.count:,} by {', '.join(engine.sweep.group_by) or 'nothing'}"
    yield f"estimate: {_seconds(work / RATE)} on one core"
    yield from placement_caps(engine.sweep)
    kept = f"about {_bytes(size * POINT_BYTES)} for all points" if engine.sweep.keep == "all" else "fronts and a report"
    yield f"writes: {kept}"
    yield f"executor: {executor.name} ({why})"


def _chosen(variant: Mapping[str, Any]) -> Iterator[str]:
    """What a box has beside the neutral values."""
    for name, neutral in (("serving", "static"), ("offload", "none"), ("runtime", "ideal")):
        if word_of(variant[name]) != neutral:
            yield f"{name} {word_of(variant[name])}"
    yield from (f"{technique.name} {value}" for technique, value in active(variant))


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return "less than a second"
    for limit, unit, scale in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"about {seconds / scale:.2g} {unit}"
    return f"about {seconds / 86_400:,.0f} days"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} PB"
