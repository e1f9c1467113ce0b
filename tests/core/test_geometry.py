"""Boxes: IoU, matching and suppression against values worked out by hand and by brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from visionloop.core.geometry import box_area, box_iou, match_boxes, suppress_non_maximum

coordinate = st.floats(0, 100, width=32)
boxes = arrays(np.float32, st.tuples(st.integers(1, 8), st.just(4)), elements=coordinate)


def ordered(raw: np.ndarray) -> np.ndarray:
    low, high = np.minimum(raw[:, :2], raw[:, 2:]), np.maximum(raw[:, :2], raw[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float32)


def test_iou_by_hand() -> None:
    first = np.array([[0, 0, 10, 10]], np.float32)
    second = np.array([[5, 0, 15, 10], [10, 10, 20, 20], [0, 0, 10, 10], [3, 3, 3, 3]], np.float32)
    assert np.allclose(box_iou(first, second), [[1 / 3, 0, 1, 0]])


@given(boxes, boxes)
@settings(max_examples=60, deadline=None)
def test_iou_is_symmetric_and_bounded(first: np.ndarray, second: np.ndarray) -> None:
    first, second = ordered(first), ordered(second)
    iou = box_iou(first, second)
    assert iou.shape == (len(first), len(second))
    assert np.allclose(iou, box_iou(second, first).T, atol=1e-6)
    assert (iou >= 0).all() and (iou <= 1 + 1e-5).all()
    assert (box_area(first) >= 0).all()


def test_matching_uses_each_box_once_best_first() -> None:
    first = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    second = np.array([[0, 0, 10, 10], [40, 40, 50, 50]], np.float32)
    assert match_boxes(first, second) == [(0, 0, 1.0)]


def test_suppression_keeps_other_classes() -> None:
    xyxy = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [50, 50, 60, 60]], np.float32)
    confidence = np.array([0.9, 0.8, 0.7, 0.95], np.float32)
    kept = suppress_non_maximum(xyxy, confidence, np.array([0, 0, 1, 0]), max_iou=0.5)
    assert kept.tolist() == [3, 0, 2]


@given(boxes, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_suppression_against_brute_force(raw: np.ndarray, seed: int) -> None:
    xyxy = ordered(raw)
    confidence = np.random.default_rng(seed).permutation(len(xyxy)).astype(np.float32) / len(xyxy)
    kept = suppress_non_maximum(xyxy, confidence, np.zeros(len(xyxy), np.int64), max_iou=0.4)
    expected: list[int] = []
    for index in np.argsort(-confidence):
        if all(box_iou(xyxy[[index]], xyxy[[other]])[0, 0] <= 0.4 for other in expected):
            expected.append(int(index))
    assert kept.tolist() == expected


def test_nothing_in_nothing_out() -> None:
    empty = np.zeros((0, 4), np.float32)
    assert suppress_non_maximum(empty, np.zeros(0, np.float32), np.zeros(0, np.int64)).size == 0
    assert match_boxes(empty, empty) == []
