"""The precision a config.json states: its `quantization_config`, else its `torch_dtype`.

One format describes all weights of a model. Checkpoints that leave some modules unquantised
(`ignore`, `modules_to_not_convert`) or mix formats are described by the format of the experts and
feed-forwards, which hold most weights: the narrowest one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from dse.errors import InputError
from dse.spec.reading import Document, show, suggest

Scheme = dict[str, Any]

_WHOLE_ATTENTION = re.compile(r"(?:self_attn|self_attention|linear_attn)(?:\.?\*)*$")
_LAYER = re.compile(r"\.(\d+)\.")

DTYPES = {"float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
MXFP8: Scheme = {"dtype": "fp8", "group_size": 32, "scale_bits": 8}
NVFP4: Scheme = {"dtype": "fp4", "group_size": 16, "scale_bits": 8}
"""NVIDIA's 4-bit float: an FP8 scale for 16 elements."""
MXFP4: Scheme = {"dtype": "fp4", "group_size": 32, "scale_bits": 8}
"""OCP microscaling: an E8M0 scale for 32 elements."""


def default_precision(config: Mapping[str, Any] | Document) -> str | Scheme | None:
    """The precision scheme of a checkpoint, as `parse_precision` reads it; None where it states none.

    Args:
        config: the content of a config.json, or the document read from it.

    Returns:
        A name (`bf16`), or a mapping with `weights`, `activations` and, where stated, `kv_cache`.

    Raises:
        InputError: a quantisation or type that is not understood.
    """
    document = config if isinstance(config, Document) else Document("", dict(config))
    path = _find(document.value, "quantization_config") or _find(document.value, "compression_config")
    wide = _wide(document)
    if path is None:
        return wide
    quantization = document.value
    for step in path:
        quantization = quantization[step]
    if not isinstance(quantization, dict):
        raise InputError(document.fault(path, f"expected a mapping, got {show(quantization)}"))
    return _Stated(document, path, quantization, wide or "bf16").scheme()


def _find(config: Mapping[str, Any], field: str) -> tuple[str, ...] | None:
    """Where a field stands: in the file, or in the text part of a multimodal one."""
    if config.get(field) is not None:
        return (field,)
    inner = config.get("text_config")
    return ("text_config", field) if isinstance(inner, dict) and inner.get(field) is not None else None


def _wide(document: Document) -> str | None:
    path = _find(document.value, "torch_dtype") or _find(document.value, "dtype")
    if path is None:
        return None
    value = document.value
    for step in path:
        value = value[step]
    name = value.removeprefix("torch.") if isinstance(value, str) else value
    if name == "auto":
        return None
    if not isinstance(name, str) or name not in DTYPES:
        hint = suggest(name, DTYPES) if isinstance(name, str) else ""
        known = ", ".join(DTYPES)
        raise InputError(document.fault(path, f"unknown type {show(value)}; known: {known}{hint}"))
    return DTYPES[name]


