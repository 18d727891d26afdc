"""One point on the terminal: operators of each phase, memory, totals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dse.report.listing import print_rows, table, text

UNITS = ("", "k", "M", "G", "T", "P", "E")

TOTALS = (
    "ttft_ms", "tpot_ms", "latency_s", "output_tokens_per_s", "output_tokens_per_s_per_device",
    "usd_per_million_output_tokens", "joules_per_output_token", "accuracy_drop_pct", "max_batch",
    "max_context", "compute_dtype", "evidence",
)  # fmt: skip


def si(value: float) -> str:
    """A count with an SI prefix: 1.23 G."""
    for unit in UNITS[:-1]:
        if abs(value) < 999.5:
            return f"{value:.3g} {unit}".strip() if value else "0"
        value /= 1000
    return f"{value:.3g} {UNITS[-1]}"


def print_explain(found: Mapping[str, Any]) -> None:
    """What `dse.run.explain.explain_points` says of one point."""
    point = found["point"]
    place = f"{point['devices']} x {point['hardware']}"
    print(f"{point['model']} on {place}, {point['precision']}, {point['workload']}")
    print(", ".join(f"{name} {point[name]}" for name in ("tp", "pp", "dp", "ep", "batch")), end="")
    print(f": {point['status']}")
    for name, phase in found["phases"].items():
        if phase["operators"]:
            _print_phase(name, phase)
    memory = found["memory"]["accelerator"]
    print()
    print_rows(
        "memory of the fullest device, GB",
        [{"use": name.removesuffix("_gb").replace("_", " "), "GB": value} for name, value in memory.items()],
    )
    print("\ntotals")
    for line in table([{"metric": name, "value": text(point[name])} for name in TOTALS]):
        print(line)


def _print_phase(name: str, phase: Mapping[str, Any]) -> None:
    step = "prompt pass" if name == "prefill" else "mean step"
    print(f"\n{name}: {phase['seconds'] * 1e3:.4g} ms per {step}, bound by {phase['bound']}")
    causes = {cause: seconds for cause, seconds in phase["time_by"].items() if seconds}
    print("time by " + ", ".join(f"{cause} {seconds * 1e3:.3g} ms" for cause, seconds in causes.items()))
    print_rows("operators (figures of one run on one device)", [_operator(row) for row in phase["operators"]])


def _operator(row: Mapping[str, Any]) -> dict[str, Any]:
    moved = row["bytes"]
    return {
        "operator": row["name"],
        "x": row["count"],
        "FLOP": si(row["flops"]),
        "weights": si(moved["weights"]),
        "act": si(moved["activations_in"] + moved["activations_out"]),
        "KV": si(moved["kv_read"] + moved["kv_write"]),
        "sent": si(moved["messages"]),
        "FLOP/B": row["intensity"],
        "us": row["seconds"] * 1e6,
        "bound": row["bound"],
        "share %": None if row["share"] is None else row["share"] * 100,
    }
