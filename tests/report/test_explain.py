"""One point on the terminal reads in eighty columns, each operator under the part of the model it belongs to."""

from __future__ import annotations

import pytest

from dse import explain
from dse.report.explain import print_explain


@pytest.fixture(scope="module")
def found():
    return explain("gpt-oss-120b", "h100-sxm", tp=8, batch=64)


@pytest.fixture
def printed(found, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_explain(found)
    return capsys.readouterr().out


def test_it_fits_eighty_columns(printed):
    assert max(map(len, printed.splitlines())) <= 80


def test_operators_stand_under_the_part_they_belong_to(printed):
    decode = printed[printed.index("\ndecode") :]
    titles = ("embedding: 1 run\n", "Attention (window 128): 18 runs\n", "MoE: 36 runs\n", "Attention: 18 runs\n")
    places = [decode.index(f"\n{title}") for title in titles]
    assert places == sorted(places)


def test_operators_and_layers_name_parts_alike(found):
    parts = {operator["layer"] for operator in found["phases"]["decode"]["operators"]} - {"embedding", "head"}
    assert parts == {part for layer in found["layers"] for part in layer["name"].split("+")}
    assert [layer["name"] for layer in found["layers"]] == ["Attention (window 128)+MoE", "Attention+MoE"]
