"""A plan's answer as one HTML file: for whoever signs the order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dse.report.html import render_page, write_page
from dse.report.plan_words import headlines, sentences


def write_plan_report(answer: Mapping[str, Any], path: Path) -> Path:
    """Write the report of a plan.

    Args:
        answer: what `dse plan --json` prints.
        path: the file to write; it appears whole or not at all.

    Raises:
        CannotRun: plotly's script is not installed.
    """
    words: dict[str, Any] = {"headlines": [], "sentences": []}
    if answer["instances"]:
        words = {
            "headlines": list(headlines(answer)),
            "sentences": list(sentences(answer)),
        }
    name = str(answer["name"])
    page = render_page("plan.html", name=name, title=f"{name}: plan", data={**answer, **words}, details={})
    return write_page(path, page)
