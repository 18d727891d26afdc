"""What a measured row means: a model, a chip, a scheme, a layout, a request and a steady state, or why it means none.

Blanks are filled as the collection's README says, and each choice is told in the row's reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TypeVar

from dse.calibrate.loads import equal_lengths
from dse.calibrate.measured import Measured, UnknownError
from dse.errors import InputError
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.hardware import HardwareSpec
from dse.spec.layout import Layout
from dse.spec.model import ModelSpec
from dse.spec.precision import Precision, parse_format
from dse.spec.runtime import RuntimeSpec, generation, load_runtime
from dse.spec.workload import Workload

Spec = TypeVar("Spec")

SCENARIOS: Mapping[str, str] = {
    "static_batch": "static",
    "latency": "static",
    "offline_max_throughput": "offline",
    "online_closed_loop": "closed-loop",
    "online_equal_lengths": "equal-lengths",
    "online_at_once": "at-once",
    "online_open_loop": "open-loop",
    "offline_offload": "offload",
}
"""Scenario of a row -> value of the axis `serving`, or a state that only measurements know (`dse.calibrate.states`,
`dse.calibrate.offloaded`)."""

NOT_MODELLED: Mapping[str, str] = {
    "online_speculative": "speculative decoding is not modelled yet",
}

METRICS: Mapping[str, tuple[str, float]] = {
    "ttft_ms": ("ttft_ms", 1.0),
    "tpot_ms": ("tpot_ms", 1.0),
    "e2e_s": ("latency_s", 1.0),
    "output_tok_s": ("output_tokens_per_s", 1.0),
    "input_tok_s": ("requests_per_s", 0.0),
}
"""Metric of a row -> metric of the cost model, and a factor; 0: the prompt's tokens."""

SLOTS = 1024
"""Sequences that run at once per rank where neither the row nor the engine sets a limit; memory mostly does before."""

QUEUED = "more sequences than fit in memory: they run as memory allows"


