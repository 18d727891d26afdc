"""Prefix caching: what of a prompt the cache holds from before is not computed again.

The prompt pass computes the s - p tokens that are new, with the attention of each over all it sees: s(s+1)/2 - p(p+1)/2
pairs (techniques.md section 7: 4 H d (s^2 - p^2) / 2 FLOPs); the keys of the p others are read. In whole pages they are
held once for all requests (SGLang's RadixAttention, 2312.07104), but for `own`: the turns of a conversation each find
their own. Decode steps read them once per sequence as before, or with cascade attention once per batch
(flashinfer.ai/2024/02/02/cascade-inference.html), in layers that see the whole context. Layers with a recurrent state
go on from the state that was kept at the end of the prefix (Marconi, 2411.19379).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np

from dse.cost.setting import Setting
from dse.cost.techniques.technique import Found, Technique
from dse.cost.work import Array, Work
from dse.spec.prefix import VALUES, Prefix, load_prefix


def _parse(raw: Any) -> Any:
    return raw if raw == "none" else load_prefix(raw)


def _found(found: Found, tokens: Array, value: Prefix) -> Found:
    wanted = value.share * tokens if value.share is not None else float(value.tokens or 0)
    cached = cast(Array, np.minimum(wanted, tokens - 1.0))
    shared = 0.0 if value.own else cached
    return Found(cached, shared, shared)


def _read_once(work: Work, value: Prefix, setting: Setting) -> Work:
    """Decode attention whose first keys are read for all sequences of a micro-batch together."""
    span = work.span
    if not value.cascade or span is None or span.window is not None or span.chunk is not None:
        return work
    saved = work.each.kv_read * (setting.cached * (1.0 - 1.0 / setting.sequences))
    return replace(work, fixed=replace(work.fixed, kv_read=work.fixed.kv_read - saved))


PREFIX_HIT = Technique(
    name="prefix_hit",
    neutral="none",
    values=VALUES,
    parse=_parse,
    meaning="the cache holds part of each prompt: {tokens: 2048} of a shared system prompt, {share: 0.9, own: true} in "
    "conversations; cascade: decode reads what is shared once per batch (RadixAttention 2312.07104)",
    exact=True,
    on_prompt=_found,
    on_work=_read_once,
)
