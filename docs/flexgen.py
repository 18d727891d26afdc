"""Predict FlexGen's published throughputs by `dse place`: `python docs/flexgen.py` writes the table of docs/flexgen.md.

The measured figures are those of tests/published/flexgen_t4.csv; tests/published/test_flexgen_commands.py holds page
and commands together.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median

from dse.cli import run

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "tests" / "published" / "flexgen_t4.csv"
PAGE = ROOT / "docs" / "flexgen.md"
BEGIN, END = "<!-- written by docs/flexgen.py -->\n", "<!-- /flexgen -->\n"

ALWAYS = ("place", "--hardware", "t4-flexgen", "--output", "32", "--whole-tensors", "--memory-utilization", "1",
          "--host-utilization", "1", "--max-prefill-tokens", "unlimited")  # fmt: skip
FOUR_BIT = "{dtype: int4, group_size: 64, scale_bits: 16, zero_bits: 16}"
SCHEMES = {
    "none": "fp16",
    "kv4": f"{{weights: fp16, activations: fp16, kv_cache: {FOUR_BIT}}}",
    "w4+kv4": f"{{weights: {FOUR_BIT}, activations: fp16, kv_cache: {FOUR_BIT}}}",
}
UNPACKING = "20"
"""Bytes per element its element-wise kernels move to unpack four bits: fitted to one row."""

Row = Mapping[str, str]


def rows() -> list[Row]:
    """The published figures."""
    with MEASURED.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def options(row: Row) -> list[str]:
    """What of the command is the row's own."""
    found = ["--model", row["model"], "--precision", SCHEMES[row["compressed"]], "--input", row["prompt"]]
    found += ["--gpu-batch", row["gpu_batch"], "--num-batches", row["num_batches"]]
    found += ["--policy", ",".join(row[name] for name in ("wg", "wc", "cg", "cc", "hg", "hc"))]
    found += ["--host", "attention" if row["attention_on_host"] == "1" else "none"]
    found += ["--overlap", "pairwise" if row["overlap"] == "1" else "serial"]
    return found if row["compressed"] == "none" else [*found, "--dequantization", UNPACKING]


def predicted(row: Row) -> float:
    """Tokens per second as the command prints them."""
    said = io.StringIO()
    with redirect_stdout(said):
        code = run([*ALWAYS, *options(row), "--json"])
    if code:
        raise SystemExit(f"dse {shlex.join(options(row))}: exit {code}")
    return float(json.loads(said.getvalue())["output_tokens_per_s"])


def table(found: Sequence[tuple[Row, float]]) -> list[str]:
    """Measured against predicted, and the commands, as lines of Markdown."""
    errors = [(row, speed / float(row["tokens_per_s"]) - 1) for row, speed in found]
    scored = [(row["regime"], error) for row, error in errors if row["role"] == "scored"]
    lines = ["| | model, prompt | 4 bits | block | policy | overlap | measured | predicted | error |", "|---" * 9 + "|"]
    for (row, speed), (_, error) in zip(found, errors, strict=True):
        where = f"{row['source']}{', ' + row['note'] if row['note'] else ''}"
        policy = " ".join(row[name] for name in ("wg", "wc", "cg", "cc", "hg", "hc"))
        host = ", host attends" if row["attention_on_host"] == "1" else ""
        fitted = " (fitted)" if row["role"] == "fitted" else ""
        lines.append(
            f"| {where} | {row['model']}, {row['prompt']} | {row['compressed']} | {row['gpu_batch']} x "
            f"{row['num_batches']} | {policy}{host} | {'yes' if row['overlap'] == '1' else 'no'} | "
            f"{row['tokens_per_s']} | {speed:.3g} | {100 * error:+.0f} %{fitted} |"
        )
    regimes = dict.fromkeys(regime for regime, _ in scored)
    lines += ["", "Not fitted:", "", *(f"- {_typical(regime, scored)}" for regime in regimes)]
    lines += ["", "```sh", f'flexgen="dse {shlex.join(ALWAYS)}"']
    return [*lines, *(f"$flexgen {shlex.join(options(row))}" for row, _ in found), "```"]


def _typical(regime: str, errors: Iterable[tuple[str, float]]) -> str:
    own = [error for of, error in errors if of == regime]
    signed, typical = 100 * median(own), 100 * median(abs(error) for error in own)
    return f"{regime}, {len(own)} rows: median error {typical:.0f} %, bias {signed:+.0f} %"


def written(page: str) -> str:
    """The page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = table([(row, predicted(row)) for row in rows()])
    return before + BEGIN + "".join(f"{line}\n" for line in lines) + END + after


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
