"""What an operator's seconds are made of, per class of kernels: the forms that efficiencies are fitted with.

Every time is a maximum of two lines and a rest, all three linear in quantities of the work:

    max(flops / P', bytes / W')  +  rest  +  launch (once per kernel)

Defaults (`ideal`, `datasheet`) have the maximum alone and a fixed cost per launch. Fitted forms put more into the rest;
most of them leave nothing in the maximum, so that all operators of a layer that count in one variable add up to one
line: few operations per cell, no powers and no roots. With P peak FLOP/s, W bandwidth, SM number of cores:

    gemm      0.7 max(a, b) + 0.3 (a + b), a = F/(P compute), b = B/(W memory)
              + inputs mk/W + outputs 2mn/W;  launch t0 + tile * 2*128*128*k SM/P
    prefill   F/(P compute) + B/(W memory) + tau tiles/SM + softmax * 512 scores/P;  launch t0 + tile * (one tile) SM/P
    decode    F/(P compute) + B/(W memory) + tau items/SM + item * (bytes of one item) SM/W;  launch t0
    moe       (F + padding * F64)/(P compute) + B/(W memory) + activations * Ba/W;  launch t0 + routing * T h/W

The launch term of one tile is Graham's bound for list scheduling (1966): work at the machine's rate plus the longest
task at a core's. `decode` is a line in the context, so that its mean over the steps is exact. Collectives:
`dse.cost.collectives`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dse.cost.work import ROWS_OF_A_TILE, Launch, Quantity
from dse.spec.hardware import HardwareSpec

US = 1e-6

OVERLAP = 0.7
"""How much of the shorter of compute and memory time a matrix product hides behind the longer.

1 is the roofline's maximum, 0 a sum. Errors on held-out shapes of 2,946 kernels: 12.2 % at 1, 11.5 at 0.8, 11.3 at 0.7
and 0.6, 11.4 at 0.5, 13.1 at 0; the 2-norm reaches 11.3 too, with a root per cell.
"""

SOFTMAX_FLOPS = 512.0
"""FLOPs of a matrix unit in the time of one exponential, for `softmax` = 1."""


@dataclass(frozen=True, slots=True)
class Law:
    """Seconds per unit of each quantity."""

    flops: float = 0.0
    """In the maximum."""
    bytes: float = 0.0
    rest: Mapping[Quantity, float] = field(default_factory=dict)
    launch: Mapping[Launch, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Roofs:
    """What a chip's datasheet says of one kind of work."""

    peak: float
    """FLOP/s of the type computed in."""
    bandwidth: float
    """Bytes/s."""
    cores: float

    @classmethod
    def of(cls, chip: HardwareSpec, peak: float) -> Roofs:
        """Those of an accelerator."""
        return cls(peak, chip.bandwidth, float(chip.cores or 1))


def _gemm(q: Any, roofs: Roofs) -> Law:
    flops, moved = 1.0 / (roofs.peak * q.compute), 1.0 / (roofs.bandwidth * q.memory)
    tile = 2.0 * ROWS_OF_A_TILE * ROWS_OF_A_TILE * roofs.cores / roofs.peak
    return Law(
        OVERLAP * flops,
        OVERLAP * moved,
        {
            "flops": (1.0 - OVERLAP) * flops,
            "bytes": (1.0 - OVERLAP) * moved,
            "inputs": q.inputs / roofs.bandwidth,
            "outputs": 2.0 * q.outputs / roofs.bandwidth,
        },
        {"starts": q.t0_us * US, "depth": q.tile * tile},
    )


def _prefill(q: Any, roofs: Roofs) -> Law:
    return Law(
        rest={
            "flops": 1.0 / (roofs.peak * q.compute),
            "bytes": 1.0 / (roofs.bandwidth * q.memory),
            "items": q.tau_us * US / roofs.cores,
            "scores": q.softmax * SOFTMAX_FLOPS / roofs.peak,
        },
        launch={"starts": q.t0_us * US, "longest": q.tile * roofs.cores / roofs.peak},
    )


def _decode(q: Any, roofs: Roofs) -> Law:
    return Law(
        rest={
            "flops": 1.0 / (roofs.peak * q.compute),
            "bytes": 1.0 / (roofs.bandwidth * q.memory),
            "items": q.tau_us * US / roofs.cores,
            "item_bytes": q.item * roofs.cores / roofs.bandwidth,
        },
        launch={"starts": q.t0_us * US},
    )


def _moe(q: Any, roofs: Roofs) -> Law:
    flops = 1.0 / (roofs.peak * q.compute)
    return Law(
        rest={
            "flops": flops,
            "bytes": 1.0 / (roofs.bandwidth * q.memory),
            "padding": q.padding * flops,
            "routed_bytes": q.activations / roofs.bandwidth,
        },
        launch={"starts": q.t0_us * US, "routed": q.routing / roofs.bandwidth},
    )


def _included(q: Any, roofs: Roofs) -> Law:
    return Law()


LAWS: Mapping[str, Callable[[Any, Roofs], Law]] = {
    "gemm": _gemm,
    "prefill": _prefill,
    "latent_prefill": _prefill,
    "decode": _decode,
    "latent_decode": _decode,
    "moe": _moe,
}
"""Class -> its law, from a fitted set and the roofs."""


def law(form: str, included: bool, fitted: Any, roofs: Roofs) -> Law:
    """The law of a fitted class; nothing for operators whose time stands in that of another (`included`)."""
    return _included(fitted, roofs) if included else LAWS[form](fitted, roofs)
