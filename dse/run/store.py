"""The folder of a run: files appear whole or not at all, finished parts are found again."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import CannotRun, InputError
from dse.plain import json_bytes, plain
from dse.run.arrow import arrow, table
from dse.run.filters import check_columns, expression
from dse.run.lock import lock_file
from dse.run.score import Tally
from dse.search.space import Part

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("frontier", "top")
MANIFEST = {
    "name", "hash", "version", "cost_model", "points", "feasible", "statuses", "nearest_misses", "seconds", "executor",
    "objectives", "constraints", "group_by", "groups", "evidence", "current_rows", "axes", "sweep", "resolved",
}  # fmt: skip
"""What every manifest has: one without has been damaged, or written by another version."""
TEMPORARY = ".tmp"
FRONT, BEST = 0, 1
"""The archive of a row of a part."""

Columns = Mapping[str, Sequence[Any]]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses while `path` is written, said as the user needs it.

    Raises:
        CannotRun: the folder cannot be written, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise CannotRun(f"{path}: cannot be written: {reason}") from None


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then move it into place in one step.

    Raises:
        CannotRun: the folder cannot be written, or the disk is full.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    return path


def _read(path: Path) -> pa.Table:
    """A Parquet file as one table (`read_table` imports pandas)."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(use_threads=False)


