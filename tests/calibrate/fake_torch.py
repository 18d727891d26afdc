"""A stand-in for PyTorch with one GPU: it records what it is asked, and its operations take the time its rates say.

Time is virtual: events read it, operations move it on.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

GB, TERA = 1e9, 1e12

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "float8_e4m3fn": 1, "float8_e4m3fnuz": 1}


class Tensor:
    """Its shape, and where it lies."""

    def __init__(self, torch: FakeTorch, shape: tuple[int, ...], dtype: str, device: str, pinned: bool = False) -> None:
        self.torch, self.shape, self.dtype, self.device, self.pinned = torch, shape, dtype, device, pinned
        self.by_columns = False

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * BYTES[self.dtype]

    def to(self, dtype: str) -> Tensor:
        return Tensor(self.torch, self.shape, dtype, self.device)

    def t(self) -> Tensor:
        turned = Tensor(self.torch, self.shape[::-1], self.dtype, self.device)
        turned.by_columns = not self.by_columns
        return turned

    def copy_(self, other: Tensor, non_blocking: bool = False) -> None:
        assert (self.bytes, self.dtype) == (other.bytes, other.dtype)
        way = ("host" if other.device == "cpu" else "gpu", "host" if self.device == "cpu" else "gpu")
        if way == ("gpu", "gpu"):
            return self.torch.passes(2 * self.bytes / self.torch.copying)
        host = self if self.device == "cpu" else other
        self.torch.calls.append((f"{way[0]} to {way[1]}", host.pinned, non_blocking))
        return self.torch.passes(self.bytes / self.torch.links[way[0], host.pinned])


class FakeTorch:
    """The part of the module that a probe uses."""

    __version__ = "9.9"
    uint8, int8, float16, bfloat16, float32 = "uint8", "int8", "float16", "bfloat16", "float32"
    float8_e4m3fn = "float8_e4m3fn"

    def __init__(self, *, gpus: int = 1, free: float = 80 * GB, tf32: bool = True, fp8: bool = True) -> None:
        self.now = 100.0
        self.calls: list[tuple[Any, ...]] = []
        self.reading, self.copying = 3000 * GB, 2800 * GB
        self.links = {
            ("host", True): 50 * GB, ("gpu", True): 52 * GB, ("host", False): 12 * GB, ("gpu", False): 9 * GB,
        }  # fmt: skip
        self.rates = {
            "float32": 50 * TERA, "tf32": 400 * TERA, "float16": 700 * TERA, "bfloat16": 750 * TERA,
            "int8": 1300 * TERA, "float8_e4m3fn": 1400 * TERA,
        }  # fmt: skip
        self.precision, self.fp8 = "highest", fp8
        self.version = SimpleNamespace(cuda="12.8", hip=None)
        self.cuda = SimpleNamespace(
            is_available=lambda: gpus > 0,
            device_count=lambda: gpus,
            mem_get_info=lambda device: (int(free), int(80 * GB)),
            synchronize=lambda: self.calls.append(("synchronize",)),
            Event=lambda enable_timing: Event(self, enable_timing),
            get_device_properties=lambda device: SimpleNamespace(
                name="Acme G1", total_memory=85_520_000_000, multi_processor_count=132, L2_cache_size=50 * 2**20,
                is_integrated=False, major=9 if tf32 else 7, minor=0,
            ),
        )  # fmt: skip

    def passes(self, seconds: float) -> None:
        """Time goes on, with the 5 us of a launch."""
        self.now += seconds + 5e-6

    # -- tensors ------------------------------------------------------------------------------------

    def empty(self, *shape: int, dtype: str, device: str = "cpu", pin_memory: bool = False) -> Tensor:
        return Tensor(self, shape, dtype, device, pin_memory)

    def ones(self, *shape: Any, dtype: str, device: str = "cpu") -> Tensor:
        return Tensor(self, () if shape == ((),) else shape, dtype, device)

    def randn(self, *shape: int, device: str) -> Tensor:
        return Tensor(self, shape, "float32", device)

    def randint(self, low: int, high: int, shape: tuple[int, int], *, dtype: str, device: str) -> Tensor:
        assert (low, high) == (-128, 128)  # the upper end is excluded
        return Tensor(self, shape, dtype, device)

    def empty_like(self, other: Tensor) -> Tensor:
        return Tensor(self, other.shape, other.dtype, other.device)

    # -- operations ---------------------------------------------------------------------------------

    def sum(self, tensor: Tensor) -> None:
        self.passes(tensor.bytes / self.reading)

    def mm(self, left: Tensor, right: Tensor, *, out: Tensor) -> None:
        assert left.dtype == right.dtype == out.dtype
        kind = "tf32" if left.dtype == "float32" and self.precision == "high" else left.dtype
        self._multiplied(kind, left)

    def _int_mm(self, left: Tensor, right: Tensor) -> None:
        assert left.dtype == right.dtype == "int8"
        self._multiplied("int8", left)

    def _scaled_mm(
        self, left: Tensor, right: Tensor, *, scale_a: Tensor, scale_b: Tensor, out_dtype: str, use_fast_accum: bool
    ) -> None:
        if not self.fp8:
            raise RuntimeError("torch._scaled_mm is only for compute capability >= 9.0\nmore")
        assert right.by_columns
        assert not left.by_columns
        assert scale_a.dtype == scale_b.dtype == "float32"
        self._multiplied(left.dtype, left)

    def _multiplied(self, kind: str, left: Tensor) -> None:
        self.calls.append(("multiply", kind, left.shape[0], left.device))
        self.passes(2 * left.shape[0] ** 3 / self.rates[kind])

    def get_float32_matmul_precision(self) -> str:
        return self.precision

    def set_float32_matmul_precision(self, precision: str) -> None:
        self.precision = precision


class Event:
    """A mark in the virtual time."""

    def __init__(self, torch: FakeTorch, enable_timing: bool) -> None:
        assert enable_timing
        self.torch, self.at, self.settled = torch, math.nan, False

    def record(self) -> None:
        self.at = self.torch.now

    def synchronize(self) -> None:
        self.settled = True

    def elapsed_time(self, other: Event) -> float:
        assert other.settled
        return (other.at - self.at) * 1e3
