"""The values along each axis of a sweep, as tables a mesh looks up: bytes, peaks, bandwidths, degrees."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from dse.cost.efficiency import FIDELITIES, Fidelity
from dse.cost.work import Operands
from dse.spec.compute import operand_type, supported_type
from dse.spec.hardware import HardwareSpec
from dse.spec.layout import Layout
from dse.spec.precision import Format, Precision
from dse.spec.runtime import IDEAL, RuntimeSpec
from dse.spec.workload import Workload

Table = NDArray[np.float64]
Made = TypeVar("Made")

AXES = ("layout", "hardware", "precision", "fidelity", "workload", "rate", "batch")
"""Axes of a block after the model, slowest first.

Layouts come first because slices are cut along them: then a slice holds all accelerators, precisions and workloads, and
what its few layouts and batches cost apart from these (all counts of FLOPs and bytes) is computed once for all of them.
Batches come last because NumPy wants a long inner axis.
"""

PREFILL = {
    "layout": "prefill_layout", "hardware": "prefill_hardware", "precision": "prefill_precision",
    "batch": "prefill_batch",
}  # fmt: skip
"""Axes that the prefill workers of a disaggregated deployment have of their own, by the axis each stands for.

They come before the others: on the open mesh a worker is computed along its own axes alone, and a pair of workers is
a cell where those of both meet.
"""


@dataclass(frozen=True)
class Pools:
    """What a disaggregated deployment chooses from beside its decode workers."""

    prefill: Choices
    """Of prefill workers; `batch` is the requests of a prompt pass."""
    devices: float = np.inf
    """Most devices of both pools."""
    max_workers: int = 32
    """Most workers of a pool."""
    fill: bool = False
    """Only counts of workers of which replicas use all `devices`."""


@dataclass(frozen=True)
class Choices:
    """What a sweep chooses from, apart from the model."""

    hardware: Sequence[HardwareSpec]
    workload: Sequence[Workload]
    precision: Sequence[Precision]
    fidelity: Sequence[str]
    layout: Sequence[Layout]
    batch: Sequence[int]
    rate: Sequence[float] = (np.nan,)
    """Requests per second that arrive at one replica; NaN where nobody says (all servings but `open-loop`)."""
    burstiness: float = 1.0
    """Coefficient of variation of the times between arrivals; 1 is a Poisson process."""
    slo: Mapping[str, float] = field(default_factory=dict)
    """Most that a request may take: `ttft_ms`, `tpot_ms`, `latency_s`; what is absent does not matter."""
    techniques: Mapping[str, Any] = field(default_factory=dict)
    """Technique (`dse.cost.techniques`) -> value; what is absent is at its neutral value."""
    max_prefill_tokens: float = 8192
    """Tokens of one prompt pass (vLLM's and TensorRT-LLM's default); longer batches take several passes."""
    kv_block_size: int = 16
    """Tokens of one page of the KV cache."""
    memory_utilization: float = 0.9
    """Share of the device memory the engine may use; the rest is for the context, graphs and fragmentation."""
    offload: str = "none"
    """`lp`: tensors are placed over accelerator, host and disk (`dse.cost.placement`)."""
    overlap: str = "pairwise"
    """Which streams run beside each other under offloading (`dse.cost.placement.plan`)."""
    host_utilization: float = 0.9
    """Share of host memory and disk that offloading may use."""
    price_kind: str = "on-demand"
    price_override: Mapping[str, float] = field(default_factory=dict)
    """Dollars per device and hour by accelerator name, instead of the library's."""
    accuracy: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Model name -> loss of quality of each precision, percent; NaN where nobody measured it."""
    serving: str = "static"
    """How requests meet the batch (`dse.cost.serving`)."""
    runtime: RuntimeSpec = IDEAL
    """The serving engine."""
    pools: Pools | None = None
    """With serving `disaggregated`: the prefill workers; all else is then of the decode workers."""

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of a block after the model, slowest first."""
        return AXES if self.pools is None else (*PREFILL.values(), *AXES)

    def along(self, axis: str) -> Sequence[Any]:
        """The values of one of the axes."""
        if self.pools is not None and axis.startswith("prefill_"):
            return self.pools.prefill.along(axis.removeprefix("prefill_"))
        found: Sequence[Any] = getattr(self, axis)
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return tuple(len(self.along(axis)) for axis in self.axes)

    def __getstate__(self) -> dict[str, object]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    # -- one axis ---------------------------------------------------------------------------------

    @cached_property
    def fidelities(self) -> list[Fidelity]:
        """The coefficients behind each fidelity name.

        An engine's figures hold beside the kernels they were fitted beside: `calibrated` falls back to those.
        """
        found = (FIDELITIES[name] for name in self.fidelity)
        return [replace(each, fitted=each.fitted and self.runtime.beside == "calibrated") for each in found]

    @property
    def at_roofs(self) -> Choices:
        """The same at fidelity `ideal`: peaks and bandwidths of the chips."""
        return self.cached("at roofs", lambda: replace(self, fidelity=["ideal"] * len(self.fidelity)))

    def of_hardware(self, field: str) -> Table:
        """A number of each accelerator by attribute name, NaN where it has none. Shape (hardware,)."""
        values = [getattr(chip, field) for chip in self.hardware]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    def of_box(self, field: str) -> Table:
        """A number of each accelerator's box, NaN where it does not say. Shape (hardware,)."""
        values = [getattr(chip.box, field) for chip in self.hardware]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    def of_layout(self, field: str) -> Table:
        """A parallel degree. Shape (layout,)."""
        return np.array([getattr(layout, field) for layout in self.layout], dtype=float)

    def of_precision(self, tensor: str) -> Table:
        """Effective bytes per element of a tensor, scales included. Shape (precision,)."""
        return np.array([getattr(precision, tensor).bytes for precision in self.precision], dtype=float)

    @cached_property
    def inputs(self) -> Table:
        """Prompt tokens per request, the mean of a distribution. Shape (workload,)."""
        return np.array([workload.mean[0] for workload in self.workload], dtype=float)

    @cached_property
    def outputs(self) -> Table:
        """Generated tokens per request, the mean of a distribution. Shape (workload,)."""
        return np.array([workload.mean[1] for workload in self.workload], dtype=float)

    @cached_property
    def longest(self) -> Table:
        """Tokens of the longest request, prompt and generated. Shape (workload,)."""
        return np.array([workload.longest for workload in self.workload], dtype=float)

    @cached_property
    def lengths(self) -> list[tuple[Table, Table, Table]]:
        """Input, output and share of requests of each length, in a fixed order; each of shape (workload,).

        Workloads of fewer lengths end with repetitions that have no share.
        """
        most = max(len(workload.requests) for workload in self.workload)
        padded = [
            [*workload.requests, *[(*workload.requests[0][:2], 0.0)] * (most - len(workload.requests))]
            for workload in self.workload
        ]
        columns = np.array(padded, dtype=float)  # workload, length, (input, output, share)
        return [(nodes[:, 0], nodes[:, 1], nodes[:, 2]) for nodes in np.moveaxis(columns, 1, 0)]

    @cached_property
    def batches(self) -> Table:
        """Sequences in flight per replica. Shape (batch,)."""
        return np.array(self.batch, dtype=float)

    @cached_property
    def rates(self) -> Table:
        """Requests per second arriving at a replica. Shape (rate,)."""
        return np.array(self.rate, dtype=float)

    @cached_property
    def prices(self) -> Table:
        """Dollars per device and hour of the chosen kind, NaN where unknown. Shape (hardware,)."""
        quotes = [chip.price(self.price_kind, self.price_override.get(chip.name)) for chip in self.hardware]
        return np.array([np.nan if quote is None else quote.usd_per_hour for quote in quotes], dtype=float)

    def accuracy_of(self, model: str) -> Table:
        """Loss of quality of each precision, percent, NaN where unknown. Shape (precision,)."""
        unknown = [np.nan] * len(self.precision)
        return np.array(self.accuracy.get(model, unknown), dtype=float)

    # -- joint tables -----------------------------------------------------------------------------

    def compute_type(self, chip: HardwareSpec, precision: Precision, operands: Operands) -> tuple[str, str]:
        """The number type the operands want, and the one the chip computes in.

        Any chip can fall back to fp32 on its vector units.
        """
        wanted = _wanted_type(precision, operands)
        return wanted, supported_type(wanted, {"fp32": chip.vector} | chip.peaks)

    @cached_property
    def _tables(self) -> dict[Hashable, Any]:
        return {}

    def cached(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """The tables under this key, made when first asked for: slices of a sweep share it."""
        if key not in self._tables:
            self._tables[key] = make()
        found: Made = self._tables[key]
        return found

    @staticmethod
    def weight_only(precision: Precision, operands: Operands) -> bool:
        """True where weights are stored narrower than the type they are multiplied in."""
        if operands in ("attention", "vector"):
            return False
        weights: Format = getattr(precision, operands)
        return weights.element_bits < precision.activations.element_bits

    def peak(self, chip: HardwareSpec, precision: Precision, operands: Operands) -> tuple[float, str]:
        """Peak FLOP/s, and the type it is of."""
        if operands == "vector":
            return chip.vector, "vector"
        used = self.compute_type(chip, precision, operands)[1]
        if used == "fp16" and self.runtime.sums == "fp16" and chip.fp16_accumulate is not None:
            return chip.fp16_accumulate, used
        return chip.peaks.get(used, chip.vector), used


def _wanted_type(precision: Precision, operands: Operands) -> str:
    """The type of a matrix product over these operands."""
    if operands == "attention":
        return operand_type(precision.attention, precision.attention)
    weights: Format = getattr(precision, operands)
    return operand_type(weights, precision.activations)
