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
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from dse.cost.setting import Setting
from dse.cost.techniques.technique import Found, Technique
from dse.cost.work import Array, Work
from dse.spec.reading import build, from_value
from dse.spec.shape import Strict

VALUES = "none, the share of each prompt that is found, or {share or tokens, own, cascade}"


class Prefix(Strict):
    """How much of each prompt the cache holds, and whose it is."""

    share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the prompt's tokens; the last one is always computed, for its logits."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Instead: the length of a shared system prompt."""
    own: bool = False
    """Each request finds what was cached for itself alone: the earlier turns of a conversation, not a common prompt."""
    cascade: bool = False
    """Decode reads what all sequences share once per batch."""

    @model_validator(mode="after")
    def _one_length(self) -> Prefix:
        if (self.share is None) == (self.tokens is None):
            raise ValueError("expected either 'share' or 'tokens'")
        if self.own and self.cascade:
            raise ValueError("cascade attention reads once what sequences share: nothing, where each has its own")
        return self

    def __str__(self) -> str:
        """The column: `0.5`, `2048 tokens, cascade`."""
        length = f"{self.share:g}" if self.tokens is None else f"{self.tokens} tokens"
        return length + ", own" * self.own + ", cascade" * self.cascade

    def of(self, tokens: Array) -> Array:
        """Tokens found of prompts of so many."""
        wanted = self.share * tokens if self.share is not None else float(self.tokens or 0)
        return np.minimum(wanted, tokens - 1.0)


def _parse(raw: Any) -> Any:
    if raw == "none" or isinstance(raw, Prefix):
        return raw
    if isinstance(raw, dict):
        return build(Prefix, from_value(raw))
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not 0 < raw <= 1:
        raise ValueError(f"expected {VALUES}: a share is above 0 and at most 1")
    return Prefix(share=float(raw))


def _found(found: Found, tokens: Array, value: Prefix) -> Found:
    cached = value.of(tokens)
    return Found(cached, 0.0 if value.own else cached)


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
