"""Rules that compare annotated boxes with a model's, where there are too few to learn from.

Each box is compared by overlap: a confident answer where nothing is annotated (*missing*), an
annotation where the model sees nothing (*spurious*), one that overlaps badly (*shifted*) or
carries another class (*swapped*).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou

__all__ = ["compare_boxes", "make_finding", "measure_recall"]

SAME_PLACE = 0.5
"""IoU from which two boxes mean the same object in the same place."""
NEARBY = 0.1
"""IoU from which two boxes may mean the same object."""
ERROR_SHARE = 0.05
"""Share of boxes that are expected to be wrong before the model was asked."""


def compare_boxes(
    xyxy: NDArray[np.float32],
    class_id: NDArray[np.int64],
    answer: Detections,
    classes: Sequence[str],
    recall: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Compare the annotated boxes of one image with a model's.

    Parameters
    ----------
    xyxy : float32 array (N, 4), pixels
    class_id : int64 array (N,)
    answer : Detections
    classes : sequence of str
    recall : float64 array (C,)
        Share of the boxes of each class that the model sees at all: a model that misses
        many is no witness against a box that it does not see.

    Returns
    -------
    list of dict
        ``kind`` (missing, spurious, shifted, swapped), ``reason``, ``severity`` in [0, 1],
        ``suggestion`` (class name), ``xyxy`` and ``suggested_xyxy`` (lists of 4 floats; the
        latter of "shifted" only, else None).
    """
    iou = box_iou(xyxy, answer.xyxy)
    found = [
        row
        for number in range(len(xyxy))
        if (row := _doubt_annotation(number, xyxy, class_id, iou, answer, classes, recall))
    ]
    for number in range(len(answer)):
        overlap = float(iou[:, number].max(initial=0))
        if overlap >= NEARBY:
            continue
        sure = float(answer.confidence[number])
        name = classes[int(answer.class_id[number])]
        found.append(
            make_finding(
                "missing",
                f"The model sees '{name}' ({sure:.0%}) where nothing is annotated.",
                sure,
                name,
                answer.xyxy[number],
            )
        )
    return found


def _doubt_annotation(
    number: int,
    xyxy: NDArray[np.float32],
    class_id: NDArray[np.int64],
    iou: NDArray[np.float32],
    answer: Detections,
    classes: Sequence[str],
    recall: NDArray[np.float64],
) -> dict[str, Any] | None:
    own, place = classes[int(class_id[number])], xyxy[number]
    near = np.flatnonzero(iou[number] >= NEARBY)
    if not len(near):
        reason = f"Annotated '{own}', but the model sees nothing there."
        overlooked = 1 - float(recall[class_id[number]])
        wrong = ERROR_SHARE / (ERROR_SHARE + (1 - ERROR_SHARE) * overlooked)  # Bayes' rule
        return make_finding("spurious", reason, wrong, "", place)
    weight = iou[number, near] * answer.confidence[near]
    best = int(near[weight.argmax()])
    overlap, sure = float(iou[number, best]), float(answer.confidence[best])
    name = classes[int(answer.class_id[best])]
    same = near[answer.class_id[near] == class_id[number]]
    if name != own and overlap >= SAME_PLACE:
        agrees = float((iou[number, same] * answer.confidence[same]).max(initial=0))
        reason = f"Annotated '{own}', but the model says '{name}' ({sure:.0%}) there."
        return make_finding("swapped", reason, max(0.0, sure - agrees), name, place)
    if overlap < SAME_PLACE:
        reason = f"The model draws '{name}' ({sure:.0%}) elsewhere: they overlap {overlap:.0%}."
        return make_finding("shifted", reason, sure * (1 - overlap), name, place, answer.xyxy[best])
    return None


def make_finding(
    kind: str,
    reason: str,
    severity: float,
    suggestion: str,
    xyxy: NDArray[np.float32],
    suggested_xyxy: NDArray[np.float32] | None = None,
) -> dict[str, Any]:
    """A row of ``data/findings.parquet`` without its sample."""
    better = None if suggested_xyxy is None else [float(value) for value in suggested_xyxy]
    return {
        "kind": kind,
        "reason": reason,
        "severity": severity,
        "suggestion": suggestion,
        "xyxy": [float(value) for value in xyxy],
        "suggested_xyxy": better,
    }


def measure_recall(
    given: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    answers: Sequence[Detections],
    classes: int,
) -> NDArray[np.float64]:
    """Share of the annotated boxes of each class near which the model sees anything.

    Returns
    -------
    float64 array (C,)
        Between 0 and 1, with one success and one failure added (Laplace).
    """
    seen, total = np.ones(classes), np.full(classes, 2.0)
    for (xyxy, class_id), answer in zip(given, answers, strict=True):
        near = box_iou(xyxy, answer.xyxy).max(axis=1, initial=0) >= NEARBY
        np.add.at(seen, class_id, near)
        np.add.at(total, class_id, 1)
    return np.asarray(seen / total, np.float64)
