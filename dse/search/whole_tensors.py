"""Weights in whole tensors: what a runtime that moves no part of a matrix makes of a share in percent.

FlexGen lists the tensors of each half of a layer (attention, feed-forward) one after the other, on disk first, then
host, then accelerator; a tensor lies where its middle falls (`init_weight_list` of flexllmgen/flex_opt.py,
FMInference/FlexLLMGen@004ffef). Of an OPT layer, 20 % on the accelerator are one matrix of the attention, a twelfth of
the layer; 10 % are nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.cost.placement.affine import TIERS, Shares, Tensor, Tier
from dse.cost.placement.ledger import kind_of
from dse.cost.work import Array
from dse.spec.model import ModelSpec

LISTED: tuple[Tier, ...] = ("disk", "host", "accelerator")
"""The order in which tensors are given to the tiers."""


def whole_tensors(model: ModelSpec, choices: Choices, policy: Shares) -> Shares:
    """The shares of weights that whole tensors make of a policy; embedding and head lie as the layers do.

    Args:
        model: the model.
        choices: one value per axis; `batch` does not count.
        policy: shares of weights, cache and hidden activations; those of weights are for routed experts too.
    """
    mesh = Mesh.open(AXES, [slice(0, 1) for _ in AXES])
    point = Point(model, replace(choices, batch=[choices.layout[0].dp]), mesh)
    wanted = {tier: float(policy["weights"][tier]) for tier in TIERS}
    held: dict[Tensor, dict[Tier, float]] = {}
    for index, part in enumerate(point.parts):
        count = float(np.ravel(point.counts[index])[0])
        sizes: dict[Tensor, list[float]] = {}
        for work in point.part_works("decode", index):
            tensor: Tensor = "experts" if kind_of(part.component, "decode", work) == "experts" else "weights"
            sizes.setdefault(tensor, []).append(float(np.ravel(work.resident)[0]))
        for tensor, listed in sizes.items():
            on = held.setdefault(tensor, dict.fromkeys(TIERS, 0.0))
            for tier, size in _homes(listed, wanted):
                on[tier] += count * size
    found: dict[Tensor, Mapping[Tier, Array]] = dict(policy)
    for tensor, on in held.items():
        if (total := sum(on.values())) > 0:
            found[tensor] = {tier: size / total for tier, size in on.items()}
    return found


def _homes(sizes: Sequence[float], wanted: Mapping[Tier, float]) -> list[tuple[Tier, float]]:
    """The tier and the size of each tensor of a list."""
    total, before, found = sum(sizes), 0.0, []
    ends = np.cumsum([wanted[tier] for tier in LISTED])
    for size in sizes:
        middle = (before + size / 2) / total if total else 0.0
        place = int(np.searchsorted(ends, middle, side="right"))
        found.append((LISTED[min(place, len(LISTED) - 1)], size))
        before += size
    return found
