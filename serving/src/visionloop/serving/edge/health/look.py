"""The small picture from which a camera's health is judged, and its blocks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["FINE", "GRID", "Look", "block_means", "high_pass", "take_look"]

FINE = (180, 320)
"""Height and width on which detail is measured; structure is compared at half of it."""
GRID = (6, 10)
"""Rows and columns of blocks."""
HIGH_PASS = 4.0
"""Standard deviation in pixels of the coarse picture: larger shapes are light, not structure."""

Picture = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Look:
    """One frame, made small.

    Attributes
    ----------
    fine : uint8 array (180, 320)
        Grey.
    coarse : float32 array (90, 160)
    laplacian : float32 array (180, 320)
        Of ``fine``.
    chroma : float or None
        Mean distance of the colours from grey, 0 to 255; None for a grey picture.
    """

    fine: NDArray[np.uint8]
    coarse: Picture
    laplacian: Picture
    chroma: float | None


def take_look(image: NDArray[np.uint8]) -> Look:
    """Make a frame small.

    Parameters
    ----------
    image : uint8 array (H, W, 3) BGR, or (H, W)
    """
    height, width = FINE
    if (step := image.shape[1] // (2 * width)) > 1:  # every pixel of a large picture costs more
        image = image[::step, ::step]
    way = cv2.INTER_AREA if image.shape[1] > width else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)
    chroma = None
    if small.ndim == 3:
        tiny = small[::4, ::4].astype(np.int16)
        chroma = float((tiny.max(axis=2) - tiny.min(axis=2)).mean())
        small = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)
    coarse = cv2.resize(small, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    laplacian = np.asarray(cv2.Laplacian(small, cv2.CV_32F), np.float32)
    return Look(small, coarse.astype(np.float32), laplacian, chroma)


def high_pass(picture: Picture) -> Picture:
    """What is left without slow changes of light: float32, same shape."""
    smooth = cv2.GaussianBlur(picture, (0, 0), HIGH_PASS, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(picture - smooth, np.float32)


def block_means(picture: Picture) -> Picture:
    """Means of the blocks: float32 (6, 10)."""
    columns, rows = GRID[1], GRID[0]
    return np.asarray(
        cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA), np.float32
    )
