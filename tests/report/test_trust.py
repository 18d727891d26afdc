"""How sure the frontier is, in words: one sentence per group."""

from __future__ import annotations

import io

import fake_run
import pytest

from dse.report.charts import report_data
from dse.report.summary import print_summary
from dse.report.trust import leads, sentences

MANIFEST = {"group_by": ["model"], "objectives": [{"name": "tpot_ms", "sense": "min", "unit": "ms"}]}


def columns(*chances, models=None):
    size = len(chances)
    return {
        "number": list(range(10, 10 + size)),
        "model": models or ["m"] * size,
        "tpot_ms": [1.0 + i for i in range(size)],
        "front_probability": list(chances),
    }


@pytest.mark.parametrize(
    ("chances", "text"),
    [
        (
            (0.5, 1.0, 0.89, 0.9),
            "2 of 4 frontier points lead by less than the error of prediction (probability of being on the front below "
            "0.9); surest is point 11, 1.",
        ),
        (
            (0.25,),
            "1 of 1 frontier point leads by less than the error of prediction (probability of being on the front below "
            "0.9); surest is point 10, 0.25.",
        ),
        ((1.0,), "The only frontier point leads by more than the error of prediction."),
        ((0.95, 1.0), "All 2 frontier points lead by more than the error of prediction."),
        (
            (1.0, None, float("nan")),
            "The only frontier point leads by more than the error of prediction; not computed of 2 more.",
        ),
    ],
)
def test_a_group_says_how_many_lead_by_less_than_the_error(chances, text):
    assert leads(MANIFEST, columns(*chances)) == [{"key": ["m"], "text": text}]


def test_groups_are_told_apart_and_what_is_not_known_is_not_told():
    told = leads(MANIFEST, columns(0.5, 1.0, None, models=["a", "b", "c"]))
    assert [group["key"] for group in told] == [["a"], ["b"]]
    assert leads(MANIFEST, {name: values for name, values in columns(0.5).items() if name != "front_probability"}) == []


def test_the_end_of_a_summary_says_what_the_probability_is():
    assert any("p front" in line for line in sentences(MANIFEST, columns(0.5)))
    assert not any("p front" in line for line in sentences(MANIFEST, columns(None)))


def test_it_says_how_many_are_left_without_one_and_why():
    (line,) = (line for line in sentences(MANIFEST, columns(0.5, None, 1.0, None, None)) if "p front" in line)
    assert line.endswith(
        " Of so many frontier points it was computed for 2, the best of each group and an even spread of the rest; 3 "
        "were left without to save time."
    )
    assert "left without" not in " ".join(sentences(MANIFEST, columns(0.5, 1.0)))


@pytest.fixture(scope="module")
def run():
    manifest, frontier = fake_run.make()
    return manifest, [row | {"front_probability": 0.25 + row["number"] % 3 / 4} for row in frontier]


def printed(manifest, frontier) -> str:
    out = io.StringIO()
    print_summary(manifest, frontier, width=120, out=out)
    return out.getvalue()


def test_the_terminal_shows_the_probability_where_it_matters(run):
    manifest, frontier = run
    text = printed(manifest, frontier)
    assert "front" in text.split("Point", 1)[1].splitlines()[0]
    assert "frontier points lead by less than the error of prediction" in " ".join(text.split())
    sure = printed(manifest, [row | {"front_probability": 1.0} for row in frontier])
    assert "front" not in sure.split("Point", 1)[1].splitlines()[0]


def test_the_report_has_the_column_and_a_sentence_per_group(run):
    manifest, frontier = run
    data = report_data(manifest, {name: [row[name] for row in frontier] for name in frontier[0]}, {})
    (column,) = [column for column in data["columns"] if column["name"] == "front_probability"]
    assert (column["label"], column["sense"]) == ("p front", "max")
    assert column["meaning"].startswith("probability of being on the front")
    assert len(data["leads"]) == len(manifest["groups"])
