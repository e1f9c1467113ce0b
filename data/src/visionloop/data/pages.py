"""Pages that people look at: one HTML file each, with its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.core.files import write_text

__all__ = ["picture_of", "thumbnail", "write_page"]

BASE = Path(__file__).parent / "templates"
WHITE, COLOUR = (255, 255, 255), (40, 60, 230)
Boxes = Sequence[Sequence[float]]


def write_page(path: Path, template: Path, **values: Any) -> Path:
    """Fill a template (which may extend ``base.html.j2``) and write the page durably."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, BASE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return write_text(path, environment.get_template(template.name).render(**values))


def picture_of(path: Path, *, boxes: Boxes = (), side: int = 160) -> str:
    """The image file as a small embedded picture; empty if it cannot be read."""
    from visionloop.serving.images import read_image

    try:
        return thumbnail(read_image(path), boxes=boxes, side=side)
    except DataError:
        return ""


def thumbnail(image: NDArray[np.uint8], *, boxes: Boxes = (), side: int = 160) -> str:
    """A data URI of the image, its longer side so long, with boxes drawn.

    With boxes, the part around them is shown if they are small in the image.

    Parameters
    ----------
    image : uint8 array (H, W, 3) BGR
    boxes : sequence of xyxy in pixels
    side : int
        Pixels.
    """
    drawn = np.asarray(image).copy()
    left, top, right, bottom = _part(drawn, boxes)
    scale = side / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(drawn[top:bottom, left:right], size, interpolation=way)
    for box in boxes:
        x1, y1, x2, y2 = (
            round((value - start) * scale)
            for value, start in zip(box, (left, top, left, top), strict=True)
        )
        cv2.rectangle(small, (x1, y1), (x2, y2), WHITE, 3)
        cv2.rectangle(small, (x1, y1), (x2, y2), COLOUR, 1)
    done, coded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 82])
    text = base64.b64encode(bytes(coded)).decode() if done else ""
    return f"data:image/jpeg;base64,{text}"


def _part(image: NDArray[np.uint8], boxes: Boxes) -> tuple[int, int, int, int]:
    """The whole image, or a square six times as wide as the box where that is smaller."""
    height, width = image.shape[:2]
    if not len(boxes):
        return 0, 0, width, height
    corners = np.asarray(boxes, float).reshape(-1, 4)
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    extent = int(max(48.0, 6 * float((high - low).max())))
    if extent >= min(height, width):
        return 0, 0, width, height
    middle = (low + high) / 2 - extent / 2
    left = int(np.clip(middle[0], 0, width - extent))
    top = int(np.clip(middle[1], 0, height - extent))
    return left, top, left + extent, top + extent
