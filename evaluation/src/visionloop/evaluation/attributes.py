"""Metrics of attributes of whole scenes (multi-label), as they are and for resamplings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.evaluation.ratios import mean_of_defined, ratio

__all__ = ["AttributeMetrics", "confusion_of_attributes"]

DEFAULT_THRESHOLD = 0.5
CALIBRATION_BINS = 15

Weights = NDArray[np.float64]


class AttributeMetrics:
    """Average precision and F1 of each attribute, and their means over attributes.

    Parameters
    ----------
    truth : bool array (N, C)
        Which attributes each sample has.
    probabilities : float array (N, C)
        Each in [0, 1].
    classes : sequence of str
        C names.
    thresholds : mapping of class name to float
        Smallest probability that counts; 0.5 where there is none.
    """

    def __init__(
        self,
        truth: NDArray[np.bool_],
        probabilities: NDArray[np.float64],
        classes: Sequence[str],
        thresholds: Mapping[str, float],
    ) -> None:
        self.classes = list(classes)
        self.truth = np.asarray(truth, np.bool_).reshape(-1, len(self.classes))
        self.probabilities = np.asarray(probabilities, np.float64).reshape(-1, len(self.classes))
        self.thresholds = dict(thresholds)

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, index: NDArray[np.int64]) -> AttributeMetrics:
        """The same for some of the samples."""
        return AttributeMetrics(
            self.truth[index], self.probabilities[index], self.classes, self.thresholds
        )

    def support(self) -> dict[str, int]:
        """Samples that have each attribute."""
        counts = self.truth.sum(axis=0)
        return {name: int(count) for name, count in zip(self.classes, counts, strict=True)}

    def reported(self) -> NDArray[np.bool_]:
        """Which attributes are said to hold, (N, C)."""
        limits = [self.thresholds.get(name, DEFAULT_THRESHOLD) for name in self.classes]
        return self.probabilities >= np.array(limits)

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
            ``macro_average_precision`` and ``macro_f1`` (means over the attributes that
            occur), ``ece`` (mean over the attributes), ``average_precision/<class>``,
            ``f1/<class>``, ``recall/<class>``.
        """
        reported = self.reported()
        precisions, f1s, recalls = [], [], []
        for number in range(len(self.classes)):
            member = self.truth[:, number]
            precisions.append(_average_precision(self.probabilities[:, number], member, weights))
            right = weights @ (member & reported[:, number]).astype(float)
            true, said = weights @ member.astype(float), weights @ reported[:, number].astype(float)
            recalls.append(ratio(right, true))
            f1s.append(np.where(true > 0, ratio(2 * right, true + said), np.nan))
        found = {
            "macro_average_precision": mean_of_defined(np.stack(precisions)),
            "macro_f1": mean_of_defined(np.stack(f1s)),
            "ece": self._calibration_error(weights),
        }
        rows = {"average_precision": precisions, "f1": f1s, "recall": recalls}
        for kind, columns in rows.items():
            named = zip(self.classes, columns, strict=True)
            found |= {f"{kind}/{name}": column for name, column in named}
        return found

    def counts(self) -> dict[str, int]:
        """Metrics that rest on some of the samples alone: none."""
        return {}

    def _calibration_error(self, weights: Weights) -> NDArray[np.float64]:
        """How far the probability of an attribute is from how often it holds; 15 bins."""
        bins = np.minimum((self.probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
        errors = []
        for number in range(len(self.classes)):
            gap = self.truth[:, number] - self.probabilities[:, number]
            placed = np.eye(CALIBRATION_BINS)[bins[:, number]] * gap[:, None]
            errors.append(ratio(np.abs(weights @ placed).sum(axis=1), weights.sum(axis=1)))
        return mean_of_defined(np.stack(errors))


def confusion_of_attributes(metrics: AttributeMetrics) -> NDArray[np.int64]:
    """Samples that have the attribute of the row and are said to have that of the column, (C, C).

    The diagonal holds what was found; what stands beside it is either another attribute
    of the same samples or one that was wrongly reported.
    """
    return metrics.truth.T.astype(np.int64) @ metrics.reported().astype(np.int64)


def _average_precision(
    confidence: NDArray[np.float64], member: NDArray[np.bool_], weights: Weights
) -> NDArray[np.float64]:
    """Mean precision at the rank of each member (as scikit-learn's, ties together)."""
    if not len(confidence):
        return np.full(len(weights), np.nan)
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    ends = np.flatnonzero(np.concatenate([ranked[1:] != ranked[:-1], [True]]))
    ordered = weights[:, order]
    right = np.cumsum(ordered * member[order], axis=1)[:, ends]
    said = np.cumsum(ordered, axis=1)[:, ends]
    precision = np.where(said > 0, right / np.maximum(said, 1e-12), 0.0)
    gained = np.diff(right, axis=1, prepend=0.0)
    return ratio((precision * gained).sum(axis=1), right[:, -1])
