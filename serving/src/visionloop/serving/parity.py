"""Parity: how far two forms of one model are from each other on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.geometry import match_boxes

__all__ = ["Parity", "compare_package_with", "compare_predictions"]

SEARCH_CONFIDENCE = 0.05


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
    """

    images: int
    max_difference: float
    agreement: float
    minimum_iou: float = 1.0
    boxes: int = 0

    def as_row(self) -> dict[str, int | float]:
        """The numbers by name."""
        return asdict(self)


def compare_predictions(
    reference: Sequence[Prediction],
    other: Sequence[Prediction],
    *,
    counts_from: float = 0.25,
) -> Parity:
    """Compare answers of two forms of a model on the same images, in the same order.

    Parameters
    ----------
    reference, other : sequences of Prediction
        Detections should reach well below ``counts_from``, so that a box just below
        it on one side finds its partner on the other.
    counts_from : float
        A box of at least this confidence on either side must have a partner of the same
        class (IoU at least 0.5) on the other.

    Raises
    ------
    ValueError
        If the lengths differ or there is nothing to compare.
    """
    if len(reference) != len(other) or not reference:
        raise ValueError(f"{len(reference)} answers against {len(other)}")
    differences, overlaps, agreed = [0.0], [1.0], []
    boxes = 0
    for first, second in zip(reference, other, strict=True):
        a, b = first.answer, second.answer
        if isinstance(a, ClassProbabilities) and isinstance(b, ClassProbabilities):
            differences.append(float(abs(a.probabilities - b.probabilities).max()))
            agreed.append(a.class_id == b.class_id)
        elif isinstance(a, AttributeProbabilities) and isinstance(b, AttributeProbabilities):
            differences.append(float(abs(a.probabilities - b.probabilities).max()))
            agreed.append(bool(((a.probabilities >= 0.5) == (b.probabilities >= 0.5)).all()))
        elif isinstance(a, Detections) and isinstance(b, Detections):
            pairs, lonely = _pair_boxes(a, b, counts_from)
            boxes += len(pairs) + lonely
            agreed += [True] * len(pairs) + [False] * lonely
            overlaps += [iou for iou, _ in pairs]
            differences += [difference for _, difference in pairs]
        else:
            raise ValueError("answers of different kinds cannot be compared")
    return Parity(
        images=len(reference),
        max_difference=max(differences),
        agreement=sum(agreed) / len(agreed) if agreed else 1.0,
        minimum_iou=min(overlaps),
        boxes=boxes,
    )


def _pair_boxes(
    first: Detections, second: Detections, counts_from: float
) -> tuple[list[tuple[float, float]], int]:
    """(IoU, difference of confidence) of each pair, and how many boxes have no partner."""
    pairs: list[tuple[float, float]] = []
    lonely = 0
    for class_id in sorted({*first.class_id.tolist(), *second.class_id.tolist()}):
        a, b = first[first.class_id == class_id], second[second.class_id == class_id]
        matched = match_boxes(a.xyxy, b.xyxy, min_iou=0.5)
        rows, columns = {row for row, _, _ in matched}, {column for _, column, _ in matched}
        for row, column, iou in matched:
            one, two = float(a.confidence[row]), float(b.confidence[column])
            if max(one, two) >= counts_from:
                pairs.append((iou, abs(one - two)))
        lonely += _count_lonely(a, rows, counts_from) + _count_lonely(b, columns, counts_from)
    return pairs, lonely


def _count_lonely(boxes: Detections, paired: set[int], counts_from: float) -> int:
    counted = [i for i, confidence in enumerate(boxes.confidence) if confidence >= counts_from]
    return len(set(counted) - paired)


def compare_package_with(
    *, package: str, trusted_keys: list[str], model: str, images: list[str]
) -> dict[str, Any]:
    """Compare a package with another ONNX form of its model on image files.

    Call it apart: a badly converted model has crashed ONNX Runtime.
    """
    from visionloop.serving.images import read_image
    from visionloop.serving.package import load_package
    from visionloop.serving.predictor import Predictor

    loaded = load_package(Path(package), trusted_keys=[Path(key) for key in trusted_keys])
    reference = Predictor(loaded, threads=1)
    other = Predictor(loaded, threads=1, model=Path(model).read_bytes())
    pictures = [read_image(Path(image)) for image in images]
    if loaded.manifest.vision_task == "embedding":
        difference = abs(reference.embed(pictures) - other.embed(pictures)).max()
        return Parity(len(pictures), float(difference), 1.0).as_row()
    return compare_predictions(
        reference.predict(pictures, minimum_confidence=SEARCH_CONFIDENCE),
        other.predict(pictures, minimum_confidence=SEARCH_CONFIDENCE),
    ).as_row()
