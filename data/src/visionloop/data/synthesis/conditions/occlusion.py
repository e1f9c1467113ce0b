"""Something lies on the glass or stands before it: plain patches, or cut-out objects."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.conditions.changed import Changed, Generator, Image

__all__ = ["occlude", "occlude_by_objects"]

COVERED = (0.03, 0.06, 0.10, 0.16, 0.24)
"""occlusion, occlusion_objects: share of the image that something covers."""


def occlude(image: Image, severity: int, generator: Generator) -> Changed:
    """One to three opaque patches of a common grey."""
    height, width = image.shape[:2]
    patches = int(generator.integers(1, 4))
    area = COVERED[severity - 1] * height * width / patches
    hidden = image.copy()
    covered = np.zeros((height, width), bool)
    for _ in range(patches):
        aspect = generator.uniform(0.5, 2.0)
        across = min(width, max(1, round((area * aspect) ** 0.5)))
        down = min(height, max(1, round(area / across)))
        left = int(generator.integers(0, width - across + 1))
        top = int(generator.integers(0, height - down + 1))
        part = np.s_[top : top + down, left : left + across]
        hidden[part] = int(generator.integers(20, 90))
        covered[part] = True
    return Changed(hidden, covered=covered)


def occlude_by_objects(image: Image, severity: int, generator: Generator) -> Changed:
    """Objects with the texture of the scene: ragged pieces of the picture itself, turned and
    darkened as things between lamp and lens are, with a soft shadow."""
    height, width = image.shape[:2]
    count = int(generator.integers(2, 4))
    wanted = COVERED[severity - 1] * height * width
    covered = np.zeros((height, width), np.uint8)
    for _ in range(count):
        covered |= _outline((height, width), wanted / count, generator)
    matrix = cv2.getRotationMatrix2D(
        (width / 2, height / 2), float(generator.uniform(60, 300)), float(generator.uniform(1.2, 2))
    )
    texture = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    light = generator.uniform(0.35, 0.6)
    inside = covered > 0
    away = max(1.0, 0.01 * min(height, width))
    shift = np.array([[1, 0, away], [0, 1, away]], np.float64)
    shadow = cv2.warpAffine(covered.astype(np.float32), shift, (width, height))
    shadow = 1 - 0.4 * cv2.GaussianBlur(shadow, (0, 0), away) / 255
    hidden = np.rint(image * (shadow if image.ndim == 2 else shadow[..., None]))
    hidden[inside] = np.rint(np.asarray(texture)[inside] * light + 12)
    return Changed(np.asarray(hidden, np.uint8), covered=inside)


def _outline(shape: tuple[int, int], area: float, generator: Generator) -> NDArray[np.uint8]:
    """A ragged blob of about this area somewhere in the picture: uint8 (H, W), 255 inside."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones(40)
    for wave in (2, 3, 5):
        radius += generator.uniform(0.05, 0.5 / wave) * np.cos(
            wave * angle + generator.uniform(0, 6)
        )
    x, y = radius * np.cos(angle), radius * np.sin(angle) * generator.uniform(0.5, 1.0)
    drawn = 0.5 * abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))))
    scale = (area / drawn) ** 0.5
    place = np.array(
        [generator.uniform(0.2, 0.8) * shape[1], generator.uniform(0.2, 0.8) * shape[0]]
    )
    corners = np.round((place + scale * np.stack([x, y], axis=1)) * 16).astype(np.int32)
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, 4)
    return mask
