"""Lengths as distributions: traces and histograms in a few weighted pairs."""

from __future__ import annotations

import importlib.util
import os
from operator import itemgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import InputError
from dse.spec.lengths import NODES, Length, read_histogram, reduced, trace_names, traces
from dse.spec.reading import library_file, read
from dse.spec.workload import Workload, load_workload

SHARED = os.environ.get("DSE_SHARED")
ROOT = Path(__file__).parents[2]

CELLS = st.lists(
    st.tuples(st.floats(1, 1e5), st.floats(1, 1e4), st.floats(0.001, 1)).map(lambda cell: Length(*cell)),
    min_size=1, max_size=60,
)  # fmt: skip


def mean(cells, of) -> float:
    return sum(cell.weight * of(cell) for cell in cells) / sum(cell.weight for cell in cells)


@given(CELLS)
def test_means_stay_exact_and_nothing_gets_longer_than_the_longest(cells):
    nodes = reduced(cells)
    assert 1 <= len(nodes) <= NODES
    assert sum(node.weight for node in nodes) == pytest.approx(1)
    for of in (itemgetter(0), itemgetter(1)):
        assert mean(nodes, of) == pytest.approx(mean(cells, of))
        assert max(map(of, nodes)) <= max(map(of, cells)) * (1 + 1e-12)
        seconds = [mean(found, lambda one, of=of: of(one) ** 2) for found in (nodes, cells)]
        assert seconds[0] <= seconds[1] * (1 + 1e-9)  # groups lose some, and gain none


def test_few_cells_are_kept_as_they_are():
    cells = [Length(1000, 200, 3), Length(50, 10, 1), Length(50, 30, 0)]
    assert reduced(cells) == (Length(50, 10, 0.25), Length(1000, 200, 0.75))


