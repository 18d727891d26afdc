"""The report is one file that needs nothing else, whatever the names in it."""

from __future__ import annotations

import json
import math
import re
import sys
from html.parser import HTMLParser

import fake_run
import pytest

from dse.errors import CannotRun
from dse.report import html
from dse.report.html import script_json, write_explain, write_report

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"> & '\"<!--<script>\u2028{{ 7*7 }}"


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the text of its JSON elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.json: dict[str, str] = {}
        self._inside: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        is_json = tag == "script" and dict(attrs).get("type") == "application/json"
        self._inside = dict(attrs)["id"] if is_json else None

    def handle_data(self, data):
        if self._inside:
            self.json[self._inside] = self.json.get(self._inside, "") + data

    def handle_endtag(self, tag):
        self._inside = None


def report_of(tmp_path, manifest, frontier, details=None):
    path = write_report(fake_run.write(tmp_path / "run", manifest, frontier), details)
    return Elements(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run():
    return fake_run.make()


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    manifest, frontier = run
    return report_of(
        tmp_path_factory.mktemp("page"),
        manifest,
        frontier,
        {frontier[0]["number"]: fake_run.detail(frontier[0])},
    )


def test_the_embedded_data_is_the_frontier(page, run):
    manifest, frontier = run
    data = json.loads(page.json["data"])
    columns = {column["name"]: column for column in data["columns"]}
    assert data["total"] == data["rows"] == len(frontier)
    assert columns["tpot_ms"]["values"] == [row["tpot_ms"] for row in frontier]
    assert columns["serving"]["constant"] == "static"
    assert columns["throughput_error_pct"]["constant"] == 53.0
    assert columns["tpot_ms"]["sense"] == "min"
    assert data["manifest"]["statuses"] == manifest["statuses"]


def test_the_detail_of_a_point_travels_under_its_number(page, run):
    _, frontier = run
    detail = json.loads(page.json[f"detail-{frontier[0]['number']}"])
    assert set(detail["phases"]) == {"prefill", "decode"}


def test_nothing_is_loaded_from_anywhere(page):
    for tag, attributes in page.found:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not {"src", "href", "srcset", "action", "data"} & set(attributes)
    policy = next(a["content"] for tag, a in page.found if tag == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_the_templates_name_no_address():
    for path in html._TEMPLATES.iterdir():
        found = re.findall(r"https?://[^\"'\s)]+|@import|url\(", path.read_text(encoding="utf-8"))
        assert set(found) <= {"http://www.w3.org/2000/svg"}, path.name


def test_plotly_is_there_once_and_was_not_imported(page, run, tmp_path):
    assert sum(tag == "script" and "type" not in a for tag, a in page.found) == 3  # errors, plotly, ours
    assert "plotly" not in sys.modules


def test_hostile_names_stay_text(tmp_path, run):
    manifest, frontier = run
    rows = [row | {"model": HOSTILE, "hardware": HOSTILE} for row in frontier[:5]]
    bad = manifest | {"name": HOSTILE, "statuses": {HOSTILE: 3}, "axes": [HOSTILE]}
    clean = report_of(tmp_path / "clean", manifest, frontier[:5])
    page = report_of(tmp_path / "bad", bad, rows)
    assert [tag for tag, _ in page.found] == [tag for tag, _ in clean.found]
    data = json.loads(page.json["data"])
    assert data["manifest"]["name"] == HOSTILE
    assert next(column for column in data["columns"] if column["name"] == "model")["constant"] == HOSTILE


def test_script_json_has_no_character_that_could_end_the_script():
    text = script_json({"<&>": ["</script>", "\u2028\u2029", math.nan, math.inf]})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"<&>": ["</script>", "\u2028\u2029", None, None]}


def test_no_more_points_than_can_be_drawn_and_the_count_is_there(tmp_path):
    manifest, frontier = fake_run.make(points=6000)
    data = json.loads(report_of(tmp_path, manifest, frontier).json["data"])
    assert (data["rows"], data["total"]) == (5000, 6000)
    columns = {column["name"]: column for column in data["columns"]}
    for objective in manifest["objectives"]:
        best = max if objective["sense"] == "max" else min
        assert best(columns[objective["name"]]["values"]) == best(row[objective["name"]] for row in frontier)


def test_an_empty_frontier_still_has_its_report(tmp_path, run):
    import pyarrow as pa
    import pyarrow.parquet as pq

    manifest, frontier = run
    folder = fake_run.write(tmp_path / "run", manifest | {"feasible": 0, "groups": []}, frontier)
    pq.write_table(pa.Table.from_pylist(frontier).slice(0, 0), folder / "frontier.parquet")
    data = json.loads(Elements(write_report(folder).read_text(encoding="utf-8")).json["data"])
    assert data["rows"] == 0


def test_a_report_appears_whole_or_not_at_all(tmp_path, run, monkeypatch):
    manifest, frontier = run
    folder = fake_run.write(tmp_path / "run", manifest, frontier)
    path = write_report(folder)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_report(folder)
    assert path.read_bytes() == before
    assert sorted(file.name for file in folder.iterdir()) == [
        "frontier.parquet",
        "manifest.json",
        "report.html",
    ]


def test_the_same_run_gives_the_same_bytes(tmp_path, run):
    manifest, frontier = run
    folder = fake_run.write(tmp_path / "run", manifest, frontier)
    assert write_report(folder).read_bytes() == write_report(folder).read_bytes()


def test_a_folder_that_is_no_run_says_so(tmp_path):
    with pytest.raises(CannotRun, match="not the folder of a finished run"):
        write_report(tmp_path)


def test_without_plotly_the_remedy_is_named(tmp_path, run, monkeypatch):
    monkeypatch.setattr(html, "find_spec", lambda _: None)
    with pytest.raises(CannotRun, match="pip install plotly"):
        write_report(fake_run.write(tmp_path / "run", *run))


def test_explain_embeds_its_point(tmp_path, run):
    row = run[1][0]
    detail = fake_run.detail(row) | {"point": row | {"model": HOSTILE, "accuracy_drop_pct": math.nan}}
    page = Elements(write_explain(detail, tmp_path / "point.html").read_text(encoding="utf-8"))
    detail = json.loads(page.json[f"detail-{row['number']}"])
    assert detail["point"]["model"] == HOSTILE
    assert detail["point"]["accuracy_drop_pct"] is None
    assert not any(tag == "img" for tag, _ in page.found)
