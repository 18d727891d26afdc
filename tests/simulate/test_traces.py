"""Traces: three public spellings, what is drawn, and what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dse.errors import InputError
from dse.simulate.trace import Lengths, Trace, draw, read_trace
from dse.spec.workload import Workload

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
MOONCAKE = """{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 2]}
"""
VIDUR = """Unnamed: 0,num_prefill_tokens,num_decode_tokens,arrived_at
0,374,44,0.5
1,396,109,4.8145
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "trace.csv") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


def refusal(read, *args) -> str:
    with pytest.raises(InputError) as caught:
        read(*args)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "name", "arrivals", "first"),
    [
        (AZURE, "azure.csv", [0, 4.314579, 4.541877], (374, 44)),
        (MOONCAKE, "mooncake.jsonl", [0, 3.0], (6758, 500)),
        (VIDUR, "vidur.csv", [0, 4.3145], (374, 44)),
        ("arrival,input,output\n1.5,10,2\n\n1.5,20,3\n", "own.csv", [0, 0], (10, 2)),
        ("﻿Input Tokens,Output-Tokens,Time\n10,2,0\n", "excel.csv", [0], (10, 2)),
    ],
)
def test_spellings_of_public_traces(written, text, name, arrivals, first):
    trace = read_trace(written(text, name))
    np.testing.assert_allclose(trace.arrival, arrivals, atol=1e-6)
    assert (trace.input[0], trace.output[0]) == first


