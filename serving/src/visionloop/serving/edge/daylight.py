"""Day or night, sensed from the picture: dark, or without colour (infrared)."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Daylight"]

DARK, BRIGHT = 45.0, 60.0
"""Mean grey level at which night begins, and ends."""
GREY, COLOURED = 4.0, 8.0
"""Mean difference between the largest and the smallest channel: infrared pictures have none."""
FRAMES = 5
"""Frames that must agree before it changes: headlights are no morning."""


class Daylight:
    """The light of one camera.

    Attributes
    ----------
    now : "day" or "night"
    """

    def __init__(self) -> None:
        self.now: Literal["day", "night"] = "day"
        self._other = 0
        self._is_first = True

    def look(self, image: NDArray[np.uint8]) -> Literal["day", "night"]:
        """Note a frame uint8 (H, W, 3) BGR; returns what it is by now."""
        small = cv2.resize(image, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32)
        grey = float(small.mean())
        colour = float((small.max(axis=2) - small.min(axis=2)).mean())
        if self.now == "day":
            differs = grey < DARK or colour < GREY
        else:
            differs = grey > BRIGHT and colour > COLOURED
        self._other = self._other + 1 if differs else 0
        if self._other >= FRAMES or (self._is_first and differs):
            self.now = "night" if self.now == "day" else "day"
            self._other = 0
        self._is_first = False
        return self.now
