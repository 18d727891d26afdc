"""The report in a real browser: it draws without errors and does what its address says."""

from __future__ import annotations

from urllib.parse import quote

import fake_run
import pytest

import dse
from dse.report.html import write_explain, write_report

pytestmark = pytest.mark.browser

HOSTILE = '</script><img src=x onerror="document.documentElement.dataset.broken=1"><b>&amp;'
THROUGHPUT = "output_tokens_per_s_per_device"
GROUP = "#by.model=llama-3.1-70b&by.workload=1024x256"


@pytest.fixture(scope="module")
def run():
    return fake_run.make()


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    manifest, frontier = run
    folder = fake_run.write(tmp_path_factory.mktemp("report") / "run", manifest, frontier)
    return write_report(folder, {row["number"]: fake_run.detail(row) for row in frontier[:60]})


@pytest.fixture(scope="module")
def page(report, browse):
    return browse(report, GROUP)


@pytest.fixture(scope="module")
def group(run):
    return [row for row in run[1] if (row["model"], row["workload"]) == ("llama-3.1-70b", "1024x256")]


def root(page):
    return page.all("html")[0].attributes


def headers(page, where):
    return [cell.attributes["data-key"] for cell in page.one(where).all("thead")[0].all("button")]


def column(page, name, where="table"):
    place = headers(page, where).index(name)
    return [row[place] for row in page.one(where).table]


def test_it_draws_without_an_error(page):
    assert root(page).get("data-ready") == "1"
    assert "data-errors" not in root(page)


def test_the_headline_states_points_evidence_and_the_measured_error(page):
    assert "1,228,800" in page.one("tiles").text
    assert "datasheet for 90 points" in page.one("evidence").text
    assert "nine predictions in ten were within ±50\u00a0% (TTFT)" in page.one("evidence").text


def test_each_group_shows_its_own_deployment_of_today(run, report, browse):
    short, long = (row["tpot_ms"] for row in run[0]["current_rows"])
    for workload, tpot in (("1024x256", short), ("8192x1024", long)):
        page = browse(report, f"#by.model=llama-3.1-70b&by.workload={workload}")
        assert f"TPOT {tpot:.1f} ms" in page.one("today").text
        assert "against today's deployment" in page.one("chosen").text
        assert "today" in page.one("scatter").text
    page = browse(report, "#by.model=mixtral-8x7b&by.workload=1024x256")
    assert not page.one("today").text
    assert "today" not in page.one("scatter").text


def test_a_figure_with_a_measured_error_says_where_measurements_would_lie(page, group):
    best = max(group, key=lambda row: row["output_tokens_per_s_per_device"])
    low = best["tpot_ms"] / 1.53
    assert f"9 in 10: {low:.2g}–" in page.one("chosen").text


def test_the_scatter_shows_every_point_of_the_group_and_today(page, group):
    marks = page.one("scatter").all("path", class_="point")
    # every frontier point, its mark in front of the chosen one, and the star of today's deployment
    assert len(marks) == len(group) + 2
    assert "today" in page.one("scatter").text


def test_the_points_no_other_beats_in_both_dimensions_stand_out(page, group):
    ordered = sorted(group, key=lambda row: (row["tpot_ms"], -row["output_tokens_per_s_per_device"]))
    best = [-1.0]
    for row in ordered:
        if row["output_tokens_per_s_per_device"] > max(best):
            best.append(row["output_tokens_per_s_per_device"])
    marks = page.one("scatter").all("path", class_="point")
    assert 1 < len(best) - 1 < len(group)
    assert sum("opacity: 0.95" in mark.attributes["style"] for mark in marks) == len(best) - 1


def test_every_chart_is_drawn(page, group):
    assert len(page.one("parallel").all("path", class_="line")) == len(group)
    assert page.one("roofline").all("path", class_="point")
    assert len(page.one("layers").all("g")) == 18
    assert len(page.one("time").all("div", class_="bar")) == 2
    assert "of 173 GB usable" in page.one("memory").text
    assert len(page.one("operators").table) == 18


