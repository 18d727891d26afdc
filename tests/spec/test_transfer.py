"""Whose efficiencies a chip uses: its own, its nearest relatives', or none."""

from __future__ import annotations

import pytest

from dse.errors import InputError
from dse.spec.calibration import FORMS, KEYS, MOST, SET_OF, cache_key, product_key, scores_key
from dse.spec.catalog import hardware_names, load_hardware
from dse.spec.formats import parse_format
from dse.spec.hardware import HardwareSpec

MEASURED = {"a100-sxm-80gb", "h100-sxm", "l40s", "b200", "b300", "gb300", "rtx-pro-6000-server", "arc-pro-b60"}


def sources(chip: HardwareSpec, form: str, key: str) -> tuple[str, ...] | None:
    """Whom a set was taken over from: nobody, () for its own."""
    found = chip.calibration.find(form, key) if chip.calibration is not None else None
    return None if found is None else found.inherited


def test_measured_chips_hold_their_own_and_few():
    for name in MEASURED:
        block = load_hardware(name).calibration
        assert block is not None
        assert block.basis is not None
        assert block.basis.chip == name
        assert block.source.startswith("aiconfigurator kernel timings @095f58a")
        assert 40 <= block.stored <= MOST
    # An A800 is an A100 with another link: all but its collectives are its own.
    assert {name for name in hardware_names() if _own(load_hardware(name))} == {*MEASURED, "a800-sxm-80gb"}
    assert sources(load_hardware("a800-sxm-80gb"), "collective", "all_reduce") == ("a100-sxm-80gb",)


def _own(chip: HardwareSpec) -> bool:
    return chip.calibration is not None and chip.calibration.stored > 0


def test_no_set_is_faster_than_physics():
    for name in MEASURED:
        block = load_hardware(name).calibration
        assert block is not None
        for form, key, fitted in block.sets():
            assert key in KEYS[form]
            assert isinstance(fitted, SET_OF[form])
            values = fitted.values()
            assert len(values) <= 6
            assert all(values[share] <= 1 for share in ("compute", "memory") if share in values)
            assert all(value >= 0 for value in values.values())


@pytest.mark.parametrize(
    ("name", "form", "key", "expected"),
    [
        ("h100-sxm", "gemm", "fp8", ()),  # its own
        ("h200-sxm", "gemm", "fp8", ("h100-sxm",)),  # Hopper with HBM
        ("gh200-96gb", "decode", "kv16", ("h100-sxm",)),
        ("gb200", "prefill", "fp8-kv8", ("b200", "b300", "gb300")),  # one generation: blackwell and blackwell-ultra
        ("a100-pcie-40gb", "moe", "bf16", ("a100-sxm-80gb",)),
        ("rtx-5090", "gemm", "bf16", ("rtx-pro-6000-server",)),  # Blackwell, but with GDDR
        ("rtx-4090", "gemm", "bf16", ("l40s",)),
        ("rtx-3090", "gemm", "bf16", ("l40s", "rtx-pro-6000-server")),  # no Ampere with GDDR was timed: the vendor's
        ("h200-sxm", "gemm", "w4a16", ("a100-sxm-80gb",)),  # the type was timed on one chip of the vendor only
        ("h200-sxm", "collective", "all_reduce", ("h100-sxm",)),
        ("l40s", "collective", "all_reduce", None),  # PCIe: the box decides
        ("h100-pcie", "collective", "all_gather", None),
        ("mi300x", "gemm", "bf16", None),  # another vendor
        ("gaudi2", "decode", "kv16", None),  # Intel's other chip has GDDR
        ("tpu-v5e", "gemm", "bf16", None),
        ("jetson-agx-thor", "gemm", "bf16", None),  # Blackwell with LPDDR
    ],
)  # fmt: skip
def test_the_nearest_relative_decides(name, form, key, expected):
    assert sources(load_hardware(name), form, key) == expected


def test_of_several_relatives_the_median_of_each_parameter():
    sets = [load_hardware(name).calibration.decode["kv16"] for name in ("b200", "b300", "gb300")]
    taken = load_hardware("gb200").calibration.decode["kv16"]
    assert taken.t0_us == sorted(fitted.t0_us for fitted in sets)[1]
    assert taken.rows == sum(fitted.rows for fitted in sets)


@pytest.mark.parametrize(
    ("changes", "kernels", "links"),
    [
        ({"memory.capacity_gb": 160}, (), ()),
        ({"power.tdp_w": 350, "prices": []}, (), ()),
        ({"memory.bandwidth_gb_per_s": 4000}, ("h100-sxm",), ()),
        ({"peak_tflops.bf16": 500}, ("h100-sxm",), ()),
        ({"cores": 114}, ("h100-sxm",), ()),
        ({"scale_up.gb_per_s": 200}, (), ("h100-sxm",)),
        ({"scale_up": None}, (), None),
    ],
)
def test_a_variant_keeps_what_its_changes_do_not_touch(changes, kernels, links):
    chip = load_hardware({"base": "h100-sxm", **changes})
    assert sources(chip, "gemm", "bf16") == kernels
    assert sources(chip, "collective", "all_reduce") == links


def test_an_unknown_class_or_type_is_refused():
    good = {"t0_us": 1, "compute": 0.5, "memory": 0.5, "tile": 0, "inputs": 0, "outputs": 0}
    with pytest.raises(InputError, match=r"calibration.gemm: 'fp7' is not a type of gemm"):
        load_hardware({"base": "t4", "calibration": {"gemm": {"fp7": good}}})
    with pytest.raises(InputError, match="compute"):
        load_hardware({"base": "t4", "calibration": {"gemm": {"fp8": {**good, "compute": 1.2}}}})


@pytest.mark.parametrize(
    ("weights", "used", "key"),
    [("bf16", "bf16", "bf16"), ("bf16", "fp16", "bf16"), ("fp8", "fp8", "fp8"), ("fp8-block", "fp8", "fp8-block"),
     ("nvfp4", "fp4", "fp4"), ("int8", "int8", "int8"), ("int4", "bf16", "w4a16"), ("fp8", "bf16", "w8a16"),
     ("mxfp4", "fp8", "w4a8"), ("q4_k_m", "fp16", "w4a16"), ("q6_k", "fp16", "w8a16")],
)  # fmt: skip
def test_products_are_told_apart_by_what_is_stored_and_multiplied(weights, used, key):
    assert product_key(parse_format(weights), used) == key


def test_attention_is_told_apart_by_its_cache():
    assert [cache_key(parse_format(name)) for name in ("bf16", "fp8", "int4")] == ["kv16", "kv8", "kv8"]
    assert scores_key("bf16", parse_format("fp8")) == "bf16-kv8"
    assert scores_key("fp8", parse_format("fp8")) == "fp8-kv8"
    assert all(KEYS[form] for form in FORMS)
