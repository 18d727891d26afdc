"""Techniques whose values are more than words: in sweep files, manifests, hashes, columns and on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import dse
from dse.cli import cli
from dse.errors import InputError
from dse.run.identity import restore
from dse.run.sweep import load_sweep, run_sweep

SWEEP = {
    "name": "techniques",
    "models": "llama-3.1-70b",
    "hardware": "h100-sxm",
    "precision": "fp8",
    "workload": "2048x256",
    "parallel": {"tp": [4, 8]},
    "batch": [1, 64],
    "prefix_hit": ["none", {"tokens": 1024, "cascade": True}, {"share": 0.9, "own": True}],
    "sampling": ["none", {"n": 2}],
    "speculation": ["none", {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.8}, {"base": "eagle-2", "tau": 3.4}],
    "keep": "all",
}


def test_a_run_holds_all_it_needs_to_be_computed_again(tmp_path):
    """The draft model too: the library may move on."""
    run = run_sweep(SWEEP, tmp_path)
    again = restore("techniques", json.loads(json.dumps(run.manifest["resolved"])))
    assert again.hash == run.manifest["hash"]
    assert again.axes == load_sweep(SWEEP).axes
    assert run.manifest["points"] == 2 * 2 * 3 * 2 * 3


def test_columns_say_the_values_in_words(tmp_path):
    frame = run_sweep(SWEEP, tmp_path).points()
    assert set(frame["prefix_hit"]) == {"none", "1024 tokens, cascade", "0.9, own"}
    assert set(frame["sampling"]) == {"none", "n 2"}
    assert set(frame["speculation"]) == {"none", "llama-3.2-1b 4 tau 3.362", "eagle 6 tree 60 tau 3.4"}
    assert set(frame["status"]) == {"ok"}


def test_names_do_not_change_the_identity_of_a_run_and_what_drafts_does(tmp_path):
    def of(speculation):
        return load_sweep({**SWEEP, "speculation": speculation}).hash

    library = dse.load_model("llama-3.2-1b")
    (tmp_path / "mine.json").write_text(
        (dse.spec.reading.library_file("configs/models/llama-3.2-1b.json")).read_text(), encoding="utf-8"
    )
    draft = {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.8}
    assert of(draft) == of(draft | {"draft": str(tmp_path / "mine.json")})
    assert of(draft) != of(draft | {"draft": "llama-3.1-8b"})
    assert of(draft) != of(draft | {"acceptance": 0.81})
    assert library.name == "llama-3.2-1b"


def test_points_are_grouped_by_speculation(tmp_path):
    run = run_sweep({**SWEEP, "group_by": ["model", "speculation"]}, tmp_path)
    assert len(run.manifest["groups"]) == 3


def test_today_may_speculate(tmp_path):
    current = {"tp": 8, "batch": 64, "speculation": {"base": "eagle-2", "tau": 3.0}, "prefix_hit": 0.25}
    run = run_sweep({**SWEEP, "current": current}, tmp_path)
    assert run.manifest["current"]["speculation"] == "eagle 6 tree 60 tau 3"
    assert run.manifest["current"]["prefix_hit"] == "0.25"


def test_faults_stand_where_the_value_does(tmp_path):
    file = tmp_path / "sweep.yaml"
    file.write_text(
        "name: faulty\nmodels: llama-3.1-8b\nhardware: h100-sxm\nworkload: 1024x256\n"
        "speculation:\n  - none\n  - {mtp: 1, acepted: 0.8}\nsampling: {n: 0}\nprefix_hit: [none, 2]\n",
        encoding="utf-8",
    )
    with pytest.raises(InputError) as error:
        load_sweep(str(file))
    assert [str(fault).removeprefix(f"{file}:") for fault in error.value.faults] == [
        "7:5: speculation[1].acepted: unknown field; did you mean 'accepted'?",
        "8:11: sampling.n: must be >= 1, got 0",
        "9:20: prefix_hit[1]: expected none, the share of each prompt that is found, or {share or tokens, own, "
        "cascade}: a share is above 0 and at most 1, got 2",
    ]


def test_the_command_line_takes_them_as_yaml():
    options = ["--speculation", "{draft: llama-3.2-1b, gamma: 4, acceptance: 0.8}", "--prefix-hit", "{tokens: 512}"]
    point = ["explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", *options]
    found = json.loads(CliRunner().invoke(cli, [*point, "--json"]).output)
    assert found["point"]["speculation"] == "llama-3.2-1b 4 tau 3.362"
    assert found["point"]["prefix_hit"] == "512 tokens"
    decode = found["phases"]["decode"]
    drafts = [row for row in decode["operators"] if row["layer"].startswith("draft ")]
    assert {row["count"] for row in drafts if row["layer"] == "draft Attention"} == {4 * 16}
    assert sum(row["share"] for row in decode["operators"]) == pytest.approx(1)
    text = CliRunner().invoke(cli, point).output
    assert "draft Attention: 64 runs" in text
    assert "prefix hit 512 tokens, speculation llama-3.2-1b 4 tau 3.362" in text
    assert "tokens gained" in text
    wrong = CliRunner().invoke(cli, [*point, "--sampling", "many"])
    assert isinstance(wrong.exception, InputError)
