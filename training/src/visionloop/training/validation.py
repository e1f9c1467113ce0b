"""Metrics of an epoch, on the val split (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["balanced_weights", "measure_attributes", "measure_classification"]


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
