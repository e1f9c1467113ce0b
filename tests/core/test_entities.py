"""Entities refuse what is not true."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.entities import ClassProbabilities, Detections


def test_detections_select_and_convert() -> None:
    detections = Detections(
        np.array([[0, 0, 1, 1], [1, 1, 2, 2]]), np.array([1, 0]), np.array([0.2, 0.9])
    )
    assert detections.xyxy.dtype == np.float32
    assert len(detections[detections.confidence > 0.5]) == 1
    assert len(Detections.empty()) == 0


@pytest.mark.parametrize(
    ("xyxy", "class_id", "confidence"),
    [
        ([[0, 0, 1, 1]], [0, 1], [0.5]),
        ([[0, 0, np.nan, 1]], [0], [0.5]),
        ([[0, 0, 1, 1]], [0], [1.5]),
        ([[0, 0, 1, 1]], [0], [np.inf]),
    ],
)
def test_wrong_detections_are_refused(xyxy, class_id, confidence) -> None:
    with pytest.raises(ValueError):
        Detections(np.array(xyxy), np.array(class_id), np.array(confidence))


def test_probabilities() -> None:
    answer = ClassProbabilities(np.array([0.25, 0.75]))
    assert answer.class_id == 1
    assert answer.confidence == 0.75
    for wrong in ([0.5, 0.6], [np.nan, 1]):
        with pytest.raises(ValueError):
            ClassProbabilities(np.array(wrong))
