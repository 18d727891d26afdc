"""Kernel timings of one accelerator: files read, rows that cannot be true named and left out.

The schema is that of hardware/README.md ("Kernel timings"); the column `gpu`, where there is one, says whose rows are
taken, and of each framework the newest version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.calibrate import kernels
from dse.calibrate.kernels import SHAPES, Batch, Column, Made, TableKind
from dse.calibrate.left_out import FAR, LeftOut, Lines, lines_of
from dse.cost.setting import Phase
from dse.errors import Fault, InputError
from dse.spec.catalog import load_hardware
from dse.spec.hardware import HardwareSpec

FASTER = 1.05
"""A row this much faster than the roof is impossible: clocks and timers spread by a few percent."""
FASTER_LINK = 1.3
"""The same of a link: multicast in switches saves some of the way."""
EAGER_S = 50e-6
"""A matrix product that never takes less is timed with its launch from the host."""

_SOURCE = ("fw", "kernel_source")


@dataclass
class Timings:
    """What the files hold of one accelerator, ready to fit."""

    batches: list[Timed] = field(default_factory=list)
    left_out: LeftOut = field(default_factory=LeftOut)
    """Rows of the accelerator that are not fitted."""
    others: int = 0
    """Rows of other accelerators."""


@dataclass(frozen=True)
class Timed:
    """Rows of one class, number type and framework."""

    batch: Batch
    seconds: Column
    framework: str
    """With its version."""

    def __len__(self) -> int:
        return len(self.seconds)


def read_timings(paths: Sequence[str | Path], chip: HardwareSpec) -> Timings:
    """All timings of an accelerator.

    Args:
        paths: Parquet or CSV files, or folders of them.
        chip: whose rows are taken.

    Raises:
        InputError: a file is absent or is no table of timings, or none of its rows is of the chip.
    """
    found = Timings()
    faults = []
    known = 0
    for path in _files(paths):
        table = _read(path)
        kind = _kind(table)
        if kind is None:
            faults.append(Fault(_unknown(table), file=str(path)))
            continue
        known += 1
        _take(found, lines_of(path, len(table["latency_ms"])), table, kind, chip)
    if faults and not known:
        raise InputError(faults)
    if not found.batches:
        counts = found.left_out.counts
        reasons = "; ".join(f"{rows:,}: {reason}" for reason, rows in counts.items())
        raise found.left_out.refusal(
            f"no timing of {chip.name} in {', '.join(map(str, paths))} can be fitted "
            f"({found.others:,} rows are of other accelerators, {sum(counts.values()):,} left out"
            f"{f': {reasons}' if reasons else ''})"
        )
    return found


def _files(paths: Sequence[str | Path]) -> Iterator[Path]:
    for name in paths:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix in (".parquet", ".csv"))
            if not inside:
                raise InputError(f"{path}: no .parquet or .csv file in this folder")
            yield from inside
        elif not path.is_file():
            raise InputError(f"no such file or folder: {path}")
        elif path.suffix not in (".parquet", ".csv"):
            raise InputError(f"{path}: expected a .parquet or .csv file")
        else:
            yield path


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a file."""
    import pandas as pd

    try:
        # Versions are text: 1.10 comes after 1.9.
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype={"fw_version": str})
    except Exception as error:
        raise InputError(Fault(f"cannot be read as a table: {' '.join(str(error).split())}", file=str(path))) from None
    return {str(name): frame[name].to_numpy() for name in frame.columns}


def _kind(table: Mapping[str, Any]) -> TableKind | None:
    if "latency_ms" not in table:
        return None
    return next((kind for kind, names in SHAPES.items() if all(name in table for name in names)), None)


def _unknown(table: Mapping[str, Any]) -> str:
    if "latency_ms" not in table:
        return f"no column latency_ms (there are: {', '.join(table)})"
    return f"no table of kernel timings: it has {', '.join(table)}; hardware/README.md lists the columns of each"


def _take(found: Timings, where: Lines, table: Mapping[str, NDArray[Any]], kind: TableKind, chip: HardwareSpec) -> None:
    """Add the rows of a table."""
    size = len(table["latency_ms"])
    mine = _of_chip(table, chip, size)
    found.others += int(size - mine.sum())
    kept = np.flatnonzero(mine & _newest(table, mine))
    rows = {name: values[kept] for name, values in table.items()}
    if not len(kept):
        return
    where = where.of(kept)
    good = _numbers(found, where, rows, kind)
    rows = {name: values[good] for name, values in rows.items()}
    where = where.of(good)
    for group in _groups(rows, kind):
        part = {name: values[group] for name, values in rows.items()}
        own = where.of(group)
        made = _batch(part, kind, chip)
        if made is None:
            found.left_out.add(own, "a type or operation that is not fitted", np.ones(len(group), dtype=bool))
        else:
            batch = Batch(made.form, made.key, group, made.quantities, made.roofs, made.sites, made.scope)
            _add(found, own, part, kind, batch, chip)


