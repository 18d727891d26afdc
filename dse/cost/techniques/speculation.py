"""Speculative decoding: several tokens per sequence are verified in one pass of the model.

tau tokens are gained per iteration, so TPOT = (pass over B x width tokens + passes of what drafts) / tau. The pass
reads weights and cache once and computes width times the FLOPs; of experts it touches those of B x width tokens
(techniques.md section 3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dse.cost.techniques.technique import Iteration, Technique
from dse.spec.model import ModelSpec
from dse.spec.speculation import VALUES, Speculation, drafter_of, load_speculation


def _parse(raw: Any) -> Any:
    return raw if raw == "none" else load_speculation(raw)


def _verified(iteration: Iteration, model: ModelSpec, value: Speculation) -> Iteration:
    return replace(
        iteration,
        queries=float(value.width),
        tokens=value.gained(model),
        drafts=value.kind,
        drafter=drafter_of(value, model),
    )


SPECULATION = Technique(
    name="speculation",
    neutral="none",
    values=VALUES,
    parse=_parse,
    meaning="tokens are drafted, and verified in one pass: {draft: MODEL, gamma: 4, acceptance: 0.8}, {mtp: 1, "
    "accepted: 0.85}, {tree: 60, eagle: 6, tau: 4.3} (2211.17192, 2401.15077, 2401.10774, 2412.19437)",
    exact=True,
    on_iteration=_verified,
)
