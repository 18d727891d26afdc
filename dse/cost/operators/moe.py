"""Mixture of experts: routing, the experts really hit, dispatch and combine.

T tokens that each pick k of E experts uniformly hit E (1 - (1 - k/E)^T) distinct ones: that many matrices
are read, neither all E nor k per token. Over e expert-parallel ranks the busiest one gets about
1 + sqrt(2 ln e / (T k / e)) times the mean (maximum of e Poisson loads).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.operators.linear import activation, linear, mlp
from dse.cost.operators.registry import operator
from dse.cost.setting import WIDE, Setting
from dse.cost.work import ROWS_OF_AN_EXPERT, Amount, Array, Launch, Message, Work
from dse.spec.model import MLP, MoE

ROUTED = frozenset({"experts_up", "experts_act", "experts_down"})
"""Operators of the routed experts."""


def distinct_experts(experts: int, top_k: int, tokens: Array) -> Array:
    """Expected number of distinct experts that `tokens` tokens hit under uniform routing.

    Exact for independent uniform draws of k experts without replacement. Computed by `math` on the distinct
    values: NumPy's vectorised power may differ in the last bit between CPU types, and few values occur.
    """
    tokens = np.asarray(tokens, dtype=float)
    miss = 1.0 - top_k / experts
    values, where = _distinct(tokens)
    hit = np.array([experts * (1.0 - math.pow(miss, value)) for value in values.tolist()])
    return cast(Array, hit[where].reshape(tokens.shape))


_sorted: deque[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]] = deque(maxlen=4)
"""Token counts that were sorted last: slices that differ in chip or precision alone ask for the same again."""


def _distinct(tokens: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distinct values, and where each of `tokens` stands among them."""
    for known, values, where in _sorted:
        if np.array_equal(known, tokens):
            return values, where
    values, where = np.unique(tokens, return_inverse=True)
    _sorted.append((tokens, values, where))
    return values, where


def imbalance(ranks: Array, picks: Array) -> Array:
    """Load of the busiest of `ranks` over the mean, when `picks` tokens x k fall on them at random.

    Never more than all the picks on one rank.
    """
    log = np.array([math.log(value) for value in np.ravel(ranks).tolist()]).reshape(np.shape(ranks))
    excess = 1.0 + np.sqrt(2.0 * log * ranks / picks)
    return cast(Array, np.minimum(excess, ranks))


@operator(MoE)
def moe(ffn: MoE, hidden: int, setting: Setting) -> list[Work]:
    """Router, dispatch, routed experts, combine, and the shared experts beside them."""
    degrees = setting.degrees
    everyone = setting.tokens * degrees.dp
    picks = everyone * ffn.top_k
    rows = picks / degrees.ep * imbalance(degrees.ep, picks)
    hit = distinct_experts(ffn.experts, ffn.top_k, everyone) / degrees.ep
    inner = ffn.latent or hidden
    works = [
        linear(
            "router",
            setting,
            hidden,
            1.0 * ffn.experts,
            operands="embeddings",
            bias=1.0 * ffn.experts * ffn.router_bias,
        ),
        *_exchange("dispatch", ffn, inner, setting),
    ]
    if ffn.latent:
        works.append(linear("latent_down", setting, hidden, ffn.latent / degrees.tp))
    works += grouped_experts(ffn, inner, setting, rows, hit)
    if ffn.latent:
        works.append(linear("latent_up", setting, ffn.latent / degrees.tp, hidden))
    works += _exchange("combine", ffn, inner, setting)
    if ffn.shared_width:
        gate = hidden * WIDE * ffn.shared_gate
        for work in mlp(MLP(ffn.shared_width, ffn.gated), hidden, setting):
            works.append(
                replace(
                    work,
                    name=f"shared_{work.name}",
                    kernel=f"shared_{work.kernel}",
                    resident=work.resident + gate,
                )
            )
            gate = 0.0
    return works


def grouped_experts(ffn: MoE, hidden: int, setting: Setting, rows: Array, hit: Array) -> list[Work]:
    """Grouped products of the routed experts: matrices of the experts hit, activations of the busiest rank."""
    degrees, widths = setting.degrees, setting.widths
    width = ffn.width / degrees.expert_tp
    held = np.ceil(ffn.experts / degrees.ep)
    ups = 2.0 if ffn.gated else 1.0

    # The fitted time of experts is that of one fused operator: the first product carries its launch and routing.
    routed: dict[Launch, Array] = {"starts": 1.0, "routed": setting.tokens * degrees.dp * hidden}

    def grouped(name: str, ins: Array, outs: Array, biases: Array, launch: Mapping[Launch, Array]) -> Work:
        matrix = ins * outs * widths.weights
        moved = ins * widths.activations + outs * widths.activations
        return Work(
            name,
            name,
            "moe",
            "weights",
            times=rows,
            fixed=Amount(weights=matrix * hit),
            each=Amount(
                flops=2.0 * ins * outs,
                activations_in=ins * widths.activations,
                activations_out=outs * widths.activations,
            ),
            resident=(matrix + biases * ffn.bias * WIDE) * held,
            form="moe",
            extra={"padding": (ROWS_OF_AN_EXPERT * 2.0 * ins * outs * hit, 0.0), "routed_bytes": (0.0, moved)},
            launch=launch,
        )

    return [
        grouped("experts_up", hidden, ups * width, ups * width, routed),
        replace(activation("experts_act", setting, width, ffn.gated, rows=rows), form="moe", included=True),
        grouped("experts_down", width, hidden, 1.0 * hidden, {}),
    ]


def _exchange(name: str, ffn: MoE, hidden: int, setting: Setting) -> list[Work]:
    """Tokens to their experts and back.

    With expert parallelism an all-to-all over the tp x dp ranks: each sends its share of the tokens (the tp ranks of
    one replica hold the same tokens and split them) once per distinct group among the k experts, to every rank
    that shares the expert's matrices; partial sums come back the same way. Without it, attention-dp ranks gather
    everyone's tokens before, and reduce-scatter the sums after.
    """
    degrees, widths, links = setting.degrees, setting.widths, setting.links
    ep = degrees.ep
    targets = ep * (1.0 - _power(1.0 - 1.0 / ep, ffn.top_k))
    # Dispatch travels as the experts read it, combine in 16 bit.
    width = widths.activations if name == "dispatch" else WIDE
    copies = targets * degrees.expert_tp / degrees.tp
    spread = Message(hidden * width * copies, links.all_to_all(np.where(ep > 1, degrees.tp * degrees.dp, 1.0)))
    gathering = np.where(ep == 1, degrees.dp, 1.0)
    gather = Message(hidden * width * degrees.dp, links.all_gather(gathering, degrees.tp))
    works = []
    for kind, message, ranks in (("all_to_all", spread, ep), ("all_gather", gather, gathering)):
        if np.any(ranks > 1):
            works.append(
                Work(f"{name}_{kind}", f"{name}_{kind}", "collective", "vector", setting.tokens, message=message)
            )
    return works


def _power(base: Array, exponent: int) -> Array:
    """Integer power by repeated multiplication: exact steps, the same on every machine."""
    result: Array = np.ones_like(base)
    for _ in range(exponent):
        result = result * base
    return result
