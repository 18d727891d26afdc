"""Techniques: axes that rewrite what is computed. At its neutral value each is the identity.

To add one: a `Technique` in a file here, registered in `TECHNIQUES`. It becomes a field of sweep files, an axis of
its own boxes and a column of the results; tests/cost/test_techniques.py runs on it, alone and with every other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dse.cost.setting import Setting
from dse.cost.techniques.chunking import CHUNK_TOKENS
from dse.cost.techniques.dequantization import DEQUANTIZATION
from dse.cost.techniques.eviction import KV_BUDGET
from dse.cost.techniques.fusion import ATTENTION
from dse.cost.techniques.prefix import PREFIX_HIT
from dse.cost.techniques.sampling import SAMPLING
from dse.cost.techniques.sparsity import WEIGHT_SPARSITY
from dse.cost.techniques.speculation import SPECULATION
from dse.cost.techniques.technique import Found, Iteration, Technique
from dse.cost.work import Array, Work
from dse.spec.model import Mixer, ModelSpec

TECHNIQUES: Mapping[str, Technique] = {
    technique.name: technique
    for technique in (
        ATTENTION,
        KV_BUDGET,
        WEIGHT_SPARSITY,
        DEQUANTIZATION,
        PREFIX_HIT,
        SAMPLING,
        SPECULATION,
        CHUNK_TOKENS,
    )
}
"""By name, in the order they are applied."""

Chosen = Mapping[str, Any]
"""Technique name -> value; what is absent is at its neutral value."""


def active(chosen: Chosen) -> list[tuple[Technique, Any]]:
    """The techniques that are not at their neutral value, in order."""
    pairs = ((technique, chosen.get(name, technique.neutral)) for name, technique in TECHNIQUES.items())
    return [(technique, value) for technique, value in pairs if value != technique.neutral]


def found_in_cache(tokens: Array, chosen: Chosen) -> Found:
    """What of prompts of so many tokens the cache holds already."""
    found = Found()
    for technique, value in active(chosen):
        found = technique.on_prompt(found, tokens, value)
    return found


def iteration_of(model: ModelSpec, chosen: Chosen) -> Iteration:
    """What a decode iteration of a model does for each request."""
    iteration = Iteration()
    for technique, value in active(chosen):
        iteration = technique.on_iteration(iteration, model, value)
    return iteration


def rewrite_setting(setting: Setting, chosen: Chosen) -> Setting:
    """The pass as the techniques leave it."""
    for technique, value in active(chosen):
        setting = technique.on_setting(setting, value)
    return setting


def rewrite_works(works: Sequence[Work], chosen: Chosen, setting: Setting) -> list[Work]:
    """The operators as the techniques leave them."""
    for technique, value in active(chosen):
        works = [technique.on_work(work, value, setting) for work in works]
    return list(works)


def cached_tokens(tokens: Array, mixer: Mixer, chosen: Chosen) -> Array:
    """How many of a sequence's tokens the cache keeps."""
    for technique, value in active(chosen):
        tokens = technique.on_cache(tokens, mixer, value)
    return tokens


__all__ = [
    "TECHNIQUES",
    "Found",
    "Iteration",
    "Technique",
    "active",
    "cached_tokens",
    "found_in_cache",
    "iteration_of",
    "rewrite_setting",
    "rewrite_works",
]
