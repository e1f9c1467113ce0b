"""Conditions of the sensor: few photons, rows that drift, pixels that died."""

from __future__ import annotations

import numpy as np

from visionloop.data.synthesis.conditions.changed import Generator, Image
from visionloop.data.synthesis.conditions.pixels import add_noise

__all__ = ["add_row_noise", "add_sensor_noise", "kill_pixels"]

FULL_WELL = (1500.0, 700.0, 300.0, 130.0, 60.0)
"""noise: electrons of a white pixel (shot noise); READ_NOISE is added."""
READ_NOISE = (4.0, 6.0, 8.0, 10.0, 12.0)
"""noise: electrons of the read-out, standard deviation (below the shot noise of white)."""
ROW_NOISE = (4.0, 8.0, 13.0, 19.0, 27.0)
"""row_noise: standard deviation of the offset of a row, grey levels; columns a third."""
DEAD = (0.004, 0.01, 0.02, 0.04, 0.07)
"""dead_pixels: share of pixels stuck at black or white."""
DEAD_LINES = (0, 1, 2, 3, 5)
"""dead_pixels: columns that died whole."""


def add_sensor_noise(image: Image, severity: int, generator: Generator) -> Image:
    """Few photons: shot noise of the signal and read noise of the sensor.

    The Poisson noise of N electrons is drawn as a normal of variance N, in float32.
    """
    well, read = FULL_WELL[severity - 1], READ_NOISE[severity - 1]
    level = np.arange(256.0)
    spread = np.sqrt(level * (well / 255) + min(read, well**0.5) ** 2) * (255 / well)
    return add_noise(image, spread, generator)


def add_row_noise(image: Image, severity: int, generator: Generator) -> Image:
    """Bands of the read-out electronics: each row has its own offset, columns a smaller one."""
    deviation = ROW_NOISE[severity - 1]
    height, width = image.shape[:2]
    offset = generator.normal(0, deviation, (height, 1)) + generator.normal(
        0, deviation / 3, (1, width)
    )
    if image.ndim == 3:
        offset = offset[..., None]
    return np.rint(image + offset.astype(np.float32)).clip(0, 255).astype(np.uint8)


def kill_pixels(image: Image, severity: int, generator: Generator) -> Image:
    """Pixels stuck at black or white, and some dead columns; all channels of a pixel alike."""
    height, width = image.shape[:2]
    done = image.copy()
    draw = generator.random((height, width), dtype=np.float32)
    share = DEAD[severity - 1]
    done[draw < share / 2] = 0
    done[draw > 1 - share / 2] = 255
    columns = generator.integers(0, width, max(DEAD_LINES))
    stuck = generator.choice(np.array([0, 255], np.uint8), max(DEAD_LINES))
    for column, value in list(zip(columns, stuck, strict=True))[: DEAD_LINES[severity - 1]]:
        done[:, column] = value
    return done
