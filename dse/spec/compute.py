"""In which number type a chip multiplies two operands."""

from __future__ import annotations

from collections.abc import Mapping

from dse.errors import Fault, InputError
from dse.spec.formats import Format

_FALLBACK = {
    "int4": ("int8", "16 bit", "tf32", "fp32"),
    "int8": ("16 bit", "tf32", "fp32"),
    "fp4": ("fp6", "fp8", "16 bit", "tf32", "fp32"),
    "fp6": ("fp8", "16 bit", "tf32", "fp32"),
    "fp8": ("16 bit", "tf32", "fp32"),
    "bf16": ("fp16", "tf32", "fp32"),
    "fp16": ("bf16", "tf32", "fp32"),
    "tf32": ("fp32", "16 bit"),
    "fp32": ("tf32", "16 bit"),
}
"""Where to compute what a chip lacks: the next wider type, never a narrower one while a wider is there."""
_EQUALS = {"16 bit": ("bf16", "fp16")}
"""Types that do equally well: the faster is taken, the first where both are as fast."""


def operand_type(weights: Format, activations: Format) -> str:
    """The number type a matrix product of these operands wants.

    Tensor cores multiply two operands of one type, so the narrower is converted to a type that holds
    both exactly: the wider of two integers or two floats, 16 bit beside a 16-bit operand (weight-only
    quantisation computes in the type of the activations), fp8 for an integer of at most 4 bits beside
    a narrow float (e4m3 has the integers to 16), else the 16-bit float. 2402.16363 section 3.1.

    Returns:
        int4, int8, fp4, fp6, fp8, fp16, bf16 or fp32.
    """
    for form in (activations, weights):  # fp32 first: it holds everything
        if form.dtype == "fp32":
            return "fp32"
    wide = [form.dtype for form in (activations, weights) if form.wide]
    if wide:
        return wide[0]
    bits = max(_type_bits(weights), _type_bits(activations))
    if bits > 8:
        return "bf16"
    if weights.kind == activations.kind == "int":
        return "int4" if bits <= 4 else "int8"
    if weights.kind == activations.kind == "float":
        return f"fp{bits}"
    integer = weights if weights.kind == "int" else activations
    return "fp8" if _type_bits(integer) <= 4 else "bf16"


def supported_type(wanted: str, peaks: Mapping[str, float]) -> str:
    """`wanted` if the chip has it, else the next type it has that holds the same values.

    bf16 and fp16 stand in for each other. An integer type runs as the next wider integer or in 16 bit
    (a chip without int4 multiplies int4 as int8: 2402.16363 section 3.1.1), a float as the next wider
    float. Only fp32 falls back to narrower, faster types, where `peaks` has nothing as wide: give the
    vector peak as fp32 to keep it from doing so.

    Args:
        wanted: a type `operand_type` returns.
        peaks: the chip's peak per type; types it lacks are absent.

    Raises:
        InputError: the chip has no float type of 16 bits or more, nor anything else that would do.
    """
    for step in (wanted, *_FALLBACK[wanted]):
        present = [kind for kind in _EQUALS.get(step, (step,)) if kind in peaks]
        if present:
            return max(present, key=lambda kind: peaks[kind])
    have = ", ".join(peaks) or "none"
    message = f"no type to compute {wanted} in (given: {have}); expected at least one of bf16, fp16, fp32"
    raise InputError(Fault(message, "peak_tflops"))


def _type_bits(form: Format) -> int:
    """Bits of the element type (of an average format, the type it is stored as)."""
    return int("".join(filter(str.isdigit, form.dtype)))