@dataclass(frozen=True)
class Case:
    """One row as a point of the cost model."""

    model: ModelSpec
    hardware: HardwareSpec
    precision: Precision
    layout: Layout
    workload: Workload
    batch: int
    serving: str
    runtime: RuntimeSpec
    metric: str
    factor: float
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was assumed."""
    rate: float = math.nan
    """Requests per second that arrive at one replica; NaN where they come as others end, or all at once."""
    burstiness: float = 1.0
    """Coefficient of variation of the times between arrivals."""


def case_of(row: Measured, runtime: RuntimeSpec | None = None) -> Case:
    """The point a row was measured at.

    Args:
        row: the row.
        runtime: instead of the one its framework names.

    Raises:
        UnknownError: why it cannot be predicted.
    """
    notes: list[str] = []
    serving, (metric, factor) = _scenario(row), _metric(row)
    told = [row.text(name) for name in ("version", "date", "source")]
    engine = runtime or generation(_named(_runtime, row, "framework"), *told)
    model, chip = _named(_model, row, "model"), _machine(row)
    workload = _workload(row, metric, notes)
    layout = _layout(row, notes)
    rate, burstiness = _arrivals(row, serving, notes)
    return Case(
        model=model,
        hardware=chip,
        precision=_precision(row, model, chip, engine, notes),
        layout=layout,
        workload=workload,
        batch=_batch(row, serving, engine, layout, notes),
        serving=serving,
        runtime=engine,
        metric=metric,
        factor=factor or float(workload.input),
        notes=tuple(notes),
        rate=rate,
        burstiness=burstiness,
    )


def _scenario(row: Measured) -> str:
    scenario = row.text("scenario")
    if scenario in NOT_MODELLED:
        raise UnknownError(NOT_MODELLED[scenario])
    if scenario not in SCENARIOS:
        raise UnknownError(f"no such scenario is modelled: {scenario[:40]!r}")
    if scenario == "online_closed_loop" and equal_lengths(row.text("source")):
        return "equal-lengths"
    return SCENARIOS[scenario]


def _metric(row: Measured) -> tuple[str, float]:
    metric = row.text("metric")
    if metric not in METRICS:
        raise UnknownError(f"no such metric is modelled: {metric[:40]!r}")
    return METRICS[metric]


def _named(load: Callable[[str], Spec], row: Measured, name: str) -> Spec:
    text = row.text(name)
    if not text:
        raise UnknownError(f"{name} is blank")
    try:
        return load(text)
    except InputError as error:
        raise UnknownError(str(error)) from None


@lru_cache(maxsize=4096)
def _model(name: str) -> ModelSpec:
    return load_model(name)


@lru_cache(maxsize=4096)
def _hardware(name: str) -> HardwareSpec:
    return load_hardware(name)


def _machine(row: Measured) -> HardwareSpec:
    """The chip, in the box of whoever measured where the library has that: an alias `SOURCE HARDWARE`."""
    chip = _named(_hardware, row, "hardware")
    return _boxed(f"{row.text('source')} {row.text('hardware')}") or chip


@lru_cache(maxsize=4096)
def _boxed(name: str) -> HardwareSpec | None:
    try:
        return load_hardware(name)
    except InputError:
        return None


@lru_cache(maxsize=4096)
def _runtime(name: str) -> RuntimeSpec:
    return load_runtime(name)


def _workload(row: Measured, metric: str, notes: list[str]) -> Workload:
    prompt, output = row.number("input_len"), row.number("output_len")
    if prompt is None:
        raise UnknownError("input_len is blank")
    if output is None and metric != "ttft_ms":
        raise UnknownError("output_len is blank")
    if prompt == 0:
        notes.append("an empty prompt counts as one token")
    output = max(output or 1.0, 1.0)
    if metric == "tpot_ms" and output < 2:
        raise UnknownError("a request of one output token has no decode step")
    try:
        return Workload(max(round(prompt), 1), round(output))
    except InputError as error:
        raise UnknownError(str(error)) from None


def _batch(row: Measured, serving: str, engine: RuntimeSpec, layout: Layout, notes: list[str]) -> int:
    batch = row.count("batch_or_concurrency")
    if serving == "offline":
        return 1
    if serving == "open-loop":
        most = (engine.max_batch or SLOTS) * layout.dp
        return min(batch or most, most)
    if batch is None or batch < 1:
        if row.text("scenario") != "latency":
            raise UnknownError("batch_or_concurrency is blank")
        notes.append("a single stream is assumed")
        return 1
    return batch


def _arrivals(row: Measured, serving: str, notes: list[str]) -> tuple[float, float]:
    """Requests per second and the coefficient of variation of the times between them."""
    if serving != "open-loop":
        return math.nan, 1.0
    rate, burstiness = row.number("request_rate"), row.number("burstiness")
    if not rate:
        raise UnknownError("request_rate is blank: an open loop needs the requests per second that arrive")
    if burstiness is None:
        notes.append("arrivals of a Poisson process are assumed")
    return rate, 1.0 if burstiness is None else burstiness


def _layout(row: Measured, notes: list[str]) -> Layout:
    devices = row.count("n_gpus")
    tp, pp, dp, ep = (row.count(name) for name in ("tp", "pp", "dp", "ep"))
    others = (pp or 1) * (dp or 1)
    if not tp:
        tp = max((devices or 1) // others, 1)
        notes.append(f"tp {tp} is assumed")
    if ep and devices == tp * others * ep and ep > 1:
        # Engines that count ranks of one expert apart from the expert ranks: together they are the tp ranks.
        notes.append(f"tp {tp} x ep {ep} are {tp * ep} tp ranks")
        tp *= ep
    layout = Layout(tp, pp or 1, dp or 1, ep or 0)
    if not 1 <= layout.devices <= 100_000:
        raise UnknownError(f"tp x pp x dp = {layout.devices:,} devices")
    if devices and devices != layout.devices:
        notes.append(f"n_gpus {devices} is not tp x pp x dp = {layout.devices}; the degrees count")
    return layout


def _precision(row: Measured, model: ModelSpec, chip: HardwareSpec, engine: RuntimeSpec, notes: list[str]) -> Precision:
    weights = row.text("weight_dtype")
    if not weights:
        weights = "bf16"
        notes.append("weights of bf16 are assumed")
    try:
        scheme = _scheme(weights, row.text("act_dtype"))
        cache = row.text("kv_dtype")
        if not cache:
            cache = _cache(scheme, chip, engine)
            notes.append(f"a KV cache of {cache} is assumed")
        return _with_cache(scheme, cache, _own_projections(scheme, model))
    except InputError as error:
        raise UnknownError(str(error)) from None


@lru_cache(maxsize=1024)
def _scheme(weights: str, activations: str) -> Precision:
    """The scheme a bare name of a type means in published measurements, with the activations that are stated."""
    if not activations:
        return load_precision(weights)
    return load_precision({"base": weights, "activations": activations})


def _cache(scheme: Precision, chip: HardwareSpec, engine: RuntimeSpec) -> str:
    """The cache's type where the row does not say: what the engine takes with quantised weights, else 16 bit."""
    chosen = engine.kv_of_quantised
    if chosen and not scheme.weights.wide and chip.peak(chosen) is not None:
        return chosen
    return "bf16"


def _own_projections(scheme: Precision, model: ModelSpec) -> bool:
    """Whether the model is published in these weights with projections that stay in 16 bit."""
    own = model.precision
    return own is not None and own.weights == scheme.weights and own.projections != own.weights


@lru_cache(maxsize=1024)
def _with_cache(scheme: Precision, cache: str, wide_projections: bool) -> Precision:
    changed = replace(scheme, name="", kv_cache=parse_format(cache))
    if wide_projections:
        changed = replace(changed, projections=parse_format("bf16"))
    return replace(changed, name=f"{scheme.name}, kv {cache}")
