"""What the tests of runs share."""

from __future__ import annotations

from pathlib import Path

PART = 60
"""Points of a part in these tests: the small sweep has four."""


def front_bytes(folder: Path) -> dict[str, bytes]:
    """What must not differ between two runs of one sweep."""
    return {name: (folder / name).read_bytes() for name in ("frontier.parquet", "top.parquet", "frontier.csv")}
