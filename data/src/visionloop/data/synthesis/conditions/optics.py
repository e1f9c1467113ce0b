"""Conditions of the lens: out of focus, colours that no longer meet."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from visionloop.data.synthesis.conditions.changed import Generator, Image
from visionloop.data.synthesis.conditions.pixels import filter_picture

__all__ = ["blur_by_defocus", "split_colours"]

DEFOCUS = (0.004, 0.007, 0.011, 0.016, 0.023)
"""defocus: radius of the circle of confusion, share of the shorter side."""
SPLIT = (0.004, 0.008, 0.013, 0.019, 0.026)
"""chromatic_aberration: how much larger red is drawn than blue, share of the picture."""


def blur_by_defocus(image: Image, severity: int, generator: Generator) -> Image:
    """Out of focus: each point becomes a disc."""
    radius = max(0.8, DEFOCUS[severity - 1] * min(image.shape[:2]) * generator.uniform(0.9, 1.1))
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return filter_picture(image, disc / disc.sum())


def split_colours(image: Image, severity: int, generator: Generator) -> Image:
    """Lateral chromatic aberration: red is drawn larger, blue smaller; green holds the boxes.

    A picture in grey is the mean of its colours, so it gets soft towards its rim.
    """
    height, width = image.shape[:2]
    share = SPLIT[severity - 1] * generator.uniform(0.9, 1.1)
    x0 = width * generator.uniform(0.4, 0.6)
    y0 = height * generator.uniform(0.4, 0.6)

    def resized(channel: Image, factor: float) -> Image:
        matrix = np.array([[factor, 0, x0 * (1 - factor)], [0, factor, y0 * (1 - factor)]])
        return np.asarray(
            cv2.warpAffine(channel, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101),
            np.uint8,
        )

    if image.ndim == 2:
        outer, inner = resized(image, 1 + share), resized(image, 1 - share)
        mixed = 0.3 * outer.astype(np.float32) + 0.59 * image + 0.11 * inner
        return np.asarray(np.rint(mixed), np.uint8)
    blue, green, red = cv2.split(image)
    return cast(
        Image,
        cv2.merge(
            [
                resized(np.asarray(blue, np.uint8), 1 - share),
                np.asarray(green, np.uint8),
                resized(np.asarray(red, np.uint8), 1 + share),
            ]
        ),
    )