def test_the_table_holds_the_group_best_first(page, group):
    shown = [int(number) for number in column(page, "number")]
    best = sorted(group, key=lambda row: -row["output_tokens_per_s_per_device"])
    assert shown == [row["number"] for row in best]


def test_reasons_and_prices_are_told(page):
    assert [reason for reason in column(page, "reason", "reasons") if not reason.startswith("ok")] == [
        "exceeds_memory",
        "constraint:ttft_ms",
        "heads_not_divisible",
    ]
    assert "needs 79.1 GB of 77.0 GB" in page.one("reasons").text
    assert "2025-06" in page.one("prices").text


def test_the_address_sorts_filters_and_selects(report, browse, group):
    wanted = min(group, key=lambda row: row["tpot_ms"])
    page = browse(report, f"{GROUP}&sort=tpot_ms&filter={quote('b200 tp=4 tpot_ms<10')}&select={wanted['number']}")
    kept = [r for r in group if r["hardware"] == "b200" and r["tp"] == 4 and r["tpot_ms"] < 10]
    assert [int(n) for n in column(page, "number")] == [r["number"] for r in sorted(kept, key=lambda r: r["tpot_ms"])]
    assert page.one("chosen").text.startswith(f"Point {wanted['number']}")
    chosen = [row.attributes["data-key"] for row in page.one("table").all("tr", **{"aria-selected": "true"})]
    assert chosen == [f"row {wanted['number']}"]


def test_a_range_on_an_axis_filters_the_table_and_the_scatter(report, browse, group):
    page = browse(report, f"{GROUP}&brush.tpot_ms=4:8")
    kept = {row["number"] for row in group if 4 <= row["tpot_ms"] <= 8}
    assert 0 < len(kept) < len(group)
    assert {int(number) for number in column(page, "number")} == kept
    assert len(page.one("parallel").all("path", class_="out")) == len(group) - len(kept)


def test_axes_scales_and_colour_follow_the_address(report, browse):
    page = browse(report, f"{GROUP}&x=memory_gb_per_device&y=usd_per_million_output_tokens&color=tpot_ms&xlog=1&ylog=0")
    assert "Memory per device (GB)" in page.one("scatter").text
    assert "Cost per token ($/Mtok)" in page.one("scatter").text
    assert "data-errors" not in root(page)


def test_all_groups_together_and_columns_of_ones_own(report, browse, run):
    page = browse(report, "#by.model=*&by.workload=*&columns=number,model,price_date")
    assert headers(page, "table") == ["number", "model", "price_date"]
    assert len(page.one("table").table) == len(run[1])
    assert "data-errors" not in root(page)


def test_a_point_without_detail_says_how_to_get_it(report, browse, run):
    number = run[1][-1]["number"]
    page = browse(report, f"#select={number}")
    assert f"dse explain planner-demo-3f9a1c20b7e4 {number}" in page.one("point").text


@pytest.mark.parametrize("address", ["#x=nothing&y=__proto__&sort=%&select=-1&brush.tpot_ms=a:b&by.model=none", "#%"])
def test_an_address_that_means_nothing_does_no_harm(report, browse, address):
    page = browse(report, address)
    assert root(page).get("data-ready") == "1"
    assert "data-errors" not in root(page)


def test_the_page_never_scrolls_sideways(report, browse):
    for width in (1400, 800):
        page = browse(report, GROUP, width)
        assert int(root(page)["data-overflow"]) <= 0


