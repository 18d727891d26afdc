"""Matrix multiplication by size and dtype: NumPy's or PyTorch's, on any device, by any clock.

`torch` is an argument everywhere: nothing here imports it but `optional_torch`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dse.calibrate.reading import LEAST, Clock, Operation, Reading, Result, now, rate, repeat

NATIVE = 1.05
"""A dtype counts as the chip's own where it is at least this much faster than fp32; else it was emulated."""

REFUSALS = (RuntimeError, AttributeError, TypeError, ValueError)
"""How PyTorch says that it, or the chip, cannot: no kernel, no such function or dtype, no memory left."""

_FLOATS = {"fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_FP8 = ("float8_e4m3fn", "float8_e4m3fnuz")
"""NVIDIA's and, on MI300, AMD's."""

DTYPES = ("fp32", "tf32", "bf16", "fp16", "int8", "fp8")
"""What PyTorch can multiply."""


def by_size(
    what: str, how: str, make: Callable[[int], Clock], sizes: Sequence[int], fields: tuple[str, ...], seconds: float
) -> Result:
    """The best rate over square sizes, TFLOP/s, and a note with all of them.

    Args:
        what: name in the table.
        how: what does it, in the source.
        make: size -> a clock of one multiplication.
        sizes: ascending; one that would take too long ends them.
        fields: what the reading may fill.
        seconds: for all sizes together.

    Returns:
        A reading and a note; where not even the first size runs, a note alone.
    """
    end = now() + seconds
    best: Reading | None = None
    table: list[str] = []
    refusal = ""
    for index, n in enumerate(sizes):
        work, left = 2 * n**3 / 1e12, end - now()
        if best is not None and (LEAST + 1) * work / best.value > left:
            break
        try:
            clock = make(n)
            clock()
            taken = repeat(clock, left / (len(sizes) - index))
        except REFUSALS as error:
            refusal = (str(error).strip() or type(error).__name__).splitlines()[0]
            break
        found = rate(what, f"{how}, {n} x {n} x {n}", "TFLOP/s", work, taken, fields)
        table.append(f"{n}: {found.value:.3g}")
        best = found if best is None or found.value > best.value else best
    if best is None:
        return Result(notes=(f"{what}: not measured: {refusal}",))
    return Result((best,), (f"{what}, TFLOP/s by size: {', '.join(table)}",))


def multiply(torch: Any, dtype: str, n: int, device: str) -> Operation:
    """One n x n x n multiplication, operands ready; results go where PyTorch's kernel wants them.

    Raises:
        REFUSALS: this PyTorch or this chip cannot.
    """
    if dtype in _FLOATS:
        kind = getattr(torch, _FLOATS[dtype])
        left, right = (torch.randn(n, n, device=device).to(kind) for _ in range(2))
        out = torch.empty(n, n, dtype=kind, device=device)
        return lambda: torch.mm(left, right, out=out)
    if dtype == "int8":
        left, right = (torch.randint(-128, 128, (n, n), dtype=torch.int8, device=device) for _ in range(2))
        return lambda: torch._int_mm(left, right.t())
    return _multiply_fp8(torch, n, device)


def _multiply_fp8(torch: Any, n: int, device: str) -> Operation:
    """FP8 with one scale per tensor; the right operand column by column, as the kernel demands."""
    one = torch.ones((), dtype=torch.float32, device=device)
    refusals: list[Exception] = []
    for name in _FP8:
        try:
            kind = getattr(torch, name)
            left, right = (torch.randn(n, n, device=device).to(kind) for _ in range(2))

            def run(left: Any = left, right: Any = right) -> object:
                return torch._scaled_mm(
                    left, right.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
                )

            run()
        except REFUSALS as error:
            refusals.append(error)
        else:
            return run
    raise refusals[0]


@contextmanager
def fp32_as(torch: Any, dtype: str) -> Iterator[None]:
    """Float32 matrices multiplied in true fp32, or in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def optional_torch() -> Any | None:
    """PyTorch, where it is installed and loads."""
    try:
        import torch
    except (ImportError, OSError):
        return None
    return torch
