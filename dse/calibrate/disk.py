"""A disk: sequential write and read past the page cache, in a file that has no name while it is used.

The file is unlinked as soon as it is open, so that its space is free again when the process ends, however it ends.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dse.calibrate.reading import Result, rate, repeat
from dse.errors import CannotRun, Fault, InputError
from dse.run.store import writing

BLOCK = 4 * 2**20
"""Bytes of one request: large enough for any disk, and a multiple of any sector."""
QUEUE = 8
"""Requests in flight, one thread each: an NVMe disk needs several to reach its rate."""
RESERVE = 10**9
"""Bytes that stay free: a full disk harms whoever else writes."""
PASSES = 3
"""Times the file is written and read, at most: writing wears a disk."""
IN_MEMORY = ("tmpfs", "ramfs")

Move = Callable[[mmap.mmap, int], None]
"""Moves a block between a buffer and the file at an offset."""


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk a folder lies on."""

    folder: Path
    free: int
    """Bytes."""
    filesystem: str


def look(folder: Path, size: int) -> Disk:
    """The disk of a folder, with room for a test of `size` bytes.

    Raises:
        InputError: there is no such folder.
        CannotRun: it cannot be written, or too little is free.
    """
    if not folder.is_dir():
        raise InputError(Fault("no such folder" if not folder.exists() else "is no folder", file=f"--disk {folder}"))
    with writing(folder):
        free = shutil.disk_usage(folder).free
        if size + RESERVE > free:
            raise CannotRun(
                f"{folder}: the disk test writes {size / 1e9:g} GB and leaves {RESERVE / 1e9:g} GB free, "
                f"but only {free / 1e9:.3g} GB are free; give a smaller --disk-gb or another --disk"
            )
        with nameless(folder):
            pass
    return Disk(folder, free, _filesystem(folder))


def measure(disk: Disk, size: int, seconds: float) -> Result:
    """Sequential write (until it is on the disk) and read, GB/s.

    Args:
        disk: where.
        size: bytes to write; a slow disk gets as many as fit into its time.
        seconds: for writing and reading together.

    Raises:
        CannotRun: the disk is full or fails.
    """
    blocks = max(1, size // BLOCK)
    limit = seconds / (2 * PASSES + 1)  # of one pass; the rest is for the last blocks, and syncing
    with writing(disk.folder), nameless(disk.folder) as (file, direct), ExitStack() as stack:
        buffers = [stack.enter_context(_buffer(seed)) for seed in range(min(QUEUE, blocks))]

        def write(buffer: mmap.mmap, offset: int) -> None:
            if os.pwrite(file, buffer, offset) != BLOCK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def read(buffer: mmap.mmap, offset: int) -> None:
            if os.preadv(file, [buffer], offset) != BLOCK:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

        least: list[int] = []

        def write_pass() -> float:
            start = time.perf_counter()
            least.append(_move_all(write, buffers, blocks, limit))
            os.fsync(file)
            return (time.perf_counter() - start) / least[-1]

        def read_pass() -> float:
            _forget(file, direct)
            start = time.perf_counter()
            moved = _move_all(read, buffers, min(least), limit)
            return (time.perf_counter() - start) / moved

        written = repeat(write_pass, seconds / 2, least=1, most=PASSES)
        found = repeat(read_pass, seconds / 2, least=1, most=PASSES)
    way = "direct I/O" if direct else "through the page cache"
    where = f" on {disk.filesystem}" if disk.filesystem else ""
    how = f"sequential, {min(least) * BLOCK / 1e9:.3g} GB in 4 MiB blocks, {QUEUE} in flight, {way}{where}"
    return Result(
        (
            rate("disk write", f"{how}, synced", "GB/s", BLOCK / 1e9, written, ("box.disk_write_gb_per_s",)),
            rate("disk read", how, "GB/s", BLOCK / 1e9, found, ("box.disk_read_gb_per_s",)),
        ),
        tuple(_notes(disk, direct)),
    )


def _notes(disk: Disk, direct: bool) -> Iterator[str]:
    if disk.filesystem in IN_MEMORY:
        yield f"The measured folder lies in memory ({disk.filesystem}): its rates are no disk's; give --disk another."
    elif not direct:
        yield (
            "The file system refuses direct I/O (O_DIRECT): the disk was measured through the page cache, "
            "so its read rate may be that of memory."
        )


@contextmanager
def nameless(folder: Path) -> Iterator[tuple[int, bool]]:
    """A new file in a folder without a name, and whether it bypasses the page cache.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / f".dse-probe-{uuid.uuid4().hex}.tmp"
    try:
        file, direct = _open(path)
    finally:
        path.unlink(missing_ok=True)
    try:
        yield file, direct
    finally:
        os.close(file)


def _open(path: Path) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    direct = getattr(os, "O_DIRECT", 0)  # Linux
    if direct:
        try:
            return os.open(path, flags | direct, 0o600), True
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            path.unlink(missing_ok=True)  # some file systems make the file before they refuse
    return os.open(path, flags, 0o600), False


def _buffer(seed: int) -> mmap.mmap:
    """A block that no disk can compress, on whole pages, as direct I/O demands."""
    buffer = mmap.mmap(-1, BLOCK)
    buffer[:] = np.random.default_rng(seed).bytes(BLOCK)
    return buffer


def _move_all(move: Move, buffers: Sequence[mmap.mmap], blocks: int, seconds: float) -> int:
    """Move blocks in order, one per buffer at a time, until all are moved or the time is over; how many were."""
    numbers = itertools.count()
    deadline = time.monotonic() + seconds
    stop = threading.Event()

    def mover(buffer: mmap.mmap) -> int:
        moved = 0
        while not stop.is_set() and (time.monotonic() < deadline or not moved):
            number = next(numbers)
            if number >= blocks:
                break
            move(buffer, number * BLOCK)
            moved += 1
        return moved

    with ThreadPoolExecutor(len(buffers)) as pool:
        movers = [pool.submit(mover, buffer) for buffer in buffers]
        try:
            return sum(task.result() for task in movers)
        except BaseException:
            stop.set()
            raise


def _forget(file: int, direct: bool) -> None:
    """Ask the page cache to drop the file, where it went through it."""
    if not direct and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def _filesystem(folder: Path) -> str:
    """The file system of a folder by its device (Linux), or nothing."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for mount in mounts:
        own, _, rest = mount.partition(" - ")
        if own.split()[2:3] == [wanted]:
            return rest.split()[0]
    return ""
