"""Write configs/traces.yaml: public traces of request lengths, each reduced to at most 16 weighted pairs.

    python docs/traces.py HISTOGRAMS.csv

HISTOGRAMS.csv has the columns trace, in_lo, in_hi, out_lo, out_hi, count, mean_in, mean_out; beside it lies
`trace_length_percentiles.csv` with trace, which (input, output) and max. The reduction is `dse.spec.lengths.reduced`:
groups of cells, each at its mean, so that the means of the trace stay exact.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from dse.spec.lengths import FILE, Length, reduced

TRACES = {
    "azure-conversation": (
        "azure2023_conv", ["conversation"], "Azure LLM inference trace 2023, conversation (Splitwise, ISCA 2024)",
        "CC-BY 4.0",
    ),
    "azure-code": (
        "azure2023_code", ["code"], "Azure LLM inference trace 2023, code completion (Splitwise, ISCA 2024)",
        "CC-BY 4.0",
    ),
    "arxiv-summarisation": (
        "arxiv_summarization_llama2tok", ["summarisation", "summarization"],
        "arXiv summarisation in Llama-2 tokens, as processed by Vidur", "MIT",
    ),
    "mooncake-conversation": (
        "mooncake_conversation", ["long-context"], "Mooncake conversation trace (FAST'25)", "Apache-2.0",
    ),
}  # fmt: skip
"""Name -> the histogram's name, aliases, source, licence."""

HEADER = """\
# Lengths of requests in public traces: at most 16 pairs [input, output, share of the requests] each, whose means are
# the trace's. Written by docs/traces.py from histograms of 14 x 14 cells with the mean lengths of each cell.
# `longest` are the longest prompt and the longest answer, of two requests in general.
"""
PERCENTILES = "trace_length_percentiles.csv"


def entry(cells: list[Length]) -> list[list[float]]:
    """The pairs of a trace, with as many digits as keep its means to 1e-6."""
    return [[round(i, 4), round(o, 4), round(w, 9)] for i, o, w in reduced(cells)]


def text(histograms: Path) -> str:
    """The file."""
    with histograms.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    with histograms.with_name(PERCENTILES).open(newline="") as lines:
        most = {(row["trace"], row["which"]): int(row["max"]) for row in csv.DictReader(lines)}
    parts = [HEADER]
    for name, (key, aliases, source, licence) in TRACES.items():
        own = [row for row in rows if row["trace"] == key]
        cells = [Length(float(r["mean_in"]), max(float(r["mean_out"]), 1.0), float(r["count"])) for r in own]
        parts.append(f"{name}:\n  aliases: [{', '.join(aliases)}]\n  source: {source}\n  licence: {licence}\n")
        parts.append(f"  requests: {sum(int(r['count']) for r in own)}\n")
        parts.append(f"  longest: [{most[key, 'input']}, {most[key, 'output']}]\n  lengths:\n")
        parts += [f"    - [{i}, {o}, {w}]\n" for i, o, w in entry(cells)]
    return "".join(parts)


if __name__ == "__main__":
    (Path(__file__).parents[1] / FILE).write_text(text(Path(sys.argv[1])))
