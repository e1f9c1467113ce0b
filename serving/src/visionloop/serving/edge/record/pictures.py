"""Pictures of events: boxes drawn, or the class in a bar at the top (OpenCV)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.serving.edge.rules.table import Observation

__all__ = ["draw_observation", "encode_jpeg"]

Image = NDArray[np.uint8]
RED, WHITE = (40, 40, 220), (255, 255, 255)
BAR_HEIGHT = 22
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.45


def draw_observation(image: Image, seen: Observation, classes: Sequence[str]) -> Image:
    """A copy of the image with what the rule saw.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    seen : Observation
    classes : sequence of str
        Class names, for the boxes.

    Returns
    -------
    uint8 array (H + 22, W, 3), BGR
        A bar with class and confidence above the image.
    """
    framed = cv2.copyMakeBorder(image, BAR_HEIGHT, 0, 0, 0, cv2.BORDER_CONSTANT, value=RED)
    picture: Image = np.asarray(framed, np.uint8)
    _write(picture, f"{seen.class_name} {seen.confidence:.2f}", (4, BAR_HEIGHT - 7))
    boxes = seen.detections
    for index in range(len(boxes) if boxes is not None else 0):
        assert boxes is not None
        x1, y1, x2, y2 = (round(float(value)) for value in boxes.xyxy[index])
        y1, y2 = y1 + BAR_HEIGHT, y2 + BAR_HEIGHT
        cv2.rectangle(picture, (x1, y1), (x2, y2), RED, 2)
        name = classes[int(boxes.class_id[index])]
        text = f"{name} {float(boxes.confidence[index]):.2f}"
        (width, height), _ = cv2.getTextSize(text, FONT, FONT_SCALE, 1)
        top = max(y1, BAR_HEIGHT + height + 6)
        cv2.rectangle(picture, (x1, top - height - 6), (x1 + width + 4, top), RED, -1)
        _write(picture, text, (x1 + 2, top - 4))
    return picture


def encode_jpeg(image: Image, *, quality: int = 90) -> bytes:
    """JPEG bytes of a BGR image.

    Raises
    ------
    DataError
        If the image cannot be encoded.
    """
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise DataError("picture", f"of shape {image.shape} cannot be encoded as JPEG")
    return bytes(content)


def _write(picture: Image, text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, FONT, FONT_SCALE, WHITE, 1, cv2.LINE_AA)
