"""How good answers are against a truth, in one number a vision task (numpy only).

Small forms of the metrics that several stages need while they work: training to choose an
epoch, serving to see what a conversion loses. Evaluation measures with intervals and slices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou

__all__ = [
    "Boxes",
    "accuracy_by_class",
    "average_precision",
    "mean_average_precision",
    "separation",
]

Boxes = tuple[NDArray[np.float32], NDArray[np.int64]]
"""True boxes of one image: xyxy float32 (N, 4) in pixels, class_id int64 (N,)."""


def accuracy_by_class(answers: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Balanced accuracy: mean recall of the classes that occur; class indices (N,) each."""
    is_right = answers == truth
    return float(np.mean([is_right[truth == one].mean() for one in np.unique(truth)]))


def separation(values: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """AUROC of values (N,): the chance that a true one lies above a false one, ties half.

    NaN where one of the two does not occur (Mann and Whitney, 1947).
    """
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(confidence: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Mean precision at the rank of each true sample, shapes (N,)."""
    order = np.argsort(-confidence, kind="stable")
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def mean_average_precision(
    found: Sequence[Detections], truth: Sequence[Boxes], classes: int, *, min_iou: float = 0.5
) -> float:
    """Mean over the classes that occur of the average precision at an IoU; 0 where none does.

    Parameters
    ----------
    found : sequence of Detections
        One a picture, with low confidences too.
    truth : sequence of (xyxy float32 (N, 4), class_id int64 (N,))
    classes : int
    min_iou : float
        Overlap from which a box counts as found.

    Returns
    -------
    float
        Area under the precision-recall curve whose precision is made to fall (Everingham
        et al., 2010: The Pascal Visual Object Classes Challenge). Boxes are paired as COCO
        pairs them: the most confident first, each with the free true box it overlaps most.
    """
    areas = []
    for number in range(classes):
        total = sum(int((class_id == number).sum()) for _, class_id in truth)
        if not total:
            continue
        confidence: list[NDArray[np.floating]] = [np.zeros(0)]
        is_right: list[NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
        for answer, (xyxy, class_id) in zip(found, truth, strict=True):
            own = answer[answer.class_id == number]
            confidence.append(own.confidence)
            is_right.append(_are_right(own, xyxy[class_id == number], min_iou))
        areas.append(_area(np.concatenate(confidence), np.concatenate(is_right), total))
    return float(np.mean(areas)) if areas else 0.0


def _are_right(
    found: Detections, true_xyxy: NDArray[np.float32], min_iou: float
) -> NDArray[np.bool_]:
    """Which boxes found a true one (N,). A less confident box must not take it from a more
    confident one by lying better: the sure box would count as a false one."""
    right = np.zeros(len(found), np.bool_)
    overlap = box_iou(found.xyxy, true_xyxy)
    for row in np.argsort(-found.confidence, kind="stable"):
        if overlap.shape[1] and overlap[row].max() >= min_iou:
            right[row] = True
            overlap[:, overlap[row].argmax()] = -1.0
    return right


def _area(confidence: NDArray[np.floating], is_right: NDArray[np.bool_], total: int) -> float:
    hits = is_right[np.argsort(-confidence, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[hits].sum() / total)
