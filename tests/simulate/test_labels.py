"""Saturation as `dse simulate` and the cost model call it: of the same replica at the same rate they say the same."""

from __future__ import annotations

import numpy as np
import pytest

import dse
from dse.simulate.trace import Trace

REPLICAS = [
    ("llama-3.1-8b", "h100-sxm", "1024x256"),
    ("llama-3.1-8b", "l4", "512x128"),
    ("qwen3-8b", "a10g", "300x600"),
]


@pytest.mark.parametrize("load", [0.5, 0.8, 0.93, 1.1])
@pytest.mark.parametrize(("model", "hardware", "lengths"), REPLICAS)
def test_without_a_limit_on_the_batch_labels_are_those_of_the_cost_model(model, hardware, lengths, load):
    """Both take as many sequences as the cache holds at their average age: no engine is measured evicting.

    Of 175 cases (5 replicas, 5 lengths, loads of 0.3 to 1.3) 174 are labelled the same; with as many as begin, 124.
    """
    tokens, output = map(int, lengths.split("x"))
    (slots,) = dse.simulate(model, hardware, rate=1, requests=10, lengths=lengths).summary["slots"]

    def analytic(rate):
        return dse.evaluate(
            model, hardware, serving="open-loop", rate=rate, batch=slots, input=tokens, output=output
        ).iloc[0]

    rate = load / float(analytic(1.0)["load"])
    found = dse.simulate(model, hardware, rate=rate, requests=1500, lengths=lengths).summary
    assert found["load"] == pytest.approx(load, rel=0.05)
    assert found["saturation"] == analytic(rate)["saturation"]


def test_more_than_the_cache_holds_evict_in_both():
    """A batch without bounds, of an engine that nobody told: some 5 % fewer requests than of 60 at a time."""
    told, untold = 60, 400
    loads = [
        float(
            dse.evaluate("llama-3.1-8b", "l4", serving="open-loop", rate=1, batch=batch, input=512, output=128)["load"][
                0
            ]
        )
        for batch in (told, untold)
    ]
    few, many = (
        dse.simulate("llama-3.1-8b", "l4", rate=20, requests=1500, lengths="512x128", batch=batch).summary
        for batch in (told, untold)
    )
    assert many["preemptions"] > few["preemptions"] == 0
    assert loads[1] / loads[0] == pytest.approx(
        few["capacity_requests_per_s"] / many["capacity_requests_per_s"], abs=0.03
    )
    assert loads[1] > 1.02 * loads[0]


def test_a_limit_that_is_given_stands():
    found = dse.simulate("llama-3.1-8b", "h100-sxm", rate=1, requests=10, batch=440).summary
    assert found["slots"] == [440]
    assert dse.simulate("llama-3.1-8b", "h100-sxm", rate=1, requests=10).summary["slots"][0] < 440


def test_a_single_request_overloads_nothing():
    one = Trace(np.zeros(1), np.array([1024]), np.array([64]))
    assert dse.simulate("llama-3.1-8b", "h100-sxm", trace=one).summary["saturation"] == "stable"


def test_more_requests_at_once_than_find_a_place_do():
    many = Trace(np.zeros(2000), np.full(2000, 1024), np.full(2000, 8))
    assert dse.simulate("llama-3.1-8b", "h100-sxm", trace=many).summary["saturation"] == "overloaded"