class Store:
    """Reads and writes the files of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, out: Path, name: str, hash: str) -> Store:
        """The store of a sweep by its name and hash."""
        slug = re.sub(r"[^\w.-]+", "-", name).strip("-.")[:60] or "sweep"
        return cls(out / f"{slug}-{hash}")

    # -- the whole run ------------------------------------------------------------------------------

    @property
    def manifest_path(self) -> Path:
        """Written after the tables: a run with a manifest is complete but for its report."""
        return self.folder / "manifest.json"

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of a complete run, or None.

        Raises:
            InputError: it is there but is not one.
        """
        try:
            text = self.manifest_path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"{self.manifest_path}: cannot be read: {error.strerror}") from None
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not found.keys() >= MANIFEST:
            raise InputError(f"{self.manifest_path}: not a manifest; run the sweep again with --fresh")
        return found

    def is_complete(self) -> bool:
        """Whether the tables and the manifest of the run are there; a damaged manifest is none."""
        try:
            found = self.manifest()
        except InputError:
            return False
        return found is not None and all((self.folder / f"{name}.parquet").is_file() for name in TABLES)

    def write_manifest(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest and return it as it is read back; NaN becomes null."""
        text = json_bytes(manifest, pretty=True)
        write_whole(self.manifest_path, lambda path: path.write_bytes(text))
        found: dict[str, Any] = plain(manifest)
        return found

    def write_table(self, name: str, columns: Columns, text: Collection[str] = (), *, csv: bool = False) -> None:
        """Write `name`.parquet, and .csv if asked."""
        import pyarrow.parquet as pq

        rows = table(columns, text)
        write_whole(self.folder / f"{name}.parquet", lambda path: pq.write_table(rows, path, compression="zstd"))
        if csv:
            from pyarrow import csv as arrow_csv

            write_whole(self.folder / f"{name}.csv", lambda path: arrow_csv.write_csv(rows, path))

    def read_table(self, name: str) -> pa.Table:
        """Read `name`.parquet.

        Raises:
            InputError: it is absent or damaged.
        """
        import pyarrow as pa

        path = self.folder / f"{name}.parquet"
        try:
            return _read(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; is this the folder of a finished run?") from None
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: not a table of a run: {error}") from None

    def clear(self) -> None:
        """Remove everything an earlier run of the same sweep left."""
        for path in self.folder.iterdir():
            if path != self._lock:
                _remove(path)

    @property
    def _lock(self) -> Path:
        return self.folder / ".lock"

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Keep other processes out of the folder, which is made; a lock ends with its process.

        Args:
            say: told when another process has to be waited for.

        Raises:
            CannotRun: the folder cannot be made or written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = lock_file(self._lock, lambda: say(f"another process is running this sweep; waiting: {self.folder}"))
        try:
            self._clear_temporary()
            yield
        finally:
            self._lock.unlink(missing_ok=True)
            lock.close()

    def _clear_temporary(self) -> None:
        """Remove the half-written files of a process that was killed."""
        for path in self.folder.rglob(f".*{TEMPORARY}"):
            path.unlink(missing_ok=True)

    # -- parts --------------------------------------------------------------------------------------

    def _part(self, part: Part, kind: str = "parts") -> Path:
        return self.folder / kind / f"part-{part.number:06d}-{part.points.start}-{part.points.stop}.parquet"

    def write_part(self, part: Part, tally: Tally) -> None:
        """Keep what a finished part found."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        facts = {
            "statuses": list(tally.statuses.items()),
            "feasible": list(tally.feasible.items()),
            "nearest": list(tally.nearest.items()),
            "programs": list(tally.programs.items()),
        }
        columns = _kept(tally)
        rows = pa.Table.from_arrays([arrow(values) for values in columns.values()], list(columns))
        rows = rows.replace_schema_metadata({"tally": json.dumps(facts)})
        write_whole(self._part(part), lambda path: pq.write_table(rows, path, compression="zstd"))

    def read_part(self, part: Part) -> Tally | None:
        """What a finished part found, or None where it has not finished, or its file is damaged."""
        import pyarrow as pa

        if not self._part(part).is_file():
            return None
        try:
            rows = _read(self._part(part))
            facts = json.loads(rows.schema.metadata[b"tally"])
            tally = Tally(
                statuses=dict(facts["statuses"]),
                feasible=dict(facts["feasible"]),
                nearest={code: (miss[0], miss[1]) for code, miss in facts["nearest"]},
                programs=dict(facts["programs"]),
            )
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            return None
        if tally.points != len(part.points):
            return None
        if rows.num_rows:
            archive, group, number, *costs = (column.to_numpy() for column in rows.columns)
            tally.front.update(costs, group, archive == FRONT, number)
            tally.top.update(costs, group, archive == BEST, number)
        return tally

    def clear_parts(self) -> None:
        """Remove the parts of a run that is complete."""
        shutil.rmtree(self.folder / "parts", ignore_errors=True)

    # -- all points ---------------------------------------------------------------------------------

    def write_points(self, part: Part, chunks: Iterable[pa.Table]) -> None:
        """Write all points of a part, table after table."""
        import pyarrow.parquet as pq

        def write(path: Path) -> None:
            tables = iter(chunks)
            first = next(tables)
            with pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
                for rows in chain([first], tables):
                    writer.write_table(rows)

        write_whole(self._part(part, "points"), write)

    def keep_points_of(self, parts: Iterable[Part]) -> None:
        """Remove the points that a run in other parts left: they would stand there twice."""
        own = {self._part(part, "points") for part in parts}
        for path in (self.folder / "points").glob("*.parquet"):
            if path not in own:
                _remove(path)

    def has_points(self, part: Part) -> bool:
        """Whether all points of a part are on disk, whole."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self._part(part, "points")
        try:
            return path.is_file() and pq.read_metadata(path).num_rows == len(part.points)
        except (OSError, pa.ArrowException):
            return False

    def read_points(self, columns: Sequence[str] | None, where: Any) -> pa.Table:
        """All points of a run with `keep: all`.

        Args:
            columns: names of columns; None for all.
            where: which points, as `dse.run.filters.expression` takes it.

        Raises:
            InputError: the run kept its frontier only, has no such column, or `where` is no filter.
        """
        import pyarrow.parquet as pq

        folder = self.folder / "points"
        if not folder.is_dir():
            raise InputError(f"{self.folder}: kept its frontier only; run it with keep: all")
        schema = pq.read_schema(min(folder.glob("*.parquet")))
        check_columns(columns or (), schema.names)
        filters = expression(where, schema)
        return pq.read_table(folder, columns=list(columns) if columns else None, filters=filters)


def _remove(path: Path) -> None:
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _kept(tally: Tally) -> dict[str, NDArray[Any]]:
    """Archive, group, number and costs of what a part keeps, as columns.

    The best points have NaN in other objectives. The groups of fronts are divisions, those of best points groups.
    """
    kept: list[tuple[int, int, NDArray[np.int64], NDArray[np.float64]]] = [
        (FRONT, group, number, cost) for group, (number, cost) in tally.front.fronts().items()
    ]
    for group, of_objective in tally.top.tops().items():
        for objective, (number, cost) in enumerate(of_objective):
            alone = np.full((len(number), len(of_objective)), np.nan)
            alone[:, objective] = cost
            kept.append((BEST, group, number, alone))
    if not kept:
        none = np.zeros(0, dtype=np.int64)
        return {"archive": none, "group": none, "number": none}
    table = np.concatenate([cost for *_, cost in kept])
    columns = {
        "archive": np.concatenate([np.full(len(number), archive) for archive, _, number, _ in kept]),
        "group": np.concatenate([np.full(len(number), group) for _, group, number, _ in kept]),
        "number": np.concatenate([number for *_, number, _ in kept]),
    }
    return columns | {f"cost_{objective}": np.ascontiguousarray(column) for objective, column in enumerate(table.T)}
