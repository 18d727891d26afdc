"""What is read of the host: physical cores, caches counted once, and no more than a container may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from dse.calibrate import machine

CPUINFO = "vendor_id\t: GenuineIntel\nmodel name\t: Intel(R) Xeon(R) Platinum 8480C\n" * 2
MEMINFO = "MemTotal:       1000000 kB\nMemFree: 1 kB\nMemAvailable:    600000 kB\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two sockets of two cores with two threads each; level 2 per core, level 3 per socket."""
    files = {"proc/cpuinfo": CPUINFO, "proc/meminfo": MEMINFO}
    for cpu in range(8):
        socket, core = cpu // 2 % 2, cpu % 4
        own = f"sys/devices/system/cpu/cpu{cpu}"
        files |= {
            f"{own}/topology/physical_package_id": f"{socket}\n",
            f"{own}/topology/thread_siblings_list": f"{core},{core + 4}\n",
            f"{own}/cache/index0/level": "1\n", f"{own}/cache/index0/size": "32K\n",
            f"{own}/cache/index0/shared_cpu_list": f"{core},{core + 4}\n",
            f"{own}/cache/index2/level": "2\n", f"{own}/cache/index2/size": "2048K\n",
            f"{own}/cache/index2/shared_cpu_list": f"{core},{core + 4}\n",
            f"{own}/cache/index3/level": "3\n", f"{own}/cache/index3/size": "105M\n",
            f"{own}/cache/index3/shared_cpu_list": f"socket{socket}\n",
        }  # fmt: skip
    for name, text in files.items():
        write(tmp_path / name, text)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def look(kernel: Path) -> machine.Machine:
    return machine.look(kernel / "proc", kernel / "sys")


def test_cores_are_physical_and_caches_counted_once(kernel) -> None:
    found = look(kernel)
    assert (found.cores, found.pins, found.sockets) == (4, (0, 1, 2, 3), 2)
    assert found.label == "2x Intel(R) Xeon(R) Platinum 8480C"
    assert found.vendor == "Intel"
    assert (found.l2, found.llc) == (4 * 2 * 2**20, 2 * 105 * 2**20)
    assert (found.memory, found.available) == (1000000 * 1024, 600000 * 1024)


def test_what_the_process_may_not_run_on_does_not_count(kernel, monkeypatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid: {1, 5, 4})
    found = look(kernel)
    assert found.pins == (1, 4)
    assert found.sockets == 1
    assert found.llc == 105 * 2**20


def test_a_container_s_limits_hold(kernel) -> None:
    group = kernel / "sys/fs/cgroup"
    write(group / "cpu.max", "250000 100000\n")
    write(group / "memory.max", f"{2**28}\n")
    write(group / "memory.current", f"{2**27}\n")
    found = look(kernel)
    assert found.cores == 2
    assert (found.memory, found.available) == (2**28, 2**27)
    assert found.memory_source == "limit of the control group"


def test_no_limit_is_no_limit(kernel) -> None:
    write(kernel / "sys/fs/cgroup/cpu.max", "max 100000\n")
    write(kernel / "sys/fs/cgroup/memory.max", "max\n")
    found = look(kernel)
    assert (found.cores, found.memory) == (4, 1000000 * 1024)
    assert found.memory_source == "read from the operating system"


def test_where_the_kernel_tells_nothing_python_does(tmp_path) -> None:
    found = machine.look(tmp_path / "none", tmp_path / "none")
    assert found.cores >= 1
    assert found.memory > 0
    assert 0 < found.available <= found.memory
    assert found.cpu
    assert (found.vendor, found.l2, found.llc) == ("unknown", None, None)
