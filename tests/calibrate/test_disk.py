"""The disk test: past the page cache, within the free space, and without a trace."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from dse.calibrate import disk
from dse.errors import CannotRun, InputError

SIZE = 6 * disk.BLOCK

pytestmark = pytest.mark.skipif(os.name != "posix", reason="dse probe knows Linux and macOS only")


def measured(folder: Path) -> tuple[disk.Disk, dict[str, object], tuple[str, ...]]:
    found = disk.look(folder, SIZE)
    result = disk.measure(found, SIZE, 0.4)
    return found, {reading.what: reading for reading in result.readings}, result.notes


def test_it_measures_both_ways_and_leaves_nothing(tmp_path) -> None:
    found, readings, _ = measured(tmp_path)
    assert found.free > SIZE
    assert readings.keys() == {"disk write", "disk read"}
    for way in ("write", "read"):
        reading = readings[f"disk {way}"]
        assert reading.value > 0
        assert 1 <= reading.repeats <= disk.PASSES
        assert reading.fields == (f"box.disk_{way}_gb_per_s",)
        assert "4 MiB blocks, 8 in flight" in reading.how
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read_back_whole_and_once(tmp_path, monkeypatch) -> None:
    moved: dict[str, list[int]] = {"w": [], "r": []}
    write, read = os.pwrite, os.preadv

    def pwrite(file, data, offset):
        moved["w"].append(offset)
        return write(file, data, offset)

    def preadv(file, buffers, offset):
        moved["r"].append(offset)
        return read(file, buffers, offset)

    monkeypatch.setattr(disk, "PASSES", 1)
    monkeypatch.setattr(disk.os, "pwrite", pwrite)
    monkeypatch.setattr(disk.os, "preadv", preadv)
    disk.measure(disk.look(tmp_path, SIZE), SIZE, 60.0)
    assert sorted(moved["w"]) == sorted(moved["r"]) == [i * disk.BLOCK for i in range(6)]


def test_a_slow_disk_gets_as_much_as_fits_into_its_time(tmp_path, monkeypatch) -> None:
    write = os.pwrite
    offsets = []

    def pwrite(file, data, offset):
        offsets.append(offset)
        time.sleep(0.05)
        return write(file, data, offset)

    monkeypatch.setattr(disk, "PASSES", 1)
    monkeypatch.setattr(disk.os, "pwrite", pwrite)
    disk.measure(disk.look(tmp_path, 0), 1000 * disk.BLOCK, 0.3)  # a pass of 0.04 s
    assert disk.QUEUE <= len(offsets) <= 3 * disk.QUEUE
    assert sorted(offsets) == [i * disk.BLOCK for i in range(len(offsets))]


def test_the_file_has_no_name_while_it_is_used(tmp_path) -> None:
    """So its space is free again however the process ends."""
    with disk.nameless(tmp_path) as (file, _):
        assert list(tmp_path.iterdir()) == []
        assert os.fstat(file).st_nlink == 0


REFUSED = (
    "The file system refuses direct I/O (O_DIRECT): the disk was measured through the page cache, "
    "so its read rate may be that of memory."
)


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="no direct I/O on this system")
def test_a_file_system_without_direct_io_is_measured_through_the_cache_and_told(tmp_path, monkeypatch) -> None:
    really_open = os.open

    def refuse(path, flags, mode=0o777, **options):
        file = really_open(path, flags & ~os.O_DIRECT, mode, **options)
        if flags & os.O_DIRECT:  # as Linux does where it makes the file before it asks the file system
            os.close(file)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return file

    monkeypatch.setattr(disk.os, "open", refuse)
    monkeypatch.setattr(disk, "_filesystem", lambda folder: "somefs")
    _, readings, notes = measured(tmp_path)
    assert notes == (REFUSED,)
    assert all("through the page cache on somefs" in reading.how for reading in readings.values())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_memory_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk, "_filesystem", lambda folder: "tmpfs")
    assert measured(tmp_path)[2] == (
        "The measured folder lies in memory (tmpfs): its rates are no disk's; give --disk another.",
    )


def test_the_file_system_is_known_by_its_device(tmp_path, monkeypatch) -> None:
    here = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 9999:1 / / rw shared:1 - xfs /dev/a rw\n"
        f"2 1 {os.major(here)}:{os.minor(here)} / /x rw,noatime - ext4 /dev/b rw\n"
    )
    monkeypatch.setattr(disk, "Path", lambda name: mounts)
    assert disk._filesystem(tmp_path) == "ext4"
    mounts.unlink()
    assert disk._filesystem(tmp_path) == ""


def test_too_little_room_is_refused_before_anything_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: SimpleNamespace(free=4_500_000_000))
    with pytest.raises(CannotRun) as caught:
        disk.look(tmp_path, 4 * 10**9)
    assert str(caught.value) == (
        f"{tmp_path}: the disk test writes 4 GB and leaves 1 GB free, but only 4.5 GB are free; "
        "give a smaller --disk-gb or another --disk"
    )
    assert disk.look(tmp_path, 3 * 10**9).free == 4_500_000_000


def test_a_disk_that_fills_up_is_told_and_freed(tmp_path, monkeypatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(
        disk.os, "pwrite", lambda file, data, offset: 4096 if offset else write(file, data, offset)
    )
    with pytest.raises(CannotRun) as caught:
        disk.measure(disk.look(tmp_path, SIZE), SIZE, 5.0)
    assert str(caught.value) == f"{tmp_path}: cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_folder(tmp_path, monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk.os, "open", refuse)
    with pytest.raises(CannotRun) as caught:
        disk.look(tmp_path, SIZE)
    assert str(caught.value) == f"{tmp_path}: cannot be written: Read-only file system"


def test_no_folder(tmp_path) -> None:
    with pytest.raises(InputError) as caught:
        disk.look(tmp_path / "none", SIZE)
    assert str(caught.value) == f"--disk {tmp_path / 'none'}: no such folder"
    (tmp_path / "file").touch()
    with pytest.raises(InputError) as caught:
        disk.look(tmp_path / "file", SIZE)
    assert str(caught.value) == f"--disk {tmp_path / 'file'}: is no folder"
