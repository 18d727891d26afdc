"""FlexGen's cost model: its coefficients, constants and quirks (FMInference/FlexLLMGen 004ffef, cost_model.py).

Written once for any kind of variable: plain numbers give the times of one placement, `Affine` the coefficients of many
problems at once, PuLP variables the model that a reader of the original would write. Sizes may be arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from dse.cost.simplex import Programs

GIB, TERA = 2**30, 1e12

OPT = {
    "opt-1.3b": (24, 2048, 8192, 32),
    "opt-2.7b": (32, 2560, 10240, 32),
    "opt-6.7b": (32, 4096, 16384, 32),
    "opt-13b": (40, 5120, 20480, 40),
    "opt-30b": (48, 7168, 28672, 56),
    "opt-66b": (64, 9216, 36864, 72),
    "opt-175b": (96, 12288, 49152, 96),
}
"""Layers, hidden size, FFN size, heads (opt_config.py)."""

CTOG = 12.89 * GIB
GTOC_CACHE, GTOC_HIDDEN = 0.97 * GIB, 4.82 * GIB
DTOC = 0.473 * GIB
CTOD_CACHE_P, CTOD_HIDDEN_P, CTOD_G = 0.746 * GIB, 2.015 * GIB, 2.015 * GIB
MM_P, MM_G, BMM_P, BMM_G, CPU = 21.24 * TERA, 4.3 * TERA, 9.97 * TERA, 0.079 * TERA, 0.0123 * TERA
"""Bytes/s and FLOP/s: the defaults of `CostModelConfig`, fitted by its authors on one T4 box."""

SHARES = ("wg", "wc", "wn", "cg", "cc", "cn", "hg", "hc", "hn")
FREE = ("wg", "wc", "cg", "cc", "hg", "Tpre", "Tgen")
"""What is left when the shares on disk, and the hidden states on the CPU, are one minus the others."""


@dataclass(frozen=True)
class Case:
    """Problems: numbers, or arrays of one length."""

    l: Any  # noqa: E741 -- the letters of the paper
    h1: Any
    h2: Any
    nh: Any
    s: Any
    n: Any
    gbs: Any
    num_gb: Any
    gmem: Any
    """Usable bytes: alpha x capacity; cmem, nmem likewise."""
    cmem: Any
    nmem: Any
    compressed: Any = 1
    """Divisor of weight bytes: 4 with `--compress-w`."""

    @property
    def bls(self) -> Any:
        return self.gbs * self.num_gb


class Affine:
    """constant + sum of coefficient x variable, with arrays for coefficients."""

    __array_ufunc__ = None  # `array * affine` is ours

    def __init__(self, **terms: Any) -> None:
        self.terms = terms

    def __add__(self, other: Any) -> Affine:
        added = dict(self.terms)
        for name, value in (other.terms if isinstance(other, Affine) else {"constant": other}).items():
            added[name] = added[name] + value if name in added else value
        return Affine(**added)

    def __mul__(self, by: Any) -> Affine:
        return Affine(**{name: value * by for name, value in self.terms.items()})

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, by: Any) -> Affine:
        return self * (1 / by)

    def __neg__(self) -> Affine:
        return self * -1

    def __sub__(self, other: Any) -> Affine:
        return self + -other

    def __rsub__(self, other: Any) -> Affine:
        return -self + other


def times(c: Case, v: SimpleNamespace) -> SimpleNamespace:
    """Seconds per layer of each stream, prefill (..p) and decode (..g)."""
    w = (8 * c.h1**2 + 4 * c.h1 * c.h2) / c.compressed
    flops = 8 * c.h1**2 + 4 * c.h1 * c.h2
    hidden, token_cache = 2 * c.h1 * c.bls, 4 * c.h1 * c.bls
    context = c.s + c.n / 2
    off_weights, off_cache, off_hidden = v.wc + v.wn, v.cc + v.cn, v.hc + v.hn
    few, narrow = np.maximum(0, np.log2(64 / c.gbs)), np.maximum(0, np.log2(4096 / c.h1))
    cpu = CPU * np.maximum(0.1, 1 + 0.0168 * few * narrow - 0.0328 * few - 0.0621 * narrow)
    return SimpleNamespace(
        ctogp=(w * off_weights + c.s * hidden * off_hidden) / CTOG,
        gtocp=(c.s + 1) * token_cache * off_cache / GTOC_CACHE + c.s * hidden * off_hidden / GTOC_HIDDEN,
        dtocp=(w * v.wn + c.s * hidden * v.hn) / DTOC,
        ctodp=(c.s + 1) * token_cache * v.cn / CTOD_CACHE_P + c.s * hidden * v.hn / CTOD_HIDDEN_P,
        compp=c.bls * c.s * flops / MM_P + 4 * c.bls * c.s**2 * c.h1 / BMM_P,
        ctogg=(w * off_weights + hidden * off_hidden) / CTOG,
        gtocg=hidden * off_hidden / GTOC_HIDDEN,
        dtocg=(context * token_cache * v.cn + hidden * v.hn) / DTOC + w * v.wn / (0.95 * DTOC),
        ctodg=(token_cache * v.cn + hidden * v.hn) / CTOD_G,
        compg=c.bls * flops / MM_G + context * token_cache * v.cg / BMM_G + context * token_cache * off_cache / cpu,
    )


def peaks(c: Case, v: SimpleNamespace) -> SimpleNamespace:
    """Bytes: GPU and CPU in prefill (..p) and decode (..g), disk. The intermediates are a sum, as in the code."""
    w = (8 * c.h1**2 + 4 * c.h1 * c.h2) / c.compressed
    hidden, hidden_p = 2 * c.h1 * c.bls, 2 * c.s * c.h1 * c.bls
    cache, cache_p = 4 * (c.s + c.n) * c.h1 * c.bls * c.l, 4 * c.s * c.h1 * c.bls * c.l
    inter_p = c.gbs * (18 * c.s * c.h1 + 2 * c.nh * c.s**2 + 2 * c.s * c.h2)
    inter_g = c.gbs * (14 * c.h1 + 2 * c.h2)
    attention_g = c.gbs * (4 * c.h1 + 4 * (c.s + c.n) * c.h1 + 2 * c.nh * (c.s + c.n))
    staged = 4 * c.gbs * (c.s + c.n) * c.h1
    off_w, off_h = 1 - v.wg, 1 - v.hg
    return SimpleNamespace(
        gpu_p=w * c.l * v.wg + hidden_p * v.hg + cache * v.cg + 2 * w * off_w
        + 2 * c.s * c.h1 * c.gbs * off_h + inter_p,
        gpu_g=w * c.l * v.wg + hidden * v.hg + cache * v.cg + 2 * w * off_w
        + 2 * c.h1 * c.gbs * off_h + staged * v.cg + inter_g + attention_g * v.cg,
        cpu_p=w * c.l * v.wc + hidden_p * v.hc + cache_p * v.cc + w * off_w + 2 * c.s * c.h1 * c.gbs * off_h,
        cpu_g=w * c.l * v.wc + hidden * v.hc + cache * v.cc + w * v.wn + 4 * c.h1 * c.gbs * v.hn
        + 2 * staged * v.cn + 2 * c.nh * (c.s + c.n) * c.gbs + 2 * c.h1 * c.gbs,
        disk=w * c.l * v.wn + hidden_p * v.hn + cache * v.cn,
    )  # fmt: skip


def pairs(t: SimpleNamespace) -> tuple[list[Any], list[Any]]:
    """What a layer's prefill and its decode step last at least: pairs of streams one after the other."""
    return (
        [t.ctogp + t.dtocp, t.gtocp + t.ctodp, t.compp],
        [t.ctogg + other for other in (t.gtocg, t.dtocg, t.ctodg, t.compg)],
    )


