"""Measure README's table of errors anew and put it there: `python docs/accuracy.py ../shared/data/measured/dev.csv`.

Writes docs/accuracy.json and what stands between the marks of README.md (tests/test_accuracy_table.py holds the two
together). Takes some minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from dse.calibrate.accuracy import table

ROOT = Path(__file__).resolve().parent.parent
FIGURES = ROOT / "docs" / "accuracy.json"
BEGIN, END = "<!-- accuracy: written by docs/accuracy.py -->\n", "<!-- /accuracy -->\n"


def written(readme: str, figures: Path = FIGURES) -> str:
    """README with the table of these figures."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = table(json.loads(figures.read_text(encoding="utf-8")))
    return before + BEGIN + "".join(f"{line}\n" for line in lines) + END + after


def main(measured: str) -> None:
    """Measure, then write."""
    subprocess.run([sys.executable, "-m", "dse", "validate", measured, "--accuracy", str(FIGURES)], check=True)
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
