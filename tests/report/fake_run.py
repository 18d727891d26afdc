"""A run as `dse sweep` leaves it, made up: three models, two workloads, four chips."""

from __future__ import annotations

import itertools
import json
import math
import operator
import random
from pathlib import Path

MODELS = {"llama-3.1-70b": 70.6, "mixtral-8x7b": 46.7, "deepseek-v3": 671.0}
ACTIVE = {"llama-3.1-70b": 70.6, "mixtral-8x7b": 12.9, "deepseek-v3": 37.0}
CHIPS = {  # TB/s, TFLOP/s, GB, USD per hour
    "h100-sxm": (3.35, 989.5, 77.0, 2.99),
    "h200-sxm": (4.8, 989.5, 136.0, 3.79),
    "mi300x": (5.3, 1307.4, 185.0, 3.45),
    "b200": (7.7, 2250.0, 173.0, 5.99),
}
BITS = {"bf16": 16, "fp8": 8, "w4a16-g128": 4.25}
WORKLOADS = [(1024, 256), (8192, 1024)]
OBJECTIVES = [
    {"name": "output_tokens_per_s_per_device", "sense": "max", "unit": "tokens/s/device"},
    {"name": "tpot_ms", "sense": "min", "unit": "ms"},
    {"name": "usd_per_million_output_tokens", "sense": "min", "unit": "$/Mtok"},
]
BATCHES = [2**power for power in range(10)]


def point(number: int, model: str, chip: str, precision: str, workload: tuple[int, int], tp: int, batch: int) -> dict:
    """One plausible row of results."""
    bandwidth, peak, capacity, price = CHIPS[chip]
    scale = BITS[precision] / 8
    prompt, output = workload
    weights = MODELS[model] * scale / tp
    cache = batch * (prompt + output) * 0.16e-3 / tp * 2
    memory = weights + cache + 2
    touched = ACTIVE[model] + (MODELS[model] - ACTIVE[model]) * (1 - math.exp(-batch / 40))
    tpot = (touched * scale / tp + cache) / (bandwidth * 1000 * 0.8) * 1e3 + 1.5 + tp * 0.2
    ttft = 2 * ACTIVE[model] * batch * prompt / (peak * (2 if scale <= 1 else 1) * tp * 0.6 * 1000) * 1e3 + 5
    rate = batch * output / ((ttft + tpot * (output - 1)) / 1e3)
    return {
        "number": number,
        "model": model,
        "hardware": chip,
        "precision": precision,
        "workload": f"{prompt}x{output}",
        "input": prompt,
        "output": output,
        "tp": tp,
        "pp": 1,
        "dp": 1,
        "ep": 1,
        "batch": batch,
        "serving": "static",
        "offload": "none",
        "runtime": "default",
        "fidelity": "calibrated",
        "ttft_ms": ttft,
        "tpot_ms": tpot,
        "latency_s": (ttft + tpot * (output - 1)) / 1e3,
        "output_tokens_per_s": rate,
        "output_tokens_per_s_per_device": rate / tp,
        "requests_per_s": rate / output,
        "devices": tp,
        "memory_gb_per_device": memory,
        "host_memory_gb": 0.0,
        "disk_gb": 0.0,
        "usd_per_million_output_tokens": price * tp / rate / 3600 * 1e6,
        "joules_per_output_token": 700 * tp / rate,
        "accuracy_drop_pct": {"bf16": 0.0, "fp8": 0.1}.get(precision),
        "accuracy_evidence": "family",
        "max_context": int((capacity - weights) * 1e3 * tp),
        "max_batch": 512,
        "prefill_bound": "compute",
        "decode_bound": "memory" if batch < 256 else "compute",
        "evidence": "datasheet",
        "ttft_error_pct": 50.0,
        "tpot_error_pct": 53.0,
        "throughput_error_pct": 53.0,
        "price_usd_per_device_hour": price,
        "price_kind": "neocloud",
        "price_date": "2025-06",
        "price_source": "list price, public page",
        "compute_dtype": "bf16" if scale == 2 else "fp8",
        "status": "ok" if memory <= capacity else "exceeds_memory",
    }


def all_points() -> list[dict]:
    """Every point of the made-up sweep."""
    axes = itertools.product(MODELS, CHIPS, BITS, WORKLOADS, (1, 2, 4, 8), BATCHES)
    return [point(number, *coordinates) for number, coordinates in enumerate(axes)]


