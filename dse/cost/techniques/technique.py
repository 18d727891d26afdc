"""What a technique is: an axis, and hooks that rewrite the pass, the work, the cache or the iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dse.cost.setting import Setting
from dse.cost.work import Array, Work
from dse.spec.model import Mixer, ModelSpec
from dse.spec.runtime import Kind
from dse.spec.speculation import Drafter


@dataclass(frozen=True)
class Found:
    """Tokens of each prompt that the cache holds before its prompt pass."""

    tokens: Array = 0.0
    """Mean over requests."""
    shared: Array = 0.0
    """Of these, what is the same for all requests: mean over running sequences."""
    once: Array = 0.0
    """What of that is held, once: all that the longest prompt shares."""


@dataclass(frozen=True)
class Iteration:
    """What a decode iteration does for each request."""

    branches: int = 1
    """Sequences that go on from its prompt side by side."""
    answers: int = 1
    """How many of them are given out."""
    queries: float = 1.0
    """Tokens that each sends through the model."""
    tokens: float = 1.0
    """Tokens that each gains, on average; NaN where nobody measured it."""
    drafts: Kind | None = None
    """What kind of drafts it verifies; None for none."""
    drafter: Drafter | None = None
    """What proposes the tokens to verify, beside the model."""


@dataclass(frozen=True)
class Technique:
    """An axis with a neutral value, at which every hook is the identity (they are then not even called)."""

    name: str
    """Field of a sweep file, and column of the results."""
    neutral: str
    """The value that changes nothing."""
    values: str
    """What it takes, in words for messages and `dse list axes`."""
    parse: Callable[[Any], Any]
    """From what a file says to the value, which reads well as text; raises ValueError where that is none."""
    meaning: str
    """One line, with the source."""
    exact: bool = False
    """The model computes the same; otherwise the published accuracy of a precision does not hold."""
    on_prompt: Callable[[Found, Array, Any], Found] = lambda found, tokens, value: found
    """Tells what of prompts of so many tokens need not be computed."""
    on_iteration: Callable[[Iteration, ModelSpec, Any], Iteration] = lambda iteration, model, value: iteration
    """Rewrites a decode iteration of a model: sequences per request, tokens verified, tokens gained, drafts."""
    on_setting: Callable[[Setting, Any], Setting] = lambda setting, value: setting
    """Rewrites the pass: tokens, context, sequences, fusion."""
    on_work: Callable[[Work, Any, Setting], Work] = lambda work, value, setting: work
    """Rewrites an operator's FLOPs and bytes."""
    on_cache: Callable[[Array, Mixer, Any], Array] = lambda tokens, mixer, value: tokens
    """Tokens of a sequence the cache keeps."""
