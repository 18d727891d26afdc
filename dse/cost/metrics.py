"""What a point is judged by: name, unit, sense and how it follows from the phases and the memory.

To add a metric or objective: one entry here. Its name is its column, a key of `constraints:` and `objectives:`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from dse.cost import economics, speculative
from dse.cost.choices import Choices
from dse.cost.memory import Memory
from dse.cost.mesh import Mesh
from dse.cost.modes import served
from dse.cost.open_loop import OpenLoop
from dse.cost.phases import Point
from dse.cost.placement.affine import Tier
from dse.cost.placement.placed import Placed
from dse.cost.pooled import Pooled
from dse.cost.serving import Static
from dse.cost.setting import Phase
from dse.cost.work import Array
from dse.spec.model import ModelSpec


@dataclass
class Scored:
    """A model on a mesh in its steady state, with its memory: what metrics are functions of."""

    asked: Point
    """As the axes say it."""

    @classmethod
    def of(cls, model: ModelSpec, choices: Choices, mesh: Mesh) -> Scored:
        """The points of a mesh, their tensors placed where the sweep offloads."""
        # Pools are not offloaded, which is a status: to place their tensors for it would take long.
        return cls((Placed if choices.offload == "lp" and choices.pools is None else Point)(model, choices, mesh))

    @cached_property
    def served(self) -> Static:
        """The steady state."""
        return served(self.asked)

    @property
    def point(self) -> Point:
        """The point with the sequences that really run at once."""
        return self.served.running

    def worker(self, phase: Phase) -> Point:
        """The worker that runs a phase."""
        return self.served.pools[0 if phase == "prefill" else -1].point

    @property
    def memory(self) -> Memory:
        """Memory of one device; of several pools, of the last."""
        return self.served.memory

    @cached_property
    def fullest(self) -> Array:
        """Bytes on the fullest device of all pools."""
        return _largest([pool.memory.total for pool in self.served.pools])

    @cached_property
    def over(self) -> Array:
        """Largest share of what an engine may use that a pool takes."""
        return _largest([pool.memory.over for pool in self.served.pools])

    def bytes_below(self, tier: Tier) -> Array:
        """Host memory or disk of a replica."""
        return self.point.bytes_below(tier) if isinstance(self.point, Placed) else 0.0

    @property
    def programs(self) -> dict[str, int]:
        """Linear programs that were solved to place tensors, and of those by HiGHS."""
        if not isinstance(self.point, Placed):
            return {}
        placed = self.point.placement
        return {"solved": placed.programs, "by_highs": placed.unfinished}

    def under_load(self, of: Callable[[OpenLoop | Pooled], Array]) -> Array:
        """What only requests that arrive at a rate have, NaN for all others."""
        return of(self.served) if isinstance(self.served, OpenLoop | Pooled) else np.full(1, np.nan)

    def slo(self, of: Callable[[OpenLoop | Pooled], Array]) -> Array:
        """What only those have that must meet something."""
        return self.under_load(of) if self.asked.choices.slo else np.full(1, np.nan)

    @cached_property
    def requests_per_s(self) -> Array:
        """Finished requests per second of one replica."""
        return self.served.requests_per_s

    @cached_property
    def tokens_per_s(self) -> Array:
        """Generated tokens per second of one replica: those of every answer, of beams the best one's."""
        return self.requests_per_s * self.tokens_per_request

    @property
    def tokens_per_request(self) -> Array:
        """Generated tokens that a request is answered with."""
        return self.point.output * self.point.iteration.answers


def _largest(values: Sequence[Array]) -> Array:
    most = values[0]
    for value in values[1:]:
        most = np.maximum(most, value)
    return most


Error = Literal["ttft", "tpot", "throughput"]
"""What errors were measured of."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a point."""

    name: str
    unit: str
    sense: Literal["min", "max"]
    """Which way is better."""
    meaning: str
    of: Callable[[Scored], Array]
    """The figure over the mesh, in `unit`; NaN where it does not exist."""
    absent: str = "unknown"
    """Why it may not exist."""
    error: Error | None = None
    """Which prediction's error it has; None where no predicted time is in it."""
    of_axis: str | None = None
    """The axis it says something of: a column only where a sweep has values on it."""
    of_arrivals: bool = False
    """Whether it says something of requests that arrive at a rate alone: a column only where a sweep has such."""


