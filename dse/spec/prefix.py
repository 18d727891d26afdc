"""Prefix caching as the user says it: how much of each prompt the cache holds, and whose it is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from dse.spec.reading import build, from_value
from dse.spec.shape import Strict

VALUES = "none, the share of each prompt that is found, or {share or tokens, own, cascade}"


class Prefix(Strict):
    """What the cache holds of each prompt before its prompt pass."""

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


def load_prefix(entry: Any) -> Prefix:
    """The prefix a user means by a share of each prompt, `{tokens: 2048}`, `{share: 0.9, own: true}` and the like.

    Raises:
        ValueError: it is neither.
        InputError: all faults of a mapping.
    """
    if isinstance(entry, Prefix):
        return entry
    if isinstance(entry, dict):
        return build(Prefix, from_value(entry))
    if isinstance(entry, bool) or not isinstance(entry, int | float) or not 0 < entry <= 1:
        raise ValueError(f"expected {VALUES}: a share is above 0 and at most 1")
    return Prefix(share=float(entry))
