"""Measured rows for tests."""

from __future__ import annotations

import csv
from pathlib import Path

from dse.calibrate.measured import OPTIONAL, REQUIRED, Measured

COLUMNS = ("row_id", *REQUIRED, *(name for name in OPTIONAL if name != "row_id"))

ROW = {
    "source": "mine", "model": "Llama-3.1-8B", "hardware": "H100-80GB-SXM", "framework": "vllm", "tp": "1",
    "n_gpus": "1", "weight_dtype": "bf16", "act_dtype": "bf16", "kv_dtype": "bf16",
    "input_len": "1024", "output_len": "256",
    "batch_or_concurrency": "16", "scenario": "static_batch", "metric": "e2e_s", "value": "4.0",
}  # fmt: skip


def measured(**fields: str) -> Measured:
    """A row with some fields changed."""
    return Measured({**dict.fromkeys(COLUMNS, ""), **ROW, **fields}, 2)


def write(path: Path, *rows: dict[str, str]) -> Path:
    """A file of rows, each with some fields changed."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**dict.fromkeys(COLUMNS, ""), **ROW, **row} for row in rows)
    return path
