"""Request shapes: pairs, text, names, products, and what is refused."""

from __future__ import annotations

import csv

import pytest

from dse.errors import InputError
from dse.spec.reading import read
from dse.spec.workload import Workload, load_workload, workload_names


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ({"input": 1024, "output": 256}, ["1024x256"]),
        ("1024x256", ["1024x256"]),
        ("1024 X 256", ["1024x256"]),
        ("long context", ["12035x343"]),
        (Workload(1, 2), ["1x2"]),
        ({"input": [1, 2], "output": [3, 4]}, ["1x3", "1x4", "2x3", "2x4"]),
        ({"input": {"from": 128, "to": 512, "scale": "log2"}, "output": 1}, ["128x1", "256x1", "512x1"]),
    ],
)
def test_ways_to_say_a_workload(entry, names):
    assert [workload.name for workload in load_workload(entry)] == names


@pytest.mark.parametrize(
    ("entry", "messages"),
    [
        ("{inputs: 1, output: 0}",
         [":1:12: workload.inputs: unknown field; did you mean 'input'?",
          ":1:31: workload.output: must be at least 1, got 0"]),
        ("{input: 1}", [":1:11: workload: missing field 'output'"]),
        ("{input: 100000000, output: 2.5}",
         [":1:19: workload.input: must be 1 to 10,000,000 tokens, got 100000000",
          ":1:38: workload.output: expected a whole number, got 2.5"]),
        ("{input: [], output: 1}",
         [":1:19: workload.input: an axis needs at least one value; got an empty list"]),
        ("0x5", [":1:11: workload: expected {input, output}, {trace}, {lengths}, '1024x256' or a name, got 5"]),
        ("1x0", [":1:11: workload.output: must be 1 to 10,000,000 tokens, got 0"]),
        ("chatt", [":1:11: workload: unknown workload 'chatt'; did you mean 'chat'?"]),
        ("true", [":1:11: workload: expected {input, output}, {trace}, {lengths}, '1024x256' or a name, got true"]),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, entry, messages):
    path = tmp_path / "s.yaml"
    path.write_text(f"workload: {entry}\n")
    document = read(path)
    with pytest.raises(InputError) as caught:
        load_workload(document.value["workload"], document, ["workload"])
    assert [str(fault).removeprefix(str(path)) for fault in caught.value.faults] == messages


def test_a_name_nothing_is_near_lists_the_names():
    with pytest.raises(InputError, match=f"expected INPUTxOUTPUT or one of {', '.join(workload_names())}"):
        load_workload("zzz")


TRACES = {
    "chat": "azure2023_conv",
    "code": "azure2023_code",
    "assistant": "sharegpt_llmservingsim_300",
    "summarisation": "arxiv_summarization_llama2tok",
    "long-context": "mooncake_conversation",
    "agent": "mooncake_synthetic",
}


def test_named_shapes_are_the_means_of_their_traces(shared_data):
    with (shared_data / "fleet" / "trace_length_percentiles.csv").open() as file:
        means = {(row["trace"], row["which"]): float(row["mean"]) for row in csv.DictReader(file)}
    for name, trace in TRACES.items():
        (shape,) = load_workload(name)
        assert shape.input == pytest.approx(means[trace, "input"], abs=0.5)
        assert shape.output == pytest.approx(means[trace, "output"], abs=0.5)
