"""A finished run on disk: its tables as data frames, its points computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dse.errors import InputError
from dse.run.identity import restore
from dse.run.score import Engine
from dse.run.store import Store
from dse.spec.reading import closest, exists

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A finished run: its folder may have been moved, the library may have changed since."""

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run in a folder.

        Raises:
            InputError: the folder holds no finished run.
        """
        manifest = Store(Path(folder)).manifest()
        if manifest is None:
            hint = "" if Path(folder).is_dir() else f"; there is no such folder{_near(Path(folder))}"
            raise InputError(f"{folder}: no finished run here (no manifest.json){hint}")
        return cls(Path(folder), manifest)

    def engine(self) -> Engine:
        """The sweep of this run, from what its manifest embeds: same numbers, same points.

        Raises:
            CannotRun: the cost model has changed since, or the manifest is damaged.
        """
        return Engine(restore(str(self.folder), self.manifest.get("resolved") or {}))

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    def frontier(self) -> pd.DataFrame:
        """All non-dominated points of all groups, complete."""
        return self._frame("frontier")

    def top(self) -> pd.DataFrame:
        """The best points per objective and group."""
        return self._frame("top")

    def rows(self, name: str = "frontier") -> list[dict[str, Any]]:
        """A table as plain rows.

        Raises:
            InputError: it is absent or damaged.
        """
        found: list[dict[str, Any]] = Store(self.folder).read_table(name).to_pylist()
        return found

    def points(self, columns: Sequence[str] | None = None, where: Any = None) -> pd.DataFrame:
        """All points of a run with `keep: all`.

        Args:
            columns: names of columns; None for all.
            where: which points: `{"tp": 8, "batch": [1, 16]}`, pyarrow's filters `[("tp", ">=", 8)]`, or one of its
                expressions; None for all.

        Raises:
            InputError: the run kept its frontier only, has no such column, or `where` is none of these.
        """
        frame: pd.DataFrame = Store(self.folder).read_points(columns, where).to_pandas()
        return frame

    def _frame(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = Store(self.folder).read_table(name).to_pandas()
        return frame


def _near(folder: Path) -> str:
    """A hint from the runs beside a folder that is not there, and from where runs are written by default."""
    near = (entry for place in (folder.parent, Path("results")) if exists(place) for entry in place.glob("*/"))
    runs = {entry.name: entry for entry in near if Store(entry).is_complete()}
    named = [name for name in sorted(runs) if name.startswith(f"{folder.name}-")]
    found = named[0] if named else closest(folder.name, runs)
    return "" if found is None else f"; did you mean {str(runs[found])!r}?"
