"""Metrics of a detector: mean average precision as COCO defines it, and resamplings of it.

The values come from faster-coco-eval. Resampling would call it hundreds of times,
so intervals rest on our own matching, done once: it gives the same numbers (a test
holds both together) and every resampling is then a weighted sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import match_boxes
from visionloop.evaluation.box_matching import (
    IOU_STEPS,
    Matches,
    average_precision,
    match_classes,
)
from visionloop.evaluation.coco_metrics import SIZES, Truth, average_precisions, size_of_boxes
from visionloop.evaluation.ratios import mean_of_defined, ratio

__all__ = ["DetectionMetrics", "confusion_of_boxes", "curve_of_class"]

Weights = NDArray[np.float64]

CALIBRATION_BINS = 15


class DetectionMetrics:
    """mAP50 (also by size of the boxes), mAP50-95, calibration error; AP50, precision, recall, F1.

    Precision, recall and F1 are those of each class at its threshold. The calibration error
    is that of the reported boxes: how far their confidence is from the share of them that is
    right at IoU 0.5 (D-ECE of Küppers et al., 2020, arXiv 2004.13546, confidence alone).

    Parameters
    ----------
    truths : sequence of Truth
        One an image.
    detections : sequence of Detections
        One an image, from a low confidence on.
    classes : sequence of str
    thresholds : dict
        Class name to the confidence at which the package reports a box.
    """

    def __init__(
        self,
        truths: Sequence[Truth],
        detections: Sequence[Detections],
        classes: Sequence[str],
        thresholds: dict[str, float],
    ) -> None:
        self.truths = list(truths)
        self.detections = list(detections)
        self.classes = list(classes)
        self.thresholds = dict(thresholds)
        self._matches: list[Matches] | None = None
        self._by_size: dict[str, list[Matches]] | None = None

    def __len__(self) -> int:
        return len(self.truths)

    def take(self, index: NDArray[np.int64]) -> DetectionMetrics:
        """The same for some of the images."""
        return DetectionMetrics(
            [self.truths[number] for number in index],
            [self.detections[number] for number in index],
            self.classes,
            self.thresholds,
        )

    def support(self) -> dict[str, int]:
        """True boxes of each class."""
        return {
            name: sum(int((truth.class_id == number).sum()) for truth in self.truths)
            for number, name in enumerate(self.classes)
        }

    def counts(self) -> dict[str, int]:
        """Metrics that rest on some of the boxes alone: how many true boxes these are."""
        sizes = [size for truth in self.truths for size in size_of_boxes(truth.xyxy)]
        return {f"map50_{name}": sizes.count(name) for name in SIZES}

    def matches(self) -> list[Matches]:
        """Hits and misses of each class; computed once."""
        if self._matches is None:
            self._matches = match_classes(self.truths, self.detections, len(self.classes))
        return self._matches

    def matches_of_size(self, name: str) -> list[Matches]:
        """The same for small, medium or large boxes at IoU 0.5; computed once."""
        if self._by_size is None:
            self._by_size = {
                size: match_classes(
                    self.truths, self.detections, len(self.classes), size=size, steps=IOU_STEPS[:1]
                )
                for size in SIZES
            }
        return self._by_size[name]

    def values(self) -> dict[str, float]:
        """The metrics of the images as they are; average precisions by faster-coco-eval."""
        own = self.resampled(np.ones((1, len(self))))
        values = {name: float(numbers[0]) for name, numbers in own.items()}
        return values | average_precisions(self.truths, self.detections, self.classes)

    def resampled(self, weights: Weights) -> dict[str, NDArray[np.float64]]:
        """The metrics of each resampling.

        Parameters
        ----------
        weights : float64 array (B, N)
            How often each image occurs in each of B resamplings.

        Returns
        -------
        dict of float64 arrays (B,)
            ``map50``, ``map50_95``, ``map50_small``, ``_medium``, ``_large``, ``ece``,
            ``ap50/<class>``, ``precision/<class>``, ``recall/<class>``, ``f1/<class>``; NaN
            where there is no true box.
        """
        metrics: dict[str, NDArray[np.float64]] = {}
        areas = []
        for name, matches in zip(self.classes, self.matches(), strict=True):
            steps = np.stack(
                [average_precision(matches, step, weights) for step in range(len(IOU_STEPS))]
            )
            areas.append(steps)
            metrics[f"ap50/{name}"] = steps[0]
            metrics |= _at_threshold(name, matches, self.thresholds.get(name, 0.5), weights)
        table = np.stack(areas)
        sizes = {
            f"map50_{name}": mean_of_defined(
                np.stack([average_precision(one, 0, weights) for one in self.matches_of_size(name)])
            )
            for name in SIZES
        }
        return {
            "map50": mean_of_defined(table[:, 0]),
            "map50_95": mean_of_defined(table.mean(axis=1)),
            **sizes,
            "ece": self._calibration_error(weights),
        } | metrics

    def _calibration_error(self, weights: Weights) -> NDArray[np.float64]:
        """Of the boxes that the package reports; NaN where it reports none."""
        gaps = np.zeros((len(self), CALIBRATION_BINS))
        counts = np.zeros(len(self))
        for name, matches in zip(self.classes, self.matches(), strict=True):
            last = int((matches.confidence >= self.thresholds.get(name, 0.5)).sum())
            confidence, image = matches.confidence[:last], matches.image[:last]
            bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
            np.add.at(gaps, (image, bins), matches.hit[0, :last] - confidence)
            np.add.at(counts, image, 1.0)
        return ratio(np.abs(weights @ gaps).sum(axis=1), weights @ counts)


def curve_of_class(
    metrics: DetectionMetrics, class_id: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recall and precision (M,) of a class at IoU 0.5, from the most confident box on."""
    matches = metrics.matches()[class_id]
    truths = int(matches.truths.sum())
    if not truths:
        return np.zeros(0), np.zeros(0)
    found = np.cumsum(matches.hit[0])
    return found / truths, found / np.arange(1, len(found) + 1)


