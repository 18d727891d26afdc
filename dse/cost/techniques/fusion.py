"""Fused (flash) attention, or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dse.cost.setting import Setting
from dse.cost.techniques.technique import Technique


def _parse(raw: Any) -> str:
    if raw not in ("fused", "unfused"):
        raise ValueError("expected fused or unfused")
    return str(raw)


def _unfused(setting: Setting, value: str) -> Setting:
    return replace(setting, fused_attention=False)


ATTENTION = Technique(
    name="attention",
    neutral="fused",
    values="fused, unfused",
    parse=_parse,
    meaning="fused attention keeps the scores on chip; unfused writes and reads them (FlashAttention, 2205.14135)",
    exact=True,
    on_setting=_unfused,
)
