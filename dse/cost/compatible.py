"""Which techniques go with each other, with a model and with a request: reasons why a point cannot run."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.phases import Point
from dse.cost.techniques import TECHNIQUES
from dse.spec.model import DeltaNet, Mamba2
from dse.spec.speculation import Speculation

Mask = NDArray[np.bool_]

VOCABULARY = 0.01
"""Share by which vocabularies may differ: padding (151,936 and 152,064 rows in Qwen2.5 0.5B and 72B)."""


def _value(point: Point, name: str) -> Any:
    """The value of a technique; None at its neutral one."""
    value = point.choices.techniques.get(name, TECHNIQUES[name].neutral)
    return None if value == TECHNIQUES[name].neutral else value


def _rule(holds: Callable[[Point], bool]) -> Callable[[Point], Mask]:
    """A rule that holds for all points of a box and model, or none."""
    return lambda point: np.full(1, holds(point))


def _placed(point: Point) -> bool:
    of_sequences = ("prefix_hit", "sampling", "speculation")
    return point.choices.offload == "lp" and any(_value(point, name) is not None for name in of_sequences)


def _prefix(point: Point) -> Mask:
    prefix = _value(point, "prefix_hit")
    if prefix is None or prefix.tokens is None:
        return np.zeros(1, dtype=bool)
    longest = reduce(np.maximum, [tokens for tokens, _, _ in point.lengths])
    return np.less_equal(longest, float(prefix.tokens))


def _evicted(point: Point) -> bool:
    return _value(point, "prefix_hit") is not None and _value(point, "kv_budget") is not None


def _beams(point: Point) -> bool:
    sampling = _value(point, "sampling")
    return sampling is not None and sampling.beams is not None and _value(point, "speculation") is not None


def _of_speculation(holds: Callable[[Point, Speculation], bool]) -> Callable[[Point], Mask]:
    def rule(point: Point) -> bool:
        speculation = _value(point, "speculation")
        return speculation is not None and holds(point, speculation)

    return _rule(rule)


def _recurrent(point: Point, speculation: Speculation) -> bool:
    chained = speculation.kind in ("draft", "mtp")
    return not chained and any(isinstance(part.component, DeltaNet | Mamba2) for part in point.parts)


def _nothing_to_copy(point: Point, speculation: Speculation) -> bool:
    return speculation.kind in ("mtp", "eagle") and point.iteration.drafter is None


def _no_module(point: Point, speculation: Speculation) -> bool:
    return speculation.kind == "mtp" and not (speculation.trained or point.model.nextn)


def _vocabulary(point: Point, speculation: Speculation) -> bool:
    own = point.model.vocab
    return speculation.draft is not None and abs(speculation.draft.vocab - own) > VOCABULARY * own


RULES: dict[str, tuple[Callable[[Point], Mask], str]] = {
    "not_with_offload": (
        _rule(_placed),
        "a placement holds one sequence's cache per request: prefix_hit, sampling and speculation go with offload none",
    ),
    "prefix_not_in_prompt": (_prefix, "the shared prefix is not shorter than any prompt"),
    "prefix_evicted": (_rule(_evicted), "kv_budget evicts other tokens of each sequence: no prefix is left to reuse"),
    "beams_not_speculative": (_rule(_beams), "no engine verifies drafts of beams: their scores need every token"),
    "draft_other_vocabulary": (_of_speculation(_vocabulary), "the draft model has another vocabulary"),
    "no_layer_to_draft_with": (
        _of_speculation(_nothing_to_copy),
        "mtp and eagle draft with an attention layer like the model's, which has none",
    ),
    "no_next_token_module": (
        _of_speculation(_no_module),
        "the model was published without a next-token (MTP) module: say `trained: true` beside `mtp` if you have one",
    ),
    "tree_on_recurrent_state": (
        _of_speculation(_recurrent),
        "a recurrent state follows one sequence: a tree of drafts would need one per branch",
    ),
    "tau_unknown": (
        _of_speculation(lambda point, _: math.isnan(point.iteration.tokens)),
        "nobody published how many tokens this speculation gains with this model: give tau",
    ),
}
"""Reason -> (where it holds, in words). In order of precedence."""
