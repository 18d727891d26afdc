"""A GPU through a stand-in for PyTorch whose rates are known: what is measured is what it does."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
from fake_torch import FakeTorch, Tensor

from dse.calibrate import allreduce, cuda, gemm, reading
from dse.calibrate.reading import Result
from dse.errors import CannotRun


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    """A GPU in virtual time, which the wall clock reads as well."""
    return in_virtual_time(FakeTorch(), monkeypatch)


def in_virtual_time(torch: FakeTorch, monkeypatch: pytest.MonkeyPatch) -> FakeTorch:
    monkeypatch.setattr(reading, "time", SimpleNamespace(perf_counter=lambda: torch.now))
    return torch


def rates(result: Result) -> dict[str, float]:
    return {found.what: found.value for found in result.readings}


def test_memory_is_read_and_copied(torch) -> None:
    found = cuda.memory(torch, 1.0)
    assert rates(found) == pytest.approx({"GPU memory read": 3000, "GPU memory copy": 2800}, rel=0.01)
    assert {one.fields for one in found.readings} == {("memory.bandwidth_gb_per_s",)}
    assert all(one.spread < 0.01 for one in found.readings)


def test_a_gpu_in_use_by_others_is_refused(monkeypatch) -> None:
    torch = in_virtual_time(FakeTorch(free=1e9), monkeypatch)
    with pytest.raises(CannotRun) as caught:
        cuda.memory(torch, 1.0)
    assert str(caught.value) == "the GPU has 1 GB free, a probe needs 2.1; end what else uses it"


@pytest.mark.parametrize(
    ("dtype", "kind", "tflops"),
    [
        ("fp32", "float32", 50), ("tf32", "tf32", 400), ("fp16", "float16", 700), ("bf16", "bfloat16", 750),
        ("int8", "int8", 1300), ("fp8", "float8_e4m3fn", 1400),
    ],
)  # fmt: skip
def test_gemm_by_dtype_and_size(torch, dtype, kind, tflops) -> None:
    found = cuda.gemm(torch, dtype, 5.0)
    (best,) = found.readings
    assert best.value == pytest.approx(tflops, rel=0.01)
    assert best.fields == (f"peak_tflops.{dtype}",)
    assert best.how == "PyTorch, 16384 x 16384 x 16384"  # where the launch counts least
    multiplied = {call[1:] for call in torch.calls if call[0] == "multiply"}
    assert multiplied == {(kind, n, "cuda:0") for n in cuda.SIZES}
    assert found.notes[0].startswith(f"GPU GEMM {dtype}, TFLOP/s by size: 1024: ")
    assert torch.precision == "highest"  # as before


def test_a_launch_does_not_count(torch) -> None:
    """Many short operations stand between two events; with one, its 5 us would halve the rate of a small one."""
    clock = cuda.timed(torch, lambda: torch.passes(10e-6))
    before = torch.now
    assert clock() == pytest.approx(15e-6)
    assert torch.now - before > cuda.BATCH / 2 or torch.now - before == pytest.approx(cuda.LAUNCHES * 15e-6)


def test_a_dtype_the_chip_lacks_is_a_note(monkeypatch) -> None:
    torch = in_virtual_time(FakeTorch(fp8=False), monkeypatch)
    assert cuda.gemm(torch, "fp8", 1.0) == Result(
        notes=("GPU GEMM fp8: not measured: torch._scaled_mm is only for compute capability >= 9.0",)
    )


def test_amd_s_fp8_is_tried_second(torch) -> None:
    asked = []
    scaled = torch._scaled_mm

    def only_fnuz(left: Tensor, right: Tensor, **options: object) -> None:
        asked.append(left.dtype)
        if left.dtype == "float8_e4m3fn":
            raise RuntimeError("not on this chip")
        scaled(left, right, **options)

    torch.float8_e4m3fnuz = "float8_e4m3fnuz"
    torch.rates["float8_e4m3fnuz"] = 1e15
    torch._scaled_mm = only_fnuz
    gemm.multiply(torch, "fp8", 64, "cuda:0")()
    assert asked == ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3fnuz"]


def test_the_host_link_each_way_pinned_and_pageable(torch) -> None:
    found = cuda.host_link(torch, 1.0)
    assert rates(found) == pytest.approx(
        {"host to GPU, pinned": 50, "GPU to host, pinned": 52, "host to GPU, pageable": 12, "GPU to host, pageable": 9},
        rel=0.01,
    )
    assert [field for one in found.readings for field in one.fields] == [
        "host_link.gb_per_s", "host_link.to_host_gb_per_s", "host_link.pageable_gb_per_s",
        "host_link.pageable_to_host_gb_per_s",
    ]  # fmt: skip
    copies = {call for call in torch.calls if " to " in call[0]}
    assert copies == {
        ("host to gpu", True, True), ("gpu to host", True, True),  # pinned: asynchronous
        ("host to gpu", False, False), ("gpu to host", False, False),
    }  # fmt: skip


def test_what_the_gpu_is(torch) -> None:
    assert cuda.look(torch) == cuda.Gpu(
        name="Acme G1", vendor="NVIDIA", memory=85_520_000_000, cores=132, l2=50 * 2**20, integrated=False, count=1,
        has_tf32=True, software="PyTorch 9.9, CUDA 12.8",
    )  # fmt: skip
    torch.version = SimpleNamespace(cuda=None, hip="6.4")
    found = cuda.look(torch)
    assert (found.vendor, found.has_tf32, found.software) == ("AMD", False, "PyTorch 9.9, ROCm 6.4")


def test_only_what_exists_is_measured() -> None:
    torch = FakeTorch(tf32=False)
    names = [step.what for step in cuda.steps(torch, cuda.look(torch))]
    assert names == [
        "GPU memory", "GPU GEMM fp32", "GPU GEMM bf16", "GPU GEMM fp16", "GPU GEMM int8", "GPU GEMM fp8", "host link",
    ]  # fmt: skip


# -- without a GPU --------------------------------------------------------------------------------------


def test_no_torch(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gemm.optional_torch() is None
    with pytest.raises(CannotRun) as caught:
        cuda.load()
    assert str(caught.value) == "--device cuda needs PyTorch, which is not installed here: pip install torch"


def test_a_torch_that_does_not_load(monkeypatch, tmp_path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert gemm.optional_torch() is None
    with pytest.raises(CannotRun) as caught:
        cuda.load()
    assert str(caught.value) == (
        "--device cuda: PyTorch cannot be loaded: libcudart.so.12: cannot open shared object file"
    )


@pytest.mark.parametrize(
    ("built", "why"),
    [
        ("12.8", "it is built for 12.8; does the driver run (nvidia-smi)?"),
        (None, "it is built for the CPU only"),
    ],
)
def test_a_torch_without_a_gpu(monkeypatch, built, why) -> None:
    torch = FakeTorch(gpus=0)
    torch.version = SimpleNamespace(cuda=built, hip=None)
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(CannotRun) as caught:
        cuda.load()
    assert str(caught.value) == f"--device cuda: PyTorch 9.9 sees no GPU: {why}"


# -- several GPUs ---------------------------------------------------------------------------------------


def test_all_reduce_bandwidth_is_that_of_the_bus() -> None:
    """Ring of n: each GPU sends 2 (n - 1) / n of the message (nccl-tests, PERFORMANCE.md)."""
    large = allreduce.LARGE * 2 * 3 / 4 / 300e9
    band, latency = allreduce.readings(4, {allreduce.LARGE: [large, 2 * large], allreduce.SMALL: [20e-6, 18e-6]})
    assert (band.value, band.unit, band.fields) == (pytest.approx(300), "GB/s", ("scale_up.gb_per_s",))
    assert (latency.value, latency.unit, latency.fields) == (pytest.approx(18), "us", ())
    assert band.how == "NCCL all-reduce over 4 GPUs, 256 MiB, bus bandwidth"


class Processes:
    """`torch.multiprocessing` in this process: one rank after the other."""

    def __init__(self, fail: Exception | None = None, *, endless: bool = False) -> None:
        self.fail, self.endless = fail, endless
        self.processes = [SimpleNamespace(kill=lambda: self.killed.append(True)) for _ in range(2)]
        self.killed: list[bool] = []

    def spawn(self, work, args, nprocs: int, join: bool) -> Processes:
        assert (nprocs, join) == (2, False)
        if not self.fail and not self.endless:
            for rank in range(nprocs):
                work(rank, *args)
        return self

    def join(self, timeout: float) -> bool:
        if self.fail:
            raise self.fail
        return not self.endless


def test_every_rank_joins_and_the_first_writes(monkeypatch) -> None:
    torch = FakeTorch(gpus=2)
    joined: list[tuple[object, ...]] = []

    def init(backend: str, *, init_method: str, rank: int, world_size: int, timeout: object) -> None:
        assert init_method.startswith("file://")
        assert init_method.endswith("/meet")
        joined.append((backend, rank, world_size))

    dist = SimpleNamespace(
        init_process_group=init,
        all_reduce=lambda message: torch.passes(1e-5 + message.bytes / 100e9),
        destroy_process_group=lambda: joined.append(("left",)),
    )
    module = ModuleType("torch.distributed")
    module.__dict__.update(vars(dist))
    torch.distributed = module
    torch.cuda.set_device = lambda rank: joined.append(("device", rank))
    torch.zeros = torch.empty
    torch.multiprocessing = Processes()
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.distributed", module)
    found = allreduce.measure(torch, 2, 1.0)
    assert joined == [
        ("device", 0), ("nccl", 0, 2), ("left",), ("device", 1), ("nccl", 1, 2), ("left",),
    ]  # fmt: skip
    assert rates(found) == pytest.approx({"all-reduce": 100, "all-reduce latency": 15}, rel=0.01)
    assert found.readings[0].repeats == allreduce.REPEATS


@pytest.mark.parametrize(
    ("processes", "why"),
    [
        (Processes(Exception("Process 1 terminated\n\nRuntimeError: NCCL error\n")), "RuntimeError: NCCL error"),
        (Processes(ValueError()), "ValueError"),
        (Processes(endless=True), "no result within 0 s"),
    ],
    ids=["a rank fails", "without a word", "they wait for ever"],
)
def test_an_all_reduce_that_fails_is_a_note_and_leaves_no_process(monkeypatch, processes, why) -> None:
    monkeypatch.setattr(allreduce, "PATIENCE", 0.0)
    torch = SimpleNamespace(multiprocessing=processes)
    assert allreduce.measure(torch, 2, 1.0) == Result(notes=(f"all-reduce over 2 GPUs: not measured: {why}",))
    assert processes.killed == [True, True]

