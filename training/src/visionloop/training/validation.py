"""Metrics of an epoch, on the val split of a classification version (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_weights", "measure_classification"]


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
