"""Filters, noise and tables for whole pictures, quick on one core.

OpenCV's general filter takes 60 ms for a 17 x 17 kernel on a VGA picture. Kernels of motion
have few weights that are not zero, and discs have few different rows: both are summed exactly
from what is there in a fraction of that.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.conditions.changed import Generator, Image

__all__ = ["add_noise", "draw_normal", "filter_picture", "look_up"]

Field = NDArray[np.float32]

SMALL = 9
"""Kernels up to this side are left to OpenCV's direct filter."""
TAP, PASS = 0.33, 4.2
"""Milliseconds of one weight and of one separable pass, VGA: which way is the shorter."""
NEGLIGIBLE = 2e-4
"""Singular values below are nothing: 255 of them are below a tenth of a grey level."""


def filter_picture(
    image: Image, kernel: NDArray[np.float64], *, border: int = cv2.BORDER_REFLECT_101
) -> Image:
    """Correlate with a kernel of odd sides, each channel alike; rounds to the nearest level."""
    kernel = _trim(kernel)
    if max(kernel.shape) <= SMALL:
        return np.asarray(cv2.filter2D(image, -1, kernel, borderType=border), np.uint8)
    taps = int((kernel != 0).sum())
    left, values, right = np.linalg.svd(kernel)
    rank = int((values > NEGLIGIBLE).sum())
    if taps * TAP < rank * PASS:
        total = _sum_of_shifts(image, kernel, border)
    else:
        total = np.zeros(image.shape, np.float32)
        source = image.astype(np.float32)
        for number in range(rank):
            rows, columns = right[number], left[:, number] * values[number]
            one = cv2.sepFilter2D(source, cv2.CV_32F, rows, columns, borderType=border)
            cv2.add(total, one, total)
    return np.asarray(cv2.convertScaleAbs(total), np.uint8)


def _trim(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without rows and columns of zeros all around; the middle stays the middle."""
    height, width = kernel.shape
    rows, columns = np.flatnonzero(kernel.any(axis=1)), np.flatnonzero(kernel.any(axis=0))
    down = min(rows[0], height - 1 - rows[-1])
    across = min(columns[0], width - 1 - columns[-1])
    return kernel[down : height - down, across : width - across]


def _sum_of_shifts(image: Image, kernel: NDArray[np.float64], border: int) -> Field:
    high, wide = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = cv2.copyMakeBorder(image, high, high, wide, wide, border).astype(np.float32)
    height, width = image.shape[:2]
    total = np.zeros(image.shape, np.float32)
    for row, column in zip(*np.nonzero(kernel), strict=True):
        part = padded[row : row + height, column : column + width]
        cv2.scaleAdd(part, float(kernel[row, column]), total, total)
    return total


def draw_normal(shape: tuple[int, ...], generator: Generator, *, mean: float = 0.0) -> Field:
    """Normal noise of deviation 1, float32: OpenCV's, whose state is the thread's own."""
    cv2.setRNGSeed(int(generator.integers(1, 2**31 - 1)))
    noise = np.empty((int(np.prod(shape)), 1), np.float32)  # one channel: one deviation
    cv2.randn(noise, np.array([mean]), np.array([1.0]))
    return noise.reshape(shape)


def add_noise(
    image: Image, spread: NDArray[np.floating[Any]] | float, generator: Generator
) -> Image:
    """Add normal noise whose deviation is a number, or a table by grey level (256,)."""
    noise = draw_normal(image.shape, generator)
    if isinstance(spread, float):
        noise *= np.float32(spread)
    else:
        noise *= look_up(image, spread)
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)


def look_up(image: Image, table: NDArray[np.floating[Any]]) -> Field:
    """The table's value (256,) of every pixel, float32."""
    return np.asarray(cv2.LUT(image, table.astype(np.float32)), np.float32)
