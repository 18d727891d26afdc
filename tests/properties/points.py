"""Small spaces of design points to state properties over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import AXES, Choices
from dse.cost.evaluate import Question, columns, score
from dse.cost.mesh import Mesh
from dse.cost.techniques import TECHNIQUES
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.layout import Layout
from dse.spec.workload import Workload

ASKED = Question(("output_tokens_per_s_per_device", "tpot_ms", "memory_gb_per_device"), {"ttft_ms": (None, 3000.0)})


def choices(
    hardware: Sequence[Any] = ("h100-sxm",),
    workload: Sequence[tuple[int, int]] = ((1024, 64),),
    precision: Sequence[Any] = ("bf16",),
    fidelity: Sequence[str] = ("datasheet",),
    layout: Sequence[tuple[int, ...]] = ((1,),),
    batch: Sequence[int] = (8,),
    **options: Any,
) -> Choices:
    """Axes by name; one value each unless given. Techniques stand among the options."""
    techniques = {name: options.pop(name) for name in TECHNIQUES if name in options}
    return Choices(
        [load_hardware(chip) if isinstance(chip, str | dict) else chip for chip in hardware],
        [Workload(*pair) for pair in workload],
        [load_precision(entry) for entry in precision],
        list(fidelity),
        [Layout(*degrees) for degrees in layout],
        list(batch),
        techniques=techniques,
        **options,
    )


def mesh_of(chosen: Choices) -> Mesh:
    """All points as an open mesh."""
    return Mesh.open(AXES, [slice(0, size) for size in chosen.shape])


def flat_mesh_of(chosen: Choices) -> Mesh:
    """All points as a list."""
    return Mesh.points(AXES, list(np.indices(chosen.shape).reshape(len(AXES), -1)))


def figures(model: str, chosen: Choices, *names: str) -> dict[str, NDArray[np.float64]]:
    """Metrics of all points, in the shape of the axes."""
    return columns(load_model(model), chosen, mesh_of(chosen), names or None)


def along(values: NDArray[np.float64], axis: str, index: int) -> NDArray[np.float64]:
    """Figures at one index of an axis."""
    return np.take(values, index, axis=AXES.index(axis))


def reasons(model: str, chosen: Choices, question: Question = ASKED) -> NDArray[np.str_]:
    """Status texts of all points, in the shape of the axes."""
    status = score(load_model(model), chosen, mesh_of(chosen), question).status
    return np.array(question.reasons)[status]
