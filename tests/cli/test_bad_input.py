"""What is wrong in a sweep is told with place, field and what would be right; all of it, in order, each once.

Exit code 2, plain lines on stderr, no traceback, nothing written.
"""

from __future__ import annotations

import pytest

GOOD = {"name": "a", "models": "llama-3.1-8b", "hardware": "h100-sxm", "workload": "1024x256"}


def sweep(**fields: object) -> str:
    """A sweep of four lines, with fields changed (in place), added (from line 5 on), or left out (None)."""
    return "".join(f"{key}: {value}\n" for key, value in {**GOOD, **fields}.items() if value is not None)


def told(dse, tmp_path, text: str, *options: str) -> list[str]:
    """The lines on stderr about this sweep."""
    (tmp_path / "s.yaml").write_text(text)
    said = dse("sweep", "s.yaml", *options)
    assert said.code == 2
    assert said.out == ""
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".json") == ["s.yaml"]
    return said.err.splitlines()


POOLS = {
    "a misspelt field": ("device: 8", "17: disaggregated.device: unknown field; did you mean 'devices'?"),
    "an unknown field": (
        "prefill: {chips: 8}",
        "27: disaggregated.prefill.chips: unknown field; expected one of batch, devices, hardware, parallel, precision",
    ),
    "no devices": ("devices: 0", "26: disaggregated.devices: must be >= 1, got 0"),
    "more devices than there are": (
        "devices: 100001", "26: disaggregated.devices: must be <= 100000, got 100001",
    ),
    "no workers": ("max_workers: 0", "30: disaggregated.max_workers: must be >= 1, got 0"),
    "an unknown chip": (
        "prefill: {hardware: h100-sxn}",
        "37: disaggregated.prefill.hardware: unknown hardware 'h100-sxn'; did you mean 'h100-sxm'? "
        "'dse list hardware' shows all",
    ),
    "a chip twice": (
        "prefill: {hardware: [H100, h100-sxm]}",
        "44: disaggregated.prefill.hardware[1]: 'h100-sxm' stands twice on this axis; keep one",
    ),
    "an unknown scheme": (
        "prefill: {precision: fp9}",
        "38: disaggregated.prefill.precision: no precision is named 'fp9'; did you mean 'fp8'?; "
        "`dse list precisions` shows all",
    ),
    "native twice": (
        "prefill: {precision: [bf16, native]}",
        "45: disaggregated.prefill.precision[1]: 'native' means bf16 here, which stands on this axis as well; keep one",
    ),
    "a pass of nothing": (
        "prefill: {batch: 0}", "34: disaggregated.prefill.batch: must be at least 1, got 0",
    ),
    "a decode batch twice": (
        "decode: {batch: [1, 1]}", "37: disaggregated.decode.batch[1]: 1 stands twice on this axis; keep one",
    ),
    "an empty range": (
        "prefill: {batch: {from: 4, to: 1}}",
        "34: disaggregated.prefill.batch: the range is empty: from 4 to 1",
    ),
    "workers of degrees that make no such devices": (
        "prefill: {parallel: {tp: 2}, devices: 4}",
        "55: disaggregated.prefill.devices: no layout of the degrees of 'parallel' has so many devices",
    ),
    "a degree below one": (
        "prefill: {parallel: {tp: -1}}",
        "42: disaggregated.prefill.parallel.tp: must be at least 1, got -1",
    ),
    "nothing to fill": ("fill: true", "23: disaggregated.fill: there is nothing to fill; give 'devices' as well"),
}  # fmt: skip
"""Wrong blocks of pools, from column 16 of line 6."""

