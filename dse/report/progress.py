"""A progress bar that appears only when a run takes long enough to wonder."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE = 1.0
"""Seconds before the bar appears."""


class Progress:
    """Called with (done, total); prints remarks above the bar, to stderr."""

    def __init__(self, stage: str = "scoring", last: str = "writing tables and report") -> None:
        self._stage, self._last = stage, last
        self._start = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __call__(self, done: int, total: int) -> None:
        """Show how far the run is."""
        if self._bar is None:
            if time.monotonic() - self._start < PATIENCE or not sys.stderr.isatty():
                return
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._stage, total=total)
        stage = self._stage if done < total else self._last
        self._bar.update(self._task, completed=done, total=total, description=stage)

    def say(self, text: str) -> None:
        """A remark for the user."""
        print(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress_bar(stage: str = "scoring", last: str = "writing tables and report") -> Iterator[Progress]:
    """A bar for the time of a block: what it shows while there is something to do, and after that."""
    progress = Progress(stage, last)
    try:
        yield progress
    finally:
        progress.close()
