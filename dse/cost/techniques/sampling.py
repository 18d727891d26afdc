"""Several sequences per request: parallel sampling and beam search.

The prompt pass runs once, its pages are held once, and each branch adds its own (PagedAttention, 2309.06180 section
4.4). Decode steps run all branches, each reading its whole context. Parallel sampling gives out every branch, so
generated tokens count n times; beam search gives out the best one, so they count once. That beams share pages of what
they generated, and copy the last one where they part (at most a page per beam and step, 1 % of the reads at 1,600
tokens), is not counted: the memory is an upper bound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, model_validator

from dse.cost.techniques.technique import Iteration, Technique
from dse.spec.model import ModelSpec
from dse.spec.reading import build, from_value
from dse.spec.shape import Strict

Count = Annotated[int, Field(ge=1, le=1024)]


class Sampling(Strict):
    """How many sequences go on from one prompt."""

    n: Count | None = None
    """Answers per request."""
    beams: Count | None = None
    """Beams, of which the best is the answer."""

    @model_validator(mode="after")
    def _one_kind(self) -> Sampling:
        if (self.n is None) == (self.beams is None):
            raise ValueError("expected either 'n' or 'beams'")
        return self

    def __str__(self) -> str:
        """The column: `n 4`, `beams 4`."""
        return f"beams {self.beams}" if self.n is None else f"n {self.n}"


def _parse(raw: Any) -> Any:
    if raw == "none" or isinstance(raw, Sampling):
        return raw
    if not isinstance(raw, dict):
        raise ValueError("expected none, {n: answers per prompt} or {beams: number}")
    return build(Sampling, from_value(raw))


def _branched(iteration: Iteration, model: ModelSpec, value: Sampling) -> Iteration:
    if value.n is not None:
        return replace(iteration, branches=value.n, answers=value.n)
    return replace(iteration, branches=value.beams or 1)


SAMPLING = Technique(
    name="sampling",
    neutral="none",
    values="none, {n: answers per prompt}, or {beams: number}",
    parse=_parse,
    meaning="sequences per request that share its prompt: {n: 4} answers, or {beams: 4} of which the best is given out "
    "(PagedAttention 2309.06180)",
    exact=True,
    on_iteration=_branched,
)
