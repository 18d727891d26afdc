"""Requests of unlike size in a cache that is full before the batch is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.cost.choices import AXES, Choices
from dse.cost.full_cache import as_many, evicted, sizes, variability
from dse.cost.mesh import Mesh
from dse.cost.phases import Point
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.layout import Layout
from dse.spec.workload import load_workload


def point(lengths: str, tmp_path):
    """Requests of these lengths."""
    path = tmp_path / "lengths.csv"
    path.write_text("input,output,weight\n" + lengths)
    choices = Choices(
        [load_hardware("h100-sxm")], load_workload({"lengths": str(path)}), [load_precision("fp8")], ["datasheet"],
        [Layout(1, 1, 1, 1)], [16],
    )  # fmt: skip
    return Point(load_model("llama-3.1-8b"), choices, Mesh.points(AXES, [np.zeros(1, dtype=np.intp)] * len(AXES)))


def test_sizes_are_in_mean_requests(tmp_path):
    unlike = point("992,64,1\n7968,64,1\n", tmp_path)
    found = [float(np.ravel(size)[0]) for size in sizes(unlike, 0.5, np.ones(1, dtype=bool))]
    assert found == pytest.approx([1024 / 4512, 8000 / 4512])
    assert float(np.ravel(variability(unlike.lengths, [np.full(1, size) for size in found]))[0]) == pytest.approx(
        (3488 / 4512) ** 2
    )


def test_where_places_are_short_sizes_are_no_matter(tmp_path):
    unlike = point("992,64,1\n7968,64,1\n", tmp_path)
    found = sizes(unlike, 0.5, np.zeros(1, dtype=bool))
    assert [float(np.ravel(size)[0]) for size in found] == [1.0, 1.0]
    assert float(np.ravel(variability(unlike.lengths, found))[0]) == 0.0
    assert [float(size[0]) for size in sizes(point("992,64,1\n", tmp_path), 0.5, np.ones(1, dtype=bool))] == [1.0]


@given(slots=st.floats(1.0, 1e4), more=st.floats(0.0, 5.0), most=st.floats(0.0, 5.0))
def test_the_more_unlike_the_fewer(slots, more, most):
    low, high = sorted((more, most))
    assert as_many(slots, high) <= as_many(slots, low) <= slots


@pytest.mark.parametrize(("room", "share", "ratio"), [(15, 0.1, 6.0), (30, 0.1, 6.0), (30, 0.02, 8.0), (60, 0.3, 4.0)])
def test_a_cache_filled_in_order_holds_as_many_by_the_harmonic_mean(room, share, ratio):
    random = np.random.default_rng(3)
    drawn = random.choice([1.0, ratio], (20_000, 6 * room), p=[1 - share, share])
    drawn /= 1 - share + share * ratio
    fit = np.argmax(np.cumsum(drawn, axis=1) > room, axis=1)
    played = 1.0 / np.mean(1.0 / np.maximum(fit, 1))
    spread = float(np.var([1.0] * round(1000 * (1 - share)) + [ratio] * round(1000 * share)))
    unlike = spread / (1 - share + share * ratio) ** 2
    # Of alike ones half a request more fits on average than of others is counted: sizes do not divide the room.
    assert as_many(room, unlike) == pytest.approx(played + 0.5, rel=0.04)


def one(value) -> float:
    return float(np.ravel(value)[0])


@pytest.mark.parametrize(("lengths", "least", "most"), [("700,150,1", 0.15, 0.25), ("12000,340,1", 0.02, 0.04)])
def test_prompts_are_computed_again_by_what_they_grow(lengths, least, most, tmp_path):
    """2026-11-28, full caches in `dse simulate`: 0.21 evictions a request of 700 and 150 tokens, 0.03 of Mooncake's."""
    assert least < one(evicted(point(f"{lengths}\n", tmp_path))) < most


@pytest.mark.parametrize("growth", [0.05, 0.2, 1.0])
def test_as_often_as_in_a_played_cache_more_grows_than_is_free(growth):
    """Room for a prompt of 1 is filled whenever it is there; until one ends all grow, by an exponential time."""
    random, free, again = np.random.default_rng(5), 0.5, 0
    for grown in random.exponential(growth, 100_000):
        again += grown > free
        free -= grown
        while free < 0.0:
            free += 1.0
        free += 1.0 + growth
        while free >= 1.0:
            free -= 1.0
    assert again / 100_000 == pytest.approx(growth * -np.expm1(-1.0 / growth), rel=0.05)
