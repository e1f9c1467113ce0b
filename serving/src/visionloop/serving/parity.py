"""Parity: how far two forms of one model are from each other on the same pictures.

Answers are compared end to end, after non-maximum suppression or softmax: what a device
would report. Boxes are compared as sets, so that the order in which a model names them
(queries of DETR) does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.geometry import match_boxes

__all__ = ["NEAR_THRESHOLD", "SEARCH_CONFIDENCE", "Parity", "compare_predictions"]

SEARCH_CONFIDENCE = 0.05

NEAR_THRESHOLD = 0.1
"""A decision counts as changed where one form says yes and the other is farther than this below
the threshold: what lies at the threshold is decided by noise in either form."""


@dataclass(frozen=True)
class Parity:
    """Distance between two forms of a model.

    Attributes
    ----------
    images : int
    max_difference : float
        Largest difference of a probability, or of the confidences of matched boxes.
    agreement : float
        Share of images with the same most probable class (the same attributes above one
        half), or of boxes with a partner.
    minimum_iou : float
        Smallest overlap of matched boxes; 1 for classification.
    boxes : int
        Boxes compared; 0 for classification.
    by_image : tuple of float
        Difference of each image, 1 where a decision changed; for the page that shows the worst.
    """

    images: int
    max_difference: float
    agreement: float
    minimum_iou: float = 1.0
    boxes: int = 0
    by_image: tuple[float, ...] = field(default=(), repr=False)

    @property
    def same_images(self) -> float:
        """Share of images on which no decision changed."""
        return sum(one < 1 for one in self.by_image) / len(self.by_image) if self.by_image else 1.0

    def as_row(self) -> dict[str, int | float]:
        """The numbers by name."""
        row = asdict(self)
        row.pop("by_image")
        return row


def compare_predictions(
    reference: Sequence[Prediction],
    other: Sequence[Prediction],
    *,
    counts_from: float | NDArray[np.float32] = 0.25,
    near: float | None = None,
) -> Parity:
    """Compare answers of two forms of a model on the same images, in the same order.

    Parameters
    ----------
    reference, other : sequences of Prediction
        Detections should reach well below ``counts_from``, so that a box just below
        it on one side finds its partner on the other.
    counts_from : float, or float32 array (C,) by class
        A box of at least this confidence on either side must have a partner of the same
        class (IoU at least 0.5) on the other.
    near : float or None
        A partner must be at least ``counts_from - near`` confident; for probabilities, a
        changed class counts only where the two best differ by more than this. None takes
        any partner and counts every changed class.

    Raises
    ------
    ValueError
        If the lengths differ or there is nothing to compare.
    """
    if len(reference) != len(other) or not reference:
        raise ValueError(f"{len(reference)} answers against {len(other)}")
    differences, overlaps, agreed, worst = [0.0], [1.0], [], []
    boxes = 0
    for first, second in zip(reference, other, strict=True):
        a, b = first.answer, second.answer
        changed = 0
        if isinstance(a, ClassProbabilities) and isinstance(b, ClassProbabilities):
            largest = float(abs(a.probabilities - b.probabilities).max())
            changed = int(a.class_id != b.class_id and not _is_close_call(a, b, near))
            agreed.append(not changed)
        elif isinstance(a, AttributeProbabilities) and isinstance(b, AttributeProbabilities):
            largest = float(abs(a.probabilities - b.probabilities).max())
            flipped = (a.probabilities >= 0.5) != (b.probabilities >= 0.5)
            if near is not None:
                flipped &= abs(a.probabilities - b.probabilities) > near
            changed = int(flipped.any())
            agreed.append(not changed)
        elif isinstance(a, Detections) and isinstance(b, Detections):
            pairs, changed = _pair_boxes(a, b, counts_from, near)
            boxes += len(pairs) + changed
            agreed += [True] * len(pairs) + [False] * changed
            overlaps += [iou for iou, _ in pairs]
            largest = max((difference for _, difference in pairs), default=0.0)
        else:
            raise ValueError("answers of different kinds cannot be compared")
        differences.append(largest)
        worst.append(1.0 + changed if changed else min(largest, 0.999))
    return Parity(
        images=len(reference),
        max_difference=max(differences),
        agreement=sum(agreed) / len(agreed) if agreed else 1.0,
        minimum_iou=min(overlaps),
        boxes=boxes,
        by_image=tuple(worst),
    )


def _is_close_call(a: ClassProbabilities, b: ClassProbabilities, near: float | None) -> bool:
    """Whether both forms hold the two classes for about equally probable."""
    if near is None:
        return False
    gaps = [
        float(one.probabilities[one.class_id] - one.probabilities[other.class_id])
        for one, other in ((a, b), (b, a))
    ]
    return max(gaps) <= near


def _pair_boxes(
    first: Detections,
    second: Detections,
    counts_from: float | NDArray[np.float32],
    near: float | None,
) -> tuple[list[tuple[float, float]], int]:
    """(IoU, difference of confidence) of each pair, and how many boxes have no partner."""
    pairs: list[tuple[float, float]] = []
    lonely = 0
    for class_id in sorted({*first.class_id.tolist(), *second.class_id.tolist()}):
        limit = float(counts_from if np.ndim(counts_from) == 0 else counts_from[class_id])  # type: ignore[index]
        floor = 0.0 if near is None else limit - near
        a = first[(first.class_id == class_id) & (first.confidence >= floor)]
        b = second[(second.class_id == class_id) & (second.confidence >= floor)]
        matched = match_boxes(a.xyxy, b.xyxy, min_iou=0.5)
        rows, columns = {row for row, _, _ in matched}, {column for _, column, _ in matched}
        for row, column, iou in matched:
            one, two = float(a.confidence[row]), float(b.confidence[column])
            if max(one, two) >= limit:
                pairs.append((iou, abs(one - two)))
        lonely += _count_lonely(a, rows, limit) + _count_lonely(b, columns, limit)
    return pairs, lonely


def _count_lonely(boxes: Detections, paired: set[int], counts_from: float) -> int:
    counted = [i for i, confidence in enumerate(boxes.confidence) if confidence >= counts_from]
    return len(set(counted) - paired)
