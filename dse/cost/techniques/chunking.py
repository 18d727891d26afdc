"""Chunked prefill: prompts in pieces, in one iteration with the decodes (Sarathi 2308.16369, SplitFuse 2401.08671).

An iteration carries at most `chunk_tokens` tokens: one of each running sequence, the rest of prompts. No operator is
rewritten: the passes of a continuous batch are composed otherwise (`dse.cost.mixed`, `dse.cost.serving`).
"""

from __future__ import annotations

from typing import Any

from dse.cost.techniques.technique import Technique


def _parse(raw: Any) -> Any:
    if raw == "none":
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 1:
        raise ValueError("expected none or a number of tokens of at least 1")
    return raw


CHUNK_TOKENS = Technique(
    name="chunk_tokens",
    neutral="none",
    values="none, or a number of tokens",
    parse=_parse,
    meaning="prompts run in pieces, so many tokens an iteration with the decodes (Sarathi 2308.16369)",
    exact=True,
)
