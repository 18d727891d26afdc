"""Fitted efficiencies on the mesh: defaults keep their bits, no fit beats the roofline, evidence follows the time."""

from __future__ import annotations

import numpy as np
import pytest
from properties.points import along, choices, flat_mesh_of, mesh_of

from dse.cost.choices import AXES
from dse.cost.evaluate import columns
from dse.cost.phases import Point
from dse.run.evidence import evidence
from dse.spec.bands import error_models
from dse.spec.catalog import load_hardware, load_model

MODELS = ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-120b", "mamba2-2.7b")
NAMES = ["ttft_ms", "tpot_ms"]
CHIPS = ("h100-sxm", "h200-sxm", "mi300x")
SPACE = {"workload": ((128, 16), (3000, 400)), "precision": ("bf16", "fp8", "w4a16-g128"),
         "layout": ((1,), (8,), (2, 2), (2, 1, 4, 0)), "batch": (1, 7, 64)}  # fmt: skip


def found(model, chips, fidelity, flat=False):
    chosen = choices(chips, fidelity=fidelity, **SPACE)
    mesh = flat_mesh_of(chosen) if flat else mesh_of(chosen)
    return columns(load_model(model), chosen, mesh, NAMES)


@pytest.mark.parametrize("model", MODELS)
def test_defaults_keep_their_bits_beside_fitted_chips(model):
    """On one mesh the two are one formula with zeros in the rest."""
    alone = found(model, CHIPS, ["datasheet"])
    mixed = found(model, CHIPS, ["datasheet", "calibrated"])
    for name in NAMES:
        default, fitted = (along(mixed[name], "fidelity", index) for index in (0, 1))
        defaults = along(alone[name], "fidelity", 0)
        assert np.array_equal(default, defaults, equal_nan=True)
        # A chip without relatives is at its defaults.
        assert np.array_equal(of_chip(fitted, 2), of_chip(defaults, 2), equal_nan=True)
        assert not np.any(of_chip(fitted, 0) == of_chip(defaults, 0)) or model == "mamba2-2.7b"


def of_chip(values, chip):
    """Figures of one chip, of values without the axis of fidelities."""
    return np.take(values, chip, axis=[axis for axis in AXES if axis != "fidelity"].index("hardware"))


@pytest.mark.parametrize("model", MODELS)
def test_a_mesh_and_a_list_of_points_give_the_same_bits(model):
    mesh, points = (found(model, CHIPS, ["calibrated", "ideal"], flat) for flat in (False, True))
    for name in NAMES:
        assert np.array_equal(mesh[name].ravel(), points[name], equal_nan=True)


@pytest.mark.parametrize("model", MODELS)
def test_no_fit_is_faster_than_the_roofline(model):
    values = found(model, ("h100-sxm", "a100-sxm-80gb", "l40s", "b200", "gb300"), ["ideal", "calibrated"])
    for name in NAMES:
        ideal, fitted = (along(values[name], "fidelity", index) for index in (0, 1))
        assert np.all((fitted >= ideal) | np.isnan(ideal))


def rows(chip, fidelity="calibrated", model="llama-3.1-70b", **axes):
    axes = {"layout": ((2,),), "batch": (64,), "workload": ((4096, 128),), **axes}
    chosen = choices([chip], fidelity=[fidelity], **axes)
    return evidence(Point(load_model(model), chosen, flat_mesh_of(chosen)))


@pytest.mark.parametrize(
    ("chip", "fidelity", "name"),
    [
        ("h100-sxm", "calibrated", "calibrated"),
        ("h100-sxm", "datasheet", "datasheet"),
        ("h100-sxm", "ideal", "ideal"),
        ("h200-sxm", "calibrated", "transferred"),
        ("mi300x", "calibrated", "datasheet"),
        ({"base": "h100-sxm", "memory.bandwidth_gb_per_s": 4000}, "calibrated", "transferred"),
    ],
)
def test_a_row_says_what_its_time_rests_on(chip, fidelity, name):
    found = rows(chip, fidelity)
    assert found["evidence"][0].split("+")[0] == name
    assert found["ttft_error_pct"] == [float(error_models()[name].bands[0])]


def test_one_weak_class_with_a_tenth_of_the_time_decides():
    """Between boxes nobody timed the all-reduce; norms of eight ranks, which are not shared out, take a tenth too."""
    assert rows("h100-sxm")["evidence"][0].startswith("calibrated")
    assert rows({"base": "h100-sxm", "scale_up.domain": 1})["evidence"][0].startswith("datasheet")
    assert rows("h100-sxm", layout=((8,),))["evidence"][0].startswith("datasheet")


def test_unknown_types_fall_back_to_the_defaults():
    """Nobody timed 8-bit integers on a Hopper, but on an A100."""
    assert load_hardware("h100-sxm").calibration.find("gemm", "int8").inherited == ("a100-sxm-80gb",)
    assert rows("h100-sxm", precision=("w8a8-int8",))["evidence"][0].startswith("transferred")
    assert rows("h100-sxm", precision=("fp32",))["evidence"][0].startswith("datasheet")
