"""A set of boxes is read as it is: by falling confidence, in pixels of the picture."""

import numpy as np
import pytest

from visionloop.serving.manifest import ImageInput
from visionloop.serving.postprocess import decode, decode_detr
from visionloop.serving.preprocess import place_image

SPEC = ImageInput(width=100, height=50)


def placed():
    _, placement = place_image(np.zeros((100, 400, 3), np.uint8), SPEC)
    return placement


def test_boxes_come_back_in_pixels_of_the_picture() -> None:
    rows = np.array([[50, 25, 20, 10, 0.1, 0.8], [10, 5, 30, 20, 0.9, 0.2]], np.float32)
    found = decode_detr(rows, placed(), minimum_confidence=np.array([0.5, 0.5], np.float32))
    assert found.class_id.tolist() == [0, 1]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.8])
    assert found.xyxy[1].tolist() == pytest.approx([160, 40, 240, 60])
    assert found.xyxy[0].tolist() == pytest.approx([0, 0, 100, 30])  # clipped to the picture


def test_nothing_is_suppressed_and_a_query_may_name_two_classes() -> None:
    rows = np.array([[50, 25, 20, 10, 0.7, 0.6]] * 2, np.float32)
    found = decode_detr(rows, placed(), minimum_confidence=np.array([0.5, 0.5], np.float32))
    assert len(found) == 4
    limited = decode_detr(
        rows, placed(), minimum_confidence=np.array([0.5, 0.65], np.float32), max_boxes=1
    )
    assert limited.class_id.tolist() == [0]


def test_numbers_that_are_not_finite_are_refused() -> None:
    rows = np.full((1, 1, 6), np.nan, np.float32)
    with pytest.raises(ValueError, match="finite"):
        decode(
            rows,
            [placed()],
            kind="detr",
            minimum_confidence=np.array([0.5, 0.5], np.float32),
            max_iou=0.7,
        )
