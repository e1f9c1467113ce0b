"""The small metrics, by hand and against the evaluation's own."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou, suppress_non_maximum
from visionloop.core.quality import (
    accuracy_by_class,
    average_precision,
    mean_average_precision,
    separation,
)
from visionloop.evaluation.classification import ClassificationMetrics
from visionloop.evaluation.coco_metrics import Truth
from visionloop.evaluation.detection import DetectionMetrics


def test_of_classes_as_the_evaluation_measures_them() -> None:
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 2, 200)
    second = np.round(np.clip(rng.normal(0.4 + 0.2 * truth, 0.2), 0, 1), 2)  # with ties
    rows = np.stack([1 - second, second], axis=1)
    values = ClassificationMetrics(truth, rows, ["a", "b"]).values()
    assert accuracy_by_class(rows.argmax(axis=1), truth) == pytest.approx(
        values["balanced_accuracy"]
    )
    assert separation(second, truth == 1) == pytest.approx(values["auroc"], abs=1e-6)
    assert np.isnan(separation(second, np.ones(200, np.bool_)))


def test_average_precision_by_hand() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6])
    truth = np.array([True, False, True, False])
    assert average_precision(confidence, truth) == pytest.approx((1 + 2 / 3) / 2)


def test_of_boxes_as_the_evaluation_measures_them() -> None:
    """COCO reads the curve at 101 recalls, this one at every hit: they differ by little."""
    rng = np.random.default_rng(5)
    found, truth, plain = [], [], []
    for _ in range(30):
        corner = rng.uniform(0, 80, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(10, 20, (6, 2))], axis=1)
        boxes = boxes.astype(np.float32)
        class_id = rng.integers(0, 2, 6)
        moved = boxes + rng.normal(0, 2, boxes.shape).astype(np.float32)
        found.append(Detections(moved, class_id, rng.random(6).astype(np.float32)))
        truth.append(Truth(class_id, boxes))
        plain.append((boxes, class_id))
    expected = DetectionMetrics(truth, found, ["a", "b"], {}).values()
    assert mean_average_precision(found, plain, 2) == pytest.approx(expected["map50"], abs=0.02)
    assert mean_average_precision(found, plain, 2, min_iou=0.99) < 0.1
    assert mean_average_precision([Detections.empty()] * 30, plain, 2) == 0


def test_a_less_confident_double_that_lies_better_takes_nothing_away() -> None:
    """What suppression at a high overlap leaves: each object twice, the sure box a little off."""
    rng = np.random.default_rng(8)
    found, truth, plain = [], [], []
    for _ in range(30):
        corner = rng.uniform(0, 80, (6, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(15, 20, (6, 2))], axis=1)
        boxes, class_id = boxes.astype(np.float32), rng.integers(0, 2, 6)
        sure = boxes + np.float32(1.5)
        confidence = np.concatenate([rng.uniform(0.5, 1, 6), rng.uniform(0, 0.5, 6)])
        found.append(
            Detections(
                np.concatenate([sure, boxes]), np.tile(class_id, 2), confidence.astype(np.float32)
            )
        )
        truth.append(Truth(class_id, boxes))
        plain.append((boxes, class_id))
    expected = DetectionMetrics(truth, found, ["a", "b"], {}).values()
    assert expected["map50"] > 0.9
    assert mean_average_precision(found, plain, 2) == pytest.approx(expected["map50"], abs=0.005)


def test_suppression_in_blocks_keeps_what_the_plain_rule_keeps() -> None:
    rng = np.random.default_rng(6)
    corner = rng.uniform(0, 200, (900, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 60, (900, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    confidence = rng.random(900).astype(np.float32)
    class_id = rng.integers(0, 3, 900)
    found = suppress_non_maximum(boxes, confidence, class_id, max_iou=0.5, max_boxes=1000)
    plain: list[int] = []
    for one in np.argsort(-confidence, kind="stable"):
        same = [other for other in plain if class_id[other] == class_id[one]]
        if not same or box_iou(boxes[[one]], boxes[same]).max() <= 0.5:
            plain.append(int(one))
    assert found.tolist() == plain
    few = suppress_non_maximum(boxes, confidence, class_id, max_iou=0.5, max_boxes=7)
    assert few.tolist() == plain[:7]