def confusion_of_boxes(metrics: DetectionMetrics) -> NDArray[np.int64]:
    """Counts at each class's threshold and IoU 0.5, (C + 1, C + 1).

    True class by row, predicted class by column; the last row holds boxes where
    nothing is, the last column true boxes that nobody found.
    """
    count = len(metrics.classes)
    limits = np.array([metrics.thresholds.get(name, 0.5) for name in metrics.classes])
    table = np.zeros((count + 1, count + 1), np.int64)
    for truth, found in zip(metrics.truths, metrics.detections, strict=True):
        reported = found[found.confidence >= limits[found.class_id]]
        pairs = match_boxes(truth.xyxy, reported.xyxy, min_iou=0.5)
        for row, column, _ in pairs:
            table[truth.class_id[row], reported.class_id[column]] += 1
        missed = np.delete(truth.class_id, [row for row, _, _ in pairs])
        spurious = np.delete(reported.class_id, [column for _, column, _ in pairs])
        table[:count, count] += np.bincount(missed, minlength=count)
        table[count, :count] += np.bincount(spurious, minlength=count)
    return table


def _at_threshold(
    name: str, matches: Matches, threshold: float, weights: Weights
) -> dict[str, NDArray[np.float64]]:
    last = int((matches.confidence >= threshold).sum())
    reported = weights[:, matches.image[:last]].sum(axis=1)
    found = weights[:, matches.image[:last]] @ matches.hit[0, :last].astype(float)
    truths = weights @ matches.truths
    return {
        f"precision/{name}": ratio(found, reported),
        f"recall/{name}": ratio(found, truths),
        f"f1/{name}": np.where(truths > 0, ratio(2 * found, truths + reported), np.nan),
    }