def _of_chip(table: Mapping[str, NDArray[Any]], chip: HardwareSpec, size: int) -> NDArray[np.bool_]:
    if "gpu" not in table:
        return np.ones(size, dtype=bool)
    same = {}
    for name in dict.fromkeys(map(str, table["gpu"])):
        same[name] = name == chip.name
        with suppress(InputError):
            same[name] = load_hardware(name).name == chip.name
    return np.array([same[str(name)] for name in table["gpu"]], dtype=bool)


def _newest(table: Mapping[str, NDArray[Any]], mine: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Rows of the newest version of each framework."""
    if "fw" not in table or "fw_version" not in table:
        return np.ones(len(mine), dtype=bool)
    version = [tuple(int(part) for part in re.findall(r"\d+", str(text))) for text in table["fw_version"]]
    best: dict[str, tuple[int, ...]] = {}
    for index in np.flatnonzero(mine).tolist():
        name = str(table["fw"][index])
        best[name] = max(best.get(name, ()), version[index])
    return np.array([v == best.get(str(fw)) for fw, v in zip(table["fw"], version, strict=True)], dtype=bool)


def _numbers(found: Timings, where: Lines, rows: Mapping[str, NDArray[Any]], kind: TableKind) -> NDArray[np.intp]:
    """Rows that are complete, positive and within what the forms know."""
    latency = np.array([_number(value) for value in rows["latency_ms"]])
    missing = ~(np.isfinite(latency) & (latency > 0))
    found.left_out.add(where, "no positive latency_ms", missing)
    shapes = [name for name in SHAPES[kind] if name not in ("phase", "op_name")]
    broken = np.zeros(len(latency), dtype=bool)
    for name in shapes:
        values = np.array([_number(value) for value in rows[name]])
        least = 0 if name in ("step", "num_key_value_heads") else 1
        broken |= ~(np.isfinite(values) & (values >= least))
    found.left_out.add(where, f"a shape without {', '.join(shapes)}", broken & ~missing)
    out = missing | broken
    for reason, flag in _outside(rows, kind, len(latency)).items():
        found.left_out.add(where, reason, flag & ~out)
        out |= flag
    return np.flatnonzero(~out)


def _outside(rows: Mapping[str, NDArray[Any]], kind: TableKind, size: int) -> dict[str, NDArray[np.bool_]]:
    """Rows the forms do not describe, by reason."""
    none: NDArray[np.bool_] = np.zeros(size, dtype=bool)
    if kind == "context_attention":
        window = rows["window_size"].astype(float) != 0 if "window_size" in rows else none
        prefix = (rows["step"].astype(float) > 0) & (rows["isl"].astype(float) > 1)
        return {"attention in a window": window, "a cached prefix": prefix}
    if kind == "moe" and "distribution" in rows:
        return {"balanced routing, which no traffic has": rows["distribution"].astype(str) == "balanced"}
    if kind == "collective":
        eager = np.array(["eager" in str(source) for source in rows.get("kernel_source", none)], dtype=bool)
        return {"launched from the host": eager}
    return {}


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


_TYPES: Mapping[TableKind, tuple[str, ...]] = {
    "gemm": ("dtype",),
    "moe": ("dtype",),
    "context_attention": ("attn_dtype", "kv_cache_dtype"),
    "mla": ("phase", "kv_cache_dtype"),
    "collective": ("op_name", "dtype"),
}


def _groups(rows: Mapping[str, NDArray[Any]], kind: TableKind) -> Iterator[NDArray[np.intp]]:
    """Rows of one framework, number type and operation; decode apart from prefill."""
    size = len(rows["latency_ms"])
    columns = [rows[name].astype(str) for name in (*_TYPES[kind], "fw", "fw_version") if name in rows]
    if kind == "context_attention":
        columns.append((rows["isl"].astype(float) == 1).astype(str))
    if kind == "collective":
        columns.append(np.array([str(_custom(rows, index)) for index in range(size)]))
    keys = list(zip(*columns, strict=True)) if columns else [()] * size
    for key in dict.fromkeys(keys):
        yield np.array([index for index, own in enumerate(keys) if own == key], dtype=np.intp)


def _custom(rows: Mapping[str, NDArray[Any]], index: int) -> bool:
    """Whether a collective is an engine's own, not the communication library's."""
    source = str(rows["kernel_source"][index]).lower() if "kernel_source" in rows else "nccl"
    return not source.endswith("ccl")


def _batch(part: Mapping[str, NDArray[Any]], kind: TableKind, chip: HardwareSpec) -> Made | None:
    """Operators of rows of one kind; None where their type is not known."""
    first = {name: str(values[0]) for name, values in part.items()}
    types = [first[name] for name in _TYPES[kind] if name not in ("phase", "op_name") and name in first]
    if not all(map(kernels.known_type, types)):
        return None
    if kind == "gemm":
        return kernels.gemm(part, chip, types[0])
    if kind == "moe":
        return kernels.experts(_with_distribution(part), chip, types[0])
    if kind == "mla":
        phase: Phase = "prefill" if first["phase"] in ("context", "prefill") else "decode"
        return kernels.latent_attention(part, chip, phase, first["kv_cache_dtype"])
    if kind == "collective":
        return _collective(part, chip, first)
    if first["isl"] in ("1", "1.0"):
        return kernels.decode_attention(part, chip, first["attn_dtype"], first["kv_cache_dtype"])
    return kernels.prompt_attention(part, chip, first["attn_dtype"], first["kv_cache_dtype"])


def _collective(part: Mapping[str, NDArray[Any]], chip: HardwareSpec, first: Mapping[str, str]) -> Made | None:
    operation, custom = first["op_name"], _custom(part, 0)
    if operation not in ("all_reduce", "all_gather", "alltoall") or first["dtype"] == "int8":
        return None
    return kernels.collective(part, chip, operation, custom)


def _with_distribution(part: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
    return part if "distribution" in part else {**part, "distribution": np.full(len(part["latency_ms"]), "uniform")}


def _add(
    found: Timings, where: Lines, part: Mapping[str, NDArray[Any]], kind: TableKind, batch: Batch, chip: HardwareSpec
) -> None:
    """Add what can be true of one batch."""
    seconds = part["latency_ms"].astype(float) * 1e-3
    out = ~batch.scope
    found.left_out.add(where, "a shape smaller than models run", out)
    for reason, flag in _impossible(part, kind, batch, seconds, chip).items():
        found.left_out.add(where, reason, flag & ~out)
        out = out | flag
    kept = np.flatnonzero(~out)
    if not len(kept):
        return
    quantities = {name: np.broadcast_to(v, seconds.shape)[kept] for name, v in batch.quantities.items()}
    sites = [batch.sites[index] for index in kept.tolist()]
    whole = Batch(batch.form, batch.key, batch.rows[kept], quantities, batch.roofs, sites, batch.scope[kept])
    version = " ".join(str(part[name][0]) for name in ("fw", "fw_version") if name in part)
    found.batches.append(Timed(whole, seconds[kept], version or "not named"))


def _impossible(
    part: Mapping[str, NDArray[Any]], kind: TableKind, batch: Batch, seconds: Column, chip: HardwareSpec
) -> dict[str, NDArray[np.bool_]]:
    """Rows that cannot be true, by reason."""
    found = batch.quantities
    if batch.form == "collective":
        return {
            "in another unit": _far(part, seconds, found["wire"]),
            "faster than the link": found["wire"] > FASTER_LINK * seconds,
        }
    compute = np.broadcast_to(found["flops"] / batch.roofs.peak, seconds.shape)
    memory = np.broadcast_to(found["bytes"] / batch.roofs.bandwidth, seconds.shape)
    exact: NDArray[np.bool_] = np.ones(len(seconds), dtype=bool)
    if kind == "moe":  # only without expert parallelism is the work of the rank known exactly
        exact = part["moe_ep_size"].astype(float) == 1
    reasons = {
        "in another unit": _far(part, seconds, compute + memory),
        "faster than the peak": exact & (compute > FASTER * seconds),
    }
    if batch.form in ("decode", "latent_decode"):
        cold = memory - l2_bytes(chip) / batch.roofs.bandwidth
        reasons["faster than the memory"] = cold > FASTER * seconds
    if batch.form == "gemm":
        reasons["launched from the host"] = _never_fast(part, seconds)
    return reasons


def l2_bytes(chip: HardwareSpec) -> float:
    """What of a repeated call may be found on the chip."""
    return (chip.cache.l2_mb or 0.0) * 2**20


def _sources(part: Mapping[str, NDArray[Any]], size: int) -> NDArray[Any]:
    columns = [part[name].astype(str) for name in _SOURCE if name in part]
    return np.array(["|".join(names) for names in zip(*columns, strict=True)]) if columns else np.full(size, "")


def _far(part: Mapping[str, NDArray[Any]], seconds: Column, roof: Column) -> NDArray[np.bool_]:
    """Rows of kernels far from the roofline as a whole, and single rows that lie as far from their kernel's rest."""
    ratio = seconds / (1e-5 + roof)
    sources = _sources(part, len(seconds))
    far: NDArray[np.bool_] = np.zeros(len(seconds), dtype=bool)
    for source in dict.fromkeys(sources.tolist()):
        own = sources == source
        middle = float(np.median(ratio[own]))
        whole = middle > FAR or middle < 1 / FAR
        far |= own & (whole | (ratio > FAR * middle) | (ratio < middle / FAR))
    return far


def _never_fast(part: Mapping[str, NDArray[Any]], seconds: Column) -> NDArray[np.bool_]:
    sources = _sources(part, len(seconds))
    slow: NDArray[np.bool_] = np.zeros(len(seconds), dtype=bool)
    for source in dict.fromkeys(sources.tolist()):
        own = sources == source
        if own.sum() >= 8 and float(seconds[own].min()) > EAGER_S:
            slow |= own
    return slow
