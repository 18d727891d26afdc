"""One point on the terminal: operators of each phase, memory, totals."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from dse.cost.feasible import MEMORY, STRUCTURE
from dse.report.columns import describe, layout, number_text
from dse.report.listing import aligned
from dse.report.trust import meaning

UNITS = ("", "k", "M", "G", "T", "P", "E")

TOTALS = (
    "ttft_ms", "tpot_ms", "latency_s", "output_tokens_per_s", "output_tokens_per_s_per_device",
    "usd_per_million_output_tokens", "joules_per_output_token", "accuracy_drop_pct", "max_batch",
    "max_context", "speculation_speedup", "speculation_break_even_batch",
)  # fmt: skip
"""Figures of a point, of which some hold only of some."""

KINDS = {
    "wgts": ("weights",),
    "acts": ("activations_in", "activations_out", "unpacked"),
    "KV": ("kv_read", "kv_write"),
    "sent": ("messages",),
}
"""Bytes as the table groups them."""


def si(value: float) -> str:
    """A count with an SI prefix: 1.23G."""
    for unit in UNITS[:-1]:
        if abs(value) < 999.5:
            return f"{value:.3g}{unit}" if value else "–"
        value /= 1000
    return f"{value:.3g}{UNITS[-1]}"


def print_explain(found: Mapping[str, Any]) -> None:
    """What `dse.run.explain.explain_points` says of one point."""
    point = found["point"]
    chips = [point["hardware"]]
    if point.get("prefill_hardware") not in (None, *chips):
        chips.insert(0, point["prefill_hardware"])
    print(f"{point['model']} on {point['devices']} × {' and '.join(chips)}, {point['precision']}, {point['workload']}")
    print(f"{layout(point)}, batch {point['batch']}, computed in {point['compute_dtype']}: {point['status']}")
    if chosen := _techniques(point):
        print(", ".join(chosen))
    if pools := found.get("pools"):
        _print_pools(pools)
    for name, phase in found["phases"].items():
        if phase["operators"]:
            _print_phase(name, phase, point)
    _print_memory({pool["pool"]: pool["memory"] for pool in pools} if pools else found["memory"])
    print("\ntotals")
    _print_table([[name, number_text(point[name]), describe(name).unit] for name in TOTALS if name in point])
    _print_wrapped(f"evidence: {point['evidence']} ({meaning(point['evidence'])})")


def why_not(found: Mapping[str, Any]) -> str | None:
    """Why an explained point cannot run, in a line; None where it can."""
    status = found["point"]["status"]
    if status == "ok":
        return None
    if status.startswith("constraint:"):
        return f"does not meet what is asked for: {status}"
    if status in STRUCTURE:
        return f"cannot run: {status}: {STRUCTURE[status][1]}"
    if status != MEMORY:
        return f"cannot run: {status}"
    where, memory = max(_memories(found).items(), key=lambda held: held[1]["total_gb"] / held[1].get("limit_gb", 1e300))
    return f"cannot run: {status}: needs {memory['total_gb']:,.1f} of {memory['limit_gb']:,.1f} GB on the {where}"


def _memories(found: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    """Memory of each tier; of each pool where there are some."""
    tiers: Mapping[str, Mapping[str, float]] = found["memory"]
    return {f"{pool['pool']} workers": pool["memory"] for pool in found.get("pools") or ()} or tiers


def _print_pools(pools: Sequence[Mapping[str, Any]]) -> None:
    """What each pool is, and what it could serve."""
    print("\npools, and the requests per second of each when its workers are full")
    rows = [["", "workers", "hardware", "precision", "layout", "batch", "requests/s"]]
    for pool in pools:
        rate = None if pool["workers"] is None else pool["workers"] * pool["requests_per_s"]
        words = [pool["pool"], number_text(pool["workers"]), pool["hardware"], pool["precision"]]
        rows.append([*words, layout(pool), str(pool["batch"]), number_text(rate)])
    _print_table(rows)


def _techniques(point: Mapping[str, Any]) -> list[str]:
    """What is not at its neutral value."""
    from dse.cost.techniques import TECHNIQUES

    return [
        f"{name.replace('_', ' ')} {point[name]}"
        for name, technique in TECHNIQUES.items()
        if point.get(name, technique.neutral) != technique.neutral
    ]


def _print_memory(memory: Mapping[str, Mapping[str, float]]) -> None:
    """Each tier that is used, of the fullest device and of its part of the box; or each pool."""
    below = ("host", "disk")
    tiers = {tier: sizes for tier, sizes in memory.items() if tier not in below or sizes["total_gb"] > 0}
    uses = list(dict.fromkeys(name for sizes in tiers.values() for name in sizes))
    print("\nmemory of the fullest device, GB")
    rows = [["", *tiers]] if len(tiers) > 1 else []
    for name in uses:
        sizes = (number_text(of.get(name)) for of in tiers.values())
        rows.append([name.removesuffix("_gb").replace("_", " "), *sizes])
    _print_table(rows)


def _print_phase(name: str, phase: Mapping[str, Any], point: Mapping[str, Any]) -> None:
    step = "prompt pass" if name == "prefill" else "mean step"
    if phase.get("tokens", 1) != 1:
        step = f"mean iteration, {number_text(phase['tokens'])} tokens gained"
    pass_ms = number_text(_pass_seconds(phase) * 1e3)
    print(f"\n{name}: {pass_ms} ms per {step}, its kernels bound by {phase['bound']}")
    _print_wrapped("ms by " + _by_cause(phase["time_by"]))
    if phase["engine"]:
        _print_wrapped(f"ms of the engine ({point['runtime']}): {_by_cause(phase['engine'])}")
    if phase["beside"]:
        figure = "ttft_ms" if name == "prefill" else "tpot_ms"
        _print_wrapped(f"ms beside the pass: {_by_cause(phase['beside'])}; {figure} {number_text(point[figure])}")
    if streams := phase.get("streams"):
        busy = {stream.replace("_", " "): seconds for stream, seconds in streams.items() if seconds}
        _print_wrapped("ms by stream " + ", ".join(f"{name} {number_text(s * 1e3)}" for name, s in busy.items()))
    _print_wrapped("operators, one run on one device: FLOP, bytes by kind, FLOP per byte, time, share of all")
    moved = [row["bytes"] for row in phase["operators"]]
    kinds = [kind for kind, parts in KINDS.items() if any(part in sizes for sizes in moved for part in parts)]
    head = ["", "FLOP", *kinds, "FLOP/B", "us", "bound", "share"]
    rows: list[list[str]] = [head]
    titles: dict[int, str] = {}
    for part, operators in groupby(phase["operators"], key=lambda operator: operator["layer"]):
        members = list(operators)
        runs = members[0]["count"]
        titles[len(rows)] = f"{part}: {number_text(runs)} {'run' if runs == 1 else 'runs'}"
        rows += [_operator(row, kinds) for row in members]
    _print_table(rows, titles)


def _pass_seconds(phase: Mapping[str, Any]) -> float:
    """Of the kernels, and of the engine."""
    return float(phase["seconds"] + sum(phase["engine"].values()))


def _by_cause(seconds: Mapping[str, float]) -> str:
    """`weights 5.60, activations 0.03` in ms."""
    return ", ".join(f"{cause.replace('_', ' ')} {number_text(s * 1e3)}" for cause, s in seconds.items() if s)


def _operator(row: Mapping[str, Any], kinds: list[str]) -> list[str]:
    moved = [si(sum(row["bytes"].get(part, 0.0) for part in KINDS[kind])) for kind in kinds]
    share = "–" if row["share"] is None else f"{row['share']:.1%}"
    intensity = number_text(row["intensity"] or None)
    return [row["name"], si(row["flops"]), *moved, intensity, number_text(row["seconds"] * 1e6), row["bound"], share]


def _width() -> int:
    return shutil.get_terminal_size().columns


def _print_wrapped(line: str) -> None:
    print(textwrap.fill(line, _width(), subsequent_indent="  "))


def _print_table(rows: list[list[str]], titles: Mapping[int, str] | None = None) -> None:
    """Aligned rows, each title above the row it belongs to."""
    columns = list(zip(*rows, strict=True))
    right = [column is not columns[0] and not any(cell[:1].isalpha() for cell in column[1:]) for column in columns]
    for place, line in enumerate(aligned(rows, right, _width() - 2)):
        if titles and place in titles:
            print(titles[place])
        print(f"  {line}")
