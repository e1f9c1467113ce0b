"""Metrics of a detector: mean average precision as COCO defines it, and resamplings of it.

The values come from faster-coco-eval. Resampling would call it hundreds of times,
so intervals rest on our own matching, done once: it gives the same numbers (a test
holds both together) and every resampling is then a weighted sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou, match_boxes
from visionloop.evaluation.coco_metrics import Truth, average_precisions
from visionloop.evaluation.ratios import mean_of_defined, ratio

__all__ = ["DetectionMetrics", "Matches", "confusion_of_boxes", "curve_of_class"]

IOU_STEPS = np.linspace(0.5, 0.95, 10)
RECALL_STEPS = np.linspace(0.0, 1.0, 101)
MAX_BOXES = 100

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of one class over all images, most confident first.

    ``hit`` (T, M) says whether a detection found a true box at each IoU step,
    ``image`` (M,) where it is, ``truths`` (N,) counts true boxes of each image.
    """

    confidence: NDArray[np.float32]
    image: NDArray[np.int64]
    hit: NDArray[np.bool_]
    truths: NDArray[np.int64]


class DetectionMetrics:
    """mAP50, mAP50-95, and of each class AP50, precision and recall at its threshold.

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

    def matches(self) -> list[Matches]:
        """Hits and misses of each class; computed once."""
        if self._matches is None:
            self._matches = _match(self.truths, self.detections, len(self.classes))
        return self._matches

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
            ``map50``, ``map50_95``, ``ap50/<class>``, ``precision/<class>``,
            ``recall/<class>``; NaN where a class has no true box.
        """
        metrics: dict[str, NDArray[np.float64]] = {}
        areas = []
        for name, matches in zip(self.classes, self.matches(), strict=True):
            steps = np.stack(
                [_average_precision(matches, step, weights) for step in range(len(IOU_STEPS))]
            )
            areas.append(steps)
            metrics[f"ap50/{name}"] = steps[0]
            metrics |= _at_threshold(name, matches, self.thresholds.get(name, 0.5), weights)
        table = np.stack(areas)
        return {
            "map50": mean_of_defined(table[:, 0]),
            "map50_95": mean_of_defined(table.mean(axis=1)),
        } | metrics


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


def _match(
    truths: Sequence[Truth], detections: Sequence[Detections], class_count: int
) -> list[Matches]:
    matches = []
    for class_id in range(class_count):
        counts = np.array([int((truth.class_id == class_id).sum()) for truth in truths], np.int64)
        confidence, image, hit = [], [], []
        for number, (truth, found) in enumerate(zip(truths, detections, strict=True)):
            chosen = found[found.class_id == class_id]
            order = np.argsort(-chosen.confidence, kind="stable")[:MAX_BOXES]
            if not len(order):
                continue
            chosen = chosen[order]
            confidence.append(chosen.confidence)
            image.append(np.full(len(chosen), number))
            hit.append(_hits(chosen.xyxy, truth.xyxy[truth.class_id == class_id]))
        if not confidence:
            none = np.zeros(0)
            empty = np.zeros((len(IOU_STEPS), 0), bool)
            matches.append(Matches(none.astype("f4"), none.astype("i8"), empty, counts))
            continue
        together = np.concatenate(confidence)
        order = np.argsort(-together, kind="stable")
        matches.append(
            Matches(
                together[order],
                np.concatenate(image)[order],
                np.concatenate(hit, axis=1)[:, order],
                counts,
            )
        )
    return matches


def _hits(found: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes of one image and class find a true box, at each IoU step (COCO's rule).

    Each box, most confident first, takes the free true box that it overlaps best.
    """
    hit = np.zeros((len(IOU_STEPS), len(found)), bool)
    if not len(truth):
        return hit
    overlap = box_iou(found, truth)
    taken = np.zeros((len(IOU_STEPS), len(truth)), bool)
    steps = np.arange(len(IOU_STEPS))
    for number, row in enumerate(overlap):
        if row.max() < IOU_STEPS[0]:
            continue
        free = np.where(~taken & (row[None, :] >= IOU_STEPS[:, None] - 1e-9), row[None, :], -1.0)
        best = free.argmax(axis=1)
        hit[:, number] = free[steps, best] >= 0
        taken[steps[hit[:, number]], best[hit[:, number]]] = True
    return hit


def _average_precision(matches: Matches, step: int, weights: Weights) -> NDArray[np.float64]:
    """Area under the precision-recall curve at 101 recalls, for each resampling (B,).

    Only the detections up to the last hit count, and the curve changes at hits alone.
    """
    truths = weights @ matches.truths
    hits = np.flatnonzero(matches.hit[step])
    defined = truths > 0
    if not len(hits):
        return np.where(defined, 0.0, np.nan)
    reported = np.cumsum(weights[:, matches.image[: hits[-1] + 1]], axis=1)[:, hits]
    found = np.cumsum(weights[:, matches.image[hits]], axis=1)
    precision = np.divide(found, reported, out=np.zeros_like(found), where=reported > 0)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = found / np.where(defined, truths, 1)[:, None]
    # One sorted search for all rows: row b is moved up by 2 b.
    lift = 2.0 * np.arange(len(weights))[:, None]
    places = np.searchsorted((recall + lift).ravel(), (RECALL_STEPS - 1e-9 + lift).ravel())
    places = places.reshape(len(weights), -1) - np.arange(len(weights))[:, None] * len(hits)
    padded = np.concatenate([precision, np.zeros((len(weights), 1))], axis=1)
    area = np.take_along_axis(padded, places, axis=1).mean(axis=1)
    return np.where(defined, area, np.nan)


def _at_threshold(
    name: str, matches: Matches, threshold: float, weights: Weights
) -> dict[str, NDArray[np.float64]]:
    last = int((matches.confidence >= threshold).sum())
    reported = weights[:, matches.image[:last]].sum(axis=1)
    found = weights[:, matches.image[:last]] @ matches.hit[0, :last].astype(float)
    return {
        f"precision/{name}": ratio(found, reported),
        f"recall/{name}": ratio(found, weights @ matches.truths),
    }