def full(name: str) -> list[Length]:
    import csv

    with (Path(SHARED) / "data/fleet/trace_length_histograms.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["trace"] == name]
    return [Length(float(r["mean_in"]), float(r["mean_out"]), float(r["count"])) for r in rows]


@pytest.mark.skipif(not SHARED, reason="the histograms are not shipped")
@pytest.mark.parametrize(
    ("name", "histogram"),
    [
        ("azure-conversation", "azure2023_conv"), ("azure-code", "azure2023_code"),
        ("arxiv-summarisation", "arxiv_summarization_llama2tok"), ("mooncake-conversation", "mooncake_conversation"),
    ],
)  # fmt: skip
def test_a_trace_in_sixteen_pairs_is_its_histogram_but_for_a_few_percent(name, histogram):
    """What waits follow from: moments of outputs and of the work of a prompt (its square with attention)."""
    nodes, cells = load_workload({"trace": name})[0].requests, full(histogram)
    for of in (lambda c: c.input, lambda c: c.output):
        assert mean(nodes, of) == pytest.approx(mean(cells, of), rel=1e-6)
    for of, limit in (
        (lambda c: c.input**2, 0.01), (lambda c: c.input**3, 0.02), (lambda c: c.output**2, 0.03),
        (lambda c: c.input * c.output, 0.02), (lambda c: (c.input + c.input**2 / 3e4) ** 2, 0.02),
    ):  # fmt: skip
        assert mean(nodes, of) == pytest.approx(mean(cells, of), rel=limit)


@pytest.mark.skipif(not SHARED, reason="the histograms are not shipped")
def test_the_file_of_traces_is_what_its_script_makes():
    spec = importlib.util.spec_from_file_location("traces", ROOT / "docs/traces.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    made = script.text(Path(SHARED) / "data/fleet/trace_length_histograms.csv")
    assert made == Path(library_file("configs/traces.yaml")).read_text()


def test_every_trace_says_where_it_is_from():
    for entry in read(library_file("configs/traces.yaml")).value.values():
        assert entry["source"]
        assert entry["licence"]
        assert 1 < len(entry["lengths"]) <= NODES
        assert sum(weight for *_, weight in entry["lengths"]) == pytest.approx(1, abs=1e-6)
    assert set(traces()) <= set(trace_names())


def test_a_name_means_a_pair_where_one_has_it_and_a_trace_else():
    assert load_workload("code") == [Workload(2048, 28)]
    (conversation,) = load_workload("conversation")
    assert (conversation.name, conversation.input, conversation.output) == ("azure-conversation", 1155, 211)
    assert load_workload({"trace": "code"})[0].name == "azure-code"
    assert load_workload("Azure Conversation") == [conversation]


def test_a_histogram_may_be_pairs_or_bins(tmp_path):
    pairs, bins = tmp_path / "pairs.csv", tmp_path / "bins.csv"
    pairs.write_text("input,output,weight\n1000,200,1\n500,100,3\n")
    bins.write_text("in_lo,in_hi,out_lo,out_hi,count\n900,1100,150,250,1\n400,600,0,200,3\n")
    assert read_histogram(str(pairs)) == read_histogram(str(bins)) == (Length(1000, 200, 1), Length(500, 100, 3))
    means = tmp_path / "means.csv"
    means.write_text("in_lo,in_hi,out_lo,out_hi,count,mean_in,mean_out\n0,2000,0,400,5,1200.5,90\n")
    assert read_histogram(str(means)) == (Length(1200.5, 90, 5),)
    (workload,) = load_workload({"lengths": str(pairs)})
    assert (workload.name, workload.input, workload.output, workload.longest) == ("pairs", 625, 125, 1200)


def test_a_histogram_stands_beside_the_sweep_that_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps/mine.csv").write_text("input,output,weight\n100,50,1\n")
    (tmp_path / "sweeps/s.yaml").write_text("workload: {lengths: mine.csv}\n")
    document = read("sweeps/s.yaml")
    (workload,) = load_workload(document.value["workload"], document, ("workload",))
    assert (workload.name, workload.input) == ("mine", 100)


def test_a_header_may_have_spaces(tmp_path):
    path = tmp_path / "h.csv"
    path.write_text("input, output, weight\n100, 50, 1,\n")
    assert read_histogram(str(path)) == (Length(100, 50, 1),)


def test_a_folder_and_what_is_no_csv(tmp_path):
    with pytest.raises(InputError, match="is a folder; expected a file"):
        read_histogram(str(tmp_path))
    path = tmp_path / "h.csv"
    path.write_text("input,output,weight\n" + "1" * 200_000 + ",1,1\n")
    with pytest.raises(InputError, match=r"h.csv:\d:1: cannot be read as CSV: field larger than field limit"):
        read_histogram(str(path))


COLUMNS = "expected input, output, weight, or in_lo, in_hi, out_lo, out_hi, count and mean_in, mean_out where known"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", [": the file is empty"]),
        ("input,output,weight\n1,2,0,5\n", [":2:1: has more fields than the header; is a decimal comma in it?"]),
        ("input,output,weight\n1,2,1e308\n2e7,2,1\n", [
            ":2:1: weight: must be at most 1e+12, got 1e308",
            ":3:1: input: must be at most 10,000,000 tokens, got 20,000,000"]),
        ("in_lo,in_hi,out_lo,out_hi,count\n100,50,1,2,3\n", [":2:1: in_lo: 100 is above in_hi, 50"]),
        ("input,output,weight\n\n\nx,2,3\n", [":4:1: input: expected a number, got 'x'"]),
        ("input,output\n1,2\n", [f":1:1: lacks the column 'weight'; {COLUMNS}"]),
        ("input,output,weight\n", [": has no rows of lengths"]),
        ("input,output,weight\n10,5,0\n20,5,0\n",
         [": the column 'weight' sums to zero: no request has any of these lengths"]),
        ("input,output,weight\nlong,5,1\n20,-5,1\n0.5,5,1\n", [
            ":2:1: input: expected a number, got 'long'", ":3:1: output: must be 0 or more, got -5",
            ":4:1: input: a request has at least one token"]),
    ],
)  # fmt: skip
def test_what_is_no_histogram(tmp_path, text, messages):
    path = tmp_path / "h.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_workload({"lengths": str(path)})
    assert [str(fault).removeprefix(str(path)) for fault in caught.value.faults] == messages


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{trace: azure-conversatoin}",
         ":1:19: workload.trace: unknown trace 'azure-conversatoin'; did you mean 'azure-conversation'?"),
        ("{trace: [a]}", ":1:19: workload.trace: expected the name of a trace, got a list"),
        ("{lengths: none.csv}", "none.csv: no such file"),
        ("{trace: code, input: 5}", ":1:25: workload.input: unknown field; {trace: ...} stands alone"),
    ],
)  # fmt: skip
def test_what_is_no_distribution(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "s.yaml"
    path.write_text(f"workload: {entry}\n")
    document = read(path)
    with pytest.raises(InputError) as caught:
        load_workload(document.value["workload"], document, ["workload"])
    assert [str(fault).removeprefix(str(path)) for fault in caught.value.faults] == [message]
