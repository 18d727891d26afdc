"""What a technique is: an axis, and hooks that rewrite the pass, the work or the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dse.cost.setting import Setting
from dse.cost.work import Array, Work
from dse.spec.model import Mixer


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
    """From what a file says to the value; raises ValueError where that is none."""
    meaning: str
    """One line, with the source."""
    exact: bool = False
    """The model computes the same; otherwise the published accuracy of a precision does not hold."""
    on_setting: Callable[[Setting, Any], Setting] = lambda setting, value: setting
    """Rewrites the pass: tokens, context, sequences, fusion."""
    on_work: Callable[[Work, Any, Setting], Work] = lambda work, value, setting: work
    """Rewrites an operator's FLOPs and bytes."""
    on_cache: Callable[[Array, Mixer, Any], Array] = lambda tokens, mixer, value: tokens
    """Tokens of a sequence the cache keeps."""
