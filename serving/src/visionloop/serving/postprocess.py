"""From the model's outputs to probabilities and detections (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import (
    Answer,
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
)
from visionloop.core.geometry import suppress_non_maximum
from visionloop.serving.preprocess import Placement

__all__ = ["decode", "decode_attributes", "decode_detr", "decode_probabilities", "decode_yolo"]

MAX_CANDIDATES = 3000


def decode_probabilities(output: NDArray[np.float32]) -> list[ClassProbabilities]:
    """Read probabilities (B, C).

    Raises
    ------
    ValueError
        If a row is not finite or does not sum to 1.
    """
    rows = np.asarray(output, np.float32)
    return [ClassProbabilities(row) for row in rows.reshape(len(rows), -1)]


def decode_attributes(output: NDArray[np.float32]) -> list[AttributeProbabilities]:
    """Read attributes (B, C).

    Raises
    ------
    ValueError
        If a number is not finite or outside [0, 1].
    """
    rows = np.asarray(output, np.float32)
    return [AttributeProbabilities(row) for row in rows.reshape(len(rows), -1)]


def decode_detr(
    output: NDArray[np.float32],
    placement: Placement,
    *,
    minimum_confidence: NDArray[np.float32],
    max_boxes: int = 300,
) -> Detections:
    """Read one image's set of boxes: nothing is suppressed, each object is named once.

    Parameters
    ----------
    output : float32 array (N, 4 + C)
        Centre x, centre y, width, height in pixels of the model's input, then the
        confidence of each class in [0, 1].
    placement, minimum_confidence
        As in :func:`decode_yolo`.

    Returns
    -------
    Detections
        In pixels of the original image, clipped to it, by falling confidence. A query may
        answer with several classes, as in DETR's own evaluation (arXiv 2304.08069).

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    if not np.isfinite(output).all():
        raise ValueError("boxes and confidences must be finite")
    by_class = np.clip(output[:, 4:], 0, 1)
    query, class_id = np.nonzero(by_class >= minimum_confidence[None, :])
    confidence = by_class[query, class_id]
    best = np.argsort(-confidence, kind="stable")[:max_boxes]
    xyxy = _to_original(output[query[best], :4], placement)
    return Detections(xyxy, class_id[best].astype(np.int64), confidence[best])


def decode_yolo(
    output: NDArray[np.float32],
    placement: Placement,
    *,
    minimum_confidence: NDArray[np.float32],
    max_iou: float,
    max_boxes: int = 300,
) -> Detections:
    """Read one image's rows of a YOLO head.

    Parameters
    ----------
    output : float32 array (4 + C, N)
        Centre x, centre y, width, height in pixels of the model's input, then the
        confidence of each class in [0, 1].
    placement : Placement
        Where the image lies in the model's input.
    minimum_confidence : float32 array (C,)
        Smallest confidence of each class.
    max_iou : float
        Boxes of one class that overlap more are suppressed by the more confident one.

    Returns
    -------
    Detections
        In pixels of the original image, clipped to it, by falling confidence.

    Raises
    ------
    ValueError
        If a side of a box or the largest confidence of a place is not finite.
    """
    by_class = output[4:]
    # The class is looked for only where one of them can count: most places hold nothing.
    confidence = by_class.max(axis=0)
    # What is not a number is its place's maximum; every class is read once.
    if not (np.isfinite(output[:4]).all() and np.isfinite(confidence).all()):
        raise ValueError("boxes and confidences must be finite")
    kept = np.flatnonzero(confidence >= minimum_confidence.min())
    class_id = np.zeros(len(confidence), np.int64)
    class_id[kept] = by_class[:, kept].argmax(axis=0)
    kept = kept[confidence[kept] >= minimum_confidence[class_id[kept]]]
    if len(kept) > MAX_CANDIDATES:
        kept = kept[np.argsort(-confidence[kept], kind="stable")[:MAX_CANDIDATES]]
    class_id, confidence = class_id[kept], np.clip(confidence[kept], 0, 1)
    xyxy = _to_original(output[:4, kept].T, placement)
    best = suppress_non_maximum(xyxy, confidence, class_id, max_iou=max_iou, max_boxes=max_boxes)
    return Detections(xyxy[best], class_id[best], confidence[best])


def decode(
    output: NDArray[np.float32],
    placements: Sequence[Placement],
    *,
    kind: str,
    minimum_confidence: NDArray[np.float32],
    max_iou: float,
) -> list[Answer]:
    """Read the answers of a batch, whatever their kind in the manifest.

    Raises
    ------
    ValueError
        If a number is not finite or not a probability where it should be one.
    """
    if kind == "probabilities":
        return list(decode_probabilities(output))
    if kind == "attributes":
        return list(decode_attributes(output))
    pairs = zip(output, placements, strict=True)
    if kind == "detr":
        return [
            decode_detr(row, place, minimum_confidence=minimum_confidence) for row, place in pairs
        ]
    return [
        decode_yolo(row, place, minimum_confidence=minimum_confidence, max_iou=max_iou)
        for row, place in pairs
    ]


def _to_original(xywh: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    half = xywh[:, 2:] / 2
    xyxy = np.concatenate([xywh[:, :2] - half, xywh[:, :2] + half], axis=1)
    xyxy[:, 0::2] = (xyxy[:, 0::2] - placement.left) / placement.scale_x
    xyxy[:, 1::2] = (xyxy[:, 1::2] - placement.top) / placement.scale_y
    xyxy[:, 0::2] = xyxy[:, 0::2].clip(0, placement.width)
    xyxy[:, 1::2] = xyxy[:, 1::2].clip(0, placement.height)
    return np.asarray(xyxy, np.float32)
