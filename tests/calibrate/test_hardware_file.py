"""From readings to the file: which counts, what is taken over, where every number comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import dse
from dse.calibrate.cuda import Gpu
from dse.calibrate.disk import Disk
from dse.calibrate.machine import Machine
from dse.calibrate.reading import Reading
from dse.calibrate.write import Findings, choose, specification, text, write
from dse.errors import CannotRun
from dse.spec.catalog import load_hardware

HOST = Machine(
    cpu="AMD EPYC 9654", vendor="AMD", sockets=1, pins=tuple(range(96)), memory=824_633_720_832, available=8 * 10**11,
    l2=96 * 2**20, llc=384 * 2**20, memory_source="read from the operating system",
)  # fmt: skip
GPU = Gpu(
    name="NVIDIA H100 80GB HBM3", vendor="NVIDIA", memory=85_520_809_984, cores=132, l2=50 * 2**20, integrated=False,
    count=1, has_tf32=True, software="PyTorch 2.9.1, CUDA 12.8",
)  # fmt: skip
ON = f"measured by dse probe {dse.__version__} on 2026-11-25: "


def reading(what: str, value: float, *fields: str, unit: str = "TFLOP/s") -> Reading:
    return Reading(what, value, unit, f"by {what}", 7, 0.02, fields)


CPU_READINGS = (
    reading("read", 380.123, "memory.bandwidth_gb_per_s", "box.host_memory_bandwidth_gb_per_s", unit="GB/s"),
    reading("copy", 350.0, "memory.bandwidth_gb_per_s", "box.host_memory_bandwidth_gb_per_s", unit="GB/s"),
    reading("numpy", 4.1, "peak_tflops.fp32", "box.cpu_tflops"),
    reading("torch", 5.2, "peak_tflops.fp32", "box.cpu_tflops"),
    reading("bf16", 9.9, "peak_tflops.bf16"),
    reading("int8", 0.4, "peak_tflops.int8"),
    reading("disk read", 6.5, "box.disk_read_gb_per_s", unit="GB/s"),
)
GPU_READINGS = (
    reading("hbm", 3000, "memory.bandwidth_gb_per_s", unit="GB/s"),
    reading("fp32", 50, "peak_tflops.fp32"),
    reading("bf16", 700, "peak_tflops.bf16"),
    reading("fp16", 690, "peak_tflops.fp16"),
    reading("tf32", 51, "peak_tflops.tf32"),
    reading("pinned", 50, "host_link.gb_per_s", unit="GB/s"),
    reading("pageable", 12, "host_link.pageable_gb_per_s", unit="GB/s"),
    reading("host", 300, "box.host_memory_bandwidth_gb_per_s", unit="GB/s"),
)


def findings(**changes: object) -> Findings:
    own = Findings(
        name="box", date="2026-11-25", machine=HOST, gpu=None, disk=Disk(Path("."), 3 * 10**12, "ext4"),
        readings=CPU_READINGS, notes=("a remark",),
    )  # fmt: skip
    return replace(own, **changes)


def test_the_best_reading_of_a_field_counts_and_an_emulated_dtype_does_not() -> None:
    chosen, notes = choose(CPU_READINGS)
    assert {field: found.what for field, found in chosen.items()} == {
        "memory.bandwidth_gb_per_s": "read", "box.host_memory_bandwidth_gb_per_s": "read",
        "peak_tflops.fp32": "torch", "box.cpu_tflops": "torch", "peak_tflops.bf16": "bf16",
        "box.disk_read_gb_per_s": "disk read",
    }  # fmt: skip
    assert notes == ["No faster than fp32, so emulated and left out (TFLOP/s): int8 (0.4)."]


def test_a_processor_is_the_machine_itself() -> None:
    found = specification(findings(), None)
    assert (found.name, found.vendor, found.kind) == ("box", "AMD", "cpu")
    assert found.peak_tflops == {"fp32": 5.2, "bf16": 9.9}
    assert (found.memory.capacity_gb, found.memory.bandwidth_gb_per_s) == (824.6, 380.1)
    assert (found.cores, found.cache.l2_mb, found.cache.llc_mb) == (96, 96, 384)
    assert found.box.model_dump(exclude_none=True) == {
        "devices": 1, "host_memory_gb": 824.6, "host_memory_bandwidth_gb_per_s": 380.1, "cpu": "AMD EPYC 9654",
        "cpu_cores": 96, "cpu_tflops": 5.2, "disk_gb": 3000, "disk_read_gb_per_s": 6.5,
    }  # fmt: skip
    assert found.host_link is found.power is found.scale_up is None


def test_every_number_says_where_it_comes_from() -> None:
    found = specification(findings(), None)
    assert found.unsourced == ()
    assert found.source("memory.bandwidth_gb_per_s") == f"{ON}by read, best of 7"
    assert found.source("peak_tflops.bf16") == f"{ON}by bf16, best of 7"
    assert found.source("memory.capacity_gb") == "read from the operating system"
    assert found.source("box.disk_gb") == "free space of the measured disk on 2026-11-25"


def test_it_says_that_ceilings_are_no_datasheet_peaks() -> None:
    """Else they would be lowered twice: `datasheet` multiplies peaks by the share that kernels reach."""
    first = specification(findings(), None).notes.splitlines()[0]
    assert first == (
        "Rates are ceilings that this machine reached, not datasheet peaks: --fidelity ideal takes them as they are. "
        "--fidelity datasheet lowers them once more (GEMM: 0.75 of compute, 0.8 of bandwidth), and so does the "
        "default, calibrated, by what was fitted on relatives or else as datasheet does."
    )


def test_remarks_and_readings_that_fill_no_field_are_kept() -> None:
    latency = Reading("all-reduce latency", 12.34, "us", "NCCL", 7, 0.0)
    notes = specification(findings(readings=(*CPU_READINGS, latency)), None).notes.splitlines()
    assert "a remark" in notes
    assert "all-reduce latency: 12.34 us (NCCL, best of 7)" in notes
    assert "copy: 350 GB/s (by copy, best of 7)" in notes
    assert not [note for note in notes if note.startswith("read: ")]


def test_a_gpu_with_its_box() -> None:
    found = specification(findings(gpu=GPU, readings=GPU_READINGS), None)
    assert (found.vendor, found.kind, found.cores, found.cache.l2_mb) == ("NVIDIA", "gpu", 132, 50)
    assert found.peak_tflops == {"fp32": 50, "bf16": 700, "fp16": 690}
    assert found.host_link is not None
    assert (found.host_link.gb_per_s, found.host_link.pageable_gb_per_s) == (50, 12)
    assert found.host_link.to_host_gb_per_s is None
    assert (found.box.host_memory_gb, found.box.host_memory_bandwidth_gb_per_s) == (824.6, 300)
    assert found.unsourced == ()
    assert "NVIDIA H100 80GB HBM3, PyTorch 2.9.1, CUDA 12.8." in found.notes.splitlines()


def test_a_chip_of_the_library_gives_what_cannot_be_measured() -> None:
    base = load_hardware("h100-sxm")
    found = specification(findings(gpu=GPU, readings=GPU_READINGS), base)
    assert (found.architecture, found.power, found.prices) == (base.architecture, base.power, base.prices)
    assert (found.scale_up, found.scale_out) == (base.scale_up, base.scale_out)
    assert found.memory.type == base.memory.type
    assert found.host_link is not None
    assert base.host_link is not None
    assert found.host_link.technology == base.host_link.technology
    assert found.host_link.gb_per_s == 50
    assert found.peak_tflops == {"fp32": 50, "bf16": 700, "fp16": 690}  # measured or absent, never mixed
    assert found.unsourced == ()
    assert found.source("power.tdp_w") == f"{base.source('power.tdp_w')} (as h100-sxm)"
    notes = found.notes.splitlines()
    assert "Share of the datasheet of h100-sxm: fp32 75%, bf16 71%, fp16 70%, memory.bandwidth_gb_per_s 90%." in notes
    assert "Not measured, though h100-sxm has it: fp8, int8." in notes


def test_a_recalled_number_stays_recalled() -> None:
    base = load_hardware("t4")
    assert "scale_out.gb_per_s" in base.recalled
    found = specification(findings(gpu=GPU, readings=GPU_READINGS), base)
    assert "scale_out.gb_per_s" in found.recalled


def test_links_that_were_measured_are_not_taken_over() -> None:
    ring = reading("all-reduce", 360, "scale_up.gb_per_s", unit="GB/s")
    found = specification(
        findings(gpu=replace(GPU, count=4), readings=(*GPU_READINGS, ring)), load_hardware("h100-sxm")
    )
    assert found.scale_up is not None
    assert (found.scale_up.gb_per_s, found.scale_up.domain) == (360, 4)
    assert found.scale_up.technology == "NVLink 4 + NVSwitch 3"
    assert found.source("scale_up.gb_per_s") == f"{ON}by all-reduce, best of 7"
    assert found.box.devices == 4


def test_power_of_a_socket_is_not_that_of_two() -> None:
    base = load_hardware("epyc-9654")
    one = specification(findings(), base)
    two = specification(findings(machine=replace(HOST, sockets=2)), base)
    assert one.power == base.power
    assert two.power is None
    assert "Power and prices of epyc-9654 are per socket and were not taken over." in two.notes
    assert two.box.cpu == "2x AMD EPYC 9654"


def test_without_any_matrix_multiplication_there_is_no_accelerator() -> None:
    with pytest.raises(CannotRun) as caught:
        specification(findings(readings=CPU_READINGS[:2], notes=("GEMM fp32: not measured: no kernel",)), None)
    assert str(caught.value) == "no matrix multiplication could be measured; GEMM fp32: not measured: no kernel"


@pytest.mark.parametrize("base", [None, "h100-sxm"])
def test_the_file_is_read_back_as_it_was(tmp_path, base) -> None:
    chip = load_hardware(base) if base else None
    gpu = {"gpu": replace(GPU, name="Odd: #1 'GPU'"), "readings": GPU_READINGS} if base else {}
    found = specification(findings(**gpu), chip)
    write(found, tmp_path / "box.yaml")
    # Read from the shelf it also has its relatives' efficiencies, as any chip.
    assert load_hardware(tmp_path / "box.yaml").model_copy(update={"calibration": None}) == found


def test_the_file_reads_like_the_library_s() -> None:
    lines = text(specification(findings(readings=CPU_READINGS[:1] + CPU_READINGS[3:]), None)).splitlines()
    assert lines[:5] == [
        "name: box",
        "vendor: AMD",
        "kind: cpu",
        "peak_tflops: {fp32: 5.2, bf16: 9.9}",
        "memory: {capacity_gb: 824.6, bandwidth_gb_per_s: 380.1}",
    ]
    assert "notes: |-" in lines
    assert lines[-1] == "  a remark"
