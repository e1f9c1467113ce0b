"""Percent and pixels, regions and annotations, what a person did with a draft."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionloop.core.entities import ClassProbabilities, Detections, Prediction
from visionloop.labeling.region_changes import compare
from visionloop.labeling.regions import Region, from_prediction, from_result, to_result

CLASSES = ["open", "short", "spur"]
sides = st.integers(1, 9000)
fractions = st.floats(0, 1)


@st.composite
def boxes(draw):
    """A box of some area inside an image of some size."""
    width, height = draw(sides), draw(sides)
    x1, x2 = sorted((draw(fractions) * width, draw(fractions) * width))
    y1, y2 = sorted((draw(fractions) * height, draw(fractions) * height))
    # What is thinner than a thousandth of a pixel is a stray click.
    if x2 - x1 < 1e-3 or y2 - y1 < 1e-3:
        x1, y1, x2, y2 = 0.0, 0.0, float(width), float(height)
    return (x1, y1, x2, y2), width, height


@given(boxes(), st.sampled_from(CLASSES))
def test_boxes_survive_percent_and_back(box, name) -> None:
    xyxy, width, height = box
    result = to_result([Region(name, xyxy, "a")], width, height)
    assert 0 <= result[0]["value"]["x"] <= 100
    regions, problems = from_result(result, width, height)
    assert not problems
    assert regions[0].class_name == name
    assert regions[0].xyxy == pytest.approx(xyxy, abs=1e-8 * max(width, height))


@given(boxes(), st.floats(-180, 180))
def test_rotated_box_gives_the_upright_box_around_it(box, rotation) -> None:
    xyxy, width, height = box
    result = to_result([Region("open", xyxy, "a")], width, height)
    result[0]["value"]["rotation"] = rotation
    regions, problems = from_result(result, width, height)
    assert not problems
    for region in regions:
        x1, y1, x2, y2 = region.xyxy
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height


def test_quarter_turn() -> None:
    result = to_result([Region("open", (50, 20, 80, 30), "a")], 100, 100)
    result[0]["value"]["rotation"] = 90  # clockwise about the top left corner
    assert from_result(result, 100, 100)[0][0].xyxy == pytest.approx((40, 20, 50, 50))


def test_stray_click_is_left_out_and_what_hangs_over_is_clipped() -> None:
    result = to_result([Region("open", (5, 5, 5, 9)), Region("short", (-4, 2, 8, 60))], 50, 40)
    regions, problems = from_result(result, 50, 40)
    assert not problems
    assert [region.xyxy for region in regions] == [(0, 2, 8, 40)]


def test_every_problem_is_told() -> None:
    entry = to_result([Region("open", (1, 1, 5, 5))], 50, 40)[0]
    wrong_size = {**entry, "original_width": 51}
    no_class = {**entry, "value": {**entry["value"], "rectanglelabels": []}}
    not_finite = {**entry, "value": {**entry["value"], "x": math.nan}}
    stranger = {**entry, "from_name": "polygon"}
    two = {"from_name": "class", "type": "choices", "value": {"choices": ["a", "b"]}}
    regions, problems = from_result([wrong_size, no_class, not_finite, stranger, two], 50, 40)
    assert not regions
    assert len(problems) == 5
    assert "51 x 40" in problems[0]


def test_draft_of_classes() -> None:
    answer = ClassProbabilities(np.array([0.2, 0.7, 0.1], np.float32))
    regions, certainty = from_prediction(Prediction(answer), CLASSES, minimum_confidence=0.5)
    assert regions[0].class_name == "short"
    assert certainty == pytest.approx(0.7)


def test_draft_of_boxes_shows_the_confident_and_doubts_by_the_ambiguous() -> None:
    answer = Detections(
        np.array([[0, 0, 5, 5], [1, 1, 6, 6], [2, 2, 9, 9]]), [0, 1, 2], [0.9, 0.45, 0.1]
    )
    regions, certainty = from_prediction(Prediction(answer), CLASSES, minimum_confidence=0.4)
    assert [region.class_name for region in regions] == ["open", "short"]
    assert certainty == pytest.approx(0.1)
    nothing = Prediction(Detections.empty())
    assert from_prediction(nothing, CLASSES, minimum_confidence=0.4) == ([], 1.0)


def test_drafts_pass_label_studios_own_validation() -> None:
    """The import takes any draft; its own checker says whether the interface knows it."""
    from label_studio_sdk.label_interface import LabelInterface

    from visionloop.core.config import ProjectParams
    from visionloop.labeling.interface import labeling_interface
    from visionloop.labeling.tasks import Draft, build_prediction

    for task, region in (
        ("detection", Region("short", (1, 2, 30, 20), "a", 0.9)),
        ("classification", Region("short", None, "class", 0.9)),
    ):
        project = ProjectParams(recipe="t", model="ttt", vision_task=task, classes=CLASSES)
        interface = LabelInterface(labeling_interface(project))
        prediction = build_prediction(Draft([region], 0.9, "ttt@1"), 60, 40)
        assert interface.validate_prediction(prediction, return_errors=True) == []


DRAFT = [Region("open", (10, 10, 20, 20), "a"), Region("short", (30, 30, 40, 40), "b")]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (DRAFT, (["accepted", "accepted"], 0)),
        ([Region("open", (10.4, 10, 20, 20), "a")], (["accepted"], 1)),
        ([Region("open", (14, 10, 24, 20), "a")], (["adjusted"], 1)),
        ([Region("spur", (10, 10, 20, 20), "a")], (["relabelled"], 1)),
        ([Region("open", (11, 10, 21, 20), "other id")], (["adjusted"], 1)),
        ([Region("spur", (60, 60, 70, 70), "new")], (["added"], 2)),
        ([], ([], 2)),
    ],
)
def test_what_a_person_did_with_boxes(answers, expected) -> None:
    assert compare(DRAFT, answers) == expected


def test_what_a_person_did_with_a_class() -> None:
    draft = [Region("open", None, "class")]
    assert compare(draft, [Region("open", None, "x")]) == (["accepted"], 0)
    assert compare(draft, [Region("spur", None, "class")]) == (["relabelled"], 0)
    assert compare([], [Region("spur", None, "class")]) == (["added"], 0)
