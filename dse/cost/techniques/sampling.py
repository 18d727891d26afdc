"""Several sequences per request: parallel sampling and beam search. `batch` then counts requests.

The prompt pass runs once, its pages are held once, and each branch adds its own (PagedAttention, 2309.06180 section
4.4). Decode steps run all branches, each reading its whole context. Parallel sampling gives out every branch, so
generated tokens count n times; beam search gives out the best one, so they count once. That beams share pages of what
they generated, and copy the last one where they part (at most a page per beam and step, 1 % of the reads at 1,600
tokens), is not counted: the memory is an upper bound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dse.cost.techniques.technique import Iteration, Technique
from dse.spec.model import ModelSpec
from dse.spec.sampling import VALUES, Sampling, load_sampling


def _parse(raw: Any) -> Any:
    return raw if raw == "none" else load_sampling(raw)


def _branched(iteration: Iteration, model: ModelSpec, value: Sampling) -> Iteration:
    if value.n is not None:
        return replace(iteration, branches=value.n, answers=value.n)
    return replace(iteration, branches=value.beams or 1)


SAMPLING = Technique(
    name="sampling",
    neutral="none",
    values=VALUES,
    parse=_parse,
    meaning="sequences per request that share its prompt: {n: 4} answers, or {beams: 4} of which the best is given out "
    "(PagedAttention 2309.06180)",
    exact=True,
    on_iteration=_branched,
)
