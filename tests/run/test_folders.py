"""Where results cannot go, and where they have gone: messages without tracebacks, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from runs import front_bytes

import dse
from dse.errors import CannotRun, InputError
from dse.run.diff import diff_runs
from dse.run.evaluate import explain_run
from dse.run.folder import Run
from dse.run.identity import restore
from dse.run.sweep import load_sweep, rewrite_report, run_sweep
from dse.spec.catalog import hardware_names


def test_out_is_a_file(small, tmp_path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(CannotRun, match=r"out.small-\w+: cannot be written: (Not a directory|File exists)"):
        run_sweep(small, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_out_cannot_be_written(small, tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CannotRun, match="cannot be written: Permission denied"):
        run_sweep(small, tmp_path)


def test_out_is_read_only(small, tmp_path, monkeypatch) -> None:
    """As root, where permissions do not bind, a file system that is mounted read-only."""

    def refuse(self: Path, *args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CannotRun, match="cannot be written: Read-only file system"):
        run_sweep(small, tmp_path / "out")


FULL = """
import resource, sys
from dse.cli import run
limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
sys.exit(run(["sweep", sys.argv[1], "--out", sys.argv[2]]))
"""
"""The command line where no file may grow beyond a limit, which a full disk looks like to the program."""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize(("limit", "file"), [(1_000, "frontier.parquet"), (1_000_000, "report.html")])
def test_a_full_disk_is_told_and_leaves_whole_files_only(small, tmp_path, limit, file) -> None:
    (tmp_path / "s.yaml").write_text(json.dumps(small))
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "s.yaml"), str(out), str(limit)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    (folder,) = out.iterdir()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"{folder / file}: cannot be written: ")
    assert "Traceback" not in done.stderr
    assert not (folder / file).exists()
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    run = run_sweep(small, out)
    assert front_bytes(run.folder) == front_bytes(run_sweep(small, tmp_path / "whole").folder)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("llama / capacity: 70B?", "llama-capacity-70B"),
        ("../../escape", "escape"),
        ("多 モデル", "多-モデル"),
        ("...", "sweep"),
        ("a" * 100, "a" * 60),
        ("[bold]x[/bold]", "bold-x-bold"),
    ],
)
def test_any_name_makes_a_folder_inside_out(small, tmp_path, name, folder) -> None:
    run = run_sweep({**small, "name": name}, tmp_path / "out")
    assert run.folder.parent == tmp_path / "out"
    assert run.folder.name == f"{folder}-{run.manifest['hash']}"
    assert run.manifest["name"] == name


def test_a_moved_run_is_whole(small, tmp_path, monkeypatch) -> None:
    """A manifest holds all a result rests on: another folder, another library, no sweep file."""
    chip = {"base": "h100-sxm", "name": "mine", "memory.capacity_gb": [60, 90]}
    run = run_sweep({**small, "hardware": [chip, "mi300x"]}, tmp_path / "out")
    other = run_sweep(small, tmp_path / "out")
    number = int(run.frontier()["number"][0])
    before = explain_run(str(run.folder), number)

    moved = tmp_path / "elsewhere" / "run"
    shutil.copytree(run.folder, moved)
    shutil.rmtree(run.folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dse.spec.shelf.library_file", lambda path: tmp_path / "no-library" / path)

    assert repr(explain_run("elsewhere/run", number)) == repr(before)  # NaN differs from itself
    assert rewrite_report(moved) == moved / "report.html"
    assert Run.open(moved).frontier().equals(run_frame(moved))
    changes = diff_runs(Run.open(moved), other)
    assert changes["front"]["before"] == len(run_frame(moved))
    assert any(path.startswith("hardware[") for path, _, _ in changes["inputs"])


def run_frame(folder: Path):
    import pandas as pd

    return pd.read_parquet(folder / "frontier.parquet")


def test_a_run_of_another_cost_model_is_not_computed_again(small, tmp_path) -> None:
    run = run_sweep(small, tmp_path)
    path = run.folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["resolved"]["cost_model"] = -1
    path.write_text(json.dumps(manifest))
    with pytest.raises(CannotRun, match="the cost model has changed since this run; run the sweep again"):
        explain_run(str(run.folder), 0)


@pytest.mark.parametrize("number", [-1, 192])
def test_a_point_that_is_not_there(small, tmp_path, number) -> None:
    run = run_sweep(small, tmp_path)
    with pytest.raises(InputError, match=rf"no point {number}; the run has the points 0 to 191"):
        explain_run(str(run.folder), number)


def test_keep_all_keeps_every_point(small, tmp_path) -> None:
    said: list[str] = []
    run = run_sweep({**small, "keep": "all"}, tmp_path, part_points=60, say=said.append)
    frame = run.points().sort_values("number", ignore_index=True)
    assert frame["number"].tolist() == list(range(192))
    assert (frame["status"] == "ok").sum() == run.manifest["feasible"]
    assert any(line.startswith("keep: all writes about ") for line in said)
    few = run.points(["number", "tp"], [("tp", "==", 8)])
    assert list(few.columns) == ["number", "tp"]
    assert set(few["tp"]) == {8}
    with pytest.raises(InputError, match="tpp: no such column; did you mean 'tp'"):
        run.points(["tpp"])


def test_keep_all_is_refused_beyond_the_free_disk(small, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.raises(CannotRun, match=r"keep: all needs about 0\.0 GB, .* has 0\.0 GB free"):
        run_sweep({**small, "keep": "all"}, tmp_path)


def test_points_of_a_run_that_kept_its_frontier(small, tmp_path) -> None:
    with pytest.raises(InputError, match="kept its frontier only; run it with keep: all"):
        dse.run_sweep(small, tmp_path).points()


def test_every_accelerator_of_the_library_is_restored_from_a_manifest(small) -> None:
    """Those whose calibration is all of relatives among them: it has no source of its own."""
    sweep = load_sweep({**small, "hardware": hardware_names()})
    assert restore("again", json.loads(json.dumps(sweep.resolved))).hardware == sweep.hardware
