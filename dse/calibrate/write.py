"""From readings to a hardware file in which every number has its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dse import __version__
from dse.calibrate.cuda import Gpu
from dse.calibrate.disk import Disk
from dse.calibrate.gemm import NATIVE
from dse.calibrate.machine import Machine
from dse.calibrate.reading import Reading
from dse.cost.efficiency import DATASHEET
from dse.errors import CannotRun
from dse.run.store import write_whole
from dse.spec.hardware import HardwareSpec

_PEAK = "peak_tflops."
_FP32 = "peak_tflops.fp32"
_BANDWIDTH = "memory.bandwidth_gb_per_s"
_OF_CHIP = ("architecture", "release_year", "memory.type", "power", "prices")
"""What no measurement tells, and is the same in every machine with this chip."""
_OF_GPU = (
    "memory.label_gb", "cache.llc_mb", "cache.sram_mb", "scale_up", "scale_out", "host_link.technology",
)  # fmt: skip
"""The same of a GPU: its links to others, unless they were measured."""

Values = dict[str, tuple[Any, str]]
"""Dotted field -> its value and, for numbers, its source."""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a probe found out."""

    name: str
    date: str
    machine: Machine
    gpu: Gpu | None
    """None: the processors themselves serve the model."""
    disk: Disk | None
    readings: tuple[Reading, ...]
    notes: tuple[str, ...]


def choose(readings: Iterable[Reading]) -> tuple[dict[str, Reading], list[str]]:
    """The best reading of every field; dtypes the chip only emulates are left out, and a note says so."""
    best: dict[str, Reading] = {}
    for reading in readings:
        for field in reading.fields:
            if field not in best or reading.value > best[field].value:
                best[field] = reading
    if _FP32 not in best:
        return best, []
    floor = NATIVE * best[_FP32].value
    slow = [field for field in best if field.startswith(_PEAK) and field != _FP32 and best[field].value < floor]
    told = [f"{field.removeprefix(_PEAK)} ({best.pop(field).value:.3g})" for field in slow]
    return best, [f"No faster than fp32, so emulated and left out (TFLOP/s): {', '.join(told)}."] if told else []


def specification(findings: Findings, base: HardwareSpec | None) -> HardwareSpec:
    """The hardware file's content.

    Args:
        findings: what was measured and read.
        base: a chip that gives what cannot be measured.

    Raises:
        CannotRun: no rate of matrix multiplication was found, without which there is no accelerator.
    """
    chosen, dropped = choose(findings.readings)
    if not any(field.startswith(_PEAK) for field in chosen):
        raise CannotRun("; ".join(["no matrix multiplication could be measured", *findings.notes]))
    values: Values = {"name": (findings.name, "")}
    values |= _gpu(findings.gpu) if findings.gpu else _processor(findings.machine)
    values |= _box(findings)
    for field, reading in chosen.items():
        values[field] = (_rounded(reading.value), reading.source(__version__, findings.date))
    if "scale_up.gb_per_s" in values and findings.gpu:
        values["scale_up.domain"] = (findings.gpu.count, "GPUs the probe saw")
    if base is not None:
        taken, left = _taken_over(base, findings, values)
        values |= taken
        dropped += left
    notes = dict.fromkeys([*_about(findings, chosen, base), *dropped, *findings.notes, *_unused(findings, chosen)])
    return HardwareSpec.model_validate({
        **_nested({field: value for field, (value, _) in values.items()}),
        "sources": {field: source for field, (_, source) in values.items() if source},
        "notes": "\n".join(notes),
    })  # fmt: skip


def _processor(machine: Machine) -> Values:
    """The machine as its own accelerator: all sockets are one device."""
    found: Values = {
        "vendor": (machine.vendor, ""),
        "kind": ("cpu", ""),
        "memory.capacity_gb": (_rounded(machine.memory / 1e9), machine.memory_source),
        "cores": (machine.cores, "physical cores the probe could use"),
    }
    for field, size in (("cache.l2_mb", machine.l2), ("cache.llc_mb", machine.llc)):
        if size:
            found[field] = (_rounded(size / 2**20), "read from the operating system")
    return found


def _gpu(gpu: Gpu) -> Values:
    found: Values = {
        "vendor": (gpu.vendor, ""),
        "kind": ("soc" if gpu.integrated else "gpu", ""),
        "memory.capacity_gb": (_rounded(gpu.memory / 1e9), f"read from {gpu.software}"),
        "cores": (gpu.cores, f"read from {gpu.software}"),
    }
    if gpu.l2:
        found["cache.l2_mb"] = (_rounded(gpu.l2 / 2**20), f"read from {gpu.software}")
    return found


