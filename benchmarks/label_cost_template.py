"""Drafts without a model: where a board differs from its clean template.

A row of its own, because most plants have no template of each picture. A difference has no
class (the most frequent one is guessed) and hugs the defect, while people draw with a margin:
the margin is the median of the first boards, which are drawn by hand.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from label_cost_models import SIDE, Boards
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import match_boxes
from visionloop.data.datasets.deeppcb import ZippedBoards

__all__ = ["draft_by_template"]

FEWEST_PIXELS = 20
"""Smaller differences are edges that moved by a pixel."""


def draft_by_template(boards: Boards, drawn: int) -> dict[int, Detections]:
    """A draft for every board after the first ``drawn``."""
    archive = ZippedBoards(Path(os.environ["VISIONLOOP_MIRROR"]) / "deeppcb.zip")
    found = [
        _differences(content, archive.template(name))
        for name, content in zip(boards.names, boards.contents, strict=True)
    ]
    margin = _margin(found[:drawn], boards.xyxy[:drawn])
    known = np.concatenate(boards.class_id[:drawn])
    guess = int(np.bincount(known).argmax())
    drafts = {}
    for image in range(drawn, len(found)):
        xyxy = np.clip(found[image] + margin, 0, SIDE).astype(np.float32)
        count = len(xyxy)
        drafts[image] = Detections(
            xyxy, np.full(count, guess, np.int64), np.full(count, 0.9, np.float32)
        )
    return drafts


def _differences(content: bytes, template: bytes) -> NDArray[np.float32]:
    board, clean = (
        cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_GRAYSCALE)
        for one in (content, template)
    )
    changed = (cv2.absdiff(board, clean) > 127).astype(np.uint8)
    changed = cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    joined = cv2.dilate(changed, np.ones((7, 7), np.uint8))
    _, labels, parts, _ = cv2.connectedComponentsWithStats(joined)
    boxes = []
    for number, (x, y, width, height, _) in enumerate(parts[1:], start=1):
        inside = labels[y : y + height, x : x + width] == number
        if changed[y : y + height, x : x + width][inside].sum() >= FEWEST_PIXELS:
            boxes.append((x + 3, y + 3, x + width - 3, y + height - 3))
    return np.array(boxes, np.float32).reshape(-1, 4)


def _margin(
    found: list[NDArray[np.float32]], drawn: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """How far people draw each side beyond the difference, in pixels."""
    rows = [
        boxes[other] - differences[one]
        for differences, boxes in zip(found, drawn, strict=True)
        for one, other, _ in match_boxes(differences, boxes, min_iou=0.05)
    ]
    return np.median(np.array(rows), axis=0).astype(np.float32)
