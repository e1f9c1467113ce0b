"""Following objects from frame to frame: ByteTrack (Zhang et al., 2022), by ``trackforge``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from visionloop.core.entities import Detections

__all__ = ["ClassTracker"]

SURE = 0.5
"""Boxes from this confidence on are matched first and begin tracks; weaker ones only go on."""
LEAST_IOU = 0.1
"""Overlap with the place expected; small, as at five frames a second people move by their width."""
CLASSES, FRESH = 1000, 10**12
"""What keeps numbers of different classes, and of different beginnings, apart."""
LOST_FRAMES = 25
"""Frames for which an object that is not seen is remembered."""


class ClassTracker:
    """Numbers the objects of one camera, class by class.

    Numbers are unique within the camera and positive. Objects of two classes never take each
    other's number.

    Parameters
    ----------
    sure : float
        Confidence from which a box begins an object: the smallest that a rule counts.
    """

    def __init__(self, *, sure: float = SURE) -> None:
        self._sure = sure
        self._trackers: dict[int, Any] = {}
        self._first = 0
        self._size: tuple[int, int] | None = None

    def follow(self, boxes: Detections, width: int, height: int) -> Detections:
        """The boxes with ``tracker_id``; 0 is a box that belongs to no object (yet).

        Parameters
        ----------
        boxes : Detections
            In pixels of a frame of ``width`` x ``height``; another size than before forgets
            all objects, as they would jump.
        """
        if self._size not in (None, (width, height)):
            self._trackers.clear()
            self._first += FRESH
        self._size = (width, height)
        numbers = np.zeros(len(boxes), np.int64)
        for class_id in {*self._trackers, *map(int, boxes.class_id)}:
            rows = np.flatnonzero(boxes.class_id == class_id)
            for row, number in self._update(class_id, boxes, rows):
                numbers[row] = number
        return replace(boxes, tracker_id=numbers)

    def _update(
        self, class_id: int, boxes: Detections, rows: np.ndarray[Any, Any]
    ) -> list[tuple[int, int]]:
        tracker = self._trackers.get(class_id)
        if tracker is None:
            tracker = self._trackers[class_id] = self._make()
        size = boxes.xyxy[rows, 2:] - boxes.xyxy[rows, :2]
        corners = np.hstack([boxes.xyxy[rows, :2], size]).tolist()
        confidence = boxes.confidence[rows].tolist()
        found = tracker.update(
            [(box, sure, class_id) for box, sure in zip(corners, confidence, strict=True)]
        )
        return [
            (int(rows[place]), self._first + number * CLASSES + class_id)
            for number, _, _, _, place in found
            if place is not None
        ]

    def _make(self) -> Any:
        from trackforge import BYTETRACK

        return BYTETRACK(
            track_thresh=self._sure,
            track_buffer=LOST_FRAMES,
            match_thresh=1 - LEAST_IOU,
            det_thresh=self._sure,
            second_match_thresh=1 - LEAST_IOU,
        )