class _Stated:
    """One `quantization_config`, read by its method."""

    def __init__(self, document: Document, path: tuple[str, ...], value: dict[str, Any], wide: str) -> None:
        self.document = document
        self.path = path
        self.value = value
        self.wide = wide

    def scheme(self) -> str | Scheme:
        method = self.value.get("quant_method")
        if method is None and ("quant_algo" in self.value or "config_groups" in self.value):
            method = "modelopt"
        readers: dict[str, Callable[[], Scheme]] = {
            "fp8": self._fp8, "fbgemm_fp8": self._fp8, "mxfp4": self._mxfp4, "gptq": self._grouped,
            "awq": self._grouped, "bitsandbytes": self._bitsandbytes, "compressed-tensors": self._groups,
            "compressed_tensors": self._groups, "modelopt": self._modelopt,
        }  # fmt: skip
        if not isinstance(method, str) or method not in readers:
            hint = suggest(method, readers) if isinstance(method, str) else ""
            raise self._error("quant_method", f"unknown quantisation {show(method)}; known: "
                              f"{', '.join(sorted(readers))}{hint}")  # fmt: skip
        return {**readers[method](), **self._kv_cache(), **self._projections()}

    def _projections(self) -> Scheme:
        """The attention projections stay in 16 bits where the file leaves out those of most layers.

        gpt-oss and Kimi name them in one pattern, NVIDIA's NVFP4 checkpoints layer by layer.
        """
        inner = self.value.get("quantization")
        places = (self.value, inner if isinstance(inner, dict) else {})
        fields = ("ignore", "modules_to_not_convert", "exclude_modules")
        names = [name for place in places for field in fields for name in (place.get(field) or [])]
        whole = [name for name in names if isinstance(name, str) and _WHOLE_ATTENTION.search(name)]
        numbered = {match[1] for name in whole if (match := _LAYER.search(name))}
        path = _find(self.document.value, "num_hidden_layers")
        layers = self.document.value
        for step in path or ():
            layers = layers[step]
        most = isinstance(layers, int) and path is not None and 2 * len(numbered) > layers
        everywhere = any(not _LAYER.search(name) for name in whole)
        return {"projections": self.wide} if everywhere or most else {}

    def _error(self, field: str, message: str) -> InputError:
        return InputError(self.document.fault((*self.path, field), message))

    def _fp8(self) -> Scheme:
        """Scales per 128 x 128 block (DeepSeek-V3) cost 0.02 % and are not counted."""
        return {"weights": "fp8", "activations": "fp8"}

    def _mxfp4(self) -> Scheme:
        """gpt-oss: 4-bit experts, everything else and all arithmetic in 16 bits."""
        return {"weights": MXFP4, "activations": self.wide}

    def _grouped(self) -> Scheme:
        """GPTQ and AWQ: whole-number weights with a scale (and zero point) per group."""
        bits = self._whole("bits", self.value.get("w_bit", 4), range(1, 17))
        group = self._whole("group_size", self.value.get("q_group_size", 128), range(-1, 2**20))
        symmetric = self.value.get("sym", not self.value.get("zero_point", False))
        return {"weights": _integers(bits, group, bool(symmetric)), "activations": self.wide}

    def _whole(self, field: str, default: Any, allowed: range) -> int:
        value = self.value.get(field, default)
        if type(value) is not int or value not in allowed:
            ends = f"{allowed[0]} to {allowed[-1]}"
            raise self._error(field, f"expected a whole number from {ends}, got {show(value)}")
        return value

    def _bitsandbytes(self) -> Scheme:
        """LLM.int8() (2208.07339); or 4 bit with an fp32 scale per 64, 8 bit when doubled (2305.14314)."""
        if self.value.get("load_in_8bit"):
            return {"weights": "int8", "activations": "int8"}
        if not self.value.get("load_in_4bit"):
            raise self._error("load_in_4bit", "expected load_in_4bit or load_in_8bit to be true")
        doubled = bool(self.value.get("bnb_4bit_use_double_quant"))
        weights = {"dtype": "int4", "group_size": 64, "scale_bits": 8 + 32 / 256 if doubled else 32}
        return {"weights": weights, "activations": self.wide}

    def _groups(self) -> Scheme:
        """compressed-tensors: the group with the narrowest weights holds the bulk of them."""
        groups = self.value.get("config_groups")
        parts = list(groups.values()) if isinstance(groups, dict) else []
        if not parts or not all(isinstance(p, dict) and isinstance(p.get("weights"), dict) for p in parts):
            raise self._error("config_groups", "expected groups, each with how its weights are quantised")
        part = min(parts, key=lambda one: _bits(one["weights"]))
        inputs = part.get("input_activations")
        return {
            "weights": self._tensor("config_groups", part["weights"]),
            "activations": self._tensor("config_groups", inputs) if isinstance(inputs, dict) else self.wide,
        }

    def _tensor(self, field: str, stated: dict[str, Any]) -> str | Scheme:
        """`{num_bits, type, group_size}` of compressed-tensors and modelopt."""
        bits, kind, group = stated.get("num_bits"), stated.get("type", "int"), stated.get("group_size")
        if kind == "float" and bits == 8:
            return MXFP8 if group == 32 else "fp8"
        if kind == "float" and bits == 4 and group in (16, 32):
            return NVFP4 if group == 16 else MXFP4
        if kind == "int" and bits in range(1, 17) and (group is None or type(group) is int):
            return _integers(_bits(stated), group or -1, bool(stated.get("symmetric", True)))
        raise self._error(
            field, f"type {show(kind)} with {show(bits)} bits in groups of {show(group)} is not understood"
        )

    def _modelopt(self) -> Scheme:
        """NVIDIA ModelOpt: groups as above, or only the name of the algorithm."""
        if self.value.get("config_groups"):
            return self._groups()
        inner = self.value.get("quantization")
        stated = inner if isinstance(inner, dict) else self.value
        algorithm = stated.get("quant_algo")
        schemes: dict[str, Scheme] = {
            "FP8": {"weights": "fp8", "activations": "fp8"},
            "NVFP4": {"weights": NVFP4, "activations": NVFP4},
            "NVFP4_AWQ": {"weights": NVFP4, "activations": NVFP4},
            "W4A16_NVFP4": {"weights": NVFP4, "activations": self.wide},
            "MXFP8": {"weights": MXFP8, "activations": MXFP8},
            "W4A16_AWQ": {"weights": _integers(4, 128, True), "activations": self.wide},
            "W4A8_AWQ": {"weights": _integers(4, 128, True), "activations": "fp8"},
            "W8A8_SQ_PER_CHANNEL": {"weights": "int8", "activations": "int8"},
            "W8A16": {"weights": "int8", "activations": self.wide},
        }
        if not isinstance(algorithm, str) or algorithm not in schemes:
            known = ", ".join(schemes)
            raise self._error("quant_algo", f"unknown algorithm {show(algorithm)}; known: {known}")
        return schemes[algorithm]

    def _kv_cache(self) -> Scheme:
        """`kv_cache_scheme` or `kv_cache_quant_algo`, a name or `{num_bits, type}`."""
        inner = self.value.get("quantization")
        for field in ("kv_cache_scheme", "kv_cache_quant_algo", "kv_cache_quant"):
            stated = self.value.get(field) or (inner.get(field) if isinstance(inner, dict) else None)
            if stated is None:
                continue
            if isinstance(stated, dict):
                return {"kv_cache": self._tensor(field, stated)}
            known = {"FP8": "fp8", "INT8": "int8", "NVFP4": NVFP4}
            if not isinstance(stated, str) or stated.upper() not in known:
                raise self._error(field, f"unknown format {show(stated)}; known: {', '.join(known)}")
            return {"kv_cache": known[stated.upper()]}
        return {}


def _bits(stated: dict[str, Any]) -> int:
    bits = stated.get("num_bits")
    return bits if type(bits) is int else 16


def _integers(bits: int, group: int, symmetric: bool) -> str | Scheme:
    """Whole numbers of `bits` with a 16-bit scale per `group` (-1: per channel, not counted)."""
    if group <= 0:
        return f"int{bits}"
    stated: Scheme = {"dtype": f"int{bits}", "group_size": group}
    return stated if symmetric else {**stated, "symmetric": False}
