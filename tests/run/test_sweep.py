"""What a sweep means: native precision, today's deployment, identity, and the files of a run."""

from __future__ import annotations

import json

import numpy as np
import pytest

import dse
from dse.errors import InputError
from dse.run.explain import explain_points
from dse.run.identity import restore
from dse.run.score import Engine
from dse.run.sweep import load_sweep, run_sweep

ONE = {"name": "one", "models": "llama-3.1-8b", "hardware": "h100-sxm", "workload": "1024x256"}


def test_precision_left_out_is_each_models_own() -> None:
    """DeepSeek-V3 is published in FP8, Llama in bf16: one axis, another scheme per model."""
    frame = dse.evaluate(["llama-3.1-8b", "deepseek-v3"], "mi300x", tp=8)
    native = dse.load_model("deepseek-v3").precision
    assert native is not None
    assert frame["precision"].tolist() == ["bf16", native.name]
    explicit = dse.evaluate("deepseek-v3", "mi300x", tp=8, precision=native.name)
    assert frame["tpot_ms"][1] == explicit["tpot_ms"][0]


def test_native_may_stand_beside_other_schemes() -> None:
    frame = dse.evaluate(["llama-3.1-8b", "deepseek-v3"], "mi300x", tp=8, precision=["native", "w4a16-g128"])
    assert frame["precision"].tolist()[::2] == ["bf16", dse.load_model("deepseek-v3").precision.name]
    assert set(frame["precision"][1::2]) == {"w4a16-g128"}


def test_groups_by_precision_are_named_by_what_native_means(tmp_path) -> None:
    sweep = {**ONE, "models": ["llama-3.1-8b", "deepseek-v3"], "hardware": "mi300x", "parallel": {"tp": 8}}
    run = run_sweep({**sweep, "group_by": ["precision"]}, tmp_path)
    named = {group["key"]["precision"] for group in run.manifest["groups"]}
    assert named == set(run.frontier()["precision"])


def test_todays_deployment_may_lie_outside_the_sweep(tmp_path) -> None:
    current = {"hardware": "a100-sxm-80gb", "tp": 4, "batch": 7, "precision": "w4a16-g128"}
    run = run_sweep({**ONE, "batch": [1, 2], "current": current}, tmp_path)
    row = run.manifest["current"]
    alone = dse.evaluate("llama-3.1-8b", "a100-sxm-80gb", tp=4, batch=7, precision="w4a16-g128")
    assert {name: row[name] for name in ("hardware", "tp", "batch", "precision", "status")} == {
        **current, "status": "ok",
    }  # fmt: skip
    assert row["tpot_ms"] == alone["tpot_ms"][0]


def test_todays_deployment_has_a_row_in_every_comparison_group(tmp_path) -> None:
    sweep = {**ONE, "models": ["llama-3.1-8b", "llama-2-7b"], "workload": ["1024x256", "64x64"]}
    run = run_sweep({**sweep, "current": {"batch": 3}}, tmp_path)
    rows = run.manifest["current_rows"]
    assert run.manifest["current"] == rows[0]
    assert [(row["model"], row["workload"]) for row in rows] == [
        ("llama-3.1-8b", "1024x256"),
        ("llama-3.1-8b", "64x64"),
        ("llama-2-7b", "1024x256"),
        ("llama-2-7b", "64x64"),
    ]


def test_no_feasible_point_still_leaves_a_run(tmp_path) -> None:
    run = run_sweep({**ONE, "models": "llama-3.1-70b"}, tmp_path)
    assert run.manifest["statuses"] == {"exceeds_memory": 1}
    assert run.manifest["nearest_misses"]["exceeds_memory"]["reason"].startswith("needs ")
    assert run.frontier().empty
    assert run.report.is_file()