def within(c: Case, p: SimpleNamespace) -> list[tuple[Any, Any]]:
    """Peak and limit of each memory and phase."""
    return [(p.gpu_p, c.gmem), (p.gpu_g, c.gmem), (p.cpu_p, c.cmem), (p.cpu_g, c.cmem), (p.disk, c.nmem)]


def programs(c: Case, forced: dict[str, Any] | None = None) -> Programs:
    """The problems as coefficients over `FREE`; a forced share is two opposite rows."""
    one = np.ones(np.shape(c.l))
    v = SimpleNamespace(**{name: Affine(**{name: one}) for name in FREE}, hn=Affine(constant=0 * one))
    v.wn, v.cn, v.hc = one - v.wg - v.wc, one - v.cg - v.cc, one - v.hg
    prefill, decode = pairs(times(c, v))
    rows = [-v.wn, -v.cn, -v.hc]
    rows += [peak - limit for peak, limit in within(c, peaks(c, v))]
    rows += [term - v.Tpre for term in prefill] + [term - v.Tgen for term in decode]
    for name, share in (forced or {}).items():
        rows += [getattr(v, name) - share, share - getattr(v, name)]
    matrix, bound = np.zeros((len(rows), len(FREE), len(one))), np.empty((len(rows), len(one)))
    for i, row in enumerate(rows):
        bound[i] = -row.terms.pop("constant", 0.0)
        for name, value in row.terms.items():
            matrix[i, FREE.index(name)] = value
    cost = np.zeros((len(FREE), len(one)))
    cost[FREE.index("Tpre")], cost[FREE.index("Tgen")] = c.l / c.bls, c.l * (c.n - 1) / c.bls
    prefer = np.array([-3.1, -1.07, -2.3, -0.83, -1.9, 0.0, 0.0])  # GPU before CPU before disk, weights first
    return Programs(matrix, bound, cost, prefer)


def pulp_problem(c: Case) -> Any:
    """One problem in PuLP, with the variables of the original."""
    import pulp

    problem = pulp.LpProblem("placement", pulp.LpMinimize)
    v = SimpleNamespace(**{name: problem.add_variable(name, lowBound=0) for name in (*SHARES, "Tpre", "Tgen")})
    problem += c.l / c.bls * v.Tpre + c.l * (c.n - 1) / c.bls * v.Tgen
    problem += v.wg + v.wc + v.wn == 1
    problem += v.cg + v.cc + v.cn == 1
    problem += v.hg + v.hc + v.hn == 1
    problem += v.hg + v.hc == 1
    for seconds, terms in zip((v.Tpre, v.Tgen), pairs(times(c, v)), strict=True):
        for term in terms:
            problem += seconds >= term
    for peak, limit in within(c, peaks(c, v)):
        problem += peak <= limit
    return problem


def population(count: int, seed: int = 0) -> Case:
    """Random problems over seven models, prompts of 128 to 2048 tokens and 320 boxes."""
    rng = np.random.default_rng(seed)
    gib = rng.choice
    return Case(
        *np.array(list(OPT.values()), dtype=float)[rng.integers(len(OPT), size=count)].T,
        s=rng.integers(128, 2049, count).astype(float),
        n=rng.integers(8, 513, count).astype(float),
        gbs=rng.integers(1, 65, count).astype(float),
        num_gb=rng.integers(1, 21, count).astype(float),
        gmem=0.8 * GIB * gib([8, 12, 15, 16, 24, 40, 80, 141], count),
        cmem=0.8 * GIB * gib([32, 64, 128, 200, 256, 512, 1024, 2048], count),
        nmem=0.8 * GIB * gib([0, 500, 1000, 1500, 4000], count),
        compressed=gib([1.0, 4.0], count),
    )
