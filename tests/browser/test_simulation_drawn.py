"""The page of a simulation in a real browser: what is told, and that every chart has its lines."""

from __future__ import annotations

from pathlib import Path

import pytest

import dse
from dse.report.simulate import write_simulation

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(browse, tmp_path_factory):
    found = dse.simulate("llama-3.1-8b", "h100-sxm", rate=12, requests=1000, slo_ttft_ms=60, slo_tpot_ms=25)
    return browse(write_simulation(found.page(), tmp_path_factory.mktemp("simulated") / Path("page.html")))


def test_it_draws_without_an_error(page):
    root = page.all("html")[0].attributes
    assert root.get("data-ready") == "1"
    assert "data-errors" not in root
    assert int(root["data-overflow"]) <= 0


def test_tiles_say_load_and_latencies(page):
    told = page.one("tiles").text
    for words in ("stable", "load 5", "goodput", "TTFT p99, ms", "TPOT mean, ms"):
        assert words in told


def test_every_chart_has_its_lines(page):
    def lines(node) -> int:
        return len(node.all("g", class_="scatterlayer")[0].all("path", class_="js-line"))

    assert [lines(page.one(name)) for name in ("time", "waits")] == [2, 2]
    assert [lines(chart) for chart in page.one("curves").all("figure")] == [2, 2, 1]


def test_what_the_replicas_did(page):
    told = page.one("use").text
    assert "decode steps" in told
    assert "evictions from the full cache0" in told