FIELDS = {
    "misspelt field": (
        {"hardware": None, "hardwear": "h100-sxm"},
        "4:1: hardwear: unknown field; did you mean 'hardware'?",
    ),
    "text for a number": (
        {"memory_utilization": "high"},
        "5:21: memory_utilization: expected a number, got 'high'",
    ),
    "a list for text": ({"name": "[1]"}, "1:7: name: expected text, got a list"),
    "text for a list": ({"objectives": "tpot_ms"}, "5:13: objectives: expected a list, got 'tpot_ms'"),
    "an unknown word": ({"keep": "some"}, "5:7: keep: 'some' is not one of frontier, all"),
    "a zero size": ({"kv_block_size": 0}, "5:16: kv_block_size: must be >= 1, got 0"),
    "a zero batch": ({"batch": "[1, 0]"}, "5:12: batch[1]: must be at least 1, got 0"),
    "a negative length": (
        {"workload": "{input: -1, output: 1}"},
        "4:19: workload.input: must be at least 1, got -1",
    ),
    "a fraction of a sequence": (
        {"batch": 1.5},
        "5:8: batch: expected a whole number, got 1.5",
    ),
    "an empty axis": ({"models": "[]"}, "2:9: models: an axis needs at least one value; got an empty list"),
    "an axis without a value": (
        {"models": ""},
        "2:8: models: expected the name or the path of a model file, got nothing",
    ),
    "no objective": ({"objectives": "[]"}, "5:13: objectives: needs at least 1, got 0"),
    "unknown model": (
        {"models": "llama-3.1-8"},
        "2:9: models: unknown model 'llama-3.1-8'; did you mean 'llama-3.1-8b'? 'dse list models' shows all",
    ),
    "unknown hardware": (
        {"hardware": "[h100-sxm, h100-sxn]"},
        "3:22: hardware[1]: unknown hardware 'h100-sxn'; did you mean 'h100-sxm'? 'dse list hardware' shows all",
    ),
    "unknown objective": (
        {"objectives": "[tpots_ms]"},
        "5:14: objectives[0]: unknown objective 'tpots_ms'; did you mean 'tpot_ms'?",
    ),
    "unknown metric in a constraint": (
        {"constraints": "{ttft: {max: 3}}"},
        "5:15: constraints.ttft: unknown metric 'ttft'; did you mean 'ttft_ms'?",
    ),
    "unknown column to group by": (
        {"group_by": "[modle]"},
        "5:12: group_by[0]: cannot group by 'modle'; did you mean 'model'?",
    ),
    "a price for a chip that is not there": (
        {"price": "{override: {h200-sxm: 2}}"},
        "5:20: price.override.h200-sxm: 'h200-sxm' is not among this sweep's hardware; did you mean 'h100-sxm'?",
    ),
    "duplicate model": (
        {"models": "[llama-3.1-8b, llama-3.1-8b]"},
        "2:24: models[1]: 'llama-3.1-8b' stands twice on this axis; keep one",
    ),
    "two chips of one name": (
        {"hardware": "[h100-sxm, {base: h200-sxm, name: h100-sxm}]"},
        "3:22: hardware[1]: another 'h100-sxm' stands on this axis; rename one (or its file or folder)",
    ),
    "a chip by name and alias": (
        {"hardware": "[H100, h100-sxm]"},
        "3:18: hardware[1]: 'h100-sxm' stands twice on this axis; keep one",
    ),
    "duplicate precision": (
        {"precision": "[bf16, bf16]"},
        "5:19: precision[1]: 'bf16' stands twice on this axis; keep one",
    ),
    "native beside what it means": (
        {"precision": "[bf16, native]"},
        "5:19: precision[1]: 'native' means bf16 here, which stands on this axis as well; keep one",
    ),
    "one request shape in two spellings": (
        {"workload": "[1024x256, {input: 1024, output: 256}]"},
        "4:22: workload[1]: '1024x256' stands twice on this axis; keep one",
    ),
    "duplicate objective": (
        {"objectives": "[tpot_ms, tpot_ms]"},
        "5:23: objectives[1]: 'tpot_ms' stands twice; keep one",
    ),
    "duplicate group": (
        {"group_by": "[model, model]"},
        "5:19: group_by[1]: 'model' stands twice; keep one",
    ),
    "a constraint nothing can meet": (
        {"constraints": "{ttft_ms: {min: 3, max: 2}}"},
        "5:24: constraints.ttft_ms: no value is at least 3 and at most 2",
    ),
    "a limit below zero": (
        {"constraints": "{ttft_ms: {max: -1}}"},
        "5:30: constraints.ttft_ms.max: must be >= 0, got -1",
    ),
    "a constraint that says nothing": (
        {"constraints": "{ttft_ms: {}}"},
        "5:24: constraints.ttft_ms: a constraint needs 'min' or 'max'",
    ),
    "a huge whole number": (
        {"batch": 10**30},
        f"5:8: batch: the number {10**30} is too large; expected at most 2^63; put it in quotes if it is text",
    ),
    "a batch nobody has": ({"batch": 2**62}, f"5:8: batch: must be at most 1,000,000,000, got {2**62}"),
    "more devices than there are": ({"devices": 2**40}, f"5:10: devices: must be at most 100,000, got {2**40}"),
    "not a number": (
        {"memory_utilization": ".nan"},
        "5:21: memory_utilization: expected a finite number, got .nan; give digits, or leave it out for the default",
    ),
    "infinity": (
        {"constraints": "{ttft_ms: {max: .inf}}"},
        "5:30: constraints.ttft_ms.max: expected a finite number, got .inf; "
        "give digits, or leave it out for the default",
    ),
    "devices that no degrees make": (
        {"parallel": "{tp: 2}", "devices": 8},
        "6:10: devices: no layout of the degrees of 'parallel' has so many devices",
    ),
    "an empty range": ({"batch": "{from: 9, to: 3}"}, "5:8: batch: the range is empty: from 9 to 3"),
    "half a range": ({"batch": "{from: 9}"}, "5:8: batch: missing field 'to'"),
    "an unknown scale": (
        {"batch": "{from: 1, to: 8, scale: log10}"},
        "5:32: batch.scale: 'log10' is not one of log2, linear; did you mean 'log2'?",
    ),
    "a step that doubles": (
        {"batch": "{from: 1, to: 8, step: 2, scale: log2}"},
        "5:31: batch.step: a log2 range doubles; leave out 'step'",
    ),
    "too long a range": (
        {"batch": "{from: 1, to: 999999999}"},
        "5:8: batch: the range has 999,999,999 values; at most 100,000",
    ),
    "too many layouts": (
        {"parallel": "{tp: {from: 1, to: 1000}, pp: {from: 1, to: 1000}}"},
        "5:11: parallel: makes more than 100,000 layouts, the most there may be",
    ),
    "too many layouts of devices": (
        {"devices": "{from: 1, to: 99999}"},
        "5:10: devices: makes more than 100,000 layouts, the most there may be",
    ),
    "too many request shapes": (
        {"workload": "{input: {from: 1, to: 9999}, output: {from: 1, to: 9999}}"},
        "4:11: workload: makes 99,980,001 request shapes; at most 100,000",
    ),
    "what this version cannot offload": (
        {"offload": "[lpp]"},
        "5:11: offload[0]: this version knows none and lp, got 'lpp'; did you mean 'lp'?",
    ),
    "an unknown fidelity": (
        {"fidelity": "calibratd"},
        "5:11: fidelity: this version knows ideal, datasheet and calibrated, got 'calibratd'; "
        "did you mean 'calibrated'?",
    ),
    "a deployment on an axis that is none": (
        {"current": "{hardwear: h100-sxm}"},
        "5:11: current.hardwear: not an axis; did you mean 'hardware'?",
    ),
    "a deployment of two sizes": (
        {"current": "{tp: [1, 2]}"},
        "5:15: current.tp: expected one value, got 2",
    ),
    "a deployment on no chip": (
        {"current": "{hardware: h100-sxn}"},
        "5:21: current.hardware: unknown hardware 'h100-sxn'; did you mean 'h100-sxm'? 'dse list hardware' shows all",
    ),
    "a serving that is misspelt": (
        {"serving": "disagregated"},
        "5:10: serving: this version knows static, offline, closed-loop, open-loop and disaggregated, "
        "got 'disagregated'; did you mean 'disaggregated'?",
    ),
    "pools that nobody serves from": (
        {"serving": "[static, offline]", "disaggregated": "{devices: 8}"},
        "6:1: disaggregated: only disaggregated serving has pools; add it to 'serving' (static, offline), "
        "or leave them out",
    ),
    **{
        f"pools: {name}": ({"serving": "disaggregated", "disaggregated": f"{{{text}}}"}, f"6:{message}")
        for name, (text, message) in POOLS.items()
    },
    "a group of what both pools decide": (
        {"serving": "disaggregated", "group_by": "[devices]"},
        "6:12: group_by[0]: cannot group by 'devices' where serving is disaggregated: both pools decide it",
    ),
    "a group of prefill workers that are not there": (
        {"group_by": "[prefill_tp]"},
        "5:12: group_by[0]: cannot group by 'prefill_tp'; did you mean 'prefix_hit'?",
    ),
    "arrivals at no rate": (
        {"serving": "open-loop"},
        "5:10: serving: open-loop serving needs 'rate': the requests per second that arrive at one replica",
    ),
    "a rate nobody asks for": (
        {"rate": 2},
        "5:1: rate: only open-loop serving has arrivals; add it to 'serving' (static) or leave out 'rate'",
    ),
    "a rate of zero": ({"serving": "open-loop", "rate": "[1, 0]"}, "6:11: rate[1]: must be above 0, got 0.0"),
    "a rate below zero": ({"serving": "open-loop", "rate": -3}, "6:7: rate: must be above 0, got -3.0"),
    "a rate that is no number": (
        {"serving": "open-loop", "rate": ".nan"},
        "6:7: rate: expected a finite number, got .nan; give digits, or leave it out for the default",
    ),
    "a range of rates without steps": (
        {"serving": "open-loop", "rate": "{from: 1, to: 8}"},
        "6:7: rate: give a range of numbers either 'step' or 'scale: log2'",
    ),
    "a rate twice": (
        {"serving": "open-loop", "rate": "[2, 2.0]"},
        "6:11: rate[1]: 2 stands twice on this axis; keep one",
    ),
    "bursts below a clock's": ({"burstiness": -1}, "5:13: burstiness: must be >= 0, got -1"),
    "an objective of service that is none": (
        {"slo": "{ttft: 3}"},
        "5:7: slo.ttft: unknown field; did you mean 'ttft_ms'?",
    ),
    "chunks of nothing": (
        {"chunk_tokens": 0},
        "5:15: chunk_tokens: expected none or a number of tokens of at least 1, got 0",
    ),
    "a deployment that is a list": ({"current": "[1]"}, "5:10: current: expected a mapping, got a list"),
}


