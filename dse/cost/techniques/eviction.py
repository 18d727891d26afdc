"""KV eviction: decode attends to a budget of tokens, and the cache keeps no more.

StreamingLLM (2309.17453: attention sinks and a window) and H2O (2306.14048: heavy hitters) alike: n_eff =
min(n, budget) in decode. The prompt pass attends to everything and is evicted after it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from dse.cost.setting import Setting
from dse.cost.techniques.technique import Technique
from dse.cost.work import Array, Span, Work
from dse.spec.model import Attention, LatentAttention, Mixer


def _parse(raw: Any) -> Any:
    if raw == "none":
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 1:
        raise ValueError("expected none or a number of tokens of at least 1")
    return raw


def _shorter(work: Work, budget: int, setting: Setting) -> Work:
    span = work.span
    if span is None or span.chunk is not None:
        return work
    return replace(work, span=Span(window=budget if span.window is None else min(span.window, budget)))


def _kept(tokens: Array, mixer: Mixer, budget: int) -> Array:
    chunked = isinstance(mixer, Attention) and mixer.chunk is not None
    cached = isinstance(mixer, Attention | LatentAttention) and not chunked
    return np.minimum(tokens, float(budget)) if cached else tokens


KV_BUDGET = Technique(
    name="kv_budget",
    neutral="none",
    values="none, or a number of tokens",
    parse=_parse,
    meaning="decode attends to, and the cache keeps, at most so many tokens (StreamingLLM 2309.17453, H2O 2306.14048)",
    on_work=_shorter,
    on_cache=_kept,
)
