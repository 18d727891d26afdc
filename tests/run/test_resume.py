"""A run may be stopped at any moment, and loses at most the parts it was working on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import PART, front_bytes

from dse.errors import CannotRun
from dse.run.executors import Local
from dse.run.sweep import run_sweep

SLOW = """
import json, sys, time
from dse.cli import run
import dse.run.sweep as sweep
from dse.run.score import Engine

tally = Engine.tally
def slow(self, part, on_points=None):
    time.sleep(float(sys.argv[3]) if part.number else 0.4)
    return tally(self, part, on_points)
Engine.tally = slow
sweep.PART_POINTS = 60
sweep.run_sweep.__kwdefaults__["part_points"] = 60
sys.exit(run(["sweep", sys.argv[1], "--out", sys.argv[2]]))
"""
"""The command line with parts of 60 points that take so many seconds each, but for the first."""


@pytest.fixture
def sweep_file(small, tmp_path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(small))  # JSON is YAML
    return path


@pytest.fixture
def whole(small, tmp_path) -> dict[str, bytes]:
    """What a run that nobody disturbed leaves."""
    return front_bytes(run_sweep(small, tmp_path / "whole").folder)


class Counting(Local):
    """Counts the parts that are computed."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    def run(self, work, indices, done) -> None:
        self.computed += indices
        super().run(work, indices, done)


def stopped(sweep_file: Path, out: Path, how: signal.Signals) -> tuple[subprocess.Popen[str], list[Path]]:
    """A process that got this signal after its first part, and the parts it left.

    The second part takes a minute, so that on a busy machine the signal still comes before the end.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(sweep_file), str(out), "60"],
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not list(out.rglob("part-*.parquet")):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline, "no part within 30 s"
        time.sleep(0.02)
    os.kill(process.pid, how)
    process.wait(30)
    return process, sorted(out.rglob("part-*.parquet"))


def test_interrupt_leaves_with_130_and_keeps_finished_parts(sweep_file, small, tmp_path, whole) -> None:
    process, parts = stopped(sweep_file, tmp_path / "out", signal.SIGINT)
    assert process.returncode == 130
    assert process.stderr is not None
    assert process.stderr.read().splitlines()[-1].startswith("interrupted; finished parts are kept")
    assert parts
    assert front_bytes(run_sweep(small, tmp_path / "out", part_points=PART).folder) == whole


def test_a_killed_run_goes_on_and_gives_the_same_bytes(sweep_file, small, tmp_path, whole) -> None:
    _, parts = stopped(sweep_file, tmp_path / "out", signal.SIGKILL)
    finished = [int(path.name.split("-")[1]) for path in parts]
    executor = Counting()
    run = run_sweep(small, tmp_path / "out", executor=executor, part_points=PART)
    assert finished
    assert not set(finished) & set(executor.computed), "finished parts are not computed again"
    assert front_bytes(run.folder) == whole
    assert {path.name for path in run.folder.iterdir()} == {
        "manifest.json", "frontier.parquet", "frontier.csv", "top.parquet", "report.html",
    }  # fmt: skip


def test_a_run_that_fails_in_the_middle_goes_on_where_it_was(small, tmp_path, whole) -> None:
    class Failing(Local):
        def run(self, work, indices, done) -> None:
            super().run(work, indices[:2], done)
            raise CannotRun("the lights went out")

    with pytest.raises(CannotRun, match="the lights went out"):
        run_sweep(small, tmp_path / "out", executor=Failing(), part_points=PART)
    rest = Counting()
    run = run_sweep(small, tmp_path / "out", executor=rest, part_points=PART)
    assert rest.computed == [2, 3]
    assert front_bytes(run.folder) == whole
    assert run.manifest["points"] == 192


def half_done(small, out: Path) -> Path:
    """The folder of a run that stopped after two parts."""

    class Failing(Local):
        def run(self, work, indices, done) -> None:
            super().run(work, indices[:2], done)
            raise CannotRun("stop")

    with pytest.raises(CannotRun):
        run_sweep(small, out, executor=Failing(), part_points=PART)
    (folder,) = out.iterdir()
    return folder


@pytest.mark.parametrize(
    "damage",
    [b"", b"PAR1 and then nothing", None],
    ids=["empty", "garbage", "cut in half"],
)
def test_a_damaged_part_is_computed_again(small, tmp_path, whole, damage) -> None:
    folder = half_done(small, tmp_path / "out")
    part = min(folder.glob("parts/*.parquet"))
    content = part.read_bytes()
    part.write_bytes(content[: len(content) // 2] if damage is None else damage)
    executor = Counting()
    run = run_sweep(small, tmp_path / "out", executor=executor, part_points=PART)
    assert executor.computed == [0, 2, 3]
    assert front_bytes(run.folder) == whole


def test_parts_of_another_size_are_not_mixed_in(small, tmp_path, whole) -> None:
    half_done(small, tmp_path / "out")
    run = run_sweep(small, tmp_path / "out", part_points=2 * PART)
    assert run.manifest["points"] == 192
    assert front_bytes(run.folder) == whole


def test_half_written_files_of_a_killed_run_are_removed(small, tmp_path) -> None:
    folder = half_done(small, tmp_path / "out")
    (folder / ".frontier.parquet.123.tmp").write_bytes(b"half")
    run = run_sweep(small, tmp_path / "out", part_points=PART)
    assert not list(run.folder.rglob("*.tmp"))


def test_a_finished_run_is_found_and_fresh_runs_it_again(small, tmp_path) -> None:
    first, again, fresh = Counting(), Counting(), Counting()
    said: list[str] = []
    run_sweep(small, tmp_path, executor=first)
    run = run_sweep(small, tmp_path, executor=again, say=said.append)
    run_sweep(small, tmp_path, executor=fresh, fresh=True)
    assert (first.computed, again.computed, fresh.computed) == ([0], [], [0])
    assert said == [f"already complete: {run.folder} (--fresh runs it again)"]


def test_a_run_stopped_before_its_report_only_writes_that(small, tmp_path) -> None:
    run = run_sweep(small, tmp_path)
    run.report.unlink()
    executor = Counting()
    assert run_sweep(small, tmp_path, executor=executor).report.is_file()
    assert executor.computed == []


@pytest.mark.parametrize("text", ['{"name": ', '{"hash": "of a version with other fields"}'])
def test_a_damaged_manifest_is_written_again(small, tmp_path, whole, text) -> None:
    run = run_sweep(small, tmp_path / "out")
    (run.folder / "manifest.json").write_text(text)
    assert front_bytes(run_sweep(small, tmp_path / "out").folder) == whole


def test_two_processes_at_once_do_the_work_once(sweep_file, small, tmp_path, whole) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", SLOW, str(sweep_file), str(out), "0.4"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("already complete" in err for err in said) == 1
    (folder,) = out.iterdir()
    assert front_bytes(folder) == whole
