"""Tables of step times against the cost model itself."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from deployments import choices, load_model

from dse.cost.choices import AXES
from dse.cost.engine import prompt_seconds, step_seconds
from dse.cost.mesh import Mesh
from dse.cost.mixed import mixed_seconds
from dse.cost.phases import Point
from dse.simulate.times import Line, StepTimes, Surface, spaced
from dse.spec.runtime import load_runtime
from dse.spec.workload import Workload

CASES = [
    ("llama-3.1-8b", (1, 1, 1), "ideal", "calibrated"),
    ("llama-3.1-70b", (4, 2, 1), "vllm", "datasheet"),
    ("mixtral-8x7b", (2, 1, 1), "vllm", "datasheet"),
    ("deepseek-v3", (8, 1, 1), "tensorrt-llm", "datasheet"),
    ("deepseek-v2-lite", (1, 1, 4), "ideal", "ideal"),
    ("gpt-oss-20b", (1, 1, 1), "vllm", "datasheet"),
    ("qwen3-next-80b-a3b", (2, 1, 2), "ideal", "datasheet"),
    ("llama-2-13b", (1, 1, 1), "vllm-2024", "datasheet"),
]
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, (case[0], *case[1], *case[2:]))))

LONGEST, RUNNING, TOKENS = 16_384, 512, 8192
DRAWN = 60


@functools.cache
def tables(case) -> StepTimes:
    model, (tp, pp, dp), runtime, fidelity = case
    chosen = choices(tp, pp, dp, load_runtime(runtime), fidelity=fidelity)
    return StepTimes(load_model(model), chosen, LONGEST, RUNNING, TOKENS)


def direct(times: StepTimes, per_rank: int, workload: tuple[int, int]) -> Point:
    chosen = replace(times.choices, workload=[Workload(*workload)], max_prefill_tokens=np.inf)
    point = Point(times.model, chosen, Mesh.points(AXES, [np.zeros(1, dtype=int)] * len(AXES)))
    return point.with_batch(np.full(1, float(per_rank * chosen.layout[0].dp)))


def log_uniform(rng, low: int, high: int) -> int:
    return int(np.exp(rng.uniform(np.log(low), np.log(high + 1))))


def errors(case, draw) -> np.ndarray:
    rng = np.random.default_rng(5)
    pairs = [draw(tables(case), rng) for _ in range(DRAWN)]
    return np.array([abs(table / float(np.ravel(truth)[0]) - 1) for table, truth in pairs])


@each_case
def test_decode_steps_within_a_hundredth(case):
    def draw(times, rng):
        running, context = log_uniform(rng, 1, RUNNING), log_uniform(rng, 4, LONGEST)
        truth = step_seconds(direct(times, running, (context - 1, 2)), times.choices.runtime)
        return times.line(running).at(context), truth

    assert errors(case, draw).max() < 0.01


@each_case
def test_prompt_passes_of_one_or_several_within_a_hundredth(case):
    def draw(times, rng):
        length = log_uniform(rng, 1, TOKENS)
        count = min(int(rng.integers(1, TOKENS // length + 1)), RUNNING)
        truth = prompt_seconds(direct(times, count, (length, 2)), times.choices.runtime)
        return times.prompts(count * length, count * length**2), truth

    assert errors(case, draw).max() < 0.01


@each_case
def test_mixed_passes_within_a_hundredth(case):
    def draw(times, rng):
        running = 0 if rng.random() < 0.1 else log_uniform(rng, 1, RUNNING)
        context, chunk = log_uniform(rng, 4, LONGEST), log_uniform(rng, 1, TOKENS)
        cached = 0 if rng.random() < 0.3 else log_uniform(rng, 1, LONGEST - 1)
        point = direct(times, running, (context - 1, 2))
        truth = mixed_seconds(point, times.choices.runtime, float(chunk), float(cached))
        return times.mixed(running, context, chunk, chunk * (cached + (chunk + 1) / 2)), truth

    assert errors(case, draw).max() < 0.01


def test_prompts_of_unequal_length_cost_what_their_tokens_and_squares_do():
    """Attention is exact; the head runs once per prompt, of which there are as many as tokens^2 / squares says."""
    times = tables(CASES[0])
    one, other = times.prompts(1000, 1000**2), times.prompts(3000, 3000**2)
    both = times.prompts(4000, 1000**2 + 3000**2)
    equal = times.prompts(4000, 2 * 2000**2)
    assert max(one, other) < equal < both < one + other


def test_a_chunk_of_several_prompts_attends_less_than_one_of_the_same_tokens():
    times = tables(CASES[0])
    whole = times.mixed(8, 500.0, 2048, 2048 * 2049 / 2)
    parts = times.mixed(8, 500.0, 2048, 16 * 128 * 129 / 2)
    assert 0.8 * whole < parts < whole


def test_llama_4_sees_the_mean_over_a_chunk_of_its_attention():
    """Sequences stand anywhere in their 8,192 tokens: beyond that the table is flat where one sequence saws."""
    times = StepTimes(load_model("llama-4-scout"), choices(tp=8), 65_536, 64, 8192)
    line = times.line(32)
    per_token = [line.at(n + 1000) - line.at(n) for n in range(20_000, 60_000, 1000)]
    assert np.ptp(per_token) < 0.05 * line.at(40_000)
    truth = np.mean([step_seconds(direct(times, 32, (n, 2)), times.choices.runtime) for n in range(32_768, 40_960, 64)])
    assert line.at(36_864) == pytest.approx(truth, rel=0.02)


def test_a_leap_is_the_sum_of_its_steps():
    line = Line([1, 10, 20, 40], [1.0, 2.0, 2.5, 6.0])
    for context in (1.0, 3.25, 9.9, 15.0, 38.7, 45.0):
        for steps in (1, 2, 9, 30):
            each = [line.at(context + step) for step in range(steps)]
            assert line.total(context, steps) == pytest.approx(sum(each), rel=1e-12)


def test_the_step_that_an_arrival_waits_for():
    line = Line([1, 10, 20, 40], [1.0, 2.0, 2.5, 6.0])
    for elapsed in (0.0, 0.5, 3.0, 17.0, 30.0):
        steps = line.steps_until(elapsed, 3.0, 50)
        assert line.total(3.0, steps) >= elapsed
        assert steps == 1 or line.total(3.0, steps - 1) < elapsed


def test_surfaces_are_exact_for_what_is_linear_in_each():
    grid = spaced(1, 100, 1.3)
    surface = Surface(grid, grid, [[2 + 3 * x - y + 0.5 * x * y for y in grid] for x in grid])
    for x, y in ((1, 1), (50, 2.5), (100, 100), (33, -4), (150, 7)):
        assert surface.at(x, y) == pytest.approx(2 + 3 * x - y + 0.5 * x * y)


def test_grids_are_whole_numbers_from_end_to_end():
    assert spaced(1, 12, 1.3) == [1, 2, 3, 4, 5, 6, 7, 9, 11, 12]
    assert spaced(1, 12, 1.3, also=(8, 12, 40)) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12]
