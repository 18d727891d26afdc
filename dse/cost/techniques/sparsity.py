"""Sparse weights: fewer bytes, and with the 2:4 pattern fewer multiplications.

Bytes of a value kept stay as they are; where it stood costs 2 bits per value kept in the 2:4 pattern, 1 bit per
element in a bitmap otherwise (SparseGPT 2301.00774, Wanda 2306.11695). Sparse tensor cores skip half of a 2:4
product; any other pattern is multiplied as if dense.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dse.cost.setting import Setting
from dse.cost.techniques.technique import Technique
from dse.cost.work import Work

PATTERN = "2:4"


def _parse(raw: Any) -> Any:
    if raw in ("none", PATTERN):
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw < 1:
        raise ValueError("expected none, 2:4, or the share of weights that are zero, between 0 and 1")
    return float(raw)


def _sparse(work: Work, value: str | float, setting: Setting) -> Work:
    if work.operands not in ("weights", "projections"):
        return work
    paired = value == PATTERN
    kept = 0.5 if paired else 1.0 - float(value)
    index = 2 / 8 * kept if paired else 1 / 8  # bytes per dense element that say where the kept ones stood
    # Biases are scaled along with their matrix: a few per mille of the width.
    factor = kept + index / getattr(setting.widths, work.operands)
    return replace(
        work,
        fixed=replace(work.fixed, weights=work.fixed.weights * factor),
        each=replace(work.each, flops=work.each.flops * (0.5 if paired else 1.0)),
        resident=work.resident * factor,
    )


WEIGHT_SPARSITY = Technique(
    name="weight_sparsity",
    neutral="none",
    values="none, 2:4, or the share of zeros",
    parse=_parse,
    meaning="zeros in the weights of layers: fewer bytes, and half the multiplications in the 2:4 pattern (2301.00774)",
    on_work=_sparse,
)
