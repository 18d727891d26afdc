"""The report of a plan in a real browser: everything is drawn, whatever the names in it."""

from __future__ import annotations

import pytest

from dse.run.plan import plan, write_plan

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"> & <b>bold</b>"

PLAN = {
    "name": HOSTILE,
    "models": [{"model": "llama-3.1-8b", "demand": {"buckets": [{"input": 512, "output": 128, "requests_per_s": 30}]}}],
    "slo": "standard",
    "candidates": {"hardware": ["l4", "a10g", "h100-sxm"], "max_devices": 1},
    "price": {"kind": "on-demand", "purchase": {"l4": 2500, "h100-sxm": 30000, "a10g": 2800}},
    "current": [{"hardware": "h100-sxm", "replicas": 2}],
    "verify": {"requests": 300},
}


@pytest.fixture(scope="module")
def answer():
    return plan(PLAN)


@pytest.fixture(scope="module")
def page(browse, answer, tmp_path_factory):
    return browse(write_plan(answer, tmp_path_factory.mktemp("plan")) / "report.html")


def test_it_draws_without_an_error(page):
    root = page.all("html")[0].attributes
    assert root.get("data-ready") == "1"
    assert "data-errors" not in root
    assert int(root["data-overflow"]) <= 0


def test_names_are_shown_as_they_are_written(page):
    assert page.all("h1")[0].text == HOSTILE
    assert not page.all("img")
    assert page.all("title")[0].text == f"{HOSTILE}: plan"


def test_the_recommendation_stands_first_and_in_the_table(page, answer):
    assert page.one("recommendation").text == answer.answer["recommendation"]
    rows = page.one("alternatives").table
    assert rows[0][0] == "recommended"
    assert len(rows) == len(answer.answer["alternatives"])


def test_every_part_has_its_figures(page, answer):
    found = answer.answer
    assert len(page.one("deployments").table) == len(found["deployments"])
    assert len(page.one("sensitivity").table) == len(found["sensitivity"])
    assert len(page.one("even").table) == len(found["break_even"])
    assert len(page.one("buckets").table) == len(found["buckets"])
    assert len(page.one("prices").table) == 3
    text = page.one("sentences").text
    assert "Simulated with" in text
    assert "Today's 2 x h100-sxm" in text
    assert "to buy has paid for itself" in text
    assert "vllm serve" in page.one("launch").text


def test_no_head_of_a_table_is_taller_than_two_lines_and_its_unit(browse, answer, tmp_path):
    """However narrow the page, as `Recommended fleet / still carries the peak`: else a gap stands above the first."""
    page = browse(write_plan(answer, tmp_path) / "report.html", width=800)
    labels = [button.text for head in page.all("thead") for button in head.all("button")]
    assert all(label.count(" ") <= 1 for label in labels)
    assert "Recommended\u00a0fleet still\u00a0carries\u00a0the\u00a0peak" in labels
    assert int(page.all("html")[0].attributes["data-overflow"]) <= 0


def test_the_plots_are_drawn(page):
    for name in ("costs", "demand-frontier", "latency-frontier"):
        assert page.one(name).all("svg"), name


def test_a_plan_without_an_answer_says_why(browse, tmp_path):
    found = plan({**PLAN, "slo": {"ttft_ms": {"p99": 1}}})
    drawn = browse(write_plan(found, tmp_path) / "report.html")
    assert "data-errors" not in drawn.all("html")[0].attributes
    assert "no candidate serves 512x128 of llama-3.1-8b" in drawn.one("recommendation").text


def test_pools_are_shown_with_their_workers_and_commands(browse, tmp_path):
    demand = {"buckets": [{"input": 8000, "output": 150, "requests_per_s": 6}]}
    found = plan({
        "name": "pools", "models": [{"model": "llama-3.1-8b", "demand": demand}],
        "slo": {"ttft_ms": {"p99": 2500}, "tpot_ms": {"p99": 20}}, "price": {"kind": "on-demand"},
        "candidates": {"hardware": ["h100-sxm"], "max_devices": 1, "serving": "disaggregated"},
        "verify": {"requests": 300},
    })  # fmt: skip
    drawn = browse(write_plan(found, tmp_path) / "report.html")
    root = drawn.all("html")[0].attributes
    assert "data-errors" not in root
    assert int(root["data-overflow"]) <= 0
    prefill = found.answer["deployments"][0]["pools"][0]["workers"]
    assert f"prefill {prefill} x 1 device + decode 1 x 1 device" in drawn.one("deployments").text
    commands = drawn.one("launch").text
    for words in ("kv_producer", "--disaggregation-mode decode", "trtllm-serve disaggregated"):
        assert words in commands


def test_the_most_for_a_budget_is_drawn_as_what_is_served(browse, tmp_path):
    size = {"input": 512, "output": 128, "requests_per_s": 400}
    most = {"budget": {"usd_per_hour": 13.7}, "objective": "served_rate", "verify": {"requests": 0}}
    found = plan({**PLAN, "models": [{"model": "llama-3.1-8b", "demand": {"buckets": [size]}}], **most})
    drawn = browse(write_plan(found, tmp_path) / "report.html")
    root = drawn.all("html")[0].attributes
    assert "data-errors" not in root
    assert int(root["data-overflow"]) <= 0
    assert len(drawn.one("sensitivity").table) == len(found.answer["sensitivity"])
    for name in ("costs", "demand-frontier", "latency-frontier"):
        assert drawn.one(name).all("svg"), name
    assert "no fleet serves more" in drawn.one("frontier-note").text
    assert "serves most of the same demand" in drawn.one("alternatives-note").text


def test_sizes_that_nothing_serves_are_listed(browse, tmp_path):
    demand = {"trace": "azure-conversation", "requests_per_s": 5}
    changes = {"models": [{"model": "llama-3.1-8b", "demand": demand}], "slo": {"ttft_ms": {"p99": 1}}}
    drawn = browse(write_plan(plan({**PLAN, **changes}), tmp_path) / "report.html")
    assert "data-errors" not in drawn.all("html")[0].attributes
    assert len(drawn.one("headlines").all("p")) == 16
