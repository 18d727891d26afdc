"""What the library holds, as rows to list, and what a file of the user is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from dse.cost.metrics import METRICS
from dse.cost.techniques import TECHNIQUES
from dse.errors import InputError
from dse.run.planning import is_plan, resolve_plan
from dse.run.resolve import resolve
from dse.run.score import Engine
from dse.run.shipped import PLAN, SWEEP, file_meant
from dse.spec.catalog import (
    hardware_names,
    load_hardware,
    load_model,
    load_precision,
    model_names,
    precision_names,
)
from dse.spec.reading import exists, library_file, read
from dse.spec.runtime import library_runtimes, runtime_names
from dse.spec.shape import Strict
from dse.spec.speculation import load_speculation, speculation_names
from dse.spec.sweep import AXIS_VALUES, DecodeWorkers, Disaggregation, PrefillWorkers, SweepFile

Rows = list[dict[str, Any]]


def library(what: str) -> Rows:
    """Everything of one kind that a sweep may name, one row each.

    Raises:
        KeyError: there is no such kind.
    """
    return KINDS[what]()


def _models() -> Rows:
    rows = []
    for name in model_names():
        model = load_model(name)
        rows.append(
            {
                "name": name,
                "family": model.family,
                "parameters_b": model.parameters() / 1e9,
                "active_b": model.active_parameters() / 1e9,
                "layers": len(model.layers),
                "kv_bytes_per_token_bf16": model.kv_bytes_per_token("bf16"),
                "max_context": model.max_context,
            }
        )
    return rows


def _hardware() -> Rows:
    rows = []
    for name in hardware_names():
        chip = load_hardware(name)
        quote = chip.price("on-demand")
        rows.append(
            {
                "name": name,
                "vendor": chip.vendor,
                "memory_gb": chip.memory.capacity_gb,
                "bandwidth_gb_per_s": chip.memory.bandwidth_gb_per_s,
                "fp16_tflops": chip.peak_tflops.get("bf16") or chip.peak_tflops.get("fp16"),
                "fp8_tflops": chip.peak_tflops.get("fp8"),
                "domain": chip.domain,
                "usd_per_hour_on_demand": None if quote is None else quote.usd_per_hour,
                "recalled": len(chip.recalled),
            }
        )
    return rows


def _precisions() -> Rows:
    rows = []
    for name in precision_names():
        scheme = load_precision(name)
        tensors = ("weights", "activations", "kv_cache", "embeddings", "attention")
        bits = {f"{tensor}_bits": getattr(scheme, tensor).bits for tensor in tensors}
        rows.append({"name": name, **bits})
    return rows


def _runtimes() -> Rows:
    shown = ("step_us", "layer_us", "sequence_us", "request_ms", "occupancy", "max_batch")
    return [
        {"name": spec.name, **{field: getattr(spec, field) for field in shown}, "aliases": spec.aliases}
        for spec in library_runtimes().values()
    ]


def _speculations() -> Rows:
    return [
        {
            "name": name,
            "drafts": spec.kind,
            "passes": spec.passes,
            "verified": spec.width,
            "tau": dict(spec.tau),
        }
        for name, spec in ((name, load_speculation(name)) for name in speculation_names())
    ]


def _objectives() -> Rows:
    return [
        {"name": metric.name, "unit": metric.unit, "better": metric.sense, "meaning": metric.meaning}
        for metric in METRICS.values()
    ]


def _axes() -> Rows:
    skipped = {"name", "notes", "constraints", "objectives", "group_by", "current", "keep", "disaggregated"}
    rows = []
    for name, field in SweepFile.model_fields.items():
        if name not in skipped:
            words = runtime_names() if name == "runtime" else AXIS_VALUES.get(name, ())
            values = TECHNIQUES[name].values if name in TECHNIQUES else ", ".join(words)
            rows.append({"name": name, "default": _default(field), "values": values})
        if name == "disaggregated":
            rows += _pools()
    return rows


def _pools() -> Iterator[dict[str, Any]]:
    """The fields of disaggregated serving, by dotted key."""
    blocks: dict[str, type[Strict]] = {"prefill.": PrefillWorkers, "decode.": DecodeWorkers, "": Disaggregation}
    for block, fields in blocks.items():
        for name, field in fields.model_fields.items():
            if f"{name}." not in blocks:
                default = _default(field, "the sweep's" if block else "none")
                yield {"name": f"disaggregated.{block}{name}", "default": default, "values": ""}


def _default(field: FieldInfo, absent: str = "none") -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if hasattr(default, "model_dump"):
        return ", ".join(f"{key}: {value}" for key, value in default.model_dump().items() if value)
    return absent if default is None else str(default)


def _sweeps() -> Rows:
    rows = []
    for path in sorted(library_file("sweeps").glob("*.yaml")):
        content = read(path).value
        rows.append({"name": path.stem, "path": str(path), "notes": str(content.get("notes", "")).split("\n")[0]})
    return rows


def _plans() -> Rows:
    rows = []
    for path in sorted(library_file("sweeps/plans").glob("*.yaml")):
        content = read(path).value
        rows.append({"name": path.stem, "path": str(path), "notes": str(content.get("notes", "")).split("\n")[0]})
    return rows


KINDS: dict[str, Callable[[], Rows]] = {
    "models": _models,
    "hardware": _hardware,
    "precisions": _precisions,
    "runtimes": _runtimes,
    "speculations": _speculations,
    "objectives": _objectives,
    "axes": _axes,
    "sweeps": _sweeps,
    "plans": _plans,
}


def check_file(file: str) -> str:
    """What a file is, in words, if it is right.

    Raises:
        InputError: all its faults.
    """
    path = Path(file)
    if (exists(path) and path.is_dir()) or path.suffix.lower() == ".json":
        model = load_model(path)
        return f"model {model.family}, {model.parameters() / 1e9:.2f} B parameters"
    file = str(file_meant(file, SWEEP, PLAN))
    content = read(file)
    if not isinstance(content.value, dict):
        raise InputError(content.fault((), "expected fields (name: value); a sweep, a plan or a hardware file"))
    if is_plan(content.value):
        plan = resolve_plan(content)
        rate = sum(bucket.peak for bucket in plan.buckets)
        return f"plan {plan.name!r}, {len(plan.buckets)} sizes of request, {rate:,.4g} requests/s at the peak"
    if "models" in content.value or "workload" in content.value:
        sweep = resolve(content)
        return f"sweep {sweep.name!r}, {Engine(sweep).space.size:,} points"
    if {"memory", "base", "peak_tflops"} & content.value.keys():
        chip = load_hardware(file if len(path.parts) > 1 else f"./{file}")
        return f"hardware {chip.name}, {chip.memory.capacity_gb:g} GB"
    kinds = "a sweep (models, hardware, workload) nor a plan (models with a demand) nor hardware (memory, peak_tflops)"
    raise InputError(content.fault((), f"neither {kinds}"))