@pytest.mark.parametrize(("fields", "message"), FIELDS.values(), ids=FIELDS.keys())
def test_a_fault_is_told_with_place_field_and_remedy(dse, tmp_path, fields, message) -> None:
    assert told(dse, tmp_path, sweep(**fields)) == [f"s.yaml:{message}"]


def test_more_points_than_numbers(dse, tmp_path) -> None:
    chips = ", ".join(f"{{base: h100-sxm, name: c{i}, memory.capacity_gb: 80}}" for i in range(50))
    text = sweep(
        hardware=f"[{chips}]",
        workload="{input: {from: 1, to: 100000}, output: 1}",
        parallel="{tp: {from: 1, to: 100000}}",
        batch="{from: 1, to: 100000}",
        precision="[bf16, fp8]",
        fidelity="[ideal, datasheet, calibrated]",
        attention="[fused, unfused]",
        models="[llama-3.1-8b, llama-2-7b, opt-30b, deepseek-v3, qwen3-32b, mixtral-8x7b, llama-3.1-70b, llama-2-13b]",
    )
    points = 50 * 100_000**3 * 2 * 3 * 2 * 8
    assert points > 2**62
    assert told(dse, tmp_path, text) == [f"s.yaml:1:1: the axes make {points:,} points; at most 2**62"]


