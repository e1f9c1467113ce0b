"""Which boxes find which true ones, and the average precision of every resampling.

COCO's rules (Lin et al., 2014; pycocotools): each box, most confident first, takes the free
true box that it overlaps best; of an image and class the 100 most confident boxes count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou
from visionloop.evaluation.coco_metrics import Truth, size_of_boxes

__all__ = ["IOU_STEPS", "Matches", "average_precision", "match_classes"]

IOU_STEPS = np.linspace(0.5, 0.95, 10, dtype=np.float64)
RECALL_STEPS = np.linspace(0.0, 1.0, 101)
MAX_BOXES = 100

Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Matches:
    """The detections of one class over all images, most confident first.

    Attributes
    ----------
    confidence : float32 array (M,)
    image : int64 array (M,)
        Where each detection is.
    hit : bool array (T, M)
        Whether it found a true box, at each IoU step.
    passed_over : bool array (T, M)
        Whether it does not count: it found a box of another size, or is of another size
        and found nothing.
    truths : int64 array (N,)
        True boxes of each image.
    """

    confidence: NDArray[np.float32]
    image: NDArray[np.int64]
    hit: Flags
    passed_over: Flags
    truths: NDArray[np.int64]


def match_classes(
    truths: Sequence[Truth],
    detections: Sequence[Detections],
    class_count: int,
    *,
    size: str = "",
    steps: NDArray[np.float64] = IOU_STEPS,
) -> list[Matches]:
    """Match every class; with ``size`` ("small", "medium", "large") true boxes of that size alone.

    Parameters
    ----------
    truths, detections : sequences, one an image
    class_count : int
    steps : float64 array (T,)
        IoU from which a box is found.
    """
    return [
        _match_class(
            [truth.xyxy[truth.class_id == class_id] for truth in truths],
            [found[found.class_id == class_id] for found in detections],
            size,
            steps,
        )
        for class_id in range(class_count)
    ]


def average_precision(
    matches: Matches, step: int, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Area under the precision-recall curve at 101 recalls, for each resampling (B,).

    Only the detections up to the last hit count, and the curve changes at hits alone.
    """
    truths = weights @ matches.truths
    counted = ~matches.passed_over[step]
    hit, image = matches.hit[step][counted], matches.image[counted]
    hits = np.flatnonzero(hit)
    defined = truths > 0
    if not len(hits):
        return np.where(defined, 0.0, np.nan)
    reported = np.cumsum(weights[:, image[: hits[-1] + 1]], axis=1)[:, hits]
    found = np.cumsum(weights[:, image[hits]], axis=1)
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


def _match_class(
    truths: Sequence[NDArray[np.float32]],
    detections: Sequence[Detections],
    size: str,
    steps: NDArray[np.float64],
) -> Matches:
    counts = np.array([_of_size(xyxy, size).sum() for xyxy in truths], np.int64)
    rows: list[tuple[NDArray[np.float32], NDArray[np.int64], Flags, Flags]] = []
    for number, (xyxy, found) in enumerate(zip(truths, detections, strict=True)):
        order = np.argsort(-found.confidence, kind="stable")[:MAX_BOXES]
        if not len(order):
            continue
        chosen = found[order]
        hit, foreign = _hits(chosen.xyxy, xyxy, _of_size(xyxy, size), steps)
        passed_over = foreign | (~hit & ~_of_size(chosen.xyxy, size))
        image = np.full(len(chosen), number, np.int64)
        rows.append((chosen.confidence, image, hit, passed_over))
    if not rows:
        empty = np.zeros((len(steps), 0), bool)
        return Matches(np.zeros(0, np.float32), np.zeros(0, np.int64), empty, empty, counts)
    confidence, image, hit, passed_over = (
        np.concatenate(column, axis=-1) for column in zip(*rows, strict=True)
    )
    order = np.argsort(-confidence, kind="stable")
    return Matches(confidence[order], image[order], hit[:, order], passed_over[:, order], counts)


def _of_size(xyxy: NDArray[np.float32], size: str) -> Flags:
    if not size:
        return np.ones(len(xyxy), bool)
    return np.array([one == size for one in size_of_boxes(xyxy)], bool)


def _hits(
    found: NDArray[np.float32],
    truth: NDArray[np.float32],
    counted: Flags,
    steps: NDArray[np.float64],
) -> tuple[Flags, Flags]:
    """Which boxes of one image and class find a true box, and which find one that does not count.

    Both (T, M). A box that can find one that counts does not take another.
    """
    hit = np.zeros((len(steps), len(found)), bool)
    foreign = hit.copy()
    if not len(truth):
        return hit, foreign
    overlap = box_iou(found, truth)
    taken = np.zeros((len(steps), len(truth)), bool)
    places = np.arange(len(steps))
    for number, row in enumerate(overlap):
        if row.max() < steps[0]:
            continue
        is_free = ~taken & (row[None, :] >= steps[:, None] - 1e-9)
        # One that counts is better than any other, whatever the overlap.
        free = np.where(is_free, row[None, :] + 2.0 * counted[None, :], -1.0)
        best = free.argmax(axis=1)
        is_found = free[places, best] >= 0
        hit[:, number] = is_found & counted[best]
        foreign[:, number] = is_found & ~counted[best]
        taken[places[is_found], best[is_found]] = True
    return hit, foreign
