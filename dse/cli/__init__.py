"""The command line: reads arguments, calls the library, prints. Everything it can do, Python can do.

One file per kind of command; each registers its own with the group in `root`.
"""

from __future__ import annotations

from dse.cli import library, measure, plans, points, runs, simulate  # noqa: F401  (they register their commands)
from dse.cli.root import cli, main, run

__all__ = ["cli", "main", "run"]
