"""Metrics of an epoch, on the val split (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.quality import (
    Boxes,
    accuracy_by_class,
    average_precision,
    mean_average_precision,
)

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
    answers = probabilities.argmax(axis=1)
    return {
        "val_loss": float(-np.log(np.clip(chosen, 1e-12, 1)).mean()),
        "val_accuracy": float((answers == class_ids).mean()),
        "val_balanced_accuracy": accuracy_by_class(answers, class_ids),
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
    precisions = [average_precision(probabilities[:, n], truth[:, n]) for n in occurring]
    said = probabilities >= 0.5
    right = (said & truth).sum(axis=0)[occurring]
    f1 = 2 * right / (said.sum(axis=0) + truth.sum(axis=0))[occurring]
    return {
        "val_loss": float(loss),
        "val_macro_average_precision": float(np.mean(precisions)),
        "val_macro_f1": float(f1.mean()),
    }


def measure_boxes(
    found: Sequence[Detections], truth: Sequence[Boxes], classes: int
) -> dict[str, float]:
    """``val_map50``: see :func:`visionloop.core.quality.mean_average_precision`."""
    return {"val_map50": mean_average_precision(found, truth, classes)}


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
