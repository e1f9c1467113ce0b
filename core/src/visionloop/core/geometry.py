"""Boxes: intersection over union, matching, non-maximum suppression (numpy only)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["box_area", "box_iou", "match_boxes", "suppress_non_maximum"]

Boxes = NDArray[np.float32]
BLOCK = 256


def box_area(xyxy: Boxes) -> NDArray[np.float32]:
    """Areas in square pixels of boxes (N, 4); a degenerate box has area 0."""
    size = np.clip(xyxy[:, 2:] - xyxy[:, :2], 0, None)
    return np.asarray(size[:, 0] * size[:, 1], dtype=np.float32)


def box_iou(first: Boxes, second: Boxes) -> NDArray[np.float32]:
    """Intersection over union of every pair.

    Parameters
    ----------
    first, second : float32 arrays (N, 4) and (M, 4)
        Corners in pixels.

    Returns
    -------
    float32 array (N, M)
        In [0, 1]; 0 where the union is empty.
    """
    # Side by side, not corner by corner: long rows are several times faster than pairs.
    overlap = _shared_side(first, second, 0)
    overlap *= _shared_side(first, second, 1)
    union = box_area(first)[:, None] + box_area(second)[None, :] - overlap
    iou = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return np.asarray(iou, dtype=np.float32)


def _shared_side(first: Boxes, second: Boxes, axis: int) -> NDArray[np.float32]:
    """Of the intersections, float32 (N, M): 0 where there is none."""
    side = np.minimum(first[:, None, axis + 2], second[None, :, axis + 2])
    side -= np.maximum(first[:, None, axis], second[None, :, axis])
    np.maximum(side, 0, out=side)
    return np.asarray(side, np.float32)


def match_boxes(
    first: Boxes, second: Boxes, *, min_iou: float = 0.5
) -> list[tuple[int, int, float]]:
    """Pair boxes greedily, best overlap first, each box at most once.

    Returns
    -------
    list of (index in first, index in second, IoU)
        In order of falling IoU, all at least ``min_iou``.
    """
    iou = box_iou(first, second)
    pairs: list[tuple[int, int, float]] = []
    used_first: set[int] = set()
    used_second: set[int] = set()
    candidates = np.argwhere(iou >= min_iou)
    order = np.argsort(-iou[candidates[:, 0], candidates[:, 1]], kind="stable")
    for row, column in candidates[order]:
        if row in used_first or column in used_second:
            continue
        used_first.add(int(row))
        used_second.add(int(column))
        pairs.append((int(row), int(column), float(iou[row, column])))
    return pairs


def suppress_non_maximum(
    xyxy: Boxes,
    confidence: NDArray[np.float32],
    class_id: NDArray[np.int64],
    *,
    max_iou: float = 0.7,
    max_boxes: int = 300,
) -> NDArray[np.int64]:
    """Indices of the boxes that stay, in order of falling confidence.

    Boxes of different classes never suppress each other (they are moved apart by
    an offset larger than the image before the comparison).
    """
    if len(xyxy) == 0:
        return np.zeros(0, np.int64)
    apart = xyxy + (class_id * (float(xyxy.max()) + 1)).astype(np.float32)[:, None]
    order = np.argsort(-confidence, kind="stable")
    kept: list[int] = []
    # In blocks, so that overlaps are computed at once and memory stays small with many boxes.
    while len(order) and len(kept) < max_boxes:
        block, order = order[:BLOCK], order[BLOCK:]
        found = _keep_of_block(apart[block], max_iou)[: max_boxes - len(kept)]
        kept += block[found].tolist()
        if len(order):
            covered = (box_iou(apart[block[found]], apart[order]) > max_iou).any(axis=0)
            order = order[~covered]
    return np.array(kept, np.int64)


def _keep_of_block(boxes: Boxes, max_iou: float) -> NDArray[np.int64]:
    """Places of the boxes (N, 4), most important first, that no earlier kept one covers."""
    overlapping = box_iou(boxes, boxes) > max_iou
    covered = np.zeros(len(boxes), np.bool_)
    kept = []
    for place in range(len(boxes)):
        if not covered[place]:
            kept.append(place)
            covered |= overlapping[place]
    return np.array(kept, np.int64)
