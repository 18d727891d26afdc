"""Two pools of workers as the simulator plays them: how the caches travel, from the cost model's links."""

from __future__ import annotations

from functools import cache

import numpy as np

from dse.cost.handover import Handover
from dse.cost.pooled import Pooled
from dse.simulate.fleet import Transfer


def transfer_of(pooled: Pooled) -> Transfer:
    """How the caches of a deployment of two pools travel.

    Args:
        pooled: a single point.
    """
    link, sender, receiver = pooled.link, *pooled.kinds
    beta, dp = _one(link.beta), _one(sender.degrees.dp)

    @cache
    def handed(tokens: int) -> Handover:
        return Handover(sender.with_input(np.full(1, float(tokens))), receiver)

    def sending(tokens: int) -> float:
        return max(_one(handed(tokens).sent), _one(handed(tokens).received)) * beta / dp

    def arriving(tokens: int) -> float:
        return _one(handed(tokens).arriving(link))

    return Transfer(_one(link.alpha), cache(sending), cache(arriving), len(sender.model.layers))


def _one(values: object) -> float:
    return float(np.ravel(np.asarray(values, dtype=float))[0])
