"""docs/flexgen.md: FlexGen's published table by command line, as it is predicted now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from test_flexgen_paper import predicted as placed
from test_flexgen_paper import realised

from dse.run.evaluate import point_sweep
from dse.search.whole_tensors import whole_tensors

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("flexgen_page", ROOT / "docs" / "flexgen.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_page_holds_what_the_commands_print(script) -> None:
    page = script.PAGE.read_text(encoding="utf-8")
    assert page.count(script.BEGIN) == page.count(script.END) == 1
    assert script.written(page) == page, "docs/flexgen.md drifted: python docs/flexgen.py"


def test_a_command_is_the_comparison_that_is_tested(script) -> None:
    """One of each kind; the commands count the norms, which the tests' own list of matrices leaves out."""
    kinds = {(row["compressed"], row["overlap"], row["regime"]): row for row in script.rows()}
    assert len(kinds) == 7
    for row in kinds.values():
        assert script.predicted(row) == pytest.approx(placed(row)["output_tokens_per_s"], rel=2e-3), row


@pytest.mark.parametrize("shares", [(100, 0), (20, 80), (10, 90), (4, 96), (0, 50), (0, 0), (50, 30), (33, 33)])
def test_whole_tensors_are_those_of_flexgen(shares) -> None:
    """Of equal matrices it does not matter from which end of the list they are given away."""
    sweep = point_sweep("opt-30b", "t4-flexgen", {})
    near, host = (share / 100 for share in shares)
    policy = {"accelerator": near, "host": host, "disk": 1 - near - host}
    found = whole_tensors(sweep.models[0], sweep.choices_of(0, 0), {"weights": policy})["weights"]
    assert sum(found.values()) == pytest.approx(1)
    expected = realised(*shares)
    assert (100 * found["accelerator"], 100 * found["host"]) == pytest.approx(expected, abs=0.02)


def test_whole_tensors_of_unequal_matrices_and_experts() -> None:
    """Mixtral: of q, k, v, o (4:1:1:4) half is the last; of its experts, up and gate (2) and down (1), the last."""
    sweep = point_sweep("mixtral-8x7b", "l40s", {})
    half = {"accelerator": 0.5, "host": 0.5, "disk": 0.0}
    found = whole_tensors(sweep.models[0], sweep.choices_of(0, 0), {"weights": half, "cache": half})
    assert found["cache"] == half
    assert found["experts"]["accelerator"] == pytest.approx(1 / 3)
    assert found["weights"]["accelerator"] == pytest.approx(0.5, abs=0.01)
