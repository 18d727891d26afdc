"""How sure a place on the front is, in a run: contenders, what errors points share, and the column."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from runs import front_bytes

import dse
from dse.cost.metrics import METRICS
from dse.run import chances, sharing
from dse.run.chances import chains, front_probabilities
from dse.run.contests import contests
from dse.run.rows import complete
from dse.run.score import Engine
from dse.run.sharing import TOLD, Errors, logarithms, standing
from dse.run.sweep import load_sweep, run_sweep
from dse.search.chance import SAMPLES
from dse.search.pareto import non_dominated
from dse.search.space import tasks

THROUGHPUT, TPOT = "output_tokens_per_s_per_device", "tpot_ms"
NOTHING = {"number": [], **{name: [] for name in TOLD}}


def found(engine: Engine):
    """The contenders of every group."""
    tallies = [engine.tally(part) for part in tasks(engine.space, 60)]
    for other in tallies[1:]:
        tallies[0].merge(other)
    return contests(engine.divisions, tallies[0].front.fronts())


def drawn(engine: Engine, numbers, objectives=(TPOT,)):
    """Errors of points, shape (SAMPLES, points, objectives)."""
    points = standing(engine, np.array(numbers), NOTHING)
    return Errors(points, objectives).of(slice(0, len(numbers)))(slice(0, SAMPLES))


def numbers_where(engine: Engine, **wanted):
    rows = complete(engine, range(engine.space.size))
    return [n for i, n in enumerate(rows["number"]) if all(rows[name][i] == value for name, value in wanted.items())]


def test_contenders_are_the_fronts_of_every_accelerator(engine):
    frame = dse.evaluate(
        ["llama-3.1-8b", "mixtral-8x7b", "llama-2-7b", "qwen3-32b"], ["h100-sxm", "mi300x"],
        precision=["bf16", "fp8"], workload="1024x256", tp=[1, 2, 8], batch=[1, 2, 4, 8],
    ).set_index("number")  # fmt: skip
    frame = frame[frame["status"] == "ok"]
    objectives = engine.sweep.question.objectives
    costs = frame[list(objectives)] * [-1 if METRICS[name].sense == "max" else 1 for name in objectives]
    contested = found(engine)
    for (_, contest), (_, group) in zip(contested.items(), frame.groupby("model", sort=False), strict=True):
        fronts = [part.index[non_dominated(costs.loc[part.index])] for _, part in group.groupby("hardware")]
        assert contest.numbers.tolist() == sorted(number for front in fronts for number in front)
        assert contest.front.tolist() == group.index[non_dominated(costs.loc[group.index])].tolist()


def test_variants_of_one_accelerator_are_one_contender(small):
    variants = [{"base": "h100-sxm", "memory.capacity_gb": [60, 80]}, "mi300x"]
    assert Engine(load_sweep({**small, "hardware": variants})).divisions.count == 2
    assert Engine(load_sweep({**small, "group_by": ["hardware"]})).divisions.count == 1


# -- what errors points share --------------------------------------------------------------------------------------


def test_errors_have_the_spread_of_the_band(engine):
    """`datasheet` has 53 % of TPOT: nine draws in ten are within, whatever is common to all included."""
    errors = drawn(engine, range(engine.space.size))
    within = np.mean(np.abs(errors) < np.log(1.53))
    assert within == pytest.approx(0.9, abs=0.03)


def test_points_that_differ_in_less_share_more(engine):
    base = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "precision": "bf16", "tp": 1, "batch": 1}
    changes = ({"batch": 2}, {"batch": 8}, {"tp": 8}, {"tp": 8, "hardware": "mi300x"})
    spread = []
    for change in changes:
        errors = drawn(engine, [numbers_where(engine, **at)[0] for at in (base, base | change)])
        spread.append(np.std(errors[:, 0, 0] - errors[:, 1, 0]))
    assert spread == sorted(spread)
    assert spread[0] > 0


def test_the_same_point_has_the_same_error_in_whatever_company(engine):
    alone, among = drawn(engine, [7]), drawn(engine, [100, 7, 3])
    assert np.array_equal(alone[:, 0], among[:, 1])


def test_some_draws_are_those_of_all(engine):
    """However few are made at once: fronts of thousands of points are drawn a few at a time."""
    numbers = np.arange(0, engine.space.size, 7)
    objectives = (TPOT, THROUGHPUT, "memory_gb_per_device", "ttft_ms")
    errors = Errors(standing(engine, numbers, NOTHING), objectives).of(slice(0, len(numbers)))
    parts = [errors(slice(start, min(start + 5, SAMPLES))) for start in range(0, SAMPLES, 5)]
    assert np.array_equal(np.concatenate(parts), errors(slice(0, SAMPLES)))


def test_what_a_few_draws_take_does_not_grow_with_all_of_them(engine):
    """All draws of 40,000 points are 41 MB an array, and there were six."""
    numbers = np.resize(np.arange(engine.space.size), 40_000)
    errors = Errors(standing(engine, np.arange(engine.space.size), NOTHING), (TPOT, THROUGHPUT))
    errors._points = errors._points.some(numbers)  # the same points over and over
    tracemalloc.start()
    errors.of(slice(0, len(numbers)))(slice(0, 4))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_columns_of_runners_up_are_computed_in_blocks(engine, monkeypatch):
    numbers = np.arange(engine.space.size)
    whole = standing(engine, numbers, NOTHING)
    monkeypatch.setattr(sharing, "AT_ONCE", 7)
    blocks = standing(engine, numbers, NOTHING)
    assert all(np.array_equal(getattr(whole, name), getattr(blocks, name)) for name in ("evidence", "sigma", "prompt"))


def test_variants_of_one_accelerator_have_one_error(small):
    engine = Engine(load_sweep({**small, "hardware": {"base": "h100-sxm", "memory.capacity_gb": [60, 80]}}))
    a, b = (
        numbers_where(engine, model="llama-2-7b", tp=1, batch=4, precision="bf16", **{"memory.capacity_gb": size})[0]
        for size in (60, 80)
    )
    errors = drawn(engine, [a, b])
    assert np.array_equal(errors[:, 0], errors[:, 1])


def test_throughput_and_tokens_time_err_together_and_memory_not_at_all(engine):
    """Decoding takes most of a request of 1024 and 256 tokens: whoever is faster per token is so per second."""
    errors = drawn(engine, numbers_where(engine, batch=1), (TPOT, THROUGHPUT, "memory_gb_per_device", "ttft_ms"))
    tpot, throughput, memory, ttft = (errors[:, 0, objective] for objective in range(4))
    assert np.corrcoef(tpot, throughput)[0, 1] > 0.95
    assert abs(np.corrcoef(tpot, ttft)[0, 1]) < 0.3
    assert not memory.any()


def test_every_metric_with_a_predicted_time_in_it_has_an_error():
    assert {name for name, metric in METRICS.items() if metric.error is None} == {
        "devices", "memory_gb_per_device", "host_memory_gb", "disk_gb", "usd_per_hour", "accuracy_drop_pct",
        "max_context", "max_batch", "prefill_workers", "decode_workers",
        "speculation_speedup", "speculation_break_even_batch",  # of two times on one chip: what both are off by cancels
    }  # fmt: skip


def test_logarithms_keep_the_order_and_leave_what_is_exact():
    costs = np.array([[-100.0, 3.0, 0.0], [-50.0, 1.0, -2.0], [-75.0, 2.0, 5.0]])
    found = logarithms(costs, (THROUGHPUT, TPOT, "accuracy_drop_pct"))
    assert np.array_equal(np.argsort(found, axis=0), np.argsort(costs, axis=0))
    assert np.array_equal(found[:, 2], costs[:, 2])
    assert found[0, 0] == pytest.approx(-np.log(100))


def test_chains_are_points_that_differ_in_the_batch_alone(engine):
    points = standing(engine, np.arange(8), NOTHING)
    assert [table.tolist() for table in chains(points.chain)] == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    assert points.octave.tolist() == [[0, 1, 2, 3] * 2] * 2  # of prompts, and of generation


# -- the column ------------------------------------------------------------------------------------------------


def test_each_frontier_point_carries_its_probability(small, tmp_path):
    run = run_sweep(small, tmp_path)
    frame = run.frontier()
    assert frame["front_probability"].between(0, 1).all()
    assert frame["front_probability"].nunique() > 5
    assert "front_probability" in (run.folder / "frontier.csv").read_text().splitlines()[0]
    top = run.top().set_index("number")["front_probability"]
    assert top.loc[top.index.isin(frame["number"])].notna().all()
    # The probabilities of a group add up to the number of points its front would have: at least one.
    assert (frame.groupby("model")["front_probability"].sum() >= 0.9).all()


def test_it_is_the_same_however_the_sweep_is_cut(small, tmp_path):
    one = run_sweep(small, tmp_path / "a", part_points=60)
    other = run_sweep(small, tmp_path / "b", part_points=7)
    assert front_bytes(one.folder) == front_bytes(other.folder)


def test_what_has_no_error_is_sure(small, tmp_path):
    exact = ["memory_gb_per_device", "devices"]
    frame = run_sweep({**small, "objectives": exact}, tmp_path).frontier()
    assert set(frame["front_probability"]) == {1.0}


def test_a_group_of_one_point_is_sure_of_it(small, tmp_path):
    alone = {**small, "hardware": "h100-sxm", "precision": "bf16", "parallel": {"tp": 1}, "batch": 1}
    frame = run_sweep({**alone, "models": "llama-3.1-8b"}, tmp_path).frontier()
    assert frame["front_probability"].tolist() == [1.0]


def test_a_front_of_one_point_is_not_sure_where_another_chip_comes_close(small, tmp_path):
    """One objective: the best of two chips is one point, and the other chip may be better than predicted."""
    frame = run_sweep({**small, "models": "llama-3.1-8b", "objectives": [TPOT]}, tmp_path).frontier()
    assert len(frame) == 1
    assert 0.1 < frame["front_probability"][0] < 1


def test_beyond_the_limit_groups_are_thinned_and_the_rest_is_not_known(engine, monkeypatch):
    contested = found(engine)
    whole = front_probabilities(engine, contested, NOTHING)
    monkeypatch.setitem(chances.CONTENDERS, True, (12, 8))
    few = front_probabilities(engine, contested, NOTHING)
    leads = {int(number) for contest in contested.values() for number in contest.front}
    assert set(whole) == {int(number) for contest in contested.values() for number in contest.numbers}
    assert len(set(few) & leads) == 12
    assert len(set(few) - leads) == 8
