from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.labeling.regions import Region
from visionloop.labeling.review.comparing import average, compare_answers

A, B = (10.0, 10.0, 30.0, 30.0), (60.0, 60.0, 80.0, 90.0)


@st.composite
def answers(draw):
    corner, size = st.floats(0, 80), st.floats(5, 40)
    rows = draw(st.lists(st.tuples(corner, corner, size, size, st.sampled_from("xyz")), max_size=6))
    return [
        Region(name, (x, y, x + width, y + height), f"k{number}")
        for number, (x, y, width, height, name) in enumerate(rows)
    ]


def test_equal_boxes_agree_in_whatever_order_they_were_drawn() -> None:
    found = compare_answers([Region("x", A), Region("y", B)], [Region("y", B), Region("x", A)])
    assert found.agrees
    assert [iou for _, _, iou in found.same] == [1.0, 1.0]


def test_each_kind_of_difference_is_told_apart() -> None:
    moved = (18.0, 18.0, 38.0, 38.0)  # shares 144 of 656 square pixels with A
    first = [Region("x", A), Region("y", B), Region("z", (0.0, 90.0, 8.0, 99.0))]
    second = [Region("x", moved), Region("x", B)]
    kinds = {row.kind: row for row in compare_answers(first, second).differences}
    assert set(kinds) == {"place", "class", "alone"}
    assert kinds["place"].iou == pytest.approx(144 / 656, abs=1e-6)
    assert (kinds["class"].first, kinds["class"].second) == (first[1], second[1])
    assert (kinds["alone"].first, kinds["alone"].second) == (first[2], None)


def test_two_objects_of_two_classes_at_one_place_agree() -> None:
    """Overlap alone would pair the wrong ones where the other class happens to fit better."""
    near = (11.0, 10.0, 31.0, 30.0)
    found = compare_answers(
        [Region("x", A), Region("y", near)], [Region("y", A), Region("x", near)]
    )
    assert found.agrees


def test_classes_of_the_whole_image() -> None:
    assert compare_answers([Region("x")], [Region("x")]).agrees
    (only,) = compare_answers([Region("x")], [Region("y")]).differences
    assert (only.kind, only.first, only.second) == ("class", Region("x"), Region("y"))
    assert compare_answers([], []).agrees
    assert not compare_answers([], [Region("x", A)]).agrees


@given(answers(), answers())
def test_every_region_is_accounted_for_once(first, second) -> None:
    found = compare_answers(first, second)
    for side, given_ in ((0, first), (1, second)):
        seen = [pair[side] for pair in found.same]
        seen += [(row.first, row.second)[side] for row in found.differences]
        assert sorted(map(id, (row for row in seen if row))) == sorted(map(id, given_))
    assert all(iou >= 0.5 and one.class_name == two.class_name for one, two, iou in found.same)


@given(answers())
def test_everybody_agrees_with_himself(rows) -> None:
    found = compare_answers(rows, rows)
    assert found.agrees
    assert [row.class_name for row in average(rows, found)] == [row.class_name for row in rows]


@given(answers(), st.floats(-0.7, 0.7))  # the smallest box, 5 pixels wide, still overlaps by half
def test_the_average_lies_halfway_and_keeps_keys_and_order(rows, shift) -> None:
    rows = rows[:1]  # one box: neighbours cannot be confused
    moved = [Region(row.class_name, tuple(value + shift for value in row.xyxy)) for row in rows]
    middle = average(rows, compare_answers(rows, moved))
    for before, after in zip(rows, middle, strict=True):
        assert (after.class_name, after.key) == (before.class_name, before.key)
        assert np.allclose(after.xyxy, np.array(before.xyxy) + shift / 2)


def test_an_outline_stays_as_the_first_person_drew_it() -> None:
    ring = (10.0, 10.0, 30.0, 10.0, 20.0, 30.0)
    first, second = [Region("x", A, "k", polygon=(ring,))], [Region("x", (11.0, 10.0, 31.0, 30.0))]
    found = compare_answers(first, second)
    assert found.agrees
    assert average(first, found) == first