def test_hostile_names_are_shown_as_they_are_written(run, browse, tmp_path):
    manifest, frontier = run
    rows = [row | {"model": HOSTILE, "hardware": HOSTILE + row["hardware"]} for row in frontier[:20]]
    details = {}
    for old, row in zip(frontier, rows, strict=False):
        details[row["number"]] = fake_run.detail(old) | {"layers": [{"name": HOSTILE, "count": 1, "operators": []}]}
        details[row["number"]]["hardware"]["name"] = HOSTILE
    groups = [{"key": {"model": HOSTILE, "workload": "1024x256"}, "front": 20, "feasible": 20}] * 2
    bad = manifest | {"name": HOSTILE, "groups": groups, "statuses": {HOSTILE: 5}, "current": None, "current_rows": []}
    page = browse(write_report(fake_run.write(tmp_path / "run", bad, rows), details))
    assert root(page).get("data-ready") == "1"
    assert "data-errors" not in root(page)
    assert "data-broken" not in root(page)
    assert not page.all("img")
    assert HOSTILE in page.all("h1")[0].text
    assert HOSTILE in page.one("reasons").text
    assert HOSTILE in page.one("scatter").text


def test_missing_figures_are_dashes(run, browse, tmp_path):
    manifest, frontier = run
    rows = [row | {"usd_per_million_output_tokens": None, "tpot_ms": float("nan")} for row in frontier]
    page = browse(write_report(fake_run.write(tmp_path / "run", manifest, rows)), GROUP)
    assert "data-errors" not in root(page)
    assert root(page).get("data-ready") == "1"


