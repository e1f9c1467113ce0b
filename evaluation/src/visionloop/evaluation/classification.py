"""Metrics of a classifier, for the samples as they are and for resamplings of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.evaluation.ratios import mean_of_defined, ratio

__all__ = ["ClassificationMetrics", "confusion_of_classes"]

CALIBRATION_BINS = 15

Weights = NDArray[np.float64]


class ClassificationMetrics:
    """Accuracy, balanced accuracy, macro F1, AUROC, calibration error; recall and F1 of each class.

    Parameters
    ----------
    truth : int64 array (N,)
        True class indices.
    probabilities : float array (N, C)
        In [0, 1], rows sum to 1.
    classes : sequence of str
        C names.
    """

    def __init__(
        self, truth: NDArray[np.int64], probabilities: NDArray[np.float64], classes: Sequence[str]
    ) -> None:
        self.truth = np.asarray(truth, np.int64)
        self.probabilities = np.asarray(probabilities, np.float64).reshape(-1, len(classes))
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, index: NDArray[np.int64]) -> ClassificationMetrics:
        """The same for some of the samples."""
        return ClassificationMetrics(self.truth[index], self.probabilities[index], self.classes)

    def support(self) -> dict[str, int]:
        """True samples of each class."""
        counts = np.bincount(self.truth, minlength=len(self.classes))
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def values(self) -> dict[str, float]:
        """The metrics of the samples as they are; NaN where one is not defined."""
        drawn = self.resampled(np.ones((1, len(self))))
        return {name: float(numbers[0]) for name, numbers in drawn.items()}

    def resampled(self, weights: Weights) -> dict[str, NDArray[np.float64]]:
        """The metrics of each resampling.

        Parameters
        ----------
        weights : float64 array (B, N)
            How often each sample occurs in each of B resamplings.

        Returns
        -------
        dict of float64 arrays (B,)
            ``accuracy``, ``balanced_accuracy`` (mean recall of the classes present),
            ``macro_f1`` (mean of the classes present), ``auroc`` (mean of one class against
            the rest), ``ece``, ``recall/<class>``, ``f1/<class>``.
        """
        answered = self.probabilities.argmax(axis=1)
        correct = answered == self.truth
        recalls, f1s = [], []
        for number in range(len(self.classes)):
            member = self.truth == number
            right = weights @ (correct & member)
            true, said = weights @ member.astype(float), weights @ (answered == number)
            recalls.append(ratio(right, true))
            f1s.append(np.where(true > 0, ratio(2 * right, true + said), np.nan))
        metrics = {
            "accuracy": ratio(weights @ correct.astype(float), weights.sum(axis=1)),
            "balanced_accuracy": mean_of_defined(np.stack(recalls)),
            "macro_f1": mean_of_defined(np.stack(f1s)),
            "auroc": self._auroc(weights),
            "ece": self._calibration_error(weights, correct),
        }
        for name, recall, f1 in zip(self.classes, recalls, f1s, strict=True):
            metrics |= {f"recall/{name}": recall, f"f1/{name}": f1}
        return metrics

    def counts(self) -> dict[str, int]:
        """Metrics that rest on some of the samples alone: none."""
        return {}

    def _auroc(self, weights: Weights) -> NDArray[np.float64]:
        """With two classes both give the same area, so one is computed."""
        numbers = range(1, 2) if len(self.classes) == 2 else range(len(self.classes))
        areas = [
            _area_under_roc(self.probabilities[:, number], self.truth == number, weights)
            for number in numbers
        ]
        return mean_of_defined(np.stack(areas))

    def _calibration_error(
        self, weights: Weights, correct: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Expected calibration error, 15 bins of equal width (Guo et al., 2017)."""
        confidence = self.probabilities.max(axis=1)
        bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        one_hot = np.eye(CALIBRATION_BINS)[bins]
        gap = weights @ (one_hot * (correct - confidence)[:, None])
        return ratio(np.abs(gap).sum(axis=1), weights.sum(axis=1))


def confusion_of_classes(metrics: ClassificationMetrics) -> NDArray[np.int64]:
    """Counts, true class by row, predicted class by column, (C, C)."""
    count = len(metrics.classes)
    cells = metrics.truth * count + metrics.probabilities.argmax(axis=1)
    return np.bincount(cells, minlength=count * count).reshape(count, count)


def _area_under_roc(
    confidence: NDArray[np.float64], member: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Probability that a member is ranked above a non-member; a tie counts one half."""
    if not len(confidence):
        return np.full(len(weights), np.nan)
    order = np.argsort(confidence, kind="stable")
    ranked = confidence[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ordered = weights[:, order]
    members = np.add.reduceat(ordered * member[order], starts, axis=1)
    others = np.add.reduceat(ordered * ~member[order], starts, axis=1)
    below = np.cumsum(others, axis=1) - others
    wins = (members * (below + 0.5 * others)).sum(axis=1)
    return ratio(wins, members.sum(axis=1) * others.sum(axis=1))
