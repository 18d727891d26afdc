"""Stored number formats: element type, bits, and the overhead of scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from typing import Any, Literal

from dse.errors import Fault, InputError
from dse.spec.reading import Document, library_file, read, show, suggest


@dataclass(frozen=True, slots=True)
class Format:
    """A stored number format: an element type plus the overhead of its scales."""

    dtype: str
    """Element type: fp32, bf16, fp16, fp8, fp6, fp4, or int1 ... int16."""
    element_bits: float
    """Bits of one element without scales (q4_k_m: the published average)."""
    kind: Literal["float", "int"]
    group_size: int = 0
    """Elements that share a scale; 0: per tensor or per channel, no overhead counted."""
    scale_bits: float = 0
    """Bits of scale (and zero point) per group."""

    @property
    def bits(self) -> float:
        """Effective bits per element, scales included."""
        return self.element_bits + (self.scale_bits / self.group_size if self.group_size else 0.0)

    @property
    def bytes(self) -> float:
        """Effective bytes per element, scales included."""
        return self.bits / 8

    @property
    def wide(self) -> bool:
        """A float of 16 bits or more: not quantised."""
        return self.kind == "float" and self.element_bits >= 16


PLAIN: Mapping[str, Format] = {
    **{
        name: Format(name, bits, "float")
        for name, bits in {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "fp6": 6, "fp4": 4}.items()
    },
    **{f"int{bits}": Format(f"int{bits}", bits, "int") for bits in range(1, 17)},
}
"""The element types, each as a format without scales."""

GROUPING = ("group_size", "scale_bits", "zero_bits", "symmetric")
"""Fields that describe the scales of a tensor."""
_FIELDS = ("dtype", "bits", "kind", *GROUPING)
_NOTES = ("note", "source", "aliases")
_MAX_GROUP = 2**24
"""Far above the largest block that shares a scale (FP8: 128 x 128 = 2**14)."""


def parse_format(value: Any, document: Document | None = None, path: Sequence[str | int] = ()) -> Format:
    """The format meant by a name (`int4`, `mxfp4`) or a mapping (`{bits: 3, group_size: 64}`).

    A plain type has one scale per channel or tensor, too small to count. With a `group_size`, each
    group adds a scale of 16 bits and a zero point of 0 bits (16 with `symmetric: false`).
    Without `dtype`, `bits: 3` is int3 and `{bits: 8, kind: float}` is fp8; `bits` that are no whole
    number are an average over layers, and beside a `dtype` they replace its bits.

    Args:
        value: a name, a mapping, or a `Format` (returned as it is).
        document: the file the value stands in, for positions in messages.
        path: where in the document it stands.

    Raises:
        InputError: all faults of the value.
    """
    reader = FormatReader(document, library_formats())
    form = reader.format(value, tuple(path))
    reader.check()
    assert form is not None, "no format, and no fault that says why"
    return form


def library_formats() -> Mapping[str, Format]:
    """Plain types and the formats of `configs/precisions.yaml` (mxfp4, q4_k_m ...) by name and alias."""
    return _formats()


def format_name(form: Format) -> str:
    """A short name: `mxfp4`, `q4_k_m`, or an integer's type, group and scale bits: `int4-g128-s20`."""
    averaged = form.element_bits != PLAIN[form.dtype].element_bits
    if form.kind == "float" or averaged:
        for name, known in library_formats().items():
            if form == known:
                return name
    bits = f"-b{form.element_bits:g}" if averaged else ""
    group = f"-g{form.group_size}" if form.group_size else ""
    scale = f"-s{form.scale_bits:g}" if form.group_size and form.scale_bits != 16 else ""
    return form.dtype + bits + group + scale


