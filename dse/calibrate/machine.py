"""What the operating system says of the machine: processor, cores, caches, memory, and what a container may use.

On Linux; elsewhere what Python itself knows.
"""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SYS, PROC = Path("/sys"), Path("/proc")

_VENDORS = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel", "HygonGenuine": "Hygon"}
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True)
class Machine:
    """The host as the process may use it."""

    cpu: str
    """The processor's own name."""
    vendor: str
    sockets: int
    pins: tuple[int, ...]
    """One logical CPU of each physical core this process may run on."""
    memory: int
    """Bytes of memory: all of it, or what the control group allows."""
    available: int
    """Bytes of it that are free now."""
    l2: int | None
    """Bytes of level-2 cache over the usable cores, where it is known."""
    llc: int | None
    """Bytes of level-3 cache behind them, where it is known."""
    memory_source: str

    @property
    def cores(self) -> int:
        """Physical cores this process may use."""
        return len(self.pins)

    @property
    def label(self) -> str:
        """The processors in a word: `2x AMD EPYC 9654`."""
        return f"{self.sockets}x {self.cpu}" if self.sockets > 1 else self.cpu


def look(proc: Path = PROC, sys: Path = SYS) -> Machine:
    """Read the machine."""
    logical = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cpuinfo, meminfo = _text(proc / "cpuinfo"), _text(proc / "meminfo")
    pins, sockets = _cores(list(logical), sys)
    quota = _quota(_text(sys / "fs/cgroup/cpu.max"))
    size = _kilobytes(meminfo, "MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _number(_text(sys / "fs/cgroup/memory.max")) or math.inf
    free = _kilobytes(meminfo, "MemAvailable") or size // 2
    if limit < size:
        free = min(free, int(limit) - (_number(_text(sys / "fs/cgroup/memory.current")) or 0))
    vendor = _field(cpuinfo, "vendor_id")
    caches = dict(_caches(pins, sys))
    return Machine(
        cpu=_field(cpuinfo, "model name") or platform.processor() or platform.machine() or "unknown processor",
        vendor=_VENDORS.get(vendor, vendor or "unknown"),
        sockets=sockets,
        pins=tuple(pins[:quota]),
        memory=int(min(size, limit)),
        available=max(free, 0),
        l2=sum(caches[2].values()) if 2 in caches else None,
        llc=sum(caches[3].values()) if 3 in caches else None,
        memory_source="limit of the control group" if limit < size else "read from the operating system",
    )


def _text(path: Path) -> str:
    """A file of the kernel, or nothing where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    """The first `name : value` of such lines."""
    found = re.search(rf"^{re.escape(name)}\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    return found[1] if found else ""


def _kilobytes(text: str, name: str) -> int:
    found = _field(text, name).split()
    return int(found[0]) * 1024 if found else 0


def _number(text: str) -> int | None:
    """A whole number; `max` and nothing mean no limit."""
    return int(text) if text.strip().isdigit() else None


def _quota(text: str) -> int | None:
    """Cores that `cpu.max` (quota and period, microseconds) allows, at least one; None without a limit."""
    parts = text.split()
    return max(1, int(parts[0]) // int(parts[1])) if parts and parts[0].isdigit() else None


def _cores(logical: list[int], sys: Path) -> tuple[list[int], int]:
    """The first logical CPU of each physical core, and how many sockets they lie in."""
    first: dict[tuple[str, str], int] = {}
    for cpu in logical:
        topology = sys / f"devices/system/cpu/cpu{cpu}/topology"
        socket = _text(topology / "physical_package_id").strip()
        core = _text(topology / "thread_siblings_list").strip() or str(cpu)
        first.setdefault((socket, core), cpu)
    return list(first.values()), len({socket for socket, _ in first})


def _caches(pins: list[int], sys: Path) -> Iterator[tuple[int, dict[str, int]]]:
    """Bytes of each cache of levels 2 and 3, by the CPUs that share it."""
    for level in (2, 3):
        found: dict[str, int] = {}
        for cpu in pins:
            for index in sorted((sys / f"devices/system/cpu/cpu{cpu}/cache").glob("index*")):
                size = re.fullmatch(r"(\d+)([KMG])", _text(index / "size").strip())
                if size and _text(index / "level").strip() == str(level):
                    found[_text(index / "shared_cpu_list").strip()] = int(size[1]) * _UNITS[size[2]]
        if found:
            yield level, found
