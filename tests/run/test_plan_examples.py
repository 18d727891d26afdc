"""The plans that ship: each is right, and each has an answer."""

from __future__ import annotations

import pytest

from dse.run.library import check_file, library
from dse.run.plan import plan
from dse.spec.reading import library_file

EXAMPLES = sorted(path.stem for path in library_file("sweeps/plans").glob("*.yaml"))


def test_there_is_one_for_each_question_of_a_planner():
    assert EXAMPLES == [
        "batch-with-deadline", "chat-under-budget", "long-context-rag", "old-and-new-cards", "pools-for-long-prompts",
        "power-capped-rack",
    ]  # fmt: skip
    assert [row["name"] for row in library("plans")] == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_right_and_says_what_it_is(name):
    assert check_file(str(library_file(f"sweeps/plans/{name}.yaml"))).startswith(f"plan '{name}', ")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_it_has_an_answer_by_its_name_alone(name):
    found = plan(name, ["alternatives=1"]).answer
    assert found["status"] == "optimal"
    assert found["deployments"]
    verification = found["verification"]
    assert verification["holds"] or verification["because"], "it is kept in the simulator, or why nothing was simulated"


@pytest.mark.slow
def test_offloaded_cards_take_part_of_the_batch_job():
    found = plan("batch-with-deadline", ["alternatives=1"]).answer
    offloads = {entry["offload"] for entry in found["deployments"]}
    assert "lp" in offloads


@pytest.mark.slow
def test_the_rack_keeps_its_power():
    found = plan("power-capped-rack", ["alternatives=1"]).answer
    assert found["economics"]["power_kw_limit"] <= 40
    assert 0.5 < found["served"] < 1
    assert any(entry["what"] == "limit watts" for entry in found["binding"])


@pytest.mark.slow
def test_long_prompts_are_computed_in_pools_of_their_own():
    found = plan("pools-for-long-prompts", ["alternatives=1"]).answer
    alone = plan("pools-for-long-prompts", ["alternatives=1", "candidates.serving=open-loop"]).answer
    assert any("pools" in entry for entry in found["deployments"])
    assert found["cost_usd_per_hour"] < 0.8 * alone["cost_usd_per_hour"]
