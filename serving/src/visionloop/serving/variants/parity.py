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
    Answer,
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.geometry import match_boxes
from visionloop.serving.variants.close_calls import CloseCalls

__all__ = [
    "ATTRIBUTE_THRESHOLD",
    "SEARCH_CONFIDENCE",
    "Parity",
    "compare_predictions",
]

SEARCH_CONFIDENCE = 0.05

ATTRIBUTE_THRESHOLD = 0.5


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
        half), or of boxes with a partner. Close calls count as the same while they are excused.
    minimum_iou : float
        Smallest overlap of matched boxes; 1 for classification.
    boxes : int
        Boxes compared; 0 for classification.
    decisions : int
        Images or boxes of which ``agreement`` is the share.
    close_calls : int
        Decisions that differ, but lie within ``near`` of the threshold in both forms.
    why_counted : str
        Why close calls count as changed decisions; empty where they are excused.
    by_image : tuple of float
        Difference of each image, 1 where a decision changed; for the page that shows the worst.
    """

    images: int
    max_difference: float
    agreement: float
    minimum_iou: float = 1.0
    boxes: int = 0
    decisions: int = 0
    close_calls: int = 0
    why_counted: str = ""
    by_image: tuple[float, ...] = field(default=(), repr=False)

    @property
    def same_images(self) -> float:
        """Share of images on which no decision changed."""
        return sum(one < 1 for one in self.by_image) / len(self.by_image) if self.by_image else 1.0

    @property
    def strict_agreement(self) -> float:
        """Share of the decisions that are the same, no close call excused."""
        if self.why_counted or not self.decisions:
            return self.agreement
        return self.agreement - self.close_calls / self.decisions

    def as_row(self) -> dict[str, float | int | str]:
        """The numbers by name, without those of single images."""
        row = asdict(self)
        row.pop("by_image")
        return row


@dataclass
class _Found:
    """What one picture showed."""

    decisions: int = 1
    changed: int = 0
    close: int = 0
    largest: float = 0.0
    boxes: int = 0
    overlaps: list[float] = field(default_factory=list)


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
        Decisions that differ within ``near`` of the threshold in both forms are close calls,
        see :class:`CloseCalls`: the partner of a box is at least ``counts_from - near``
        confident; both forms hold the two classes for about equally probable; a probability of
        an attribute is about one half. None takes any partner, and counts every changed class.

    Raises
    ------
    ValueError
        If the lengths differ or there is nothing to compare.
    """
    if len(reference) != len(other) or not reference:
        raise ValueError(f"{len(reference)} answers against {len(other)}")
    calls = CloseCalls()
    rows = [
        _compare_one(first.answer, second.answer, counts_from, near, calls)
        for first, second in zip(reference, other, strict=True)
    ]
    decisions = sum(row.decisions for row in rows)
    why_counted = calls.why_counted(decisions)
    changed = [row.changed + (row.close if why_counted else 0) for row in rows]
    return Parity(
        images=len(rows),
        max_difference=max(row.largest for row in rows),
        agreement=1 - sum(changed) / decisions if decisions else 1.0,
        minimum_iou=min((iou for row in rows for iou in row.overlaps), default=1.0),
        boxes=sum(row.boxes for row in rows),
        decisions=decisions,
        close_calls=calls.count,
        why_counted=why_counted,
        by_image=tuple(
            1.0 + count if count else min(row.largest, 0.999)
            for count, row in zip(changed, rows, strict=True)
        ),
    )


def _compare_one(
    a: Answer,
    b: Answer,
    counts_from: float | NDArray[np.float32],
    near: float | None,
    calls: CloseCalls,
) -> _Found:
    if isinstance(a, ClassProbabilities) and isinstance(b, ClassProbabilities):
        return _compare_classes(a, b, near, calls)
    if isinstance(a, AttributeProbabilities) and isinstance(b, AttributeProbabilities):
        return _compare_attributes(a, b, near, calls)
    if isinstance(a, Detections) and isinstance(b, Detections):
        return _compare_boxes(a, b, counts_from, near, calls)
    raise ValueError("answers of different kinds cannot be compared")


def _compare_classes(
    a: ClassProbabilities, b: ClassProbabilities, near: float | None, calls: CloseCalls
) -> _Found:
    found = _Found(largest=float(abs(a.probabilities - b.probabilities).max()))
    if a.class_id == b.class_id:
        return found
    # Both forms hold the two classes for about equally probable.
    gaps = [
        float(one.probabilities[one.class_id] - one.probabilities[other.class_id])
        for one, other in ((a, b), (b, a))
    ]
    if near is not None and max(gaps) <= near:
        found.close = 1
        calls.add(gained=[b.class_id], lost=[a.class_id])
    else:
        found.changed = 1
    return found


def _compare_attributes(
    a: AttributeProbabilities, b: AttributeProbabilities, near: float | None, calls: CloseCalls
) -> _Found:
    found = _Found(largest=float(abs(a.probabilities - b.probabilities).max()))
    first, second = (one.probabilities >= ATTRIBUTE_THRESHOLD for one in (a, b))
    flipped = first != second
    far = np.maximum(
        abs(a.probabilities - ATTRIBUTE_THRESHOLD), abs(b.probabilities - ATTRIBUTE_THRESHOLD)
    )
    if near is None or (flipped & (far > near)).any():
        found.changed = int(flipped.any())
    elif flipped.any():
        found.close = 1
        gained, lost = np.flatnonzero(flipped & second), np.flatnonzero(flipped & first)
        calls.add(gained=gained.tolist(), lost=lost.tolist())
    return found


def _compare_boxes(
    first: Detections,
    second: Detections,
    counts_from: float | NDArray[np.float32],
    near: float | None,
    calls: CloseCalls,
) -> _Found:
    """Boxes are decisions, each with its partner; one that has none was changed."""
    found = _Found(decisions=0)
    for class_id in sorted({*first.class_id.tolist(), *second.class_id.tolist()}):
        limit = float(counts_from if np.ndim(counts_from) == 0 else counts_from[class_id])  # type: ignore[index]
        floor = 0.0 if near is None else limit - near
        a = first[(first.class_id == class_id) & (first.confidence >= floor)]
        b = second[(second.class_id == class_id) & (second.confidence >= floor)]
        matched = match_boxes(a.xyxy, b.xyxy, min_iou=0.5)
        for row, column, iou in matched:
            one, two = float(a.confidence[row]), float(b.confidence[column])
            if max(one, two) < limit:
                continue
            found.boxes += 1
            found.overlaps.append(iou)
            found.largest = max(found.largest, abs(one - two))
            # Within ``near`` of the threshold on both sides: a far drop to just below it is none.
            if near is not None and min(one, two) < limit:
                if max(one, two) <= limit + near:
                    found.close += 1
                    calls.add(**{"gained" if two >= limit else "lost": [class_id]})
                else:
                    found.changed += 1
        lonely = _count_lonely(a, {row for row, _, _ in matched}, limit)
        lonely += _count_lonely(b, {column for _, column, _ in matched}, limit)
        found.changed += lonely
        found.boxes += lonely
    found.decisions = found.boxes
    return found


def _count_lonely(boxes: Detections, paired: set[int], counts_from: float) -> int:
    counted = [i for i, confidence in enumerate(boxes.confidence) if confidence >= counts_from]
    return len(set(counted) - paired)
