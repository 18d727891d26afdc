"""A whole probe with small arrays: order, progress, what is refused before anything is measured."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_torch import FakeTorch

import dse
from dse.calibrate import allreduce, gemm, host, probe
from dse.calibrate.reading import Reading, Result, Step
from dse.errors import CannotRun, InputError, Interrupted
from dse.spec.catalog import load_hardware

pytestmark = pytest.mark.skipif(os.name != "posix", reason="dse probe knows Linux and macOS only")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A probe of a moment, in an empty folder, without the PyTorch this machine may have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(host, "SMALLEST", 2**20)
    monkeypatch.setattr(host, "OVER_CACHE", 0)
    monkeypatch.setattr(host, "PASS", 0.0)
    monkeypatch.setattr(host, "SIZES", (64,))
    monkeypatch.setattr(gemm, "optional_torch", lambda: None)
    monkeypatch.setattr(probe, "BUSY", 1e9)


def measure(out: str = "box.yaml", **options: object) -> probe.Probe:
    return probe.probe(out, **{"seconds": 0.05, "disk_gb": 0.02, **options})


def refused(kind: type[Exception], out: str = "box.yaml", **options: object) -> str:
    """The message; and nothing was measured or left behind."""
    said: list[str] = []
    before = sorted(Path().rglob("*"))
    with pytest.raises(kind) as caught:
        measure(out, say=said.append, **options)
    assert said == []
    assert sorted(Path().rglob("*")) == before
    return str(caught.value)


def test_a_processor_becomes_a_hardware_file_that_can_be_used() -> None:
    found = measure()
    assert [path.name for path in Path().iterdir()] == ["box.yaml"]
    chip = load_hardware("./box.yaml")
    assert chip == found.hardware
    assert (chip.name, chip.kind, chip.unsourced) == ("box", "cpu", ())
    assert chip.peak_tflops.keys() == {"fp32"}
    assert chip.box.cpu_tflops == chip.peak_tflops["fp32"]
    assert chip.box.host_memory_bandwidth_gb_per_s == chip.memory.bandwidth_gb_per_s
    assert chip.box.disk_read_gb_per_s is not None
    assert chip.box.disk_write_gb_per_s is not None
    explained = dse.explain("llama-3.2-1b", "./box.yaml", fidelity="ideal")
    assert explained["point"]["tpot_ms"] > 0


def test_it_tells_what_it_does() -> None:
    said: list[str] = []
    found = measure(say=said.append)
    assert said[0].endswith(" cores; about 0.05 s")
    assert [line for line in said if line.startswith("measuring")] == [
        "measuring memory read ...", "measuring memory copy ...", "measuring memory triad ...",
        "measuring GEMM fp32 ...", "measuring disk ...",
    ]  # fmt: skip
    results = [line.split(": ")[0].strip() for line in said[1:] if not line.startswith("measuring")]
    assert results == [reading.what for reading in found.readings]


def test_rows_say_which_field_a_reading_fills() -> None:
    rows = {row["measured"]: row for row in measure().rows()}
    assert rows.keys() == {
        "memory read", "memory copy", "memory triad", "GEMM fp32", "disk write", "disk read",
    }  # fmt: skip
    assert rows["GEMM fp32"]["fills"] == "peak_tflops.fp32, box.cpu_tflops"
    assert rows["disk read"]["fills"] == "box.disk_read_gb_per_s"
    filled = [row["fills"] for name, row in rows.items() if name.startswith("memory") and row["fills"]]
    assert filled == ["memory.bandwidth_gb_per_s, box.host_memory_bandwidth_gb_per_s"]


def test_no_disk() -> None:
    chip = measure(disk_gb=0).hardware
    assert chip.box.disk_gb is chip.box.disk_read_gb_per_s is None
    assert "Disk" not in chip.notes


def test_another_disk(tmp_path, monkeypatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    seen = []
    monkeypatch.setattr(probe.disk, "measure", lambda disk, size, seconds: seen.append(disk.folder) or Result())
    measure(disk_folder="other")
    assert seen == [Path("other")]


NARROW = (
    "Only fp32 was measured, as PyTorch is not installed: with this file every number format is multiplied as fp32. "
    "For bf16, fp16 and int8: pip install torch, and probe again."
)


def test_without_pytorch_the_file_says_what_is_missing() -> None:
    measure(disk_gb=0)
    assert NARROW in load_hardware("./box.yaml").notes.splitlines()


def test_with_pytorch_more_dtypes_are_measured(monkeypatch) -> None:
    monkeypatch.setattr(gemm, "optional_torch", FakeTorch)
    found = measure(disk_gb=0)
    assert NARROW not in found.hardware.notes
    assert [reading.what for reading in found.readings][4:] == [
        "GEMM fp32 (PyTorch)", "GEMM bf16 (PyTorch)", "GEMM fp16 (PyTorch)", "GEMM int8 (PyTorch)",
    ]  # fmt: skip


def test_a_gpu_comes_with_its_host_and_disk(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", FakeTorch())
    chip = measure(device="cuda", base="h100-sxm").hardware
    assert (chip.vendor, chip.kind, chip.unsourced) == ("NVIDIA", "gpu", ())
    assert chip.peak_tflops.keys() == {"fp32", "tf32", "fp16", "bf16", "fp8", "int8"}
    assert chip.memory.bandwidth_gb_per_s == pytest.approx(3000, rel=0.01)
    assert chip.host_link is not None
    assert chip.host_link.gb_per_s == pytest.approx(50, rel=0.01)
    assert chip.box.host_memory_bandwidth_gb_per_s is not None
    assert chip.box.cpu_tflops is not None
    assert chip.box.disk_read_gb_per_s is not None
    assert chip.power == load_hardware("h100-sxm").power


def test_several_gpus_reduce_together(monkeypatch) -> None:
    def ring(torch: FakeTorch, gpus: int, seconds: float) -> Result:
        return Result((Reading("all-reduce", 360.0, "GB/s", "NCCL", 7, 0.0, ("scale_up.gb_per_s",)),))

    monkeypatch.setattr(allreduce, "measure", ring)
    monkeypatch.setitem(sys.modules, "torch", FakeTorch(gpus=4))
    chip = measure(device="cuda", disk_gb=0).hardware
    assert chip.scale_up is not None
    assert (chip.scale_up.gb_per_s, chip.scale_up.domain, chip.box.devices) == (360, 4, 4)


def test_a_machine_in_use_is_told(monkeypatch) -> None:
    monkeypatch.setattr(probe, "BUSY", -1.0)
    assert "The machine was in use (load " in measure(disk_gb=0).hardware.notes


# -- refusals -------------------------------------------------------------------------------------------


def test_no_torch(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert refused(CannotRun, device="cuda").startswith("--device cuda needs PyTorch")


def test_an_existing_file_is_kept_unless_forced() -> None:
    Path("box.yaml").write_text("mine")
    assert refused(InputError) == "box.yaml: there is such a file; --force overwrites it"
    assert Path("box.yaml").read_text() == "mine"
    measure(force=True, disk_gb=0)
    assert load_hardware("./box.yaml").kind == "cpu"


def test_a_file_that_appears_meanwhile_is_kept(monkeypatch) -> None:
    def others(*_: object) -> list[Step]:
        Path("box.yaml").write_text("theirs")
        return [Step("GEMM", lambda seconds: Result((
            Reading("GEMM", 1.0, "TFLOP/s", "it", 3, 0.0, ("peak_tflops.fp32",)),
            Reading("read", 1.0, "GB/s", "it", 3, 0.0, ("memory.bandwidth_gb_per_s",)),
        )))]  # fmt: skip

    monkeypatch.setattr(probe, "_steps", others)
    with pytest.raises(InputError, match="there is such a file"):
        measure()
    assert Path("box.yaml").read_text() == "theirs"


def test_a_driver_that_gives_up_is_one_line(monkeypatch) -> None:
    def fail(seconds: float) -> Result:
        raise RuntimeError("CUDA error: unspecified launch failure\nCompile with ...")

    monkeypatch.setattr(probe, "_steps", lambda *_: [Step("GPU memory", fail)])
    with pytest.raises(CannotRun) as caught:
        measure()
    assert str(caught.value) == "measuring GPU memory: CUDA error: unspecified launch failure"
    assert list(Path().iterdir()) == []


def test_an_interruption_leaves_nothing(monkeypatch) -> None:
    def stop(seconds: float) -> Result:
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "_steps", lambda *_: [Step("GPU memory", stop)])
    with pytest.raises(Interrupted) as caught:
        measure()
    assert str(caught.value) == "interrupted; nothing was written"
    assert list(Path().iterdir()) == []


def test_signals_are_as_before_and_other_threads_may_probe() -> None:
    before = signal.getsignal(signal.SIGTERM)
    measure(disk_gb=0)
    assert signal.getsignal(signal.SIGTERM) is before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(measure, "other.yaml", disk_gb=0).result().hardware.name == "other"


@pytest.mark.parametrize(
    ("base", "device", "message"),
    [
        ("h100-sxm", "cpu", "--base h100-sxm: is of kind gpu; --device cpu measures a processor"),
        ("grace", "cuda", "--base grace: is of kind cpu; --device cuda measures a GPU"),
        ("h100", "cpu", "--base h100: is of kind gpu; --device cpu measures a processor"),
    ],
)
def test_a_base_of_another_kind(base, device, message) -> None:
    assert refused(InputError, base=base, device=device) == message


def test_an_unknown_base() -> None:
    assert refused(InputError, base="h100-sxn") == (
        "unknown hardware 'h100-sxn'; did you mean 'h100-sxm'? 'dse list hardware' shows all"
    )
