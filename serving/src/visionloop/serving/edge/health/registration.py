"""Is what a camera shows now what it showed before, from elsewhere?

Phase correlation (Kuglin and Hines, 1975) on the high-passed pictures, for some turns of the
camera about its view axis; the best proposal is checked by correlation where both overlap.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Move", "find_move"]

ANGLES = (0.0, -3.0, 3.0, -6.0, 6.0, -9.0, 9.0, -12.0, 12.0, -16.0, 16.0)
ALIKE = 0.35
"""Correlation over the overlap from which both are the same scene."""
LEAST_OVERLAP = 0.35

Picture = NDArray[np.float32]


class Move(NamedTuple):
    """How the picture moved: pixels of the coarse picture, degrees, and how alike both are."""

    dx: float
    dy: float
    angle: float
    likeness: float


def find_move(now: Picture, reference: Picture) -> Move | None:
    """The move that explains what is seen now; None where there is none.

    Parameters
    ----------
    now, reference : float32 array (90, 160)
        High-passed.
    """
    height, width = now.shape
    window = _window(height, width)
    best = Move(0.0, 0.0, 0.0, -1.0)
    limit = 2.5 * float(reference.std())
    reference = np.asarray(np.clip(reference, -limit, limit), np.float32)
    now = np.asarray(np.clip(now, -limit, limit), np.float32)
    for angle in ANGLES:
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        turned = now if not angle else cv2.warpAffine(now, matrix, (width, height))
        (dx, dy), _ = cv2.phaseCorrelate(reference, np.asarray(turned), window)
        likeness = _check(reference, now, matrix, dx, dy)
        if likeness > best.likeness:
            best = Move(dx, dy, angle, likeness)
    return best if best.likeness >= ALIKE else None


def _check(reference: Picture, now: Picture, matrix: NDArray[Any], dx: float, dy: float) -> float:
    """Correlation where both overlap, after turning and shifting back."""
    height, width = now.shape
    if abs(dx) > width / 2 or abs(dy) > height / 2:
        return -1.0
    back = matrix.copy()
    back[:, 2] -= (dx, dy)
    size = (width, height)
    seen = cv2.warpAffine(now, back, size)
    inside = cv2.warpAffine(np.ones_like(now), back, size) > 0.99
    if inside.mean() < LEAST_OVERLAP:
        return -1.0
    one, two = reference[inside], np.asarray(seen)[inside]
    scale = float(np.sqrt((one * one).sum() * (two * two).sum()))
    return float((one * two).sum()) / scale if scale > 1e-6 else -1.0


@lru_cache(maxsize=4)
def _window(height: int, width: int) -> Picture:
    return np.asarray(cv2.createHanningWindow((width, height), cv2.CV_32F), np.float32)