def test_a_rate_spaces_arrivals_and_nothing_else(written):
    trace = read_trace(written(AZURE))
    assert trace.rate == pytest.approx(2 / 4.541877)
    fast = trace.at_rate(10.0)
    assert fast.rate == pytest.approx(10)
    np.testing.assert_allclose(fast.arrival / fast.arrival[-1], trace.arrival / trace.arrival[-1])
    assert np.array_equal(fast.input, trace.input)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "trace.csv: the file is empty"),
        ("arrival,input,output\n", "trace.csv: the trace has no requests"),
        ("time,input\n0,1\n", "trace.csv:1:1: output: no such column; expected one of output, output_length, "
         "output_tokens, generatedtokens, num_decode_tokens"),
        ("arrival,input,output\n2,10,1\n1,10,1\n",
         "trace.csv:3:1: arrival: arrives before the request above it (2 s); sort the trace by arrival"),
        ("arrival,input,output\n0,0,1\n",
         "trace.csv:2:1: input: expected a whole number of tokens from 1 to 10,000,000, got '0'"),
        ("arrival,input,output\n0,10,-3\n",
         "trace.csv:2:1: output: expected a whole number of tokens from 1 to 10,000,000, got '-3'"),
        ("arrival,input,output\n0,nan,1\n",
         "trace.csv:2:1: input: expected a whole number of tokens from 1 to 10,000,000, got 'nan'"),
        ("arrival,input,output\n0,many,1\n",
         "trace.csv:2:1: input: expected a whole number of tokens from 1 to 10,000,000, got 'many'"),
        ("arrival,input,output\n0,1.5,1\n",
         "trace.csv:2:1: input: expected a whole number of tokens from 1 to 10,000,000, got '1.5'"),
        ("arrival,input,output\nnan,10,1\n", "trace.csv:2:1: arrival: expected seconds, or a date and time, got 'nan'"),
        ("arrival,input,output\n,10,1\n", "trace.csv:2:1: arrival: expected seconds, or a date and time, got ''"),
        ("arrival,input,output\n0,10\n",
         "trace.csv:2:1: output: expected a whole number of tokens from 1 to 10,000,000, got ''"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_told_with_its_line(written, text, message):
    assert refusal(read_trace, written(text)) == message


def test_all_faults_at_once_and_the_rest_counted(written):
    said = refusal(read_trace, written("arrival,input,output\n" + "0,0,0\n" * 15)).splitlines()
    assert len(said) == 21
    assert said[1] == "trace.csv:2:1: output: expected a whole number of tokens from 1 to 10,000,000, got '0'"
    assert said[-1] == "trace.csv: and 10 more faults like these"


def test_files_that_are_none(written, tmp_path):
    assert refusal(read_trace, "nowhere.csv") == "nowhere.csv: cannot be read: No such file or directory"
    assert refusal(read_trace, written("[1, 2]\n", "list.jsonl")).startswith("list.jsonl:1:1: expected a JSON object")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert refusal(read_trace, "binary.csv") == "binary.csv: is not a text file in UTF-8"
    (tmp_path / "fields.csv").write_text("arrival,input,output\n0,5,100,5\n")
    assert refusal(read_trace, "fields.csv") == (
        "fields.csv:2:1: has more fields than the header; is a decimal comma in it?"
    )
    (tmp_path / "huge.csv").write_text("arrival,input,output\n" + "1" * 200_000 + ",1,1\n")
    assert refusal(read_trace, "huge.csv").startswith("huge.csv:2:1: cannot be read as CSV: field larger than")


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_that_are_none(written, rate):
    message = f"rate: expected requests per second above 0, got {rate}"
    assert refusal(read_trace(written(AZURE)).at_rate, rate) == message
    assert refusal(draw, 10, rate, "chat") == message


def test_a_burst_has_no_rate(written):
    burst = read_trace(written("arrival,input,output\n1,10,1\n1,10,1\n"))
    assert np.isnan(burst.rate)
    assert "all requests arrive at once" in refusal(burst.at_rate, 2.0)


# -- drawn ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("burstiness", [0.0, 0.5, 1.0, 2.0])
def test_gaps_have_the_rate_and_variation_asked_for(burstiness):
    trace = draw(40_000, 8.0, "1024x256", burstiness=burstiness, seed=1)
    gaps = np.diff(trace.arrival, prepend=0.0)
    assert np.mean(gaps) == pytest.approx(1 / 8, rel=0.03)
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(burstiness, rel=0.03, abs=1e-9)
    if burstiness == 1.0:
        assert np.mean(gaps > 1 / 8) == pytest.approx(np.exp(-1), rel=0.02)  # exponential


def test_another_rate_is_the_same_requests_elsewhere_in_time():
    slow, fast = draw(100, 1.0, [(10, 1), (20, 2)], seed=7), draw(100, 4.0, [(10, 1), (20, 2)], seed=7)
    np.testing.assert_allclose(slow.arrival, 4 * fast.arrival)
    assert np.array_equal(slow.input, fast.input)
    assert not np.array_equal(slow.input, draw(100, 1.0, [(10, 1), (20, 2)], seed=8).input)


def test_lengths_as_often_as_their_weights(written):
    file = written("input,output,weight\n100,10,3\n200,20,1\n300,30,0\n", "lengths.csv")
    trace = draw(20_000, 1.0, file, seed=2)
    assert np.mean(trace.input == 100) == pytest.approx(0.75, abs=0.01)
    assert set(zip(trace.input.tolist(), trace.output.tolist(), strict=True)) == {(100, 10), (200, 20)}


def test_lengths_as_people_say_them():
    assert Lengths.of("64x8").shapes == (Workload(64, 8),)
    assert Lengths.of("chat").shapes == (Workload(1155, 211),)
    trace = Lengths.of("azure-conversation")
    assert len(trace.shapes) == len(trace.weights) == 16
    assert sum(trace.weights) == pytest.approx(1)
    assert {1155, 211} <= set(map(int, re.findall(r"\d+", trace.text)))
    assert Lengths.of([(10, 1), (20, 2, 3.0)]) == Lengths((Workload(10, 1), Workload(20, 2)), (1.0, 3.0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"requests": 0}, "requests: expected at least 1, got 0"),
        ({"burstiness": -1.0}, "burstiness: expected a coefficient of variation of 0 to 100, got -1.0"),
        ({"burstiness": float("nan")}, "burstiness: expected a coefficient of variation of 0 to 100, got nan"),
        ({"seed": -1}, "seed: expected a whole number from 0, got -1"),
        ({"requests": 0, "rate": 0.0},
         "requests: expected at least 1, got 0\nrate: expected requests per second above 0, got 0.0"),
        ({"lengths": "0x5"}, "input: must be 1 to 10,000,000 tokens, got 0"),
        ({"lengths": "chatt"}, "unknown workload 'chatt'; did you mean 'chat'?"),
        ({"lengths": []}, "lengths: expected pairs (input, output), or triples with a weight"),
        ({"lengths": [5]}, "lengths: expected pairs (input, output), or triples with a weight"),
        ({"lengths": [("a", 1)]}, "lengths: expected pairs (input, output), or triples with a weight"),
        ({"lengths": 5}, "lengths: expected pairs (input, output), or triples with a weight"),
        ({"lengths": [(1, 2, -1.0)]}, "lengths: weights must not be negative, and not all zero"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(changes, message):
    asked = {"requests": 10, "rate": 1.0, "lengths": "64x8"} | changes
    assert refusal(lambda: draw(**asked)) == message


def test_a_fault_of_a_request_knows_its_line(written):
    trace = read_trace(written(AZURE))
    assert str(trace.fault(1, "input", "is odd")) == "trace.csv:3:1: input: is odd"
    assert str(Trace(np.zeros(1), np.ones(1), np.ones(1)).fault(0, "input", "is odd")) == "input: is odd"