METRICS: dict[str, Metric] = {}

ONE_TOKEN = (
    "a request of one output token has no decode step: leave what is told per token after the first out of objectives "
    "and constraints (ttft_ms is what such requests wait for), or generate at least two tokens"
)
NO_RATE = "requests arrive at no rate: serving open-loop, or disaggregated at a rate, has percentiles"
NO_SLO = "exists for serving open-loop, or disaggregated at a rate, where the sweep says an slo"
ONE_ENGINE = "one engine computes prompts and generates"
NO_PRICE = "no quote of this kind for the accelerator; choose another price.kind, or give a price.override"


def _metric(
    name: str,
    unit: str,
    sense: Literal["min", "max"],
    meaning: str,
    absent: str = "unknown",
    error: Error | None = None,
    of_axis: str | None = None,
    of_arrivals: bool = False,
) -> Callable[[Callable[[Scored], Array]], None]:
    """Register a metric."""

    def register(of: Callable[[Scored], Array]) -> None:
        METRICS[name] = Metric(name, unit, sense, meaning, of, absent, error, of_axis, of_arrivals)

    return register


@_metric(
    "ttft_ms", "ms", "min", "time to first token: the prompt pass of the whole batch; queues in closed and open loops",
    error="ttft",
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.served.ttft * 1e3


@_metric(
    "tpot_ms", "ms", "min", "mean time per output token after the first; absent when one token is generated",
    absent=ONE_TOKEN, error="tpot",
)  # fmt: skip
def _(s: Scored) -> Array:
    return np.where(s.point.steps > 0, s.served.tpot * 1e3, np.nan)


@_metric("latency_s", "s", "min", "from the prompt to the last token", error="throughput")
def _(s: Scored) -> Array:
    return s.served.latency


@_metric("output_tokens_per_s", "tokens/s", "max", "generated tokens per second of one replica", error="throughput")
def _(s: Scored) -> Array:
    return s.tokens_per_s


@_metric(
    "output_tokens_per_s_per_device", "tokens/s/device", "max", "generated tokens per second and device",
    error="throughput",
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.tokens_per_s / s.served.devices


@_metric("requests_per_s", "requests/s", "max", "finished requests per second of one replica", error="throughput")
def _(s: Scored) -> Array:
    return s.requests_per_s


@_metric("devices", "devices", "min", "accelerators of one replica, tp x pp x dp; disaggregated, of both pools")
def _(s: Scored) -> Array:
    return s.served.devices


@_metric(
    "prefill_workers", "workers", "min", "engines that compute prompts, where serving is disaggregated",
    absent=ONE_ENGINE,
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.served.pools[0].workers if len(s.served.pools) > 1 else np.nan


@_metric(
    "decode_workers", "workers", "min", "engines that generate, where serving is disaggregated", absent=ONE_ENGINE,
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.served.pools[1].workers if len(s.served.pools) > 1 else np.nan


@_metric("concurrency", "requests", "max", "requests in flight (Little's law)", error="throughput")
def _(s: Scored) -> Array:
    return s.requests_per_s * s.served.latency


@_metric("memory_gb_per_device", "GB", "min", "memory of the fullest device at the end of generation")
def _(s: Scored) -> Array:
    return s.fullest * 1e-9


@_metric("host_memory_gb", "GB", "min", "host memory of a replica used; 0 without offloading")
def _(s: Scored) -> Array:
    return s.bytes_below("host") * 1e-9


@_metric("disk_gb", "GB", "min", "disk of a replica used; 0 without offloading")
def _(s: Scored) -> Array:
    return s.bytes_below("disk") * 1e-9


@_metric(
    "usd_per_million_output_tokens", "$/Mtok", "min", "rent of the devices per million generated tokens",
    absent=NO_PRICE, error="throughput",
)  # fmt: skip
def _(s: Scored) -> Array:
    return economics.usd_per_hour(s.served) / 3600 / s.tokens_per_s * 1e6


@_metric("usd_per_hour", "$/h", "min", "rent of the devices of one replica", absent=NO_PRICE)
def _(s: Scored) -> Array:
    return economics.usd_per_hour(s.served)


@_metric(
    "joules_per_output_token", "J/token", "min", "energy of the boards per generated token",
    absent="the hardware file gives no board power", error="throughput",
)  # fmt: skip
def _(s: Scored) -> Array:
    return economics.joules(s.served) / (s.served.finished * s.tokens_per_request)


@_metric(
    "accuracy_drop_pct", "%", "min", "published loss of quality of the precision scheme; unknown is NaN",
    absent="no measurement is published for this model family and precision",
)  # fmt: skip
def _(s: Scored) -> Array:
    return _largest([_accuracy_drop(pool.point) for pool in s.served.pools])


def _accuracy_drop(point: Point) -> Array:
    return point.mesh.take(point.choices.accuracy_of(point.model.name), "precision")


@_metric("max_context", "tokens", "max", "longest context that fits at this batch: the output behind a longer prompt")
def _(s: Scored) -> Array:
    return s.memory.max_context


@_metric("max_batch", "sequences", "max", "largest batch per replica that fits in memory at this workload")
def _(s: Scored) -> Array:
    return s.memory.max_batch


@_metric(
    "concurrency", "requests", "max", "requests in flight per replica, waiting ones included (Little's law)",
    error="throughput",
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.requests_per_s * s.served.latency


@_metric(
    "load", "share", "min", "arrivals over the highest rate the replica sustains", absent=NO_RATE, error="throughput",
    of_arrivals=True,
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.under_load(lambda loop: loop.load)


def _percentile(name: str, unit: str, cases: str, share: float, what: str, error: Error, factor: float) -> None:
    meaning = f"{what} that {share:.0%} of the requests stay below"

    absent = f"{NO_RATE}; {ONE_TOKEN}" if cases == "gaps" else NO_RATE

    @_metric(name, unit, "min", meaning, absent=absent, error=error, of_arrivals=True)
    def _(s: Scored) -> Array:
        found = s.under_load(lambda loop: loop.queue.quantile(cases, share) * factor)
        return np.where(s.point.steps > 0, found, np.nan) if cases == "gaps" else found


for _share in (0.5, 0.9, 0.99):
    _percentile(
        f"ttft_p{_share:.0%}_ms".replace("%", ""), "ms", "first_tokens", _share, "time to first token", "ttft", 1e3
    )
    _percentile(f"tpot_p{_share:.0%}_ms".replace("%", ""), "ms", "gaps", _share, "mean time per token", "tpot", 1e3)
    _percentile(f"latency_p{_share:.0%}_s".replace("%", ""), "s", "latencies", _share, "latency", "throughput", 1.0)


@_metric(
    "slo_attainment",
    "share",
    "max",
    "share of the requests that meet every SLO",
    absent=NO_SLO,
    error="throughput",
    of_arrivals=True,
)
def _(s: Scored) -> Array:
    return s.slo(lambda loop: loop.queue.attainment)


@_metric(
    "goodput_requests_per_s", "requests/s", "max", "finished requests per second that meet every SLO",
    absent=NO_SLO, error="throughput", of_arrivals=True,
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.slo(lambda loop: loop.requests_per_s * loop.queue.attainment)


@_metric(
    "max_rate", "requests/s", "max", "highest rate at one replica at which 99 % of the requests meet every SLO",
    absent=NO_SLO, error="throughput", of_arrivals=True,
)  # fmt: skip
def _(s: Scored) -> Array:
    return s.slo(lambda loop: loop.max_rate)


@_metric(
    "speculation_speedup", "x", "max", "time per token without speculation over that with it, for the same sequences",
    absent=ONE_TOKEN, of_axis="speculation",
)  # fmt: skip
def _(s: Scored) -> Array:
    return np.where(s.point.steps > 0, speculative.speedup(s.point, s.served.runtime), np.nan)


@_metric(
    "speculation_break_even_batch", "requests", "max",
    "largest batch, memory apart, at which speculation pays; 65,536 where it always does, 0 never",
    of_axis="speculation",
)  # fmt: skip
def _(s: Scored) -> Array:
    return speculative.break_even_batch(s.point, s.served.runtime)
