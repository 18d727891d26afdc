"""A ceiling is the best of several repeats, and says how far they lie apart."""

from __future__ import annotations

import itertools

import pytest

from dse.calibrate import reading
from dse.calibrate.gemm import by_size
from dse.calibrate.reading import rate, repeat


def test_the_best_repeat_counts_and_the_slowest_is_told() -> None:
    found = rate("copy", "copy of 1 GB", "GB/s", 1.0, [0.05, 0.04, 0.08], ("memory.bandwidth_gb_per_s",))
    assert (found.value, found.repeats, found.spread) == (25.0, 3, 0.5)
    assert found.source("0.1.0", "2026-11-25") == (
        "measured by dse probe 0.1.0 on 2026-11-25: copy of 1 GB, best of 3; repeats up to 50% slower"
    )


def test_repeats_that_agree_need_no_remark() -> None:
    found = rate("copy", "copy of 1 GB", "GB/s", 1.0, [0.100, 0.095, 0.101])
    assert found.source("0.1.0", "2026-11-25").endswith(": copy of 1 GB, best of 3")


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch):
    """A clock that only the work moves."""

    class Time:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    time = Time()
    monkeypatch.setattr(reading, "time", time)
    return time


@pytest.mark.parametrize(
    ("each", "seconds", "least", "most", "repeats"),
    [
        (1.0, 10.0, 3, 99, 10),  # as many as fit
        (1.0, 10.5, 3, 99, 10),  # and not one more
        (9.0, 10.0, 3, 99, 3),  # but the least
        (1.0, 10.0, 1, 4, 4),  # and not beyond the most
        (9.0, 10.0, 1, 3, 1),
    ],
)
def test_repeats_fill_their_time(ticking, each, seconds, least, most, repeats) -> None:
    def clock() -> float:
        ticking.now += each
        return each

    assert repeat(clock, seconds, least=least, most=most) == [each] * repeats


def test_the_best_size_counts_and_all_are_noted(ticking) -> None:
    rates = {100: 1.0, 200: 4.0, 400: 3.0}

    def make(n: int):
        def clock() -> float:
            taken = 2 * n**3 / 1e12 / rates[n]
            ticking.now += taken
            return taken

        return clock

    found = by_size("GEMM fp32", "Acme BLAS", make, tuple(rates), ("peak_tflops.fp32",), 1.0)
    (best,) = found.readings
    assert best.value == pytest.approx(4.0)
    assert best.how == "Acme BLAS, 200 x 200 x 200"
    assert found.notes == ("GEMM fp32, TFLOP/s by size: 100: 1, 200: 4, 400: 3",)


def test_a_size_that_would_take_too_long_ends_them(ticking) -> None:
    made = []

    def make(n: int):
        made.append(n)

        def clock() -> float:
            ticking.now += 2 * n**3 / 1e9  # 0.001 TFLOP/s
            return 2 * n**3 / 1e9

        return clock

    by_size("GEMM", "slowly", make, (100, 200, 1000, 2000), (), 4.0)
    assert made == [100, 200]  # 1000 would take 2 s each, with 1 s to spend


def test_what_cannot_run_is_a_note_and_no_reading() -> None:
    def make(n: int):
        raise RuntimeError("no kernel\nfor this chip")

    assert by_size("GEMM fp8", "it", make, (64, 128), (), 1.0) == reading.Result(
        notes=("GEMM fp8: not measured: no kernel",)
    )


def test_running_out_of_memory_keeps_the_sizes_that_ran() -> None:
    numbers = itertools.count(1)

    def make(n: int):
        if n > 64:
            raise RuntimeError("out of memory")
        return lambda: float(next(numbers))

    found = by_size("GEMM fp32", "it", make, (64, 128), (), 0.001)
    assert [one.how for one in found.readings] == ["it, 64 x 64 x 64"]
