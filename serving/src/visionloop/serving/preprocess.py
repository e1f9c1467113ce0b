"""From a picture to the model's input (numpy and OpenCV only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.serving.manifest import ImageInput

__all__ = ["Placement", "make_batch", "place_image"]


@dataclass(frozen=True)
class Placement:
    """Where an image of ``width`` x ``height`` pixels lies in the model's input.

    ``x_input = x_image * scale_x + left``, likewise for y.
    """

    width: int
    height: int
    scale_x: float
    scale_y: float
    left: int
    top: int


def place_image(image: NDArray[np.uint8], spec: ImageInput) -> tuple[NDArray[np.uint8], Placement]:
    """Resize an image to the model's input.

    ``stretch`` fills the input (area interpolation where it shrinks, so that fine
    structure does not alias); ``letterbox`` keeps the proportions and pads both sides,
    with the bilinear interpolation and rounding that YOLO models are trained with.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    spec : ImageInput

    Returns
    -------
    (uint8 array (spec.height, spec.width, 3) BGR, Placement)
    """
    height, width = image.shape[:2]
    if spec.resize == "stretch":
        shrinks = spec.width < width and spec.height < height
        resized = _resize(image, spec.width, spec.height, cv2.INTER_AREA if shrinks else None)
        scale_x, scale_y = spec.width / width, spec.height / height
        return resized, Placement(width, height, scale_x, scale_y, 0, 0)
    scale = min(spec.width / width, spec.height / height)
    new_width = max(1, min(spec.width, round(width * scale)))
    new_height = max(1, min(spec.height, round(height * scale)))
    left = round((spec.width - new_width) / 2 - 0.1)
    top = round((spec.height - new_height) / 2 - 0.1)
    padded = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
    padded[top : top + new_height, left : left + new_width] = _resize(
        image, new_width, new_height, None
    )
    return padded, Placement(width, height, scale, scale, left, top)


def make_batch(
    images: Sequence[NDArray[np.uint8]], spec: ImageInput
) -> tuple[NDArray[np.float32], list[Placement]]:
    """Resize, order the channels and normalise: ``(pixel - mean) / std``.

    Parameters
    ----------
    images : sequence of uint8 arrays (H, W, 3), BGR
        At least one.

    Returns
    -------
    (float32 array (B, 3, spec.height, spec.width), list of B Placements)
    """
    batch = np.empty((len(images), 3, spec.height, spec.width), np.float32)
    mean = np.asarray(spec.mean, np.float32)[:, None, None]
    scale = (1 / np.asarray(spec.std, np.float64)).astype(np.float32)[:, None, None]
    placements = []
    for row, image in enumerate(images):
        placed, placement = place_image(image, spec)
        if spec.colour == "RGB":
            placed = placed[:, :, ::-1]
        np.subtract(placed.transpose(2, 0, 1), mean, out=batch[row])
        batch[row] *= scale
        placements.append(placement)
    return batch, placements


def _resize(
    image: NDArray[np.uint8], width: int, height: int, interpolation: int | None
) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    method = cv2.INTER_LINEAR if interpolation is None else interpolation
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)
