"""The hardware library: every file loads, names its sources, and states physically possible numbers."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from dse.spec.catalog import hardware_names, load_hardware
from dse.spec.hardware import HardwareSpec

LIBRARY = Path(__file__).resolve().parents[2] / "hardware"
FILES = sorted(LIBRARY.glob("*.yaml"))
SIXTEEN_BIT = ("bf16", "fp16")


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def chip(request: pytest.FixtureRequest) -> HardwareSpec:
    """Each chip of the library in turn."""
    return load_hardware(request.param)


def normal(spelling: str) -> str:
    """The form in which spellings are compared."""
    return re.sub(r"[\s_-]+", "-", spelling.strip().lower())


def test_the_library_covers_the_usual_vendors() -> None:
    assert len(FILES) >= 60
    vendors = Counter(load_hardware(path).vendor for path in FILES)
    assert set(vendors) == {"NVIDIA", "AMD", "Intel", "Google", "AWS", "Apple"}
    assert {path.stem for path in FILES} <= set(hardware_names())


def test_a_file_holds_the_chip_it_is_named_after(chip: HardwareSpec, request: pytest.FixtureRequest) -> None:
    assert f"[{chip.name}]" in request.node.name
    assert load_hardware(chip.name) == chip


def test_every_number_has_a_source(chip: HardwareSpec) -> None:
    assert chip.unsourced == ()
    assert "override" not in chip.sources.values()
    assert "release_year" in chip.sources


def test_recalled_numbers_are_flagged(chip: HardwareSpec) -> None:
    for path in chip.numbers():
        source = chip.source(path)
        assert source is not None
        assert (path in chip.recalled) == source.startswith("recalled"), path
        assert source.startswith("recalled") or "recalled" not in source, f"{path} hides it: {source}"


def test_a_spelling_means_one_chip() -> None:
    owners: dict[str, list[str]] = {}
    for path in FILES:
        spec = load_hardware(path)
        for spelling in {normal(spec.name), *map(normal, spec.aliases)}:
            owners.setdefault(spelling, []).append(spec.name)
    assert {spelling: names for spelling, names in owners.items() if len(names) > 1} == {}


def test_no_alias_is_written_twice(chip: HardwareSpec) -> None:
    spellings = [normal(chip.name), *map(normal, chip.aliases)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("H100", "h100-sxm"), ("A100", "a100-sxm-80gb"), ("V100", "v100-sxm-32gb"), ("H200", "h200-sxm"),
        ("MI300X", "mi300x"), ("GH200", "gh200-96gb"), ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("Tesla T4", "t4"), ("h100_pcie", "h100-pcie"), ("3070 8GB", "rtx-3070"), ("RTX 4090", "rtx-4090"),
        ("A100-40GB-SXM", "a100-sxm-40gb"), ("RTX-PRO-6000-Blackwell-SE", "rtx-pro-6000-server"),
        ("M3 Max 40-Core GPU 64GB", "apple-m3-max-40-64gb"), ("Trillium", "tpu-v6e"),
        ("RTX4090", "rtx-4090"), ("GeForce RTX 5090", "rtx-5090"), ("rtx3080ti", "rtx-3080-ti"),
        ("RTX 3090Ti", "rtx-3090-ti"), ("4070Ti", "rtx-4070-ti"), ("RTXA6000", "rtx-a6000"),
        ("RTX6000 Ada", "rtx-6000-ada"),
    ],
)  # fmt: skip
def test_plain_names_find_the_chip_people_mean(spelling: str, name: str) -> None:
    assert load_hardware(spelling).name == name


def test_every_measured_spelling_resolves(shared_data: Path) -> None:
    with (shared_data / "measured" / "names.csv").open(encoding="utf-8") as file:
        spellings = [row["spelling"] for row in csv.DictReader(file) if row["column"] == "hardware"]
    assert spellings
    for spelling in spellings:
        chip = load_hardware(spelling)
        if size := re.search(r"(\d+)GB", spelling):
            assert chip.memory.label_gb is not None
            assert float(size[1]) == pytest.approx(chip.memory.label_gb, rel=0.05), spelling


def test_narrower_dtypes_are_not_slower(chip: HardwareSpec) -> None:
    peaks = chip.peak_tflops
    for narrow, wide in [("fp8", "bf16"), ("fp4", "fp8"), ("bf16", "fp32"), ("int4", "int8"), ("fp6", "fp8")]:
        if narrow in peaks and wide in peaks:
            assert peaks[narrow] >= peaks[wide], f"{narrow} below {wide}"


def test_the_ridge_point_is_that_of_a_real_chip(chip: HardwareSpec) -> None:
    peak = max((chip.peaks[dtype] for dtype in SIXTEEN_BIT if dtype in chip.peaks), default=chip.vector)
    assert 1 < peak / chip.bandwidth < 2000
    assert chip.vector <= max(chip.peaks.values())


def test_the_capacity_is_the_label_in_gb_or_gib(chip: HardwareSpec) -> None:
    if chip.kind != "cpu":
        assert chip.memory.label_gb is not None
        assert chip.memory.capacity_gb == pytest.approx(chip.memory.label_gb, rel=0.10)


def test_the_box_can_serve_offloading(chip: HardwareSpec) -> None:
    box = chip.box
    assert box.host_memory_gb is not None
    assert box.host_memory_bandwidth_gb_per_s is not None
    assert box.cpu_cores is not None
    assert box.cpu_tflops is not None
    assert box.disk_gb is not None
    assert box.disk_read_gb_per_s is not None
    assert box.disk_write_gb_per_s is not None
    assert box.disk_write_gb_per_s <= box.disk_read_gb_per_s < box.host_memory_bandwidth_gb_per_s
    assert 0.005 < box.cpu_tflops / box.cpu_cores < 0.3
    assert chip.host_link is not None or chip.kind in ("soc", "cpu")
    if chip.kind in ("soc", "cpu"):
        assert box.host_memory_gb == pytest.approx(chip.memory.capacity_gb * box.devices, rel=0.01)


def test_links_are_slower_than_memory(chip: HardwareSpec) -> None:
    rates = [link.gb_per_s for link in (chip.scale_up, chip.host_link, chip.scale_out) if link is not None]
    assert all(rate < chip.memory.bandwidth_gb_per_s for rate in rates)
    if chip.scale_up is not None and chip.scale_out is not None:
        assert chip.scale_out.gb_per_s < chip.scale_up.gb_per_s


def test_prices_are_dated_and_plausible(chip: HardwareSpec) -> None:
    for price in chip.prices:
        assert re.match(r"20\d\d", price.date), price
        assert price.provider
        assert price.source
        if price.usd_per_hour is not None:
            assert 0.1 < price.usd_per_hour < 30  # the dearest: GB200 at Azure, 27.04
        if price.usd is not None:
            assert 200 < price.usd < 50_000
    assert len(set(chip.prices)) == len(chip.prices)
    if any(price.kind == "assumed" for price in chip.prices):
        assert {price.kind for price in chip.prices} == {"assumed"}


# Vendor data sheets, dense rates; capacity in MiB or bytes as the driver reports it.
GOLDEN = [
    # https://www.nvidia.com/en-us/data-center/h100/
    ("h100-sxm", {"bf16": 989.5, "fp8": 1979}, 3350, 80, 700),
    ("h100-pcie", {"bf16": 756.5, "fp8": 1513}, 2000, 80, 350),
    # https://www.nvidia.com/en-us/data-center/h200/
    ("h200-sxm", {"bf16": 989.5, "int8": 1979}, 4800, 141, 700),
    # https://www.nvidia.com/en-us/data-center/a100/
    ("a100-sxm-80gb", {"tf32": 156, "bf16": 312, "int8": 624}, 2039, 80, 400),
    ("a100-pcie-40gb", {"fp16": 312}, 1555, 40, 250),
    # https://www.nvidia.com/en-us/data-center/tesla-t4/
    ("t4", {"fp16": 65, "int8": 130}, 320, 16, 70),
    # https://www.nvidia.com/en-us/data-center/v100/
    ("v100-sxm-16gb", {"fp16": 125}, 900, 16, 300),
    # https://www.nvidia.com/en-us/data-center/l4/
    ("l4", {"bf16": 121, "fp8": 242}, 300, 24, 72),
    # https://www.nvidia.com/en-us/data-center/l40s/
    ("l40s", {"bf16": 362.05, "fp8": 733}, 864, 48, 350),
    # https://www.nvidia.com/en-us/design-visualization/rtx-a6000/
    ("rtx-a6000", {"fp16": 154.8}, 768, 48, 300),
    # https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf
    ("rtx-4090", {"fp16": 165.2, "int8": 660.6}, 1008, 24, 450),
    # https://www.amd.com/en/products/accelerators/instinct/mi300/mi300x.html
    ("mi300x", {"bf16": 1307.4, "fp8": 2614.9}, 5300, 192, 750),
    # https://www.amd.com/en/products/accelerators/instinct/mi350/mi355x.html
    ("mi355x", {"bf16": 2516, "fp4": 10066}, 8000, 288, 1400),
    # https://docs.cloud.google.com/tpu/docs/v5e
    ("tpu-v5e", {"bf16": 197, "int8": 393}, 819, 16, None),
    # https://www.intel.com/content/www/us/en/products/details/processors/ai-accelerators/gaudi.html
    ("gaudi3", {"bf16": 1835, "fp8": 1835}, 3670, 128, 900),
]


@pytest.mark.parametrize(("name", "peaks", "bandwidth", "label", "watts"), GOLDEN)
def test_data_sheets_are_met(
    name: str, peaks: dict[str, float], bandwidth: float, label: float, watts: float | None
) -> None:
    chip = load_hardware(name)
    for dtype, tflops in peaks.items():
        assert chip.peak(dtype) == pytest.approx(tflops * 1e12, rel=0.005), dtype
    assert chip.memory.bandwidth_gb_per_s == pytest.approx(bandwidth, rel=0.005)
    assert chip.memory.label_gb == label
    assert (chip.power.tdp_w if chip.power else None) == watts


@pytest.mark.parametrize(
    ("name", "gb"),
    [
        ("h100-sxm", 81559 * 1.048576e-3),  # nvidia-smi
        ("mi300x", 201310208 * 1024e-9),  # rocminfo, KiB
        ("b300", 275040 * 1.048576e-3),  # the 288 of the label is decimal
        ("gaudi2", 98304 * 1.048576e-3),  # hl-smi
        ("a100-sxm-40gb", 40 * 1.073741824),
    ],
)
def test_the_capacity_is_what_the_driver_reports(name: str, gb: float) -> None:
    assert load_hardware(name).memory.capacity_gb == pytest.approx(gb, abs=0.01)


def test_chips_lack_what_their_generation_lacks() -> None:
    assert "bf16" not in load_hardware("t4").peak_tflops
    assert "fp8" not in load_hardware("a100-sxm-80gb").peak_tflops
    assert "int4" not in load_hardware("h100-sxm").peak_tflops
    apple = load_hardware("apple-m1-max-32")
    assert apple.peak("fp16") == apple.vector, "Apple GPUs have no matrix units"


def test_a_variant_differs_from_its_base_only_where_it_says() -> None:
    base, variant = load_hardware("a100-sxm-80gb"), load_hardware("a800-sxm-80gb")
    assert variant.scale_up is not None
    assert variant.scale_up.gb_per_s == 200
    assert (variant.peak_tflops, variant.memory, variant.box) == (base.peak_tflops, base.memory, base.box)
    assert "scale_up.gb_per_s" in variant.recalled
