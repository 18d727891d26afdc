"""A sweep file: its fields and their types. What the names in it mean is resolved in `dse.run.resolve`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dse.spec.price import PriceKind
from dse.spec.shape import Strict

NATIVE = "native"
"""The precision each model is published in: what its config.json says, else bf16."""

Fraction = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


Limit = Annotated[float, Field(ge=0)]
"""No metric is ever below zero: a limit there is a slip."""


class Bound(Strict):
    """Limits of a metric; both belong to what is allowed."""

    min: Limit | None = None
    max: Limit | None = None


class PriceChoice(Strict):
    """Which quotes to use: kinds differ by up to ten times for one accelerator."""

    kind: PriceKind = "on-demand"
    override: dict[str, Positive] = Field(default_factory=dict)
    """Accelerator name -> dollars per device and hour."""


class Slo(Strict):
    """Service level objectives of a request; it meets them when it exceeds none."""

    ttft_ms: Positive | None = None
    tpot_ms: Positive | None = None
    latency_s: Positive | None = None


class Parallel(Strict):
    """Degrees to combine freely."""

    tp: Any = 1
    pp: Any = 1
    dp: Any = 1
    ep: Any = "auto"
    """`auto`: 1 for a dense model or without dp, else all tp x dp ranks."""


class PrefillWorkers(Strict):
    """Axes of the workers that compute prompts; what is left out is the sweep's own."""

    hardware: Any = None
    precision: Any = None
    parallel: Parallel | None = None
    devices: Any = None
    """Every layout of so many devices per worker; beside `parallel`, those of its degrees."""
    batch: Any = 1
    """Requests of one prompt pass."""


class DecodeWorkers(Strict):
    """Axes of the workers that generate; what is left out is the sweep's own, as all others are."""

    batch: Any = None
    """Sequences that run at once on a worker."""


class Disaggregation(Strict):
    """What a deployment of two pools chooses from."""

    prefill: PrefillWorkers = PrefillWorkers()
    decode: DecodeWorkers = DecodeWorkers()
    devices: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Most devices of both pools together; no limit by default."""
    max_workers: Annotated[int, Field(ge=1, le=1024)] = 32
    """Most workers of a pool."""
    fill: bool = False
    """Only deployments of which replicas use all `devices`, as one who has so many devices wants them."""


class SweepFile(Strict):
    """The fields of a sweep; axes take one value, a list, or a range."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    models: Any
    """Names in the library, paths of config.json files."""
    hardware: Any
    """Names, paths, or `{base: NAME, dotted.field: value or list}`."""
    precision: Any = NATIVE
    """Names of schemes, a scheme in place (`{weights: int4, group_size: 128, ...}`), or `native`."""
    workload: Any
    """Pairs `{input, output}`, names, or `{input: [...], output: [...]}` for their product."""
    parallel: Parallel | None = None
    """Degrees to combine; by default one device."""
    devices: Any = None
    """Every layout of so many devices; beside `parallel`, those of its degrees."""
    batch: Any = 1
    """Sequences in flight per replica."""
    rate: Any = None
    """Requests per second that arrive at one replica: of `serving: open-loop`, and where it is said of `disaggregated`,
    whose pools are then as many as keep pace and whose prefill `batch` is the most requests of a pass."""
    burstiness: Annotated[float, Field(ge=0, le=20)] = 1.0
    """Coefficient of variation of the times between arrivals: 0 a clock, 1 a Poisson process, above it bursts."""
    slo: Slo = Slo()
    """What a request must meet to count as goodput: `{ttft_ms: 2000, tpot_ms: 30}`, also `latency_s`."""
    serving: Any = "static"
    """`static`, `offline` (the engine sets the batch: only the first value of `batch` counts), `closed-loop`
    (`batch` is the requests in flight), `open-loop` (requests arrive at `rate`, at most `batch` run) or
    `disaggregated` (`batch` is what a decode worker runs at once)."""
    disaggregated: Disaggregation | None = None
    """The pools of disaggregated serving: `{prefill: {parallel: ..., batch: ...}, decode: ..., devices: 8}`."""
    offload: Any = "none"
    """`lp`: weights, cache and activations are placed over accelerator, host and disk by a linear program."""
    runtime: Any = "ideal"
    """Names of serving engines (`configs/runtimes.yaml`), or `{base: NAME, field: value}`."""
    fidelity: Any = "calibrated"
    attention: Any = "fused"
    """A technique (`dse.cost.techniques`), as the next six: `fused` (flash attention) or `unfused`."""
    kv_budget: Any = "none"
    """Tokens of a sequence that decode attends to and the cache keeps, or `none`."""
    weight_sparsity: Any = "none"
    """`2:4`, the share of weights that are zero, or `none`."""
    dequantization: Any = "fused"
    """`fused`, or the bytes moved per element where narrow weights and cache are expanded in memory before use."""
    prefix_hit: Any = "none"
    """The share of each prompt that the cache holds already, `{tokens: 2048}` of a shared system prompt, or `none`."""
    sampling: Any = "none"
    """`{n: 4}` answers per request, `{beams: 4}`, or `none`."""
    speculation: Any = "none"
    """A name in `configs/speculation.yaml`, `{draft, gamma, acceptance}`, `{mtp, accepted}`, `{tree, tau, eagle or
    medusa}`, or `none`."""
    chunk_tokens: Any = "none"
    """Chunked prefill: tokens of an iteration that decodes and pieces of prompts share, or `none`."""
    max_prefill_tokens: Count | Literal["unlimited"] = 8192
    """Tokens of one prompt pass."""
    kv_block_size: Count = 16
    """Tokens of one page of the KV cache."""
    memory_utilization: Fraction = 0.9
    """Share of device memory the engine may use."""
    host_utilization: Fraction = 0.9
    """Share of host memory and disk that offloading may use."""
    overlap: Literal["serial", "pairwise", "full"] = "pairwise"
    """Which streams run beside each other under offloading: none, pairs of them (FlexGen's code, and nearest to what
    was measured), or all (its paper; 25 % too fast on the same measurements)."""
    price: PriceChoice = PriceChoice()
    constraints: dict[str, Bound] = Field(default_factory=dict)
    objectives: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "output_tokens_per_s_per_device",
        "tpot_ms",
        "memory_gb_per_device",
    )
    group_by: tuple[str, ...] = ("model", "workload")
    current: dict[str, Any] | None = None
    """Today's deployment, to mark against the front: one value for some axes, the sweep's own or not.

    An axis it leaves open takes the sweep's first value, or each of them where points are grouped by it.
    """
    keep: Literal["frontier", "all"] = "frontier"
    notes: str = ""


AXIS_VALUES: dict[str, tuple[str, ...]] = {
    "serving": ("static", "offline", "closed-loop", "open-loop", "disaggregated"),
    "offload": ("none", "lp"),
    "fidelity": ("ideal", "datasheet", "calibrated"),
}
"""Axes whose values are words, and the words this version knows."""