def test_a_run_with_nothing_feasible_still_tells_why(run, browse, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    manifest, frontier = run
    nothing = manifest | {"feasible": 0, "groups": [], "evidence": {}, "current": None, "current_rows": []}
    folder = fake_run.write(tmp_path / "run", nothing, frontier)
    pq.write_table(pa.Table.from_pylist(frontier).slice(0, 0), folder / "frontier.parquet")
    page = browse(write_report(folder))
    assert root(page).get("data-ready") == "1"
    assert "data-errors" not in root(page)
    assert "exceeds_memory" in page.one("reasons").text
    assert "No point is feasible" in page.one("reasons-title").text


def acting(report, tmp_path, script):
    """A copy of the report in which someone does something once it is drawn."""
    page = tmp_path / "acting.html"
    page.write_text(report.read_text(encoding="utf-8").replace("</body>", f"<script>{{{script}}}</script></body>"))
    return page


def test_a_header_sorts_and_sorts_back(report, browse, tmp_path, group):
    click = "document.querySelector('#table th button[data-key=tpot_ms]').click();"
    page = browse(acting(report, tmp_path, click), GROUP)
    values = sorted(row["tpot_ms"] for row in group)
    numbers = {row["number"]: row["tpot_ms"] for row in group}
    assert [numbers[int(n)] for n in column(page, "number")] == values
    page = browse(acting(report, tmp_path, click * 2), GROUP)
    assert [numbers[int(n)] for n in column(page, "number")] == values[::-1]


def test_the_keyboard_selects_and_keeps_its_place(report, browse, tmp_path, group):
    script = """
    const rows = document.querySelectorAll('#table tbody tr');
    const key = (name) =>
        document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: name, bubbles: true}));
    rows[0].focus(); key('ArrowDown'); key('ArrowDown'); key('Enter');
    document.documentElement.dataset.focus = document.activeElement.dataset.key;
    """
    page = browse(acting(report, tmp_path, script), GROUP)
    third = sorted(group, key=lambda row: -row["output_tokens_per_s_per_device"])[2]["number"]
    assert page.one("chosen").text.startswith(f"Point {third}")
    assert root(page)["data-focus"] == f"row {third}"


def test_clicking_a_mark_selects_its_point(report, browse, tmp_path, group):
    script = "byId('scatter').emit('plotly_click', {points: [{customdata: visible().passing[3]}]});"
    page = browse(acting(report, tmp_path, script), GROUP)
    assert page.one("chosen").text.startswith(f"Point {group[3]['number']}")


def test_hovering_a_mark_shows_the_whole_configuration(report, browse, tmp_path, group):
    script = """byId('scatter').emit('plotly_hover', {event: {clientX: 300, clientY: 300},
        points: [{customdata: visible().passing[3]}]});"""
    said = browse(acting(report, tmp_path, script), GROUP).one("tooltip").text
    for name in (
        "model",
        "hardware",
        "precision",
        "workload",
        "tp",
        "batch",
        "serving",
        "offload",
        "runtime",
    ):
        assert str(group[3][name]) in said


def test_dragging_along_an_axis_keeps_a_range(report, browse, tmp_path, group):
    script = """
    const grip = document.querySelector('#parallel .axis[data-name=tpot_ms] rect:last-of-type');
    grip.setPointerCapture = () => {};
    const top = grip.ownerSVGElement.getBoundingClientRect().top;
    const at = (type, y) => grip.dispatchEvent(new PointerEvent(type, {clientY: top + y, pointerId: 1}));
    at('pointerdown', 40); at('pointermove', 100); at('pointerup', 100);
    """
    page = browse(acting(report, tmp_path, script), GROUP)
    kept = {int(number) for number in column(page, "number")}
    slowest = max(row["tpot_ms"] for row in group if row["number"] in kept)
    assert 0 < len(kept) < len(group)
    assert kept == {row["number"] for row in group if row["tpot_ms"] <= slowest}  # the top is the fast end


def test_the_csv_holds_what_the_table_shows_with_all_digits(report, browse, tmp_path, group):
    script = "document.documentElement.dataset.csv = csvText(visible().passing);"
    page = browse(
        acting(report, tmp_path, script),
        f"{GROUP}&columns=number,hardware,tpot_ms&sort=tpot_ms&filter=mi300x",
    )
    kept = sorted((row for row in group if row["hardware"] == "mi300x"), key=lambda row: row["tpot_ms"])
    lines = [f"{row['number']},{row['hardware']},{row['tpot_ms']!r}" for row in kept]
    assert root(page)["data-csv"].splitlines() == ["number,hardware,tpot_ms", *lines]


def test_explain_draws_graph_roofline_time_and_memory(run, browse, tmp_path):
    page = browse(write_explain(fake_run.detail(run[1][0]), tmp_path / "point.html"))
    assert root(page).get("data-ready") == "1"
    assert "data-errors" not in root(page)
    assert page.one("roofline").all("path", class_="point")
    assert len(page.one("layers").all("svg")) == 3
    assert len(page.one("operators").table) == 18
    assert int(root(page)["data-overflow"]) <= 0


def test_a_point_of_two_pools_shows_the_memory_of_both(browse, tmp_path):
    pools = {"prefill": {"hardware": "h200-sxm", "parallel": {"tp": 2}}, "devices": 8}
    found = dse.explain("llama-3.1-8b", "h100-sxm", batch=64, serving="disaggregated", disaggregated=pools)
    write_explain(found, tmp_path / "pools.html")
    page = browse(tmp_path / "pools.html")
    assert root(page).get("data-ready") == "1"
    assert "data-errors" not in root(page)
    prefill, decode = found["pools"]
    assert f"{prefill['workers']} × prefill worker, h200-sxm bf16 tp 2 batch 1, per device" in page.one("memory").text
    assert f"{decode['workers']} × decode worker, h100-sxm bf16 tp 1 batch 64, per device" in page.one("memory").text


def test_a_run_with_pools_shows_what_tells_its_workers_apart(browse, tmp_path):
    pools = {"prefill": {"parallel": {"tp": [1, 2]}}, "devices": 8}
    asked = {"name": "pools", "models": "llama-3.1-8b", "hardware": "h100-sxm", "workload": "1024x256"}
    asked |= {"serving": ["closed-loop", "disaggregated"], "disaggregated": pools, "group_by": ["serving"]}
    run = dse.run_sweep(asked | {"batch": [8, 64], "objectives": ["ttft_ms", THROUGHPUT]}, tmp_path)
    page = browse(run.report)
    assert root(page).get("data-ready") == "1"
    assert "data-errors" not in root(page)
    shown = headers(page, "table")
    assert {"prefill_tp", "prefill_workers", "decode_workers"} <= set(shown)
    assert not {"prefill_hardware", "prefill_precision", "prefill_pp", "prefill_batch"} & set(shown)