def front(rows: list[dict]) -> list[dict]:
    """The non-dominated rows of one group, by definition."""
    keys = [tuple(-row[o["name"]] if o["sense"] == "max" else row[o["name"]] for o in OBJECTIVES) for row in rows]

    def dominated(key: tuple[float, ...]) -> bool:
        return any(other != key and all(a <= b for a, b in zip(other, key, strict=True)) for other in keys)

    return [row for row, key in zip(rows, keys, strict=True) if not dominated(key)]


def make(points: int | None = None) -> tuple[dict, list[dict]]:
    """The manifest and the frontier's rows; `points` asks for that many rows, on no front in particular."""
    everything = all_points()
    feasible = [row for row in everything if row["status"] == "ok"]
    group_of = operator.itemgetter("model", "workload")
    ordered = itertools.groupby(sorted(feasible, key=group_of), key=group_of)
    groups = {key: list(rows) for key, rows in ordered}
    frontier = [row for rows in groups.values() for row in front(rows)]
    if points:
        draw = random.Random(7)
        frontier = [draw.choice(feasible) | {"number": number} for number in range(points)]
        for row in frontier:
            row["tpot_ms"] *= draw.uniform(0.8, 1.2)
    today = [point(0, "llama-3.1-70b", "h100-sxm", "bf16", workload, 8, 32) for workload in WORKLOADS]
    misfit = next(row for row in everything if row["status"] != "ok")
    manifest = {
        "name": "planner-demo",
        "hash": "3f9a1c20b7e4",
        "version": "0.1.0",
        "cost_model": 1,
        "points": 1_228_800,
        "feasible": 401_312,
        "statuses": {
            "ok": 401_312,
            "exceeds_memory": 800_000,
            "constraint:ttft_ms": 27_400,
            "heads_not_divisible": 88,
        },
        "nearest_misses": {
            "exceeds_memory": misfit | {"reason": "needs 79.1 GB of 77.0 GB on the accelerator"},
            "constraint:ttft_ms": misfit | {"number": 77, "reason": "2,004 ms, at most 2,000 ms"},
        },
        "seconds": 0.213,
        "points_per_s": 5.77e6,
        "executor": "local",
        "objectives": OBJECTIVES,
        "constraints": {"ttft_ms": {"max": 2000}},
        "group_by": ["model", "workload"],
        "groups": [
            {"key": {"model": key[0], "workload": key[1]}, "front": len(front(rows)), "feasible": len(rows)}
            for key, rows in groups.items()
        ],
        "evidence": {"datasheet": len(frontier)},
        "current": today[0],
        "current_rows": today,
        "sweep": {"name": "planner-demo", "models": list(MODELS), "hardware": list(CHIPS)},
        "axes": ["model", "hardware", "precision", "workload", "tp", "batch"],
    }
    return manifest, frontier


