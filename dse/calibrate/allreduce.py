"""Several GPUs: bandwidth and latency of an all-reduce, one process per GPU, as serving engines run.

Bandwidth is the bus bandwidth of nccl-tests, 2 (n - 1) / n times bytes over seconds: what each GPU sends over its
link, one direction, in a ring; the same quantity as `scale_up.gb_per_s`.
"""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dse.calibrate.reading import Reading, Result, rate

LARGE, SMALL = 2**28, 2**12
"""Bytes of the message for the bandwidth, and for the latency."""
ROUNDS = {LARGE: 10, SMALL: 200}
"""All-reduces between two events: fixed, since all ranks must do equally many."""
REPEATS = 7
PATIENCE = 120.0
"""Seconds after which processes that do not find each other are ended."""


def measure(torch: Any, gpus: int, _seconds: float) -> Result:
    """All-reduce over all GPUs; where it fails, a note says why, and the rest of the probe stands."""
    with TemporaryDirectory(prefix="dse-probe-") as folder:
        try:
            _run(torch, gpus, folder)
            taken = json.loads(Path(folder, "taken.json").read_text(encoding="utf-8"))
        except Exception as error:  # whatever a process died of: PyTorch passes it on under names of its own
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            return Result(notes=(f"all-reduce over {gpus} GPUs: not measured: {lines[-1].strip()}",))
    return Result(readings(gpus, {int(size): seconds for size, seconds in taken.items()}))


def readings(gpus: int, taken: dict[int, list[float]]) -> tuple[Reading, ...]:
    """Bandwidth and latency from the seconds of one all-reduce, by message size."""
    how = f"NCCL all-reduce over {gpus} GPUs"
    sent = 2 * (gpus - 1) / gpus * LARGE / 1e9
    slowest, best = max(taken[SMALL]), min(taken[SMALL])
    latency = f"{how}, {SMALL // 1024} KiB"
    return (
        rate(
            "all-reduce", f"{how}, {LARGE >> 20} MiB, bus bandwidth", "GB/s", sent, taken[LARGE], ("scale_up.gb_per_s",)
        ),
        Reading("all-reduce latency", best * 1e6, "us", latency, len(taken[SMALL]), 1 - best / slowest),
    )


def _run(torch: Any, gpus: int, folder: str) -> None:
    """One process per GPU until all are done; none is left behind, whatever happens.

    Raises:
        Exception: what a process raised, as PyTorch passes it on.
        TimeoutError: they did not finish.
    """
    context = torch.multiprocessing.spawn(rank, args=(gpus, folder), nprocs=gpus, join=False)
    end = time.monotonic() + PATIENCE
    try:
        while not context.join(timeout=1):
            if time.monotonic() > end:
                raise TimeoutError(f"no result within {PATIENCE:g} s")
    finally:
        for process in context.processes:
            process.kill()


def rank(rank: int, gpus: int, folder: str) -> None:
    """What one process does; the first writes what it took."""
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl", init_method=f"file://{folder}/meet", rank=rank, world_size=gpus, timeout=timedelta(seconds=PATIENCE)
    )
    try:
        taken = {size: [_once(torch, dist, rank, size) for _ in range(REPEATS + 1)][1:] for size in (LARGE, SMALL)}
    finally:
        dist.destroy_process_group()
    if rank == 0:
        Path(folder, "taken.json").write_text(json.dumps(taken), encoding="utf-8")


def _once(torch: Any, dist: Any, rank: int, size: int) -> float:
    """Seconds of one all-reduce of `size` bytes, as the mean of a batch; all ranks start it together."""
    message = torch.zeros(size // 2, dtype=torch.float16, device=f"cuda:{rank}")
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    dist.all_reduce(message)  # the ranks meet; `barrier` would guess their devices
    torch.cuda.synchronize()
    start.record()
    for _ in range(ROUNDS[size]):
        dist.all_reduce(message)
    stop.record()
    stop.synchronize()
    return float(start.elapsed_time(stop)) / 1e3 / ROUNDS[size]