def test_the_manifest_holds_the_whole_sweep(engine) -> None:
    sweep = engine.sweep
    back = restore("here", json.loads(json.dumps(sweep.resolved)))
    assert (back.axes, back.settings, back.question, back.group_by) == (
        sweep.axes, sweep.settings, sweep.question, sweep.group_by,
    )  # fmt: skip
    assert [[repr(drop) for drop in drops] for drops in back.accuracy] == [
        [repr(drop) for drop in drops] for drops in sweep.accuracy
    ]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"name": "other"}, True),
        ({"notes": "said differently"}, True),
        ({"hardware": "H100"}, True),
        ({"workload": {"input": 1024, "output": 256}}, True),
        ({"precision": "native"}, True),
        ({"batch": 2}, False),
        ({"keep": "all"}, False),
        ({"price": {"override": {"h100-sxm": 1.5}}}, False),
        ({"price": {"override": {"H100": 1.5}}}, False),
        ({"hardware": {"base": "h100-sxm", "memory.capacity_gb": 90}}, False),
        ({"precision": "fp8"}, False),
        ({"constraints": {"ttft_ms": {"max": 1}}}, False),
        ({"current": {"batch": 2}}, False),
    ],
)
def test_the_hash_is_the_content(change, same) -> None:
    assert (load_sweep({**ONE, **change}).hash == load_sweep(ONE).hash) is same


def test_a_price_is_of_an_accelerator_however_it_is_spelled() -> None:
    one, other = (load_sweep({**ONE, "price": {"override": {name: 1.5}}}) for name in ("h100-sxm", "H100 SXM5"))
    assert one.hash == other.hash
    with pytest.raises(InputError, match=r"'H100' and 'h100-sxm' are one accelerator \(h100-sxm\); keep one"):
        load_sweep({**ONE, "price": {"override": {"h100-sxm": 1.5, "H100": 1.5}}})


def test_a_scheme_is_known_by_its_formats_whatever_it_is_called() -> None:
    scheme = {"weights": "int4", "group_size": 96, "activations": "bf16"}
    one, other = (load_sweep({**ONE, "precision": [entry]}) for entry in (scheme, {**scheme, "name": "mine"}))
    assert one.axes.precision[0].name != other.axes.precision[0].name
    assert one.hash == other.hash


def test_explained_together_or_alone_is_the_same(engine) -> None:
    numbers = [0, 50, 191, 97, 144, 7]
    together = explain_points(engine, numbers)
    for number in numbers:
        assert repr(together[number]) == repr(explain_points(engine, [number])[number])


def test_operators_account_for_the_time_of_a_phase() -> None:
    """On one device, in one stage and one pass, nothing but the operators takes time."""
    found = dse.explain("llama-3.1-8b", "h100-sxm", batch=4)
    for phase in found["phases"].values():
        assert sum(op["share"] for op in phase["operators"]) == pytest.approx(1, rel=1e-9)
        assert sum(phase["time_by"].values()) == pytest.approx(phase["seconds"], rel=1e-9)


def test_top_holds_the_best_of_every_objective(small, tmp_path) -> None:
    run = run_sweep({**small, "keep": "all"}, tmp_path)
    points, top = run.points(), run.top()
    for _, group in points[points["status"] == "ok"].groupby(["model", "workload"]):
        best = group.nsmallest(20, ["tpot_ms", "number"])["number"]
        assert set(best) <= set(top["number"])


def test_the_frontier_is_that_of_all_points(small, tmp_path) -> None:
    run = run_sweep({**small, "keep": "all"}, tmp_path)
    points = run.points()
    expected: list[int] = []
    for _, group in points[points["status"] == "ok"].groupby(["model", "workload"]):
        costs = group[["output_tokens_per_s_per_device", "tpot_ms", "memory_gb_per_device"]].to_numpy() * [-1, 1, 1]
        for index, cost in enumerate(costs):
            beaten = np.all(costs <= cost, axis=1) & np.any(costs < cost, axis=1)
            if not beaten.any():
                expected.append(int(group["number"].iloc[index]))
    assert run.frontier()["number"].tolist() == sorted(expected)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"bach": 3}, "bach: unknown axis; did you mean 'batch'?"),
        ({"workload": "1x1", "input": 3}, "workload: give either workload or input and output, not both"),
        ({"batch": 0}, "batch: must be at least 1, got 0"),
        ({"tp": [1, 1]}, r"parallel.tp[1]: 1 stands twice on this axis; keep one"),
    ],
)
def test_evaluate_tells_what_is_wrong(axes, message) -> None:
    with pytest.raises(InputError) as caught:
        dse.evaluate("llama-3.1-8b", "h100-sxm", **axes)
    assert str(caught.value) == message


def test_evaluate_takes_any_series(engine) -> None:
    frame = dse.evaluate("llama-3.1-8b", "h100-sxm", batch=np.array([1, 2]), tp=range(1, 3), input=(16, 32))
    assert len(frame) == 8
    assert Engine(load_sweep(ONE)).space.size == 1
