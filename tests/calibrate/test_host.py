"""The host's memory and matrix multiplication: what is counted, and that all cores take part."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from dse.calibrate import host
from dse.calibrate.machine import Machine
from dse.calibrate.reading import Clock


def machine(**changes: object) -> Machine:
    fields = {
        "cpu": "Acme 1", "vendor": "Acme", "sockets": 1, "pins": (0, 0, 0), "memory": 10**10, "available": 10**9,
        "l2": None, "llc": None, "memory_source": "told",
    }  # fmt: skip
    return Machine(**{**fields, **changes})


def test_each_pattern_does_what_it_says() -> None:
    arrays = host.Arrays(2 * host.BLOCK + 7)
    host.copy(arrays)
    assert (arrays.a == 2).all()
    host.triad(arrays)
    assert (arrays.a == 3.5).all()
    host.read(arrays)
    assert (arrays.b == 2).all()


def test_arrays_lie_beyond_the_cache_and_within_the_memory() -> None:
    assert host.array_bytes(machine(available=10**12)) == host.SMALLEST
    assert host.array_bytes(machine(available=10**12, llc=2**30)) == 4 * 2**30
    assert host.array_bytes(machine(available=10**9, llc=2**30)) == 10**9 // 8


@pytest.mark.parametrize(("pattern", "streams"), [("read", 1), ("copy", 2), ("triad", 3)])
def test_bandwidth_counts_the_bytes_that_all_threads_read_and_write(monkeypatch, pattern, streams) -> None:
    clocks: list[int] = []

    def clock(self: host.Crew, passes: int) -> Clock:
        clocks.append(passes)
        return lambda: 0.01 * passes

    monkeypatch.setattr(host.Crew, "clock", clock)
    monkeypatch.setattr(host, "SMALLEST", 3 * 8000)
    (found,) = host.bandwidth(pattern, machine(), ("memory.bandwidth_gb_per_s",), 0.001).readings
    assert found.value == pytest.approx(streams * 3 * 8000 / 0.01 / 1e9)
    assert found.how == f"{pattern} over 3 threads, arrays of 2.4e-05 GB"
    assert clocks == [1, 5]  # a pass of 10 ms is too short: five of them


def test_a_crew_works_together_each_in_its_own_arrays() -> None:
    worked: list[tuple[int, int]] = []
    lock = threading.Lock()

    def work(arrays: host.Arrays) -> None:
        with lock:
            worked.append((threading.get_ident(), id(arrays)))

    before = threading.active_count()
    with host.Crew((0, 0, 0), 8, work) as crew:
        assert crew.clock(2)() > 0
        assert len(worked) == 6
        assert len(set(worked)) == 3
        crew.clock(1)()
        assert len(worked) == 9
    assert threading.active_count() == before


@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_thread_that_fails_is_told_and_ends_the_others(monkeypatch, when) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room")

    if when == "at first":
        monkeypatch.setattr(host, "Arrays", fail)
    before = threading.active_count()
    with pytest.raises(MemoryError, match="no room"), host.Crew((0, 0), 8, fail) as crew:
        crew.clock(1)()
    assert threading.active_count() == before


def test_an_interruption_ends_all_threads() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), host.Crew((0, 0), 8, lambda arrays: None):
        raise KeyboardInterrupt
    assert threading.active_count() == before


def test_too_little_memory_for_the_cache_is_told(monkeypatch) -> None:
    monkeypatch.setattr(host, "SMALLEST", 8000)
    small = machine(available=8 * 8000, llc=8000)
    assert host.bandwidth("read", small, (), 0.001).notes == (
        "With 6.4e-05 GB free, arrays were less than 4 caches large: bandwidth may be the cache's.",
    )


def test_gemm_is_a_matrix_multiplication_in_fp32(monkeypatch) -> None:
    seen = []
    multiply = np.matmul

    def matmul(left: np.ndarray, right: np.ndarray, *, out: np.ndarray) -> None:
        seen.append((left.dtype, right.dtype, out.dtype, left.shape))
        multiply(left, right, out=out)

    monkeypatch.setattr(host, "SIZES", (64,))
    monkeypatch.setattr(host.np, "matmul", matmul)
    found = host.gemm(machine(), ("peak_tflops.fp32",), 0.01)
    (best,) = found.readings
    assert best.value > 0
    assert best.fields == ("peak_tflops.fp32",)
    assert {kinds for *kinds, _ in map(tuple, seen) for kinds in kinds} == {np.dtype(np.float32)}
    assert {shape for *_, shape in seen} == {(64, 64)}


@pytest.mark.parametrize(("built", "cores", "told"), [(2, 3, True), (3, 3, False), (None, 3, False)])
def test_cores_that_numpy_leaves_out_are_told(monkeypatch, built, cores, told) -> None:
    monkeypatch.setattr(host, "SIZES", (16,))
    monkeypatch.setattr(host, "blas_threads", lambda: built)
    notes = host.gemm(machine(pins=(0,) * cores), (), 0.001).notes
    assert ("NumPy's BLAS uses at most 2 of the 3 cores; with PyTorch installed all are measured." in notes) == told


def test_what_numpy_was_built_for_is_known(monkeypatch) -> None:
    def config(mode: str) -> dict[str, object]:
        return {"Build Dependencies": {"blas": {"openblas configuration": "OpenBLAS 0.3 Haswell MAX_THREADS=64"}}}

    monkeypatch.setattr(host.np, "show_config", config)
    assert host.blas_threads() == 64
    monkeypatch.setattr(host.np, "show_config", lambda mode: {})
    assert host.blas_threads() is None
