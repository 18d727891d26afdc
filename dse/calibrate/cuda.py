"""A GPU through PyTorch: memory, matrix multiplication, the link to its host. ROCm answers to the same names.

PyTorch is imported here, when asked for, and nowhere at the top of a file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from dse.calibrate.gemm import DTYPES, by_size, fp32_as, multiply
from dse.calibrate.reading import Clock, Operation, Result, Step, rate, repeat, wall
from dse.errors import CannotRun

DEVICE = "cuda:0"
"""The first GPU the process sees: CUDA_VISIBLE_DEVICES chooses another."""
BATCH = 0.02
"""Seconds of work between two events, so that the microseconds of a launch do not count."""
LAUNCHES = 500
"""Operations between two events, at most."""
LARGEST = 2**31
"""Bytes of a buffer in the GPU's memory, at most; far beyond any cache."""
ROOM = 2**31
"""Bytes of the GPU's memory that must be free."""
TRANSFER = 2**28
"""Bytes of a copy over the host link: long enough to reach its rate, little to pin."""
SIZES = (1024, 2048, 4096, 8192, 16384)
"""Of the square matrices."""
TF32_SINCE = 8
"""Major compute capability (Ampere) from which NVIDIA's chips have TF32."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What PyTorch says of the first GPU."""

    name: str
    vendor: str
    memory: int
    """Bytes."""
    cores: int
    """Streaming multiprocessors or compute units."""
    l2: int | None
    """Bytes, where PyTorch says."""
    integrated: bool
    """It shares the host's memory: there is no link to measure."""
    count: int
    """GPUs the process sees."""
    has_tf32: bool
    software: str
    """`PyTorch 2.9.1, CUDA 12.8`."""


def load() -> Any:
    """PyTorch with a GPU.

    Raises:
        CannotRun: it is not installed, does not load, or sees no GPU.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise CannotRun(f"--device cuda: PyTorch cannot be loaded: {error}") from None
        raise CannotRun("--device cuda needs PyTorch, which is not installed here: pip install torch") from None
    except (ImportError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CannotRun(f"--device cuda: PyTorch cannot be loaded: {reason}") from None
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = f"it is built for {built}; does the driver run (nvidia-smi)?" if built else "it is built for the CPU only"
        raise CannotRun(f"--device cuda: PyTorch {torch.__version__} sees no GPU: {why}")
    return torch


def look(torch: Any) -> Gpu:
    """Read the first GPU."""
    found = torch.cuda.get_device_properties(0)
    hip = torch.version.hip
    return Gpu(
        name=found.name,
        vendor="AMD" if hip else "NVIDIA",
        memory=found.total_memory,
        cores=found.multi_processor_count,
        l2=getattr(found, "L2_cache_size", None) or None,
        integrated=bool(getattr(found, "is_integrated", False)),
        count=torch.cuda.device_count(),
        has_tf32=not hip and found.major >= TF32_SINCE,
        software=f"PyTorch {torch.__version__}, " + (f"ROCm {hip}" if hip else f"CUDA {torch.version.cuda}"),
    )


def steps(torch: Any, gpu: Gpu) -> Iterator[Step]:
    """Everything to measure on one GPU."""
    yield Step("GPU memory", partial(memory, torch))
    for dtype in DTYPES:
        if dtype != "tf32" or gpu.has_tf32:
            yield Step(f"GPU GEMM {dtype}", partial(gemm, torch, dtype))
    if not gpu.integrated:
        yield Step("host link", partial(host_link, torch))


def timed(torch: Any, operation: Operation) -> Clock:
    """Seconds of one operation by the GPU's own events, as the mean of a batch of launches."""
    operation()  # the first loads kernels and chooses among them
    torch.cuda.synchronize()
    once = _elapsed(torch, operation, 1)
    count = min(LAUNCHES, max(1, math.ceil(BATCH / max(once, 1e-6))))
    return lambda: _elapsed(torch, operation, count) / count


def _elapsed(torch: Any, operation: Operation, count: int) -> float:
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(count):
        operation()
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3  # milliseconds


def memory(torch: Any, seconds: float) -> Result:
    """Bandwidth of the GPU's memory, GB/s: reading alone (a sum), and copying (bytes read and written).

    Raises:
        CannotRun: others have taken the GPU's memory.
    """
    free, _ = torch.cuda.mem_get_info(0)
    if free < ROOM:
        raise CannotRun(f"the GPU has {free / 1e9:.2g} GB free, a probe needs {ROOM / 1e9:.2g}; end what else uses it")
    elements = min(LARGEST, free // 4) // 4
    source = torch.ones(elements, dtype=torch.float32, device=DEVICE)
    target = torch.empty_like(source)
    size = elements * 4 / 1e9
    patterns: dict[str, tuple[Operation, int]] = {
        "read": (lambda: torch.sum(source), 1),
        "copy": (lambda: target.copy_(source), 2),
    }
    return Result(
        tuple(
            rate(
                f"GPU memory {name}", f"{name} of {size:.3g} GB", "GB/s", streams * size,
                repeat(timed(torch, operation), seconds / len(patterns)), ("memory.bandwidth_gb_per_s",),
            )
            for name, (operation, streams) in patterns.items()
        )
    )  # fmt: skip


def gemm(torch: Any, dtype: str, seconds: float) -> Result:
    """Rate of matrix multiplication in a dtype, TFLOP/s."""

    def make(n: int) -> Clock:
        return timed(torch, multiply(torch, dtype, n, DEVICE))

    with fp32_as(torch, dtype):
        return by_size(f"GPU GEMM {dtype}", "PyTorch", make, SIZES, (f"peak_tflops.{dtype}",), seconds)


def host_link(torch: Any, seconds: float) -> Result:
    """Copies between host and GPU each way, GB/s, with page-locked and with ordinary memory."""
    device = torch.empty(TRANSFER, dtype=torch.uint8, device=DEVICE)
    pinned = torch.empty(TRANSFER, dtype=torch.uint8, pin_memory=True)
    pageable = torch.ones(TRANSFER, dtype=torch.uint8)

    def settled(operation: Operation) -> Clock:
        """On the wall clock: the processor itself takes part in a pageable copy."""

        def both() -> None:
            operation()
            torch.cuda.synchronize()

        both()
        return wall(both)

    clocks = {
        ("host to GPU, pinned", "gb_per_s"): timed(torch, lambda: device.copy_(pinned, non_blocking=True)),
        ("GPU to host, pinned", "to_host_gb_per_s"): timed(torch, lambda: pinned.copy_(device, non_blocking=True)),
        ("host to GPU, pageable", "pageable_gb_per_s"): settled(lambda: device.copy_(pageable)),
        ("GPU to host, pageable", "pageable_to_host_gb_per_s"): settled(lambda: pageable.copy_(device)),
    }
    return Result(
        tuple(
            rate(
                name, f"{name}, copies of {TRANSFER / 1e9:.3g} GB", "GB/s", TRANSFER / 1e9,
                repeat(clock, seconds / len(clocks)), (f"host_link.{field}",),
            )
            for (name, field), clock in clocks.items()
        )
    )  # fmt: skip
