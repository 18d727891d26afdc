"""The page of a validation: predicted against measured, per source; tables of errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dse.report.html import render_page, write_page


def write_validation(data: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a validation as one HTML file.

    Args:
        data: `name`, `about`, `summary` (as `Validation.summary`), `points` (per source: per metric the columns
            `measured`, `predicted`, `text`).
        path: the file to write; it appears whole or not at all.

    Raises:
        CannotRun: plotly's script is not installed.
    """
    title = f"{data['name']}: predicted and measured"
    return write_page(path, render_page("validate.html", name=data["name"], title=title, data=data, details={}))
