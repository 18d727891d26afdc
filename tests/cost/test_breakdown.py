"""Where the time goes must add up to the time there is."""

from __future__ import annotations

import numpy as np
import pytest
from properties.points import choices, flat_mesh_of

from dse.cost.breakdown import ByBound, seconds_by_cause, timed_operators
from dse.cost.engine import prompt_parts, prompt_seconds, step_parts, step_seconds
from dse.cost.phases import Point
from dse.spec.catalog import load_model
from dse.spec.runtime import load_runtime, runtime_names
from dse.spec.speculation import load_speculation

LAYOUTS = ((1,), (8,), (2, 3), (2, 4), (1, 4, 2, 0), (8, 2, 2, 1))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("model", ["llama-3.1-70b", "gpt-oss-120b", "qwen3-next-80b-a3b"])
def test_operators_take_the_time_of_the_phase(model, phase):
    """Also in a pipeline, where stages that wait or work meanwhile are not counted, and hops are."""
    chosen = choices(
        layout=LAYOUTS, batch=(2, 5, 64), workload=((512, 100), (6000, 2)), fidelity=("ideal", "datasheet")
    )
    point = Point(load_model(model), chosen, flat_mesh_of(chosen))
    elapsed = point.ttft if phase == "prefill" else point.tpot
    operators, by_bound = list(timed_operators(point, phase)), ByBound(point)
    for timed in operators:
        by_bound.add(timed)
    parts = [timed.count * (timed.times.seconds + timed.overhead) for timed in operators]
    assert np.sum(np.broadcast_arrays(*parts), axis=0) == pytest.approx(elapsed, rel=1e-12)
    for totals in (by_bound.seconds, seconds_by_cause(point, operators)):
        assert sum(totals.values()) == pytest.approx(elapsed, rel=1e-12)


SPECULATIONS = ("none", {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.8}, {"tree": 60, "medusa": 4, "tau": 2.3})


@pytest.mark.parametrize("speculation", SPECULATIONS, ids=str)
@pytest.mark.parametrize("name", runtime_names())
def test_what_an_engine_adds_is_the_sum_of_its_causes(name, speculation):
    runtime = load_runtime(name)
    how = speculation if speculation == "none" else load_speculation(speculation)
    axes = {"layout": LAYOUTS[:4], "batch": (2, 64), "workload": ((512, 100), (6000, 2)), "speculation": how}
    chosen = choices(hardware=("h100-sxm", "l4"), precision=("bf16", "w4a16-g128"), runtime=runtime, **axes)
    point = Point(load_model("llama-3.1-70b"), chosen, flat_mesh_of(chosen))
    prompt, step = prompt_parts(point, runtime), step_parts(point, runtime)
    assert prompt_seconds(point, runtime) == pytest.approx(point.ttft + sum(prompt.values()), rel=1e-12)
    whole = step_seconds(point, runtime) * point.iteration.tokens
    assert whole == pytest.approx(point.iteration_seconds + sum(step.values()), rel=1e-12)
