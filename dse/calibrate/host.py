"""The host: bandwidth of its memory, and its rate of matrix multiplication in fp32.

Bandwidth counts as STREAM does (McCalpin 1995): the bytes the program reads and writes. The line a store
fetches first (write-allocate) is not counted, so copy and triad may move up to 3/2 and 4/3 of what they show;
`read` has no such gap, and is what decoding does with weights and cache.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.gemm import by_size, fp32_as, multiply
from dse.calibrate.machine import Machine
from dse.calibrate.reading import Clock, Result, rate, repeat, wall

Floats = NDArray[np.float64]

OVER_CACHE = 4
"""Each array is this many times the last-level cache, as STREAM asks, so that it is memory that is measured."""
SMALLEST = 256 * 10**6
"""Bytes of an array where the cache is small or not known."""
OF_MEMORY = 8
"""No array takes more than this part of the free memory: there are three."""
BLOCK = 32_768
"""Elements of a triad's intermediate, which stays in a core's own cache (256 KiB)."""
PASS = 0.05
"""Seconds a pass takes at least, so that its start and end (a millisecond with many threads) do not count."""
SIZES = (512, 1024, 2048, 4096, 8192)
"""Of the square matrices."""
TORCH_DTYPES = ("fp32", "bf16", "fp16", "int8")
"""What PyTorch multiplies on a processor; NumPy has fp32 alone."""


class Arrays:
    """One thread's share of the three arrays, first touched by that thread, so that it lies near it."""

    def __init__(self, elements: int) -> None:
        self.a = np.full(elements, 1.0)
        self.b = np.full(elements, 2.0)
        self.c = np.full(elements, 0.5)
        self.between = np.empty(min(BLOCK, elements))


def read(arrays: Arrays) -> None:
    """Largest of b; as whole numbers, which need no look at NaN."""
    arrays.b.view(np.int64).max()


def copy(arrays: Arrays) -> None:
    """Array a becomes b."""
    np.copyto(arrays.a, arrays.b)


def triad(arrays: Arrays) -> None:
    """Array a becomes b + 3 c."""
    for start in range(0, len(arrays.a), BLOCK):
        part = slice(start, start + BLOCK)
        between = arrays.between[: len(arrays.c[part])]
        np.multiply(arrays.c[part], 3.0, out=between)
        np.add(arrays.b[part], between, out=arrays.a[part])


PATTERNS: dict[str, tuple[Callable[[Arrays], None], int]] = {"read": (read, 1), "copy": (copy, 2), "triad": (triad, 3)}
"""Access pattern -> what each thread does, and how many bytes it counts for per byte of an array."""


def array_bytes(machine: Machine) -> int:
    """Bytes of one of the three arrays, over all threads."""
    return min(max(OVER_CACHE * (machine.llc or 0), SMALLEST), machine.available // OF_MEMORY)


def bandwidth(pattern: str, machine: Machine, fields: tuple[str, ...], seconds: float) -> Result:
    """Bandwidth of the host's memory, GB/s, of one pattern with one thread on every core."""
    work, streams = PATTERNS[pattern]
    elements = max(1, array_bytes(machine) // 8 // machine.cores)
    with Crew(machine.pins, elements, work) as crew:
        passes = max(1, math.ceil(PASS / crew.clock(1)()))
        taken = repeat(crew.clock(passes), seconds)
    amount = elements * machine.cores * 8 * streams * passes / 1e9
    threads = "1 thread" if machine.cores == 1 else f"{machine.cores} threads"
    how = f"{pattern} over {threads}, arrays of {elements * machine.cores * 8 / 1e9:.3g} GB"
    return Result((rate(f"memory {pattern}", how, "GB/s", amount, taken, fields),), tuple(_too_small(machine)))


def _too_small(machine: Machine) -> Iterator[str]:
    if machine.llc and array_bytes(machine) < OVER_CACHE * machine.llc:
        free = machine.available / 1e9
        yield f"With {free:.2g} GB free, arrays were less than {OVER_CACHE} caches large: bandwidth may be the cache's."


class Crew:
    """Threads, one on each of the CPUs, that work together whenever its clock is called; the slowest counts."""

    def __init__(self, pins: tuple[int, ...], elements: int, work: Callable[[Arrays], None]) -> None:
        self._elements, self._work, self._passes = elements, work, 1
        self._gate = threading.Barrier(len(pins) + 1)
        self._failed: list[Exception] = []
        self._threads = [threading.Thread(target=self._member, args=(cpu,), daemon=True) for cpu in pins]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        self._meet()  # all arrays are there
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.abort()
        for thread in self._threads:
            thread.join()

    def clock(self, passes: int) -> Clock:
        """A clock of that many passes in a row."""

        def together() -> None:
            self._passes = passes
            self._meet()
            self._meet()

        return wall(together)

    def _meet(self) -> None:
        try:
            self._gate.wait()
        except threading.BrokenBarrierError:
            raise self._failed[0] from None

    def _member(self, cpu: int) -> None:
        try:
            _pin(cpu)
            arrays = Arrays(self._elements)
            self._gate.wait()
            while True:
                self._gate.wait()
                for _ in range(self._passes):
                    self._work(arrays)
                self._gate.wait()
        except threading.BrokenBarrierError:  # the end
            return
        except Exception as error:  # raised again by the thread that waits
            self._failed.append(error)
            self._gate.abort()


def _pin(cpu: int) -> None:
    """Keep this thread on one CPU, where the system can; elsewhere the scheduler does well enough."""
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, {cpu})


def gemm(machine: Machine, fields: tuple[str, ...], seconds: float) -> Result:
    """Rate of fp32 matrix multiplication in NumPy's BLAS, TFLOP/s."""
    random = np.random.default_rng(0)

    def make(n: int) -> Clock:
        left, right = (random.random((n, n), dtype=np.float32) for _ in range(2))
        out = np.empty_like(left)
        return wall(lambda: np.matmul(left, right, out=out))

    found = by_size("GEMM fp32", "NumPy's BLAS", make, SIZES, fields, seconds)
    most = blas_threads()
    if most is not None and most < machine.cores:
        more = (
            f"NumPy's BLAS uses at most {most} of the {machine.cores} cores; with PyTorch installed all are measured."
        )
        return Result(found.readings, (*found.notes, more))
    return found


def torch_gemm(torch: Any, dtype: str, fields: tuple[str, ...], seconds: float) -> Result:
    """Rate of matrix multiplication in a dtype by PyTorch on the processors, TFLOP/s."""
    with fp32_as(torch, dtype):
        return by_size(
            f"GEMM {dtype} (PyTorch)", f"PyTorch {torch.__version__}",
            lambda n: wall(multiply(torch, dtype, n, "cpu")), SIZES, fields, seconds,
        )  # fmt: skip


def blas_threads() -> int | None:
    """The most threads NumPy's BLAS was built for; None where it does not say."""
    built = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    words = str(built.get("openblas configuration", "")).split()
    return next((int(word.partition("=")[2]) for word in words if word.startswith("MAX_THREADS=")), None)
