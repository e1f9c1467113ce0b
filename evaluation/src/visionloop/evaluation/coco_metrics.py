"""Mean average precision by faster-coco-eval, and the truth that it is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.evaluation.ratios import mean_of_defined

__all__ = ["SIZES", "Truth", "average_precisions", "size_of_boxes"]

SIZES = ("small", "medium", "large")
"""By area in pixels, as COCO: below 32 × 32, below 96 × 96, and above."""
EDGES = (32.0**2, 96.0**2)


@dataclass(frozen=True, eq=False)
class Truth:
    """What people said of one sample.

    Attributes
    ----------
    class_id : int64 array (N,)
        One number for the whole image (classification), or one a box.
    xyxy : float32 array (N, 4)
        Pixels; (0, 4) for classification.
    """

    class_id: NDArray[np.int64]
    xyxy: NDArray[np.float32]


def size_of_boxes(xyxy: NDArray[np.float32]) -> list[str]:
    """Small, medium or large, for each box (N, 4) in pixels."""
    sides = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0).astype(np.float64)
    bins = np.searchsorted(np.array(EDGES), sides[:, 0] * sides[:, 1], side="right")
    return [SIZES[number] for number in bins]


def average_precisions(
    truths: Sequence[Truth], detections: Sequence[Detections], classes: Sequence[str]
) -> dict[str, float]:
    """``map50``, ``map50_95``, ``map50_small``, ``_medium``, ``_large``, ``ap50/<class>``.

    By faster-coco-eval. NaN for a class without a true box, and for the means where no
    class has one.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    names = [f"ap50/{name}" for name in classes]
    has_truth = any(len(truth.class_id) for truth in truths)
    if not has_truth or not any(len(found) for found in detections):
        present = {int(one) for truth in truths for one in truth.class_id}
        areas = [0.0 if number in present else float("nan") for number in range(len(classes))]
        mean = 0.0 if has_truth else float("nan")
        present_sizes = {size for truth in truths for size in size_of_boxes(truth.xyxy)}
        sizes = {f"map50_{size}": 0.0 if size in present_sizes else float("nan") for size in SIZES}
        means = {"map50": mean, "map50_95": mean, **sizes}
        return means | dict(zip(names, areas, strict=True))
    reference = COCO(_as_coco(truths, classes))
    evaluation = COCOeval_faster(reference, reference.loadRes(_as_coco_rows(detections)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    # precision: (IoU steps, recall steps, classes, areas, maximum boxes); -1 is undefined.
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, :, -1]
    precision = np.where(precision < 0, np.nan, precision).mean(axis=1)
    by_class = precision[:, :, 0]
    sizes = {
        f"map50_{size}": float(mean_of_defined(precision[0, :, place]))
        for place, size in enumerate(SIZES, start=1)
    }
    return {
        "map50": float(np.nanmean(by_class[0])),
        "map50_95": float(np.nanmean(by_class)),
        **sizes,
    } | dict(zip(names, map(float, by_class[0]), strict=True))


def _as_coco(truths: Sequence[Truth], classes: Sequence[str]) -> dict[str, object]:
    rows = [
        {"image_id": number, "category_id": int(class_id), "iscrowd": 0, **_as_coco_box(box)}
        for number, truth in enumerate(truths, start=1)
        for class_id, box in zip(truth.class_id, truth.xyxy, strict=True)
    ]
    return {
        "images": [{"id": number, "width": 1, "height": 1} for number in range(1, len(truths) + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes)],
        "annotations": [{"id": number, **row} for number, row in enumerate(rows, start=1)],
    }


def _as_coco_rows(detections: Sequence[Detections]) -> list[dict[str, object]]:
    return [
        {
            "image_id": number,
            "category_id": int(class_id),
            "score": float(confidence),
            **_as_coco_box(box),
        }
        for number, found in enumerate(detections, start=1)
        for class_id, confidence, box in zip(
            found.class_id, found.confidence, found.xyxy, strict=True
        )
    ]


def _as_coco_box(box: NDArray[np.float32]) -> dict[str, object]:
    x1, y1, x2, y2 = (float(value) for value in box)
    width, height = max(x2 - x1, 0.0), max(y2 - y1, 0.0)
    return {"bbox": [x1, y1, width, height], "area": width * height}