DOCUMENTS = {
    "YAML syntax": (
        "name: a\nmodels: [llama\nhardware: x\n",
        "3:9: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence that starts at 2:9",
    ),
    "a tab": (
        "name: a\nmodels:\n\t- b\n",
        "3:1: not valid YAML: found character that cannot start any token while scanning for the next token "
        "that starts at 3:1; indent with spaces, not tabs",
    ),
    "a key twice": ("name: a\nname: b\n", "2:1: name: duplicate key; already given at 1:1, keep one of them"),
    "a list": ("- a\n- b\n", "1:1: expected a mapping, got a list"),
    "plain text": ("hello\n", "1:1: expected a mapping, got 'hello'"),
    "nothing": ("", " the file is empty"),
    "an alias bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join('*' + chr(97 + i) for _ in range(9))}]\n" for i in range(8)
        ),
        "6:4: expands to more than 100000 values; aliases of aliases multiply",
    ),
}


@pytest.mark.parametrize(("text", "message"), DOCUMENTS.values(), ids=DOCUMENTS.keys())
def test_a_file_that_is_no_sweep(dse, tmp_path, text, message) -> None:
    assert told(dse, tmp_path, text) == [f"s.yaml:{message}"]


def test_all_faults_at_once_in_the_order_of_the_file_each_once(dse, tmp_path) -> None:
    text = sweep(
        models="[nonsense, nonsense]",
        hardware="h100-sxn",
        objectives="[tpots_ms, tpot_ms, tpot_ms]",
        constraints="{ttft_ms: {min: 2, max: 1}}",
        group_by="[modle]",
        batch="[0, 2, 2]",
        parallel="{tp: 0, pp: x}",
    )
    assert told(dse, tmp_path, text) == [
        "s.yaml:2:10: models[0]: unknown model 'nonsense'; 'dse list models' shows all",
        "s.yaml:2:20: models[1]: unknown model 'nonsense'; 'dse list models' shows all",
        "s.yaml:3:11: hardware: unknown hardware 'h100-sxn'; did you mean 'h100-sxm'? 'dse list hardware' shows all",
        "s.yaml:5:14: objectives[0]: unknown objective 'tpots_ms'; did you mean 'tpot_ms'?",
        "s.yaml:5:33: objectives[2]: 'tpot_ms' stands twice; keep one",
        "s.yaml:6:24: constraints.ttft_ms: no value is at least 2 and at most 1",
        "s.yaml:7:12: group_by[0]: cannot group by 'modle'; did you mean 'model'?",
        "s.yaml:8:9: batch[0]: must be at least 1, got 0",
        "s.yaml:8:15: batch[2]: 2 stands twice on this axis; keep one",
        "s.yaml:9:16: parallel.tp: must be at least 1, got 0",
        "s.yaml:9:23: parallel.pp: expected a whole number, got 'x'",
    ]


