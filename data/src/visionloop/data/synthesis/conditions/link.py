"""Conditions of the link: compression, a small picture, packets that never came."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from visionloop.data.synthesis.conditions.changed import Generator, Image

__all__ = ["compress", "lose_packets", "lower_resolution"]

JPEG_QUALITY = (40, 25, 15, 9, 5)
"""compression: JPEG quality."""
RESOLUTION = (0.60, 0.42, 0.30, 0.21, 0.15)
"""low_resolution: side of the picture that is sent, share of the original."""
LOST = (0.02, 0.05, 0.10, 0.18, 0.28)
"""lost_packets: share of the slices (rows of 16 x 16 blocks) whose packets were lost."""
BLOCK = 16


def compress(image: Image, severity: int, generator: Generator) -> Image:
    """A narrow link: JPEG at low quality (nothing random)."""
    done, coded = cv2.imencode(
        ".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[severity - 1]]
    )
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape}")
    flag = cv2.IMREAD_GRAYSCALE if image.ndim == 2 else cv2.IMREAD_COLOR
    return cast(Image, cv2.imdecode(coded, flag))


def lower_resolution(image: Image, severity: int, generator: Generator) -> Image:
    """A smaller picture, made large again by linear interpolation (nothing random)."""
    height, width = image.shape[:2]
    share = RESOLUTION[severity - 1]
    size = (max(1, round(width * share)), max(1, round(height * share)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cast(Image, cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def lose_packets(image: Image, severity: int, generator: Generator) -> Image:
    """Slices of a video frame whose packets were lost: a decoder shows what is beside them,
    moved by a vector that is wrong."""
    height, width = image.shape[:2]
    done = image.copy()
    rows = -(-height // BLOCK)
    order = generator.permutation(rows)
    length = generator.uniform(0.3, 1.0, rows)
    start = generator.uniform(0, 0.7, rows)
    aside = generator.integers(BLOCK // 2, 3 * BLOCK, rows)
    for row in order[: max(severity, round(LOST[severity - 1] * rows))]:
        top = row * BLOCK
        left = int(start[row] * width) // BLOCK * BLOCK
        right = left + int(length[row] * width)
        deep = min(BLOCK, height - top)
        origin = top - deep if row else min(height - deep, top + deep)
        moved = np.roll(image[origin : origin + deep], int(aside[row]), axis=1)
        done[top : top + deep, left:right] = moved[:, left:right]
    return done
