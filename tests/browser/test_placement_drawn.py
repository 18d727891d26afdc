"""A report of offloaded points in a real browser: streams as bars, tiers as bars, what is told of placements."""

from __future__ import annotations

import pytest

from dse.run.sweep import run_sweep

pytestmark = pytest.mark.browser

SWEEP = {
    "name": "offloaded", "models": "opt-30b", "hardware": "t4-flexgen", "precision": "fp16",
    "workload": "512x32", "batch": [1, 32, 144], "offload": ["none", "lp"],
    "objectives": ["output_tokens_per_s", "latency_s"],
}  # fmt: skip


@pytest.fixture(scope="module")
def page(browse, tmp_path_factory):
    run = run_sweep(SWEEP, tmp_path_factory.mktemp("offloaded"))
    return browse(run.report)


def test_it_draws_without_an_error(page):
    root = page.all("html")[0].attributes
    assert root.get("data-ready") == "1"
    assert "data-errors" not in root


def test_every_stream_of_both_phases_has_its_bar(page):
    streams = page.one("streams")
    names = [row.all("span")[0].text for row in streams.all("div", class_="stream")]
    every = ["Accelerator computes", "Host computes", "Host to device", "Device to host", "Disk read", "Disk write",
             "Host memory"]  # fmt: skip
    assert names == 2 * every
    bars = [bar.attributes["style"] for bar in streams.all("i")]
    assert any("width:100%" in style for style in bars)


def test_host_memory_has_a_bar_beside_the_accelerators(page):
    memory = page.one("memory").text
    assert "Accelerator, per device" in memory
    assert "host" in memory
    assert "KV cache" in memory


def test_it_says_that_nothing_fits_without_offloading_and_how_placements_were_found(page):
    told = page.one("evidence").text
    assert "offloaded points on the frontier 3 fit in no other way" in told
    assert "linear programs" in told