def write(folder: Path, manifest: dict, frontier: list[dict]) -> Path:
    """Write the two files a report reads."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(frontier), folder / "frontier.parquet")
    return folder


# Name, kernel, GFLOP per token, share of weights, activation kB per token, cache kB per token of context.
_OPERATORS = [
    ("input_norm", "input_norm", 0, 0.0, 33, 0),
    ("q_proj", "qkv_proj", 0.134, 0.134, 33, 0),
    ("k_proj", "qkv_proj", 0.017, 0.017, 19, 0),
    ("v_proj", "qkv_proj", 0.017, 0.017, 19, 0),
    ("attention", "attention", 0.02, 0.0, 33, 4.1),
    ("o_proj", "o_proj", 0.134, 0.134, 33, 0),
    ("attention_all_reduce", "attention_all_reduce", 0, 0.0, 0, 0),
    ("attention_residual", "attention_residual", 0, 0.0, 49, 0),
    ("post_norm", "post_norm", 0, 0.0, 33, 0),
    ("gate_proj", "gate_up", 0.47, 0.47, 74, 0),
    ("up_proj", "gate_up", 0.47, 0.47, 74, 0),
    ("activation", "activation", 0, 0.0, 172, 0),
    ("down_proj", "down_proj", 0.47, 0.47, 74, 0),
    ("mlp_all_reduce", "mlp_all_reduce", 0, 0.0, 0, 0),
    ("mlp_residual", "mlp_residual", 0, 0.0, 49, 0),
]


def detail(row: dict) -> dict:
    """A plausible explanation of one row, in the format of `dse explain --json`."""
    bandwidth, peak, capacity, _ = CHIPS[row["hardware"]]
    scale, tp, batch = BITS[row["precision"]] / 8, row["tp"], row["batch"]
    peaks = {"bf16": peak, "fp8": 2 * peak}
    phases = {
        "prefill": _phase(batch * row["input"], row["input"], bandwidth, peaks, scale, tp, row["compute_dtype"]),
        "decode": _phase(batch, row["input"] + row["output"], bandwidth, peaks, scale, tp, row["compute_dtype"]),
    }
    weights = MODELS[row["model"]] * scale / tp
    cache = max(0.0, row["memory_gb_per_device"] - weights - 2)
    layer = [name for name, *_ in _OPERATORS]
    return {
        "point": row,
        "hardware": {
            "name": row["hardware"],
            "memory_bandwidth_gb_per_s": bandwidth * 1000,
            "peaks_tflops": peaks,
            "vector_tflops": 67.0,
            "limit_gb": capacity,
            "capacity_gb": capacity * 1.11,
        },
        "phases": phases,
        "memory": {
            "accelerator": {
                "weights_gb": weights,
                "kv_cache_gb": cache,
                "state_gb": 0.0,
                "activations_gb": 1.2,
                "workspace_gb": 0.8,
                "total_gb": weights + cache + 2,
                "limit_gb": capacity,
                "capacity_gb": capacity * 1.11,
                "free_gb": capacity - weights - cache - 2,
            },
            "host": {"weights_gb": 0.0, "total_gb": 0.0, "capacity_gb": 2199.0},
            "disk": {"total_gb": 0.0, "capacity_gb": 30720.0},
        },
        "layers": [
            {"name": "embedding", "count": 1, "operators": ["embedding"]},
            {"name": "attention+mlp", "count": 80, "operators": layer},
            {"name": "head", "count": 1, "operators": ["final_norm", "lm_head"]},
        ],
    }


def _phase(tokens: int, context: int, bandwidth: float, peaks: dict, scale: float, tp: int, dtype: str) -> dict:
    table = [(*entry, "attention+mlp", 80) for entry in _OPERATORS]
    table.insert(0, ("embedding", "embedding", 0, 0.0, 33, 0, "embedding", 1))
    table += [
        ("final_norm", "final_norm", 0, 0.0, 33, 0, "head", 1),
        ("lm_head", "lm_head", 2.1, 2.1, 16, 0, "head", 1),
    ]
    operators = []
    for name, kernel, flops, weights, activations, cache, layer, count in table:
        vector = flops == 0 and "reduce" not in name and name != "embedding"
        work = flops * 1e9 * tokens / tp + (activations * 1e2 * tokens if vector else 0)
        moved = {
            "weights": weights * 0.5e9 * scale / tp,
            "activations_in": activations * 500 * tokens / tp,
            "activations_out": activations * 500 * tokens / tp,
            "kv_read": cache * 1e3 * context * max(1, tokens // context) / tp if cache else 0.0,
            "kv_write": 4100.0 * tokens / tp if cache else 0.0,
            "messages": 33e3 * tokens if "reduce" in name else 0.0,
        }
        device = sum(moved.values()) - moved["messages"]
        times = {
            "compute": work / (67e12 if vector else peaks[dtype] * 1e12 * 0.7),
            "memory": device / (bandwidth * 1e12 * 0.85),
            "network": moved["messages"] / 450e9 + 8e-6 if moved["messages"] else 0.0,
            "overhead": 3e-6,
        }
        bound = max(times, key=lambda key: times[key])
        operators.append(
            {
                "name": name,
                "kernel": kernel,
                "layer": layer,
                "count": count,
                "flops": work,
                "bytes": moved,
                "intensity": work / device if device else None,
                "dtype": "fp32" if vector else dtype,
                "seconds": times[bound] + 3e-6,
                "bound": bound,
            }
        )
    seconds = sum(op["count"] * op["seconds"] for op in operators)
    by = dict.fromkeys(("weights", "activations", "kv_cache", "compute", "network", "overhead"), 0.0)
    for op in operators:
        op["share"] = op["count"] * op["seconds"] / seconds
        part = op["bound"]
        if part == "memory":
            kinds = op["bytes"]
            part = "kv_cache" if kinds["kv_read"] else "weights" if kinds["weights"] else "activations"
        by[part] += op["count"] * (op["seconds"] - 3e-6)
        by["overhead"] += op["count"] * 3e-6
    shares: dict[str, float] = {}
    for op in operators:
        shares[op["bound"]] = shares.get(op["bound"], 0) + op["share"]
    return {
        "seconds": seconds,
        "bound": max(shares, key=shares.__getitem__),
        "operators": operators,
        "time_by": by,
    }
