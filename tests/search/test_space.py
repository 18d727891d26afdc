"""Numbers, slices and parts of a space, and the layouts of a number of devices."""

from __future__ import annotations

import pickle
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import InputError
from dse.search.space import CELLS, Axis, Box, Layout, Space, cut, layouts, layouts_of, slices, tasks

shapes = st.lists(st.integers(1, 7), min_size=1, max_size=5).map(tuple)


def box_of(shape: tuple[int, ...], offset: int = 0) -> Box:
    return Box(tuple(Axis(f"a{i}", size) for i, size in enumerate(shape)), offset)


def space_of(*sizes: tuple[int, ...]) -> Space:
    return Space.of(box_of(shape).axes for shape in sizes)


@given(shape=shapes, offset=st.integers(0, 2**61))
def test_decode_undoes_encode_in_c_order(shape, offset):
    box = box_of(shape, offset)
    local = np.arange(box.size)
    coordinates = box.decode(local)
    np.testing.assert_array_equal(coordinates, np.unravel_index(local, shape))
    np.testing.assert_array_equal(box.encode(coordinates), local)
    assert box.encode(coordinates).dtype == np.int64


def test_numbers_near_the_limit_are_exact():
    box = box_of((2**20, 2**21, 2**21))
    assert box.size == 2**62
    coordinates = box.decode([2**62 - 1, 0, 2**53 + 1])
    np.testing.assert_array_equal(box.encode(coordinates), [2**62 - 1, 0, 2**53 + 1])
    assert [int(c[0]) for c in coordinates] == [2**20 - 1, 2**21 - 1, 2**21 - 1]


def test_coordinates_broadcast():
    box = box_of((2, 3))
    np.testing.assert_array_equal(box.encode([[[0], [1]], [[0, 1, 2]]]), [[0, 1, 2], [3, 4, 5]])


@pytest.mark.parametrize("coordinates", [[2, 0], [-1, 0], [0, 3], [0], [0, 0, 0]])
def test_coordinates_outside_the_box_are_refused(coordinates):
    with pytest.raises(ValueError):
        box_of((2, 3)).encode(coordinates)


@pytest.mark.parametrize("number", [-1, 6])
def test_numbers_outside_are_refused(number):
    with pytest.raises(ValueError, match=r"0 \.\.\. 5"):
        box_of((2, 3), offset=10).decode(number)
    with pytest.raises(ValueError, match=r"0 \.\.\. 5"):
        space_of((2, 3)).locate(number)


def test_an_axis_without_values_is_refused():
    with pytest.raises(ValueError, match="'batch' must have at least one value"):
        Axis("batch", 0)


def test_a_space_that_numbers_cannot_hold_is_the_users_fault():
    axes = [Axis(f"a{i}", 2**21) for i in range(3)]
    with pytest.raises(InputError, match=r"the sweep has 9223372036854775808 points; the limit is 2\*\*62"):
        Space.of([axes])
    assert Space.of([[Axis("a", 2**31), Axis("b", 2**31)]]).size == 2**62


def test_boxes_must_follow_one_another():
    with pytest.raises(ValueError, match="expected a box at offset 6, got 7"):
        Space((box_of((2, 3)), box_of((2,), offset=7)))


@given(st.lists(shapes, min_size=1, max_size=4))
def test_every_number_lies_in_one_box(sizes):
    space = space_of(*sizes)
    index, local = space.locate(np.arange(space.size))
    want = [(i, n) for i, shape in enumerate(sizes) for n in range(prod(shape))]
    assert list(zip(index.tolist(), local.tolist(), strict=True)) == want


@given(shape=shapes, cells=st.integers(1, 60), offset=st.integers(0, 1000))
def test_slices_partition_the_box_in_number_order(shape, cells, offset):
    box = box_of(shape, offset)
    mesh = np.arange(box.size).reshape(shape) + offset
    expected = offset
    for block in slices(box, cells):
        numbers = box.numbers(block)
        assert numbers.start == expected
        np.testing.assert_array_equal(mesh[block].ravel(), numbers)
        assert 1 <= len(numbers) <= cells
        assert block[0].stop - block[0].start == 1, "the first axis goes one index at a time"
        expected = numbers.stop
    assert expected == offset + box.size


