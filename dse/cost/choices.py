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

AXES = ("layout", "hardware", "precision", "fidelity", "workload", "batch")
"""Axes of a block after the model, slowest first.

Layouts come first because slices are cut along them: then a slice holds all accelerators, precisions and workloads, and
what its few layouts and batches cost apart from these (all counts of FLOPs and bytes) is computed once for all of them.
Batches come last because NumPy wants a long inner axis.
"""


@dataclass(frozen=True)
class Choices:
    """What a sweep chooses from, apart from the model."""

    hardware: Sequence[HardwareSpec]
    workload: Sequence[Workload]
    precision: Sequence[Precision]
    fidelity: Sequence[str]
    layout: Sequence[Layout]
    batch: Sequence[int]
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

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of `AXES`."""
        return tuple(len(getattr(self, axis)) for axis in AXES)

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
        """Prompt tokens per request. Shape (workload,)."""
        return np.array([workload.input for workload in self.workload], dtype=float)

    @cached_property
    def outputs(self) -> Table:
        """Generated tokens per request. Shape (workload,)."""
        return np.array([workload.output for workload in self.workload], dtype=float)

    @cached_property
    def batches(self) -> Table:
        """Sequences in flight per replica. Shape (batch,)."""
        return np.array(self.batch, dtype=float)

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
