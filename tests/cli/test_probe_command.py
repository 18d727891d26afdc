"""`dse probe` on the command line: a table and a file, or one line, an exit code and nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dse.calibrate import disk, gemm, host, probe
from dse.calibrate.reading import Reading, Result, Step

pytestmark = pytest.mark.skipif(os.name != "posix", reason="dse probe knows Linux and macOS only")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of known rates."""
    found = Result(
        (
            Reading("memory read", 20.0, "GB/s", "read", 7, 0.25, ("memory.bandwidth_gb_per_s",)),
            Reading("GEMM fp32", 0.2, "TFLOP/s", "NumPy", 5, 0.01, ("peak_tflops.fp32", "box.cpu_tflops")),
        ),
        ("a remark",),
    )
    monkeypatch.setattr(probe, "_steps", lambda *_: [Step("everything", lambda seconds: found)])


def test_it_prints_a_table_notes_and_the_file(dse, quick, tmp_path) -> None:
    said = dse("probe", "--out", "box.yaml", "--disk-gb", "0")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[:4] == [
        "measured: 2",
        "measured     best  unit     repeats  slowest  fills",
        "memory read    20  GB/s           7  -25%     memory.bandwidth_gb_per_s",
        "GEMM fp32     0.2  TFLOP/s        5  -1%      peak_tflops.fp32, box.cpu_tflops",
    ]
    assert "- a remark" in lines
    assert lines[-1] == "wrote box.yaml"
    assert said.err.splitlines()[1:] == [
        "measuring everything ...",
        "  memory read: 20 GB/s  (repeats up to 25% slower)",
        "  GEMM fp32: 0.2 TFLOP/s",
    ]
    assert dse("check", "box.yaml").code == 0
    again = dse("probe", "--out", "box.yaml", "--disk-gb", "0")
    assert again == (2, "", "box.yaml: there is such a file; --force overwrites it\n")
    assert dse("probe", "--out", "box.yaml", "--disk-gb", "0", "--force").code == 0


def test_it_measures_for_real(dse, monkeypatch) -> None:
    monkeypatch.setattr(host, "SMALLEST", 2**20)
    monkeypatch.setattr(host, "OVER_CACHE", 0)
    monkeypatch.setattr(host, "SIZES", (64,))
    monkeypatch.setattr(gemm, "optional_torch", lambda: None)
    assert dse("probe", "--out", "box.yaml", "--disk-gb", "0.01", "--seconds", "0.1").code == 0
    said = dse("explain", "--model", "llama-3.2-1b", "--hardware", "./box.yaml", "--fidelity", "ideal")
    assert said.code == 0


REFUSED = {
    "a folder": (["--out", "."], 2, ".: is a folder; expected the name of a file to write"),
    "a parent that is missing": (
        ["--out", "nowhere/box.yaml"], 2, "nowhere/box.yaml: there is no folder nowhere",
    ),
    "a name that dse would not read": (["--out", "box.txt"], 2, "box.txt: expected a name that ends in .yaml"),
    "an unknown base": (
        ["--out", "box.yaml", "--base", "gracee"], 2,
        "unknown hardware 'gracee'; did you mean 'grace'? 'dse list hardware' shows all",
    ),
    "no time": (["--out", "box.yaml", "--seconds", "0"], 2, "--seconds: expected a number above 0, got 0"),
    "no end": (["--out", "box.yaml", "--seconds", "inf"], 2, "--seconds: expected a number above 0, got inf"),
    "less than no disk": (
        ["--out", "box.yaml", "--disk-gb", "-1"], 2, "--disk-gb: expected GB, or 0 for no disk, got -1",
    ),
    "no number": (
        ["--out", "box.yaml", "--disk-gb", "nan"], 2, "--disk-gb: expected GB, or 0 for no disk, got nan",
    ),
    "no disk there": (["--out", "box.yaml", "--disk", "nowhere"], 2, "--disk nowhere: no such folder"),
}  # fmt: skip


@pytest.mark.parametrize(("options", "code", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(dse, tmp_path, options, code, message) -> None:
    assert dse("probe", *options) == (code, "", f"{message}\n")
    assert list(tmp_path.iterdir()) == []


def test_no_torch(dse, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = dse("probe", "--device", "cuda", "--out", "box.yaml")
    assert said == (1, "", "--device cuda needs PyTorch, which is not installed here: pip install torch\n")
    assert list(tmp_path.iterdir()) == []


def test_no_gpu(dse, tmp_path, monkeypatch) -> None:
    torch = SimpleNamespace(
        __version__="9.9", version=SimpleNamespace(cuda="12.8", hip=None), cuda=SimpleNamespace(is_available=bool)
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    said = dse("probe", "--device", "cuda", "--out", "box.yaml")
    assert said == (
        1, "",
        "--device cuda: PyTorch 9.9 sees no GPU: it is built for 12.8; does the driver run (nvidia-smi)?\n",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small(dse, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2_500_000_000))
    assert dse("probe", "--out", "box.yaml") == (
        1, "",
        ".: the disk test writes 4 GB and leaves 1 GB free, but only 2.5 GB are free; "
        "give a smaller --disk-gb or another --disk\n",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_file_system(dse, tmp_path, monkeypatch) -> None:
    """Also as root, where permissions do not bind."""

    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "open", refuse)
    said = dse("probe", "--out", "box.yaml")
    monkeypatch.undo()
    assert said == (1, "", "box.yaml: cannot be written: Read-only file system\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(dse, tmp_path) -> None:
    tmp_path.chmod(0o500)
    assert dse("probe", "--out", "box.yaml") == (1, "", "box.yaml: cannot be written: Permission denied\n")


@pytest.mark.parametrize("options", [["--seconds", "long"], ["--device", "tpu"], []])
def test_wrong_options_are_the_user_s(dse, tmp_path, options) -> None:
    said = dse("probe", *(["--out", "box.yaml", *options] if options else []))
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == []


LONG = """
import signal, sys
from functools import partial
from dse.calibrate import disk, probe
from dse.calibrate.reading import Step
signal.signal(signal.SIGINT, signal.default_int_handler)
disk.PASSES = 10**9
probe._steps = lambda box, torch, gpu, place, size: [Step("disk", partial(disk.measure, place, size))]
from dse.cli import run
sys.exit(run(["probe", "--out", "box.yaml", "--disk-gb", "0.03", "--seconds", "60"]))
"""
"""The command in a process of its own, with a disk test that does not end by itself."""


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGINT, 130, ["interrupted; nothing was written"]),
        (signal.SIGTERM, 130, ["interrupted; nothing was written"]),
        (signal.SIGKILL, -signal.SIGKILL, []),
    ],
    ids=["Ctrl-C", "SIGTERM", "SIGKILL"],
)
def test_stopped_in_the_middle_of_the_disk_test_it_leaves_nothing(tmp_path, sent, code, said) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", LONG], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert process.stderr is not None
    while "measuring disk" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.3)
    assert list(tmp_path.iterdir()) == []  # even while it runs
    process.send_signal(sent)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.splitlines()) == (code, "", said)
    assert list(tmp_path.iterdir()) == []
