"""The last picture of each camera with its boxes, for the status page; and counts by camera."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections, Prediction
from visionloop.serving.edge.record.pictures import draw_observation, encode_jpeg
from visionloop.serving.edge.rules.table import Observation

__all__ = ["CameraCounts", "Gallery", "small_jpeg"]

WIDTH = 400
EVERY_S = 1.0


@dataclass
class CameraCounts:
    """What came of one camera since the start."""

    frames: int = 0
    events: int = 0
    boxes: int = 0


@dataclass(eq=False)
class _Last:
    image: NDArray[np.uint8]
    detections: Detections
    classes: Sequence[str]
    moment: float


@dataclass
class Gallery:
    """Small pictures in memory; thread-safe."""

    counts: dict[str, CameraCounts] = field(default_factory=dict)
    _last: dict[str, _Last] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(
        self,
        camera: str,
        image: NDArray[np.uint8],
        prediction: Prediction | None,
        classes: Sequence[str],
        events: int,
    ) -> None:
        """Take in an analysed frame (uint8 (H, W, 3), BGR) and how many events it gave."""
        counts = self.counts.setdefault(camera, CameraCounts())
        counts.frames += 1
        counts.events += events
        answer = None if prediction is None else prediction.answer
        boxes = answer if isinstance(answer, Detections) else Detections.empty()
        counts.boxes = len(boxes)
        now = time.monotonic()
        with self._lock:
            last = self._last.get(camera)
        if last is not None and now - last.moment < EVERY_S and not events:
            return
        scale = min(1.0, WIDTH / image.shape[1])
        small = _shrink(image, scale)
        boxes = Detections(boxes.xyxy * scale, boxes.class_id, boxes.confidence)
        with self._lock:
            self._last[camera] = _Last(small, boxes, classes, now)

    def picture(self, camera: str) -> bytes | None:
        """The last picture of a camera with boxes (JPEG); None before the first."""
        with self._lock:
            last = self._last.get(camera)
        if last is None:
            return None
        text = f"{len(last.detections)} boxes"
        drawn = draw_observation(last.image, Observation(text, 0.0, last.detections), last.classes)
        return encode_jpeg(drawn[-last.image.shape[0] :], quality=80)

    def forget(self, cameras: set[str]) -> None:
        """Keep only these cameras."""
        with self._lock:
            for name in set(self._last) - cameras:
                del self._last[name]
        for name in set(self.counts) - cameras:
            del self.counts[name]


def small_jpeg(image: NDArray[np.uint8], width: int = WIDTH) -> bytes:
    """A picture that may travel with an event: about 10 to 20 kB."""
    return encode_jpeg(_shrink(image, min(1.0, width / image.shape[1])), quality=75)


def _shrink(image: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale >= 1:
        return image.copy()
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
