"""Dequantisation apart from the product: narrow weights and cache are written out wide before they are used.

Fused kernels unpack in registers on the way to the multiplier (Marlin, FlashInfer), at the cost the fidelity has for
weight-only formats. Without them each element is expanded in memory first, in every pass: written and read once in
16 bit (4 bytes per element) at the least, more where a chain of element-wise kernels does it. FlexGen's (2303.06865)
moves about 20: fitted to its OPT-6.7B at 512 tokens, 4-bit weights and cache, alone
(tests/published/test_flexgen_paper.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dse.cost.setting import Setting, Widths
from dse.cost.techniques.technique import Technique
from dse.cost.work import Amount, Array, Work


def _parse(raw: Any) -> Any:
    if raw == "fused":
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw <= 1000:
        raise ValueError("expected fused, or the bytes moved per element, above 0 and at most 1000")
    return float(raw)


def _expanded(work: Work, per_element: float, setting: Setting) -> Work:
    widths = setting.widths
    if work.operands in ("weights", "projections"):
        scale = _per_byte(getattr(widths, work.operands), widths, per_element)
        return replace(work, fixed=_add(work.fixed, work.fixed.weights * scale))
    if work.operands == "attention" and work.group == "attention":
        scale = _per_byte(widths.kv_cache, widths, per_element)
        return replace(
            work,
            each=_add(work.each, work.each.kv_read * scale),
            fixed=_add(work.fixed, work.fixed.kv_read * scale),
        )
    return work


def _per_byte(width: Array, widths: Widths, per_element: float) -> Array:
    """Bytes moved per stored byte: none where elements are as wide as activations."""
    return np.where(width < widths.activations, per_element / width, 0.0)


def _add(amount: Amount, unpacked: Array) -> Amount:
    return replace(amount, unpacked=amount.unpacked + unpacked)


DEQUANTIZATION = Technique(
    name="dequantization",
    neutral="fused",
    values="fused, or bytes moved per element",
    parse=_parse,
    meaning="narrow weights and cache are expanded in memory before use: 4 bytes per element written and read once "
    "(bitsandbytes), 20 in FlexGen (2303.06865)",
    exact=True,
    on_work=_expanded,
)
