"""From a picture to the model's input (numpy and OpenCV only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.serving.manifest import ImageInput

__all__ = ["BatchMaker", "Placement", "make_batch", "place_image"]


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

    ``stretch`` fills the input (area interpolation along each side that shrinks, so that fine
    structure does not alias, bilinear along one that grows); ``letterbox`` keeps the
    proportions and pads both sides, with the bilinear interpolation and rounding that YOLO
    models are trained with.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    spec : ImageInput

    Returns
    -------
    (uint8 array (spec.height, spec.width, 3) BGR, Placement)
    """
    placed, placement, (left, top, width, height) = _fit(image, spec)
    if (width, height) == (spec.width, spec.height):
        return placed, placement
    padded = np.full((spec.height, spec.width, 3), spec.pad_value, np.uint8)
    padded[top : top + height, left : left + width] = placed
    return padded, placement


def _fit(
    image: NDArray[np.uint8], spec: ImageInput
) -> tuple[NDArray[np.uint8], Placement, tuple[int, int, int, int]]:
    """The resized image, its placement, and (left, top, width, height) of it in the input."""
    height, width = image.shape[:2]
    if spec.resize == "stretch":
        smaller = _resize(image, min(spec.width, width), min(spec.height, height), cv2.INTER_AREA)
        resized = _resize(smaller, spec.width, spec.height, None)
        scale_x, scale_y = spec.width / width, spec.height / height
        inside = (0, 0, spec.width, spec.height)
        return resized, Placement(width, height, scale_x, scale_y, 0, 0), inside
    scale = min(spec.width / width, spec.height / height)
    new_width = max(1, min(spec.width, round(width * scale)))
    new_height = max(1, min(spec.height, round(height * scale)))
    left = round((spec.width - new_width) / 2 - 0.1)
    top = round((spec.height - new_height) / 2 - 0.1)
    resized = _resize(image, new_width, new_height, None)
    placement = Placement(width, height, scale, scale, left, top)
    return resized, placement, (left, top, new_width, new_height)


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
        The array is the caller's own; :class:`BatchMaker` reuses one.
    """
    return BatchMaker(spec).make(images)


class BatchMaker:
    """Makes batches in the same memory again and again; for one thread at a time.

    Parameters
    ----------
    spec : ImageInput
    """

    def __init__(self, spec: ImageInput) -> None:
        self._spec = spec
        self._mean = np.asarray(spec.mean, np.float32)
        self._scale = (1 / np.asarray(spec.std, np.float64)).astype(np.float32)
        self._batch = np.empty((0, 3, spec.height, spec.width), np.float32)
        self._inside: list[tuple[int, int, int, int]] = []
        self._planes = [np.empty((0, 0), np.uint8)] * 3

    def make(
        self, images: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.float32], list[Placement]]:
        """As :func:`make_batch`; the array is overwritten by the next call.

        Raises
        ------
        ValueError
            If there is no image, or one is not uint8 (H, W, 3).
        """
        if not len(images):
            raise ValueError("there is no image in the batch")
        if len(images) > len(self._batch):
            self._batch = np.empty((len(images), *self._batch.shape[1:]), np.float32)
            self._inside = [(0, 0, 0, 0)] * len(images)
        placements = [self._place(row, image) for row, image in enumerate(images)]
        return self._batch[: len(images)], placements

    def _place(self, row: int, image: NDArray[np.uint8]) -> Placement:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"an image must be uint8 (height, width, 3), not {image.dtype} {image.shape}"
            )
        placed, placement, inside = _fit(image, self._spec)
        if inside != self._inside[row]:  # else the padding is there from the picture before
            padding = (self._spec.pad_value - self._mean) * self._scale
            self._batch[row] = padding[:, None, None]
            self._inside[row] = inside
        left, top, width, height = inside
        target = self._batch[row, :, top : top + height, left : left + width]
        if self._planes[0].shape != placed.shape[:2]:
            rows, columns = placed.shape[:2]
            self._planes = [np.empty((rows, columns), np.uint8) for _ in range(3)]
        cv2.split(placed, self._planes)
        planes = self._planes if self._spec.colour == "BGR" else self._planes[::-1]
        for channel, plane in enumerate(planes):
            if self._mean[channel]:
                np.subtract(plane, self._mean[channel], out=target[channel])
                target[channel] *= self._scale[channel]
            else:
                np.multiply(plane, self._scale[channel], out=target[channel])
        return placement


def _resize(
    image: NDArray[np.uint8], width: int, height: int, interpolation: int | None
) -> NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    if interpolation is None and (factor := _odd_factor(image, width, height)):
        # Bilinear samples fall on pixels then (1920 to 640): they are taken, a third faster.
        centres = image[factor // 2 :, factor // 2 :]
        share = 1 / factor
        taken = cv2.resize(centres, None, fx=share, fy=share, interpolation=cv2.INTER_NEAREST)
        if taken.shape[:2] == (height, width):
            return np.asarray(taken, np.uint8)
    method = cv2.INTER_LINEAR if interpolation is None else interpolation
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def _odd_factor(image: NDArray[np.uint8], width: int, height: int) -> int:
    """By which both sides are divided, where it is one odd number; else 0."""
    factor = image.shape[1] // width
    is_whole = image.shape[:2] == (height * factor, width * factor)
    return factor if is_whole and factor % 2 else 0
