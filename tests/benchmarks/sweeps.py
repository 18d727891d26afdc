"""The sweeps that are timed, and one of them run in a process of its own: `python sweeps.py BATCH DEVICES...`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

MODELS = ["llama-3.1-70b", "mixtral-8x7b", "deepseek-v3", "qwen3-235b-a22b"]
OBJECTIVES = ["output_tokens_per_s_per_device", "tpot_ms", "usd_per_million_output_tokens"]
WORKLOADS = [(512, 128), (1024, 1024), (4096, 512), (16384, 1024)]


def sweep(batch: int, devices: list[int]) -> dict[str, Any]:
    """Dense, MoE and MLA models; every layout of so many devices; every batch from 1."""
    return {
        "name": "speed",
        "models": MODELS,
        "hardware": ["h100-sxm", "h200-sxm", "b200", "mi300x"],
        "precision": ["bf16", "fp8", "w4a16-g128"],
        "workload": [{"input": prompt, "output": output} for prompt, output in WORKLOADS],
        "devices": devices,
        "batch": {"from": 1, "to": batch},
        "fidelity": "datasheet",
        "price": {"kind": "neocloud"},
        "objectives": OBJECTIVES,
        "group_by": ["model", "workload"],
    }


def small() -> dict[str, Any]:
    """About a thousand points, as one would try first."""
    return {
        "name": "small",
        "models": MODELS[:3],
        "hardware": ["h100-sxm", "mi300x"],
        "precision": ["bf16", "fp8"],
        "workload": [{"input": 1024, "output": 256}, {"input": 8192, "output": 1024}],
        "parallel": {"tp": [1, 2, 4, 8]},
        "batch": {"from": 1, "to": 1024, "scale": "log2"},
        "objectives": OBJECTIVES,
        "group_by": ["model", "workload"],
    }


def peak_mb() -> float:
    """Most memory this program ever had resident (`ru_maxrss` would count the process that started it)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def main(batch: int, devices: list[int]) -> None:
    """Run the sweep; print points, seconds and memory before and after, as JSON."""
    import jinja2  # noqa: F401
    import pyarrow.csv
    import pyarrow.parquet  # noqa: F401

    import dse.report.html  # noqa: F401
    from dse.run.sweep import run_sweep

    imported = peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        manifest = run_sweep(sweep(batch, devices), folder, executor="local").manifest
    kept = {key: manifest[key] for key in ("points", "seconds")}
    print(json.dumps({**kept, "imported_mb": imported, "peak_mb": peak_mb()}))


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(count) for count in sys.argv[2:]])
