"""Metrics of an epoch, on the val split (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import match_boxes

__all__ = ["balanced_weights", "measure_attributes", "measure_boxes", "measure_classification"]


def measure_classification(
    probabilities: NDArray[np.floating], class_ids: NDArray[np.int64]
) -> dict[str, float]:
    """Mean log loss, accuracy and balanced accuracy (mean recall of the classes present).

    Parameters
    ----------
    probabilities : float array (N, C)
    class_ids : int64 array (N,)

    Returns
    -------
    dict
        ``val_loss``, ``val_accuracy``, ``val_balanced_accuracy``; empty if N is 0.
    """
    if not len(class_ids):
        return {}
    chosen = probabilities[np.arange(len(class_ids)), class_ids]
    is_right = probabilities.argmax(axis=1) == class_ids
    recalls = [is_right[class_ids == one].mean() for one in np.unique(class_ids)]
    return {
        "val_loss": float(-np.log(np.clip(chosen, 1e-12, 1)).mean()),
        "val_accuracy": float(is_right.mean()),
        "val_balanced_accuracy": float(np.mean(recalls)),
    }


def measure_attributes(
    probabilities: NDArray[np.floating], truth: NDArray[np.bool_]
) -> dict[str, float]:
    """Mean log loss, macro average precision and macro F1 at 0.5 of attributes.

    Parameters
    ----------
    probabilities : float array (N, C)
    truth : bool array (N, C)

    Returns
    -------
    dict
        ``val_loss``, ``val_macro_average_precision``, ``val_macro_f1``; the means are over the
        attributes that occur. Empty if N is 0.
    """
    if not len(truth):
        return {}
    sure = np.clip(probabilities, 1e-7, 1 - 1e-7)
    loss = -np.where(truth, np.log(sure), np.log(1 - sure)).mean()
    occurring = np.flatnonzero(truth.any(axis=0))
    precisions = [_average_precision(probabilities[:, n], truth[:, n]) for n in occurring]
    said = probabilities >= 0.5
    right = (said & truth).sum(axis=0)[occurring]
    f1 = 2 * right / (said.sum(axis=0) + truth.sum(axis=0))[occurring]
    return {
        "val_loss": float(loss),
        "val_macro_average_precision": float(np.mean(precisions)),
        "val_macro_f1": float(f1.mean()),
    }


def _average_precision(confidence: NDArray[np.floating], truth: NDArray[np.bool_]) -> float:
    """Mean precision at the rank of each true sample."""
    order = np.argsort(-confidence, kind="stable")
    hits = truth[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def measure_boxes(
    found: Sequence[Detections],
    truth: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    classes: int,
) -> dict[str, float]:
    """Mean over the classes that occur of the average precision at IoU 0.5.

    Parameters
    ----------
    found : sequence of Detections
        One a picture, with low confidences too.
    truth : sequence of (xyxy float32 (N, 4), class_id int64 (N,))
    classes : int

    Returns
    -------
    dict
        ``val_map50``: area under the precision-recall curve whose precision is made to fall
        (Everingham et al., 2010: The Pascal Visual Object Classes Challenge).
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
            right = np.zeros(len(own), np.bool_)
            pairs = match_boxes(own.xyxy, xyxy[class_id == number], min_iou=0.5)
            right[[row for row, _, _ in pairs]] = True
            confidence.append(own.confidence)
            is_right.append(right)
        areas.append(_area(np.concatenate(confidence), np.concatenate(is_right), total))
    return {"val_map50": float(np.mean(areas)) if areas else 0.0}


def _area(confidence: NDArray[np.floating], is_right: NDArray[np.bool_], total: int) -> float:
    hits = is_right[np.argsort(-confidence, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[hits].sum() / total)


def balanced_weights(
    class_ids: NDArray[np.int64], classes: int, *, class_weight: str
) -> NDArray[np.float64]:
    """Weight of each class, shape (C,): ``N / (present classes * count)``, or all 1.

    The "balanced" heuristic of scikit-learn; a class without samples weighs 0.
    """
    if class_weight == "none":
        return np.ones(classes)
    counts = np.bincount(class_ids, minlength=classes).astype(np.float64)
    present = counts > 0
    weights = np.zeros(classes)
    weights[present] = len(class_ids) / (present.sum() * counts[present])
    return weights