def _box(findings: Findings) -> Values:
    machine, gpu = findings.machine, findings.gpu
    found: Values = {
        "box.devices": (gpu.count, "GPUs the probe saw") if gpu else (1, "the machine itself"),
        "box.host_memory_gb": (_rounded(machine.memory / 1e9), machine.memory_source),
        "box.cpu": (machine.label, ""),
        "box.cpu_cores": (machine.cores, "physical cores the probe could use"),
    }
    if findings.disk is not None:
        free = f"free space of the measured disk on {findings.date}"
        found["box.disk_gb"] = (_rounded(findings.disk.free / 1e9), free)
    return found


def _taken_over(base: HardwareSpec, findings: Findings, values: Values) -> tuple[Values, list[str]]:
    """What a chip of the library adds, and notes on what it could not."""
    plain = base.model_dump(mode="json", exclude_unset=True)
    fields, notes = [*_OF_CHIP], []
    if findings.gpu is not None:
        fields += [field for field in _OF_GPU if not _given(field, values)]
        if "scale_up.gb_per_s" in values:
            fields.append("scale_up.technology")
    elif findings.machine.sockets > 1:
        fields = [field for field in fields if field not in ("power", "prices")]
        notes.append(f"Power and prices of {base.name} are per socket and were not taken over.")
    taken: Values = {}
    for field in fields:
        for path, value in _flat(_at(plain, field), field):
            source = base.source(path) or ""
            taken[path] = (value, f"{source} (as {base.name})" if source else "")
    measured = {field for reading in findings.readings for field in reading.fields}
    missing = [dtype for dtype in base.peak_tflops if f"{_PEAK}{dtype}" not in measured]
    if missing:
        notes.append(f"Not measured, though {base.name} has it: {', '.join(missing)}.")
    return taken, notes


def _given(field: str, values: Values) -> bool:
    return any(known == field or known.startswith(f"{field}.") for known in values)


def _at(value: Any, field: str) -> Any:
    for step in field.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted paths and what stands there; lists stay whole."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}")
    elif value is not None:
        yield path, value


def _about(findings: Findings, chosen: Mapping[str, Reading], base: HardwareSpec | None) -> Iterator[str]:
    """What a reader must know of these numbers."""
    gemm = DATASHEET.groups["gemm"]
    yield (
        "Rates are ceilings that this machine reached, not datasheet peaks: --fidelity ideal takes them as they are. "
        "--fidelity datasheet lowers them once more (GEMM: "
        f"{gemm.compute:g} of compute, {gemm.memory:g} of bandwidth), and so does the default, calibrated, by what was "
        "fitted on relatives or else as datasheet does."
    )
    if findings.gpu is None:
        yield "The whole machine is one accelerator; its memory is the host's."
    else:
        yield f"{findings.gpu.name}, {findings.gpu.software}."
    yield (
        "Bandwidth counts bytes read and written by the program, as STREAM does, without the lines that stores "
        "fetch first."
    )
    if findings.disk is not None:
        yield "Disk capacity is what was free. A cache in the disk or its host may have helped; --disk-gb sees past it."
    if base is not None:
        yield f"Share of the datasheet of {base.name}: {', '.join(_shares(chosen, base))}."


def _shares(chosen: Mapping[str, Reading], base: HardwareSpec) -> Iterator[str]:
    numbers = base.numbers()
    for field in (*(f for f in chosen if f.startswith(_PEAK)), _BANDWIDTH):
        if field in chosen and field in numbers:
            yield f"{field.removeprefix(_PEAK)} {chosen[field].value / numbers[field]:.0%}"


def _unused(findings: Findings, chosen: Mapping[str, Reading]) -> Iterator[str]:
    """Readings that stand nowhere else in the file; those of matrix multiplication have notes by size."""
    for reading in findings.readings:
        if reading.unit != "TFLOP/s" and not any(chosen.get(field) is reading for field in reading.fields):
            yield f"{reading.what}: {reading.value:.4g} {reading.unit} ({reading.how}, best of {reading.repeats})"


def _rounded(value: float) -> float:
    """Four digits: no repeat agrees to more."""
    return float(f"{value:.4g}")


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as mappings in mappings."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, last = path.split(".")
        place = nested
        for step in parents:
            place = place.setdefault(step, {})
        place[last] = value
    return nested


def text(spec: HardwareSpec) -> str:
    """The file as the library writes its own: one line per part, sources and notes below."""
    data = spec.model_dump(mode="json", exclude_unset=True)
    sources, notes = data.pop("sources"), data.pop("notes")
    style: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 10**6}
    parts = []
    for key, value in data.items():
        flow = None if isinstance(value, dict | list) else False  # None: the innermost collection on one line
        parts.append(yaml.safe_dump({key: value}, default_flow_style=flow, **style))
    parts.append(yaml.safe_dump({"sources": sources}, default_flow_style=False, **style))
    parts.append("notes: |-\n" + "".join(f"  {line}\n" for line in notes.splitlines()))
    return "".join(parts)


def write(spec: HardwareSpec, out: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        CannotRun: it cannot be written.
    """
    content = text(spec)
    write_whole(out, lambda path: path.write_text(content, encoding="utf-8"))