def plain(name: str) -> str:
    """The spelling names are compared in: case, spaces, `_` and `-` do not matter."""
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def without_notes(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of the library without the fields for people."""
    return {key: value for key, value in entry.items() if key not in _NOTES}


@cache
def precisions_file() -> Document:
    """`configs/precisions.yaml` of the library."""
    return read(library_file("configs/precisions.yaml"))


@cache
def _formats() -> dict[str, Format]:
    document = precisions_file()
    formats = dict(PLAIN)
    reader = FormatReader(document, PLAIN)
    for name, entry in document.value["formats"].items():
        form = reader.format(without_notes(entry), ("formats", name))
        if form is not None:
            formats |= dict.fromkeys((name, *entry.get("aliases", ())), form)
    reader.check()
    return formats


class FormatReader:
    """Reads formats and collects what is wrong with them."""

    def __init__(self, document: Document | None, known: Mapping[str, Format]) -> None:
        self.document = document or Document("", None)
        self.known = {plain(name): form for name, form in known.items()}
        self.faults: list[Fault] = []

    def report(self, path: Sequence[str | int], message: str, *, key: bool = False) -> None:
        """Record a fault at `path`."""
        self.faults.append(self.document.fault(path, message, key=key))

    def check(self) -> None:
        """Raise what was found, if anything."""
        if self.faults:
            raise InputError(self.faults)

    def format(self, value: Any, path: tuple[str | int, ...]) -> Format | None:
        """The format meant by `value`, or None with the faults recorded."""
        if isinstance(value, Format):
            return value
        if isinstance(value, str):
            return self._named(value, path)
        if isinstance(value, Mapping):
            return self._described(value, path)
        self.report(path, f"expected a number format such as int4 or {{bits: 4}}, got {show(value)}")
        return None

    def unknown(self, value: Mapping[str, Any], fields: Sequence[str], path: tuple[str | int, ...]) -> None:
        """Report keys that mean nothing here."""
        for field in value.keys() - set(fields):
            hint = suggest(str(field), fields) or f"; expected one of {', '.join(fields)}"
            self.report((*path, field), f"unknown field{hint}", key=True)

    def _named(self, name: str, path: tuple[str | int, ...]) -> Format | None:
        form = self.known.get(plain(name))
        if form is None:
            hint = suggest(name, self.known) or f"; expected int1 ... int16, {', '.join(self._other_names)}"
            self.report(path, f"no number format is named {show(name)}{hint}")
        return form

    @property
    def _other_names(self) -> list[str]:
        return [name for name in self.known if not name.startswith("int")]

    def _described(self, value: Mapping[str, Any], path: tuple[str | int, ...]) -> Format | None:
        before = len(self.faults)
        self.unknown(value, _FIELDS, path)
        element = self._element(value, path)
        if element is None:
            return None
        form = self.grouped(element, value, path)
        return form if len(self.faults) == before else None

    def _element(self, value: Mapping[str, Any], path: tuple[str | int, ...]) -> Format | None:
        if "dtype" not in value and "bits" not in value:
            self.report(path, "says neither dtype nor bits; expected e.g. {dtype: int4} or {bits: 4}")
            return None
        bits = self._number(value, "bits", path, least=1, most=32)
        kind = value.get("kind")
        if kind not in (None, "int", "float"):
            self.report((*path, "kind"), f"{show(kind)} is not one of int, float")
            return None
        if "dtype" not in value:
            if bits is None:
                return None
            floats = {4: "fp4", 6: "fp6", 8: "fp8", 16: "bf16", 32: "fp32"}
            name = floats.get(ceil(bits), "") if kind == "float" else f"int{ceil(bits)}"
            if name not in PLAIN:
                right = "4, 6, 8, 16 or 32" if kind == "float" else "1 to 16"
                self.report((*path, "bits"), f"no {kind or 'int'} has {bits:g} bits; expected {right}")
                return None
            base: Format | None = PLAIN[name]
        else:
            base = self.format(value["dtype"], (*path, "dtype"))
        if base is None:
            return None
        if kind not in (None, base.kind):
            self.report((*path, "kind"), f"{base.dtype} is of kind {base.kind}, not {kind}; leave kind out")
        return base if bits is None else replace(base, element_bits=bits)

    def grouped(self, form: Format, value: Mapping[str, Any], path: tuple[str | int, ...]) -> Format:
        """`form` with the scales that `group_size` and its companions in `value` describe."""
        given = [field for field in GROUPING if field in value]
        if not given:
            return form
        if form.wide or form.group_size:
            why = "is not quantised" if form.wide else f"has groups of {form.group_size} by definition"
            for field in given:
                self.report((*path, field), f"{format_name(form)} {why}; leave {field} out", key=True)
            return form
        group = self._number(value, "group_size", path, least=-1, most=_MAX_GROUP, whole=True)
        scale = self._number(value, "scale_bits", path, least=0, most=1024)
        zero = self._number(value, "zero_bits", path, least=0, most=64)
        symmetric = value.get("symmetric")
        if symmetric is not None and not isinstance(symmetric, bool):
            self.report((*path, "symmetric"), f"expected true or false, got {show(symmetric)}")
        if symmetric is True and zero:
            self.report((*path, "zero_bits"), "a symmetric format has no zero point; leave one out")
        if group is None or group <= 0:  # -1 and 0 are how AWQ and GPTQ write per channel
            if "group_size" not in value:
                fields = ", ".join(given)
                self.report((*path, given[0]), f"{fields} needs group_size, the elements that share a scale")
            return form
        scale = 16 if scale is None else scale
        zero = (16 if symmetric is False else 0) if zero is None else zero
        return replace(form, group_size=int(group), scale_bits=scale + zero)

    def _number(self, value: Mapping[str, Any], field: str, path: tuple[str | int, ...], *, least: float,
                most: float, whole: bool = False) -> float | None:  # fmt: skip
        number = value.get(field)
        if number is None:
            if field in value:
                self.report((*path, field), "expected a number, got nothing")
            return None
        kind = "whole number" if whole else "number"
        right = isinstance(number, int if whole else (int, float)) and not isinstance(number, bool)
        if not right or not least <= number <= most:
            self.report(
                (*path, field), f"expected a {kind} from {least:g} to {most:.12g}, got {show(number)}"
            )
            return None
        return float(number)
