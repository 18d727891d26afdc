"""Which points of a run with `keep: all`, and the keywords that make it keep them."""

from __future__ import annotations

import pyarrow.compute as pc
import pytest

import dse
from dse.errors import InputError
from dse.run.sweep import load_sweep, run_sweep


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two chips, two degrees, two batches; nothing has a price on one of the chips."""
    sweep = {"name": "tiny", "models": "llama-3.1-8b", "hardware": ["h100-sxm", "mi300x"], "workload": "1024x256",
             "parallel": {"tp": [1, 2]}, "batch": [1, 16]}  # fmt: skip
    return dse.run_sweep(sweep, tmp_path_factory.mktemp("run"), keep="all", fidelity="ideal")


WANTED = {
    "all": (None, lambda frame: frame["tp"] > 0),
    "a value": ({"tp": 2}, lambda frame: frame["tp"] == 2),
    "values and another column": (
        {"batch": [1, 16], "hardware": "mi300x"}, lambda frame: frame["hardware"] == "mi300x"
    ),
    "any series of values": ({"tp": range(2)}, lambda frame: frame["tp"] == 1),
    "no value in a column": ({"rate": None}, lambda frame: frame["tp"] > 0),
    "nothing asked": ({}, lambda frame: frame["tp"] > 0),
    "no value will do": ({"hardware": []}, lambda frame: frame["tp"] < 0),
    "filters, all met": (
        [("tp", ">=", 2), ("hardware", "in", ["h100-sxm"])],
        lambda frame: (frame["tp"] == 2) & (frame["hardware"] == "h100-sxm"),
    ),
    "lists of filters, one met": (
        [[("tp", "==", 2), ("batch", "==", 1)], [("number", "<", 1)]],
        lambda frame: ((frame["tp"] == 2) & (frame["batch"] == 1)) | (frame["number"] == 0),
    ),
    "an expression": (
        (pc.field("tp") == 2) & (pc.field("batch") == 16), lambda frame: (frame["tp"] == 2) & (frame["batch"] == 16)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("where", "meant"), WANTED.values(), ids=WANTED)
def test_points_that_are_wanted(run, where, meant) -> None:
    every = run.points()
    assert len(every) == 8
    assert sorted(run.points(["number"], where)["number"]) == sorted(every[meant(every)]["number"])


FORMS = (
    "expected a mapping such as {'tp': 2, 'batch': [1, 16]}, filters such as [('tp', '>=', 2), ('hardware', 'in', "
    "['h200-sxm'])], or a pyarrow expression"
)
REFUSED = {
    "a sentence": ("tp == 2", f"where: {FORMS}; got 'tp == 2'"),
    "a number": (5, f"where: {FORMS}; got 5"),
    "half a filter": ([("tp", "==")], f"where: {FORMS}; got [('tp', '==')]"),
    "an operator that is none": ([("tp", "~", 2)], "where: cannot filter by [('tp', '~', 2)]: \"~\" is not a valid "),
    "a column that is not there": ({"tpp": 2}, "tpp: no such column; did you mean 'tp'?"),
    "two of them": ([("tpp", "==", 2), ("bach", "<", 2)], "tpp: no such column; did you mean 'tp'?\nbach: no such co"),
    "in an expression": (pc.field("tpp") == 2, "where: cannot filter by (tpp == 2): No match for FieldRef.Name(tpp)"),
    "a text where numbers stand": ({"tp": "2"}, "where: cannot filter by {'tp': '2'}: Function 'equal' has no kernel"),
    "among others": ({"tp": [1, "x"]}, "where: cannot filter by {'tp': [1, 'x']}: Could not convert 'x' with type str"),
    "a range in a filter": ([("tp", "in", 3)], "where: cannot filter by [('tp', 'in', 3)]: "),
}


@pytest.mark.parametrize(("where", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_filter_is_told_what_is_one(run, where, message) -> None:
    with pytest.raises(InputError) as caught:
        run.points(where=where)
    assert str(caught.value).startswith(message)


def test_a_run_takes_keep_and_fidelity_as_the_command_does(small, tmp_path) -> None:
    by_keyword = run_sweep(small, tmp_path / "keyword", keep="all", fidelity="ideal")
    by_setting = run_sweep(small, tmp_path / "setting", settings=["keep=all", "fidelity=ideal"])
    assert by_keyword.folder.name == by_setting.folder.name
    assert set(by_keyword.points(["fidelity"])["fidelity"]) == {"ideal"}
    both = run_sweep(small, tmp_path / "both", fidelity=["ideal", "datasheet"])
    assert both.manifest["points"] == 2 * 192


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"keep": "al"}, "--set: keep: 'al' is not one of frontier, all; did you mean 'all'?"),
        ({"fidelity": "ideel"}, "--set: fidelity: this version knows ideal, datasheet and calibrated, got 'ideel'"),
    ],
)
def test_a_keyword_that_is_wrong_says_so(small, tmp_path, keywords, message) -> None:
    with pytest.raises(InputError) as caught:
        run_sweep(small, tmp_path, **keywords)
    assert str(caught.value).startswith(message)


def test_a_resolved_sweep_takes_no_changes(small, tmp_path) -> None:
    with pytest.raises(InputError, match='a resolved sweep takes no changes; give keep="all" to load_sweep'):
        run_sweep(load_sweep(small), tmp_path, keep="all")
