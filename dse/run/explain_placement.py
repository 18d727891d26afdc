"""One placement explained: what lies where, how long each stream takes, what limits it, what more would be worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dse.cost.choices import AXES, Choices
from dse.cost.mesh import Mesh
from dse.cost.placement.affine import STREAMS, TIERS, Shares, Tensor, Tier
from dse.cost.placement.plan import Plan
from dse.cost.placement.tiers import Tiers
from dse.cost.setting import PHASES, Phase
from dse.search.place import Candidate, Search, plan_of, rounded
from dse.spec.model import ModelSpec

GB = 1e9
ROUNDED = 20
"""Best candidates that are rounded to whole layers: where the best fills a tier, nothing near it may fit."""


def explain_placement(
    model: ModelSpec, choices: Choices, found: Search, *, optimal: bool, latency_limit: float | None = None
) -> dict[str, Any]:
    """Everything about the best candidate of a search, as plain values.

    Args:
        model: the model.
        choices: one value per axis.
        found: what the search found, one candidate at least.
        optimal: its shares are optima, so that limits have prices; not those of a policy given.
        latency_limit: seconds the block was allowed.
    """
    best = found.best
    told = _Told(model, choices, best, plan_of(model, choices, best.gpu_batch, best.schedule))
    return {
        "shares": shares_told(told.plan, best.shares),
        "gpu_batch": best.gpu_batch,
        "num_batches": best.schedule.num_batches,
        "batch": best.batch,
        "host_computes": best.schedule.devices.text,
        "output_tokens_per_s": best.output_tokens_per_s,
        "latency_s": best.seconds,
        "ttft_ms": best.ttft_s * 1e3,
        "tpot_ms": best.tpot_s * 1e3 if choices.outputs[0] > 1 else None,
        "times": {phase: told.times(phase) for phase in PHASES},
        "memory": {tier: told.memory(tier) for tier in TIERS},
        **(told.priced(latency_limit) if optimal else {"binding": told.slowest(), "shadow_prices": {}}),
        "rounded": _whole_layers(model, choices, found),
        "disk_written_tb_per_day": told.written_per_day() / 1e12,
    }


def shares_told(plan: Plan, shares: Shares) -> dict[str, dict[str, float]]:
    """Shares by tensor; `weights` are all of them, by bytes: of a model with experts `dense_weights` and `experts`."""
    found: dict[str, dict[str, float]] = {
        tensor: {tier: _one(share) for tier, share in on.items()} for tensor, on in shares.items()
    }
    if "experts" in shares:
        slopes = plan.bytes["accelerator", "decode"].slopes
        both: tuple[Tensor, Tensor] = ("weights", "experts")
        held = {tensor: _one(slopes[tensor, "accelerator"]) for tensor in both}
        found["dense_weights"] = found["weights"]
        for tier in TIERS:
            on_tier = sum(held[tensor] * _one(shares[tensor][tier]) for tensor in both)
            found["weights"] = {**found["weights"], tier: on_tier / sum(held.values())}
    return found


@dataclass(frozen=True)
class _Told:
    """A candidate with its plan."""

    model: ModelSpec
    choices: Choices
    best: Candidate
    plan: Plan

    def times(self, phase: Phase) -> dict[str, float]:
        """Seconds of a pass over the block, by stream and in all."""
        streams = self.plan.seconds[phase]
        by_stream = {str(stream): _one(streams[stream].at(self.best.shares)) for stream in STREAMS}
        return {**by_stream, "total": _one(self.plan.phase_seconds(phase, self.best.shares))}

    def memory(self, tier: Tier) -> dict[str, float]:
        """GB per device of a tier at its peak: by tensor, what passes through and is computed with, and the limit."""
        plan, shares = self.plan, self.best.shares
        phase = max(PHASES, key=lambda phase: _one(plan.bytes[tier, phase].at(shares)))
        held = plan.bytes[tier, phase]
        slopes = ((tensor, held.slopes.get((tensor, tier), 0.0)) for tensor in plan.tensors)
        own = {f"{tensor}_gb": _one(slope * shares[tensor][tier]) / GB for tensor, slope in slopes}
        used = _one(held.at(shares)) / GB
        buffers = max(used - sum(own.values()), 0.0)
        return {**own, "buffers_gb": buffers, "used_gb": used, "capacity_gb": _one(plan.capacity[tier]) / GB}

    def priced(self, latency_limit: float | None) -> dict[str, Any]:
        """What binds, and what a GB more of a tier would be worth."""
        from dse.search import oracle

        found = oracle.solve(self.plan, latency_limit)
        if found is None:  # at the very edge of what fits
            return {"binding": self.slowest(), "shadow_prices": {}}
        worth: dict[str, float] = {}
        for tier in TIERS:
            seconds = sum(found.duals[f"{tier}_memory_in_{phase}"] for phase in PHASES)
            # Throughput is tokens / seconds: its derivative by seconds is -throughput / seconds.
            worth[f"{tier}_tokens_per_s_per_gb"] = max(seconds, 0.0) * self.best.output_tokens_per_s / found.seconds
        return {"binding": list(found.binding), "shadow_prices": worth}

    def slowest(self) -> list[str]:
        """Full tiers, and the slowest streams of each phase."""
        plan, shares = self.plan, self.best.shares
        found = [
            f"{tier}_memory" for tier in TIERS
            if _one(plan.peak(tier, shares)) >= _one(plan.capacity[tier]) * (1 - 1e-9) > 0
        ]  # fmt: skip
        for phase in PHASES:
            times = [_one(plan.together(phase, group).at(shares)) for group in plan.groups[phase]]
            found.append(f"{phase}_by_{'_and_'.join(plan.groups[phase][int(np.argmax(times))])}")
        return found

    def written_per_day(self) -> float:
        """Bytes the disks of a replica take in a day of such blocks one after the other."""
        rate = _one(Tiers.on(Mesh.open(AXES, [slice(0, 1) for _ in AXES]), self.choices).disk_write)
        seconds = {phase: _one(self.plan.seconds[phase]["disk_write"].at(self.best.shares)) for phase in PHASES}
        written = (seconds["prefill"] + _one(self.plan.steps) * seconds["decode"]) / rate
        return written * self.choices.layout[0].devices / self.best.seconds * 86_400


def _whole_layers(model: ModelSpec, choices: Choices, found: Search) -> dict[str, Any] | None:
    """The fastest placement in whole layers near the best candidates, and what it loses against the best."""
    kept: tuple[float, Candidate, Plan, Shares] | None = None
    for one in sorted(found.candidates, key=lambda one: -one.output_tokens_per_s)[:ROUNDED]:
        if kept is not None and one.output_tokens_per_s <= kept[0]:
            break
        plan = plan_of(model, choices, one.gpu_batch, one.schedule)
        shares = rounded(plan, one.shares, len(model.layers))
        if shares is None:
            continue
        speed = one.output_tokens_per_s * one.seconds / _one(plan.seconds_of(shares))
        if kept is None or speed > kept[0]:
            kept = speed, one, plan, shares
    if kept is None:
        return None
    speed, one, plan, shares = kept
    return {
        "shares": shares_told(plan, shares),
        "gpu_batch": one.gpu_batch,
        "num_batches": one.schedule.num_batches,
        "host_computes": one.schedule.devices.text,
        "output_tokens_per_s": speed,
        "loss_pct": 100 * (1 - speed / found.best.output_tokens_per_s),
    }


def _one(value: Any) -> float:
    """The one element of an array, or the number itself."""
    return float(np.ravel(np.asarray(value, dtype=float))[0])