@given(shape=shapes, cells=st.integers(1, 60))
def test_slices_are_as_few_as_their_form_allows_and_balanced(shape, cells):
    blocks = list(slices(box_of(shape), cells))
    lengths = [{part.stop - part.start for part in parts} for parts in zip(*blocks, strict=True)]
    cut = [axis for axis in range(1, len(shape)) if lengths[axis] != {shape[axis]}]
    assert all(max(found) - min(found) <= 1 for found in lengths)
    assert all(lengths[axis] == {1} for axis in cut[:-1]), "one axis in ranges, those before it by index"
    if cut:
        tail = prod(shape[cut[-1] + 1 :])
        pieces = -(-shape[cut[-1]] // (cells // tail))
        assert len(blocks) == prod(shape[: cut[-1]]) * pieces


def test_slices_leave_no_tiny_rest():
    sizes = [b.stop - b.start for _, b in slices(box_of((1, CELLS + 1)))]
    assert sizes == [CELLS // 2, CELLS // 2 + 1]


def test_slices_of_a_single_axis_hold_one_point():
    assert list(slices(box_of((3,)))) == [(slice(0, 1),), (slice(1, 2),), (slice(2, 3),)]


def test_a_slice_needs_room():
    with pytest.raises(ValueError, match="at least one cell"):
        slices(box_of((2, 2)), 0)


@given(st.lists(shapes, max_size=4), st.integers(1, 100), st.integers(1, 40))
def test_parts_hold_every_slice_once_in_order(sizes, points, cells):
    space = space_of(*sizes)
    parts = list(tasks(space, points, cells))
    assert [part.number for part in parts] == list(range(len(parts)))
    assert [number for part in parts for number in part.points] == list(range(space.size))
    want = [(i, block) for i, box in enumerate(space.boxes) for block in slices(box, cells)]
    assert [entry for part in parts for entry in part.blocks] == want
    for part in parts:
        held = [n for i, block in part.blocks for n in space.boxes[i].numbers(block)]
        assert held == list(part.points)
        assert len(held) <= points or len(part.blocks) == 1


@given(st.lists(shapes, min_size=1, max_size=3), st.integers(1, 100), st.integers(1, 5))
def test_parts_with_work_beside_scoring_hold_fewer_points(sizes, points, more):
    space = space_of(*sizes)
    parts = list(tasks(space, points, cells=40, beside=[more] * len(space.boxes)))
    assert [number for part in parts for number in part.points] == list(range(space.size))
    for part in parts:
        assert len(part.points) * (1 + more) <= points or len(part.blocks) == 1


@given(shape=shapes, cells=st.integers(1, 60), small=st.integers(1, 60))
def test_a_block_is_cut_in_the_order_of_its_numbers(shape, cells, small):
    box = box_of(shape)
    for block in slices(box, cells):
        pieces = list(cut(block, small))
        assert [number for piece in pieces for number in box.numbers(piece)] == list(box.numbers(block))
        assert all(1 <= len(box.numbers(piece)) <= small for piece in pieces)


def test_part_boundaries_stay_where_they_are():
    """A run begun by one version resumes under the next: these numbers must not move."""
    space = space_of((3, 10, 400, 500), (2, 1_000_003))
    starts = [part.points.start for part in tasks(space)]
    assert starts == [0, 2_000_000, 4_000_000, 6_000_000, 7_833_338]
    again = [pickle.loads(pickle.dumps(part)) for part in tasks(space)]
    assert again == list(tasks(space))


@pytest.mark.parametrize("count", range(1, 65))
def test_no_layout_is_missing(count):
    degrees = range(1, count + 1)
    want = [
        (tp, pp, dp, ep)
        for tp, pp, dp in product(degrees, repeat=3)
        if tp * pp * dp == count
        for ep in degrees
        if (tp * dp) % ep == 0
    ]
    found = layouts([count])
    assert found == want
    assert all(layout.devices == count for layout in found)
    for position in range(4):
        assert any(layout[position] == count for layout in found)


def test_layouts_come_by_devices_each_once():
    assert layouts([2, 1, 2]) == layouts([1]) + layouts([2])
    assert layouts([1]) == [Layout(1, 1, 1, 1)]


def test_layouts_need_a_device():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        layouts([0])


def test_a_product_of_degrees_keeps_order_and_what_cannot_be():
    found = layouts_of([2, 1, 2], [1], [1], [1, 4])
    assert found == [(2, 1, 1, 1), (2, 1, 1, 4), (1, 1, 1, 1), (1, 1, 1, 4)]


def test_automatic_expert_parallelism_is_left_to_the_model():
    assert layouts_of([1, 2], [1], [4], "auto") == [(1, 1, 4, 0), (2, 1, 4, 0)]
