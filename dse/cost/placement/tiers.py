"""Host memory and disk behind one device, and the ways to them: its share of the box.

A replica owns that part of a box's host its devices stand for: each of the eight devices of a box has an eighth of
the host memory, its bandwidth, the cores and the disks, whatever the others run; the host link is each device's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dse.cost.choices import Choices, Table
from dse.cost.mesh import Mesh
from dse.cost.work import Array

ABSENT = 1e6
"""Seconds per byte or FLOP of what a box does not have or does not say: nothing is ever placed there."""


@dataclass(frozen=True)
class Tiers:
    """Reciprocal rates and capacities per device; shapes over the axes hardware and fidelity."""

    link: Array
    """Seconds per byte from host to device; the other direction runs beside it at the same rate."""
    host_flop: Array
    """Seconds per FLOP on the host's cores."""
    host_byte: Array
    """Seconds per byte of host memory."""
    disk_read: Array
    disk_write: Array
    host_bytes: Array
    """Host memory the engine may use."""
    disk_bytes: Array

    @classmethod
    def on(cls, mesh: Mesh, choices: Choices) -> Tiers:
        """Tiers of the mesh's accelerators at the mesh's fidelities."""
        devices = choices.of_box("devices")

        def rate(table: Table, share: str) -> Array:
            """Seconds per unit, of a device's part of what the box has."""
            reached = np.array([getattr(f, share) for f in choices.fidelities])
            with np.errstate(divide="ignore"):
                seconds = 1.0 / (table[:, None] * reached)
            return mesh.take(np.where(np.isnan(seconds), ABSENT, seconds), "hardware", "fidelity")

        def capacity(field: str, *needed: str) -> Array:
            """Bytes, none where a rate to reach them is not known."""
            known = ~np.isnan(choices.of_hardware("host_bandwidth"))
            for name in needed:
                known = known & ~np.isnan(choices.of_box(name))
            size = np.where(known, choices.of_box(field), np.nan) * 1e9 / devices
            return mesh.take(np.nan_to_num(size), "hardware") * choices.host_utilization

        bandwidth = "host_memory_bandwidth_gb_per_s"
        disk = ("disk_read_gb_per_s", "disk_write_gb_per_s")
        return cls(
            link=rate(choices.of_hardware("host_bandwidth"), "host_link"),
            host_flop=rate(choices.of_box("cpu_tflops") * 1e12 / devices, "host_compute"),
            host_byte=rate(choices.of_box(bandwidth) * 1e9 / devices, "host_memory"),
            disk_read=rate(choices.of_box(disk[0]) * 1e9 / devices, "disk"),
            disk_write=rate(choices.of_box(disk[1]) * 1e9 / devices, "disk"),
            host_bytes=capacity("host_memory_gb", bandwidth),
            disk_bytes=capacity("disk_gb", bandwidth, *disk),
        )