def test_a_truncated_config_is_told_where_it_ends(dse, tmp_path) -> None:
    (tmp_path / "cut.json").write_text('{"model_type": "llama", "hidden_size": 40')
    assert told(dse, tmp_path, sweep(models="./cut.json")) == [
        "cut.json:1:42: not valid JSON: the file ends in the middle of a value; it is truncated"
    ]


def test_a_folder_for_a_file(dse, tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    said = dse("sweep", "folder")
    assert said == (2, "", "folder: is a folder; expected a file\n")


def test_a_plan_for_a_sweep_and_a_sweep_for_a_plan(dse, tmp_path) -> None:
    (tmp_path / "s.yaml").write_text(sweep())
    (tmp_path / "p.yaml").write_text("name: a\nmodels: [{model: opt-30b, demand: {trace: code, requests_per_s: 1}}]\n")
    said = dse("plan", "s.yaml")
    assert (said.code, said.err) == (2, "s.yaml:1:1: is a sweep, it has a workload; run it with 'dse sweep'\n")
    said = dse("sweep", "p.yaml")
    assert (said.code, said.err) == (2, "p.yaml:1:1: is a plan, its models have a demand; run it with 'dse plan'\n")


@pytest.mark.parametrize("command", ["sweep", "plan", "check"])
def test_a_name_longer_than_any(dse, command) -> None:
    name = "x" * 300 + ".yaml"
    said = dse(command, name)
    assert (said.code, said.err) == (2, f"{name}: cannot be read: File name too long\n")


def test_a_missing_file(dse, tmp_path) -> None:
    (tmp_path / "mine.yaml").write_text(sweep())
    said = dse("sweep", "mien.yaml")
    assert said == (2, "", "mien.yaml: no such file; did you mean 'mine.yaml'?\n")


SETTINGS = {
    "no value": ("batch", "--set: expected KEY=VALUE, got 'batch'"),
    "no key": ("=3", "--set: expected KEY=VALUE, got '=3'"),
    "an unknown key": ("bach=3", "--set: bach: unknown field; did you mean 'batch'?"),
    "a wrong value": ("batch=0", "--set: batch: must be at least 1, got 0"),
    "an unknown name": (
        "precision=fp9",
        "--set: precision: no precision is named 'fp9'; did you mean 'fp8'?; `dse list precisions` shows all",
    ),
    "a field of what has none": ("name.x=3", "--set name.x: 'name' holds no fields to set"),
    "no YAML": (
        "batch=[",
        "--set batch:2:1: not valid YAML: did not find expected node content while parsing a flow node that "
        "starts at 2:1",
    ),
}


@pytest.mark.parametrize(("setting", "message"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_wrong_setting(dse, tmp_path, setting, message) -> None:
    assert told(dse, tmp_path, sweep(), "--set", setting) == [message]


COMMANDS = {
    "explain without a chip": (
        ["explain", "--model", "llama-3.1-8b"],
        "missing --hardware (or give RUN_DIR NUMBER)",
    ),
    "explain without a number": (
        ["explain", "here"],
        "expected RUN_DIR NUMBER; the number of a point stands in frontier.csv",
    ),
    "explain of no run": (["explain", ".", "3"], ".: no finished run here (no manifest.json)"),
    "explain of an ep that is none": (
        ["explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--ep", "x"],
        "--ep: expected a whole number or auto, got 'x'",
    ),
    "report of no run": (["report", "."], ".: no finished run here (no manifest.json)"),
    "diff of no folder": (
        ["diff", "a", "b"],
        "a: no finished run here (no manifest.json); there is no such folder",
    ),
}


@pytest.mark.parametrize(("command", "message"), COMMANDS.values(), ids=COMMANDS.keys())
def test_a_wrong_command(dse, command, message) -> None:
    assert dse(*command) == (2, "", f"{message}\n")


def test_check_tells_what_is_right_and_all_that_is_wrong(dse, tmp_path) -> None:
    (tmp_path / "good.yaml").write_text(sweep())
    (tmp_path / "bad.yaml").write_text(sweep(batch=0))
    (tmp_path / "worse.yaml").write_text("- a\n")
    said = dse("check", "bad.yaml", "good.yaml", "worse.yaml")
    assert said.code == 2
    assert said.out == "good.yaml: sweep 'a', 1 points\n"
    assert said.err.splitlines() == [
        "bad.yaml:5:8: batch: must be at least 1, got 0",
        "worse.yaml:1:1: expected fields (name: value); a sweep, a plan or a hardware file",
    ]
