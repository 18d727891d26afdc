"""The folder of a run: files appear whole or not at all, finished parts are found again."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dse.errors import CannotRun, InputError
from dse.run.score import Tally

if TYPE_CHECKING:
    import pyarrow as pa

TEXT = (
    "model", "hardware", "precision", "workload", "serving", "offload", "runtime", "fidelity", "attention",
    "prefill_bound", "decode_bound", "accuracy_evidence", "compute_dtype", "evidence",
    "price_kind", "price_date", "price_source", "status",
)  # fmt: skip
WHOLE = ("number", "input", "output", "tp", "pp", "dp", "ep", "batch", "devices", "max_context", "max_batch")


def write_whole(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a file beside `path`, then move it into place in one step.

    Raises:
        CannotRun: the folder cannot be written, or the disk is full.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        os.replace(beside, path)
    except OSError as error:
        raise CannotRun(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        beside.unlink(missing_ok=True)
    return path


def table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """An Arrow table of complete rows, each column with its fixed type."""
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        if name in TEXT:
            arrays[name] = pa.array(values, pa.string())
        elif name in WHOLE:
            arrays[name] = pa.array(values, pa.int64())
        elif any(isinstance(value, str) for value in values):
            arrays[name] = pa.array([str(value) for value in values], pa.string())
        else:
            arrays[name] = pa.array(values, pa.float64())
    return pa.table(arrays)


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
        """Written last: a run with a manifest is complete."""
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
        if not isinstance(found, dict) or "hash" not in found:
            raise InputError(f"{self.manifest_path}: not a manifest; run the sweep again with --fresh")
        return found

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest; NaN becomes null."""
        text = json.dumps(_finite(manifest), indent=1, ensure_ascii=False, default=str)
        write_whole(self.manifest_path, lambda path: path.write_text(text + "\n", encoding="utf-8"))

    def write_table(self, name: str, columns: Mapping[str, Sequence[Any]], csv: bool = False) -> None:
        """Write `name`.parquet, and .csv if asked."""
        import pyarrow.parquet as pq

        rows = table(columns)
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
        import pyarrow.parquet as pq

        path = self.folder / f"{name}.parquet"
        try:
            return pq.read_table(path, use_threads=False)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; is this the folder of a finished run?") from None
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: not a table of a run: {error}") from None

    def clear(self) -> None:
        """Remove everything an earlier run of the same sweep left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- parts --------------------------------------------------------------------------------------

    def _part(self, index: int) -> Path:
        return self.folder / "parts" / f"part-{index:06d}.parquet"

    def write_part(self, index: int, tally: Tally) -> None:
        """Keep what a finished part found."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        groups, numbers, costs = [], [], []
        for group, number, cost in _kept(tally):
            groups += [group] * len(number)
            numbers += number.tolist()
            costs += cost.tolist()
        facts = {
            "statuses": list(tally.statuses.items()),
            "feasible": list(tally.feasible.items()),
            "nearest": list(tally.nearest.items()),
        }
        rows = pa.table(
            {
                "group": pa.array(groups, pa.int64()),
                "number": pa.array(numbers, pa.int64()),
                "costs": pa.array(costs, pa.list_(pa.float64())),
            },
        ).replace_schema_metadata({"tally": json.dumps(facts)})
        write_whole(self._part(index), lambda path: pq.write_table(rows, path, compression="zstd"))

    def read_part(self, index: int) -> Tally | None:
        """What a finished part found, or None where it has not finished (or its file is damaged)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            rows = pq.read_table(self._part(index), use_threads=False)
            facts = json.loads(rows.schema.metadata[b"tally"])
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
            return None
        tally = Tally(
            statuses=dict(facts["statuses"]),
            feasible=dict(facts["feasible"]),
            nearest={code: (miss[0], miss[1]) for code, miss in facts["nearest"]},
        )
        if rows.num_rows:
            costs = np.array(rows["costs"].to_pylist())
            group = rows["group"].to_numpy()
            number = rows["number"].to_numpy()
            good = np.ones(len(number), dtype=bool)
            for archive in (tally.front, tally.top):
                archive.update(list(costs.T), group, good, number)
        return tally

    def clear_parts(self) -> None:
        """Remove the parts of a run that is complete."""
        shutil.rmtree(self.folder / "parts", ignore_errors=True)

    def write_points(self, index: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Write all points of a part."""
        import pyarrow.parquet as pq

        rows = table(columns)
        path = self.folder / "points" / f"part-{index:06d}.parquet"
        write_whole(path, lambda target: pq.write_table(rows, target, compression="zstd"))

    def has_points(self, index: int) -> bool:
        """Whether all points of a part are on disk."""
        return (self.folder / "points" / f"part-{index:06d}.parquet").is_file()


def _kept(tally: Tally) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64]]]:
    """Group, numbers and costs of the fronts and of the best points; these have NaN in other objectives."""
    for group, (number, cost) in tally.front.fronts().items():
        yield group, number, cost
    for group, of_objective in tally.top.tops().items():
        for objective, (number, cost) in enumerate(of_objective):
            alone = np.full((len(number), len(of_objective)), np.nan)
            alone[:, objective] = cost
            yield group, number, alone


def _finite(value: Any) -> Any:
    """The value with NaN and infinities as None: JSON has no such numbers."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
