"""Filling boxes so that what was in them cannot be had back (numpy and OpenCV only).

By default nothing from inside a box survives: it is filled with a smooth or coarse picture of
its *surroundings* and noise, so that even somebody who holds the exact original and applies
the same filter to it learns nothing. (That attack defeats plain blurring and pixelation:
McPherson, Shokri, Shmatikov, 2016, arXiv:1609.00408.) With ``cells`` some colour of the inside
is kept, at most ``LEVEL_BITS`` bits for each of the three channels of a cell.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVEL_BITS", "MAX_CELLS", "MODES", "Mode", "kept_bits", "obscure", "widen"]

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mode = Literal["blur", "pixelate"]

MODES = ("blur", "pixelate")
LEVEL_BITS = 3
"""Bits that one channel of a kept cell holds."""
MAX_CELLS = 4
MOSAIC = 6
"""Cells along the longer side of a box that shows its surroundings."""
NOISE = 10.0
"""Standard deviation of the noise on a cell, grey levels."""
_WORKING_SIDE = 320
"""Longer side of the small picture from which surroundings are taken, pixels."""
_LEAST_KNOWN = 0.02
"""Share of a small pixel outside of all boxes below which it is filled from farther away."""


def widen(xyxy: Floats, margin: float, *, width: int, height: int) -> Floats:
    """Widen boxes on every side by a share of their longer side, round outwards, clip.

    Parameters
    ----------
    xyxy : float32 array (N, 4)
        Corners in pixels.
    margin : float
    width, height : int
        Pixels of the image.

    Returns
    -------
    float32 array (M, 4)
        Whole numbers; boxes that lie outside the image are gone.
    """
    boxes = np.asarray(xyxy, np.float32).reshape(-1, 4)
    extra = margin * np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])[:, None]
    low = np.clip(np.floor(boxes[:, :2] - extra), 0, [width, height])
    high = np.clip(np.ceil(boxes[:, 2:] + extra), 0, [width, height])
    whole = np.hstack([low, high]).astype(np.float32)
    return np.asarray(whole[(high > low).all(axis=1)], np.float32)


def obscure(
    image: Image, boxes: Floats, *, mode: Mode, cells: int, generator: np.random.Generator
) -> Image:
    """A copy of the image with its boxes filled.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    boxes : float32 array (N, 4)
        Corners in pixels, whole numbers inside the image, as :func:`widen` gives them.
    mode : str
        ``blur`` or ``pixelate``.
    cells : int
        0 keeps nothing of the inside; else so many cells along the longer side keep
        ``LEVEL_BITS`` bits a channel.
    generator : Generator
        Source of the noise.

    Returns
    -------
    uint8 array (H, W, 3), BGR
    """
    hidden = image.copy()
    if not len(boxes):
        return hidden
    corners = boxes.astype(np.int64)
    around = None if cells else _fill_from_surroundings(image, corners)
    for x1, y1, x2, y2 in corners:
        grid = _grid(int(x2 - x1), int(y2 - y1), cells or MOSAIC)
        inside: NDArray[np.uint8] | Floats = image[y1:y2, x1:x2]
        if around is not None:
            inside = _crop(around, (x1, y1, x2, y2), image.shape[1], image.shape[0])
        small = _to_cells(inside, grid)
        small += generator.normal(0, NOISE, small.shape).astype(np.float32)
        if cells:
            small = _quantise(small)
        method = cv2.INTER_CUBIC if mode == "blur" else cv2.INTER_NEAREST
        large = cv2.resize(small, (int(x2 - x1), int(y2 - y1)), interpolation=method)
        hidden[y1:y2, x1:x2] = np.clip(np.rint(large), 0, 255).astype(np.uint8)
    return hidden


def kept_bits(width: int, height: int, cells: int) -> int:
    """Most bits of the inside of a box that can survive; 0 where ``cells`` is 0."""
    columns, rows = _grid(width, height, cells) if cells else (0, 0)
    return columns * rows * 3 * LEVEL_BITS


def _grid(width: int, height: int, cells: int) -> tuple[int, int]:
    longer = max(width, height)
    return max(1, round(cells * width / longer)), max(1, round(cells * height / longer))


def _to_cells(inside: NDArray[np.uint8] | Floats, grid: tuple[int, int]) -> Floats:
    small = cv2.resize(inside.astype(np.float32), grid, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(grid[1], grid[0], 3)


def _crop(around: Floats, box: tuple[int, int, int, int], width: int, height: int) -> Floats:
    """The part of the small picture that lies behind a box of the large one."""
    rows, columns = around.shape[:2]
    x1, x2 = box[0] * columns // width, -(-box[2] * columns // width)
    y1, y2 = box[1] * rows // height, -(-box[3] * rows // height)
    return around[y1:y2, x1:x2]


def _quantise(small: Floats) -> Floats:
    """To the middle of one of ``2 ** LEVEL_BITS`` equal steps."""
    step = 256 / 2**LEVEL_BITS
    level = np.clip(np.floor(small / step), 0, 2**LEVEL_BITS - 1)
    return np.asarray((level + 0.5) * step, np.float32)


def _fill_from_surroundings(image: Image, corners: NDArray[np.int64]) -> Floats:
    """A coarse picture in which the boxes are filled from what is around all of them.

    Push and pull (Gortler et al., 1996, "The Lumigraph"): means over known pixels at ever
    coarser scales fill what the finer scale does not know. Grey where nothing is known.

    Returns
    -------
    float32 array (h, w, 3)
        At most ``_WORKING_SIDE`` pixels along its longer side. Nothing in it comes from a box.
    """
    height, width = image.shape[:2]
    covered, known = image.copy(), np.full((height, width), 255, np.uint8)
    for x1, y1, x2, y2 in corners:
        covered[y1:y2, x1:x2] = 0
        known[y1:y2, x1:x2] = 0
    scale = min(1.0, _WORKING_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    sums = [cv2.resize(covered, size, interpolation=cv2.INTER_AREA).astype(np.float32)]
    weights = [cv2.resize(known, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255]
    while max(weights[-1].shape) > 1:
        rows, columns = weights[-1].shape
        half = ((columns + 1) // 2, (rows + 1) // 2)
        for level in (sums, weights):
            smaller = cv2.resize(level[-1], half, interpolation=cv2.INTER_AREA)
            level.append(np.asarray(smaller, np.float32))
    filled: Floats = np.full((1, 1, 3), 127.5, np.float32)
    for total, weight in zip(reversed(sums), reversed(weights), strict=True):
        rows, columns = weight.shape
        coarse = cv2.resize(filled, (columns, rows), interpolation=cv2.INTER_LINEAR)
        share = weight.reshape(rows, columns, 1)
        mean = total.reshape(rows, columns, 3) / np.maximum(share, _LEAST_KNOWN)
        filled = np.where(share > _LEAST_KNOWN, mean, coarse.reshape(rows, columns, 3))
    return np.asarray(filled, np.float32)
