"""Several sequences per request as the user says it: answers of parallel sampling, or beams."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from dse.spec.reading import build, from_value
from dse.spec.shape import Strict

VALUES = "none, {n: answers per prompt} or {beams: number}"

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


def load_sampling(entry: Any) -> Sampling:
    """What a user means by `{n: 4}` or `{beams: 4}`.

    Raises:
        ValueError: it is no mapping.
        InputError: all faults of it.
    """
    if isinstance(entry, Sampling):
        return entry
    if not isinstance(entry, dict):
        raise ValueError(f"expected {VALUES}")
    return build(Sampling, from_value(entry))
