"""A dispute as a picture: one person's boxes and the other's, the part around them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.labeling.review.comparing import Comparison
from visionloop.labeling.shapes import XYXY

__all__ = ["picture_of_dispute"]

SIDE = 260
BLUE, ORANGE, GREY, WHITE = (178, 114, 0), (0, 94, 213), (170, 170, 170), (255, 255, 255)
"""BGR; blue and orange are told apart by people who see colours differently (Okabe, Ito)."""


def picture_of_dispute(path: Path, comparison: Comparison, *, is_second: bool = False) -> str:
    """The image as a data URI: own boxes blue, the other person's orange, agreed ones grey.

    Parameters
    ----------
    path : Path
    comparison : Comparison
    is_second : bool
        Whose page this is: the second person's answers are the own ones.

    Returns
    -------
    str
        Empty if the file cannot be read.
    """
    from visionloop.serving.images import read_image

    try:
        image = read_image(path)
    except DataError:
        return ""
    drawn = [(row.first, BLUE, ORANGE) for row in comparison.differences]
    drawn += [(row.second, ORANGE, BLUE) for row in comparison.differences]
    marked = [
        (region.xyxy, colours[is_second])
        for region, *colours in drawn
        if region is not None and region.xyxy is not None
    ]
    agreed = [(one.xyxy, GREY) for one, _, _ in comparison.same if one.xyxy is not None]
    return _encode(_draw(image, agreed + marked, _part(image, [xyxy for xyxy, _ in marked])))


def _draw(
    image: NDArray[np.uint8],
    boxes: Sequence[tuple[XYXY, tuple[int, int, int]]],
    part: tuple[int, int, int, int],
) -> NDArray[np.uint8]:
    left, top, right, bottom = part
    scale = SIDE / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(image[top:bottom, left:right], size, interpolation=way)
    for xyxy, colour in boxes:
        x1, y1, x2, y2 = (
            round((value - start) * scale)
            for value, start in zip(xyxy, (left, top, left, top), strict=True)
        )
        cv2.rectangle(small, (x1, y1), (x2, y2), WHITE, 4)
        cv2.rectangle(small, (x1, y1), (x2, y2), colour, 2)
    return np.asarray(small, np.uint8)


def _part(image: NDArray[np.uint8], boxes: Sequence[XYXY]) -> tuple[int, int, int, int]:
    """A square around the boxes, three times as wide; the whole image where that is smaller."""
    height, width = image.shape[:2]
    if not boxes:
        return 0, 0, width, height
    corners = np.array(boxes, float)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    extent = int(max(64.0, 3 * float((high - low).max())))
    if extent >= min(height, width):
        return 0, 0, width, height
    middle = (low + high) / 2 - extent / 2
    left = int(np.clip(middle[0], 0, width - extent))
    top = int(np.clip(middle[1], 0, height - extent))
    return left, top, left + extent, top + extent


def _encode(image: NDArray[np.uint8]) -> str:
    done, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    text = base64.b64encode(bytes(coded)).decode() if done else ""
    return f"data:image/jpeg;base64,{text}"
