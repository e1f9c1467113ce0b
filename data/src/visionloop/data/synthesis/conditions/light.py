"""Conditions of the light: too little, too much, reflections, mains flicker, wrong colour."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.conditions.changed import Generator, Image
from visionloop.data.synthesis.conditions.pixels import draw_normal, look_up

__all__ = ["LIGHT_LEFT", "add_flicker", "add_glare", "cast_colour", "darken", "overexpose"]

LIGHT_LEFT = (0.60, 0.45, 0.30, 0.20, 0.12)
"""darkness: share of the light that still reaches the sensor."""
DARK_WELL, DARK_READ_NOISE = 12_000.0, 6.0
"""darkness: electrons of a white pixel in full light; electrons of read-out noise."""
STOPS = (0.6, 1.0, 1.5, 2.0, 2.6)
"""overexposure: exposure values (factors of two) too many."""
GLARE = (0.25, 0.40, 0.58, 0.80, 1.05)
"""glare: light of the reflection's middle by that of white."""
GLARE_SIZE = (0.10, 0.13, 0.16, 0.20, 0.25)
"""glare: radius of the reflection, share of the shorter side."""
FLICKER = (0.20, 0.35, 0.50, 0.65, 0.80)
"""flicker: depth of the lamp's modulation, seen as bands by a rolling shutter."""
KELVIN = ((5200, 8200), (4500, 9500), (3900, 11500), (3300, 13500), (3000, 15000))
"""colour_cast: temperature of a lamp too warm or too cold, for a camera set to daylight."""
GAMMA = 2.2


def darken(image: Image, severity: int, generator: Generator) -> Image:
    """Less light: every pixel keeps a share of it, in linear light (display gamma 2.2).

    Shot noise of the electrons that are left and read-out noise are added: what is dark
    is noisy. A full pixel holds 12,000 electrons in full light.
    """
    share = LIGHT_LEFT[severity - 1] * generator.uniform(0.92, 1.08)
    electrons = (np.arange(256, dtype=np.float32) / 255) ** GAMMA * share * DARK_WELL
    spread = np.sqrt(electrons + DARK_READ_NOISE**2)
    # noise of the display value: that of the light times the slope of the gamma curve there
    light = np.maximum(electrons, DARK_READ_NOISE) / DARK_WELL
    value = 255 * (electrons / DARK_WELL) ** (1 / GAMMA)
    slope = 255 / GAMMA * light ** (1 / GAMMA - 1) / DARK_WELL
    noise = draw_normal(image.shape, generator)
    noise *= look_up(image, spread * slope)
    return np.asarray(cv2.add(noise, look_up(image, value), dtype=cv2.CV_8U), np.uint8)


def overexpose(image: Image, severity: int, generator: Generator) -> Image:
    """Too much light: stops of exposure in linear light; what is beyond white is lost."""
    gain = 2.0 ** (STOPS[severity - 1] * generator.uniform(0.93, 1.07))
    light = (np.arange(256) / 255) ** GAMMA * gain
    # the toe of sensors: stray light lifts black a little as well
    light = light + 0.004 * gain
    curve = np.round(255 * light.clip(0, 1) ** (1 / GAMMA)).astype(np.uint8)
    return cast(Image, cv2.LUT(image, curve))


def add_glare(image: Image, severity: int, generator: Generator) -> Image:
    """A lamp is mirrored in the scene: a bright core, its halo, and a streak across."""
    height, width = image.shape[:2]
    side = min(height, width)
    x0 = generator.uniform(0.2, 0.8) * width
    y0 = generator.uniform(0.2, 0.8) * height
    angle = generator.uniform(0, np.pi)
    radius = max(2.0, GLARE_SIZE[severity - 1] * side)
    x = (np.arange(width, dtype=np.float32) - x0)[None, :]
    y = (np.arange(height, dtype=np.float32) - y0)[:, None]
    along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    squares = x * x + y * y
    core = np.exp(-squares / (2 * radius**2))
    halo = 0.35 * np.exp(-squares / (2 * (3.2 * radius) ** 2))
    streak = 0.5 * np.exp(-(along**2) / (2 * (6 * radius) ** 2) - across**2 / (radius / 2) ** 2)
    light = (GLARE[severity - 1] * 255) * (core + halo + streak)
    if image.ndim == 3:
        light = light[..., None]
    return np.asarray(np.minimum(image + light, 255), np.uint8)


def add_flicker(image: Image, severity: int, generator: Generator) -> Image:
    """Bands of a lamp on mains current: rows are exposed one after another.

    A lamp on 50 Hz shines 100 times a second; a sensor that needs 20 to 60 ms for its rows
    shows 2 to 6 bands.
    """
    height = image.shape[0]
    bands, phase = generator.uniform(2, 6), generator.uniform(0, 2 * np.pi)
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * bands * np.arange(height) / height + phase)
    light = 1 - FLICKER[severity - 1] * wave
    gain = (light ** (1 / GAMMA)).astype(np.float32).reshape(-1, *[1] * (image.ndim - 1))
    return np.asarray(np.rint(image * gain), np.uint8)


def cast_colour(image: Image, severity: int, generator: Generator) -> Image:
    """A lamp of the wrong colour: channels weighted by black-body light.

    The weights are albumentations' (PlanckianJitter, after Zini et al., 2023), normalised to
    daylight of 6,500 K. A picture in grey keeps grey and changes its brightness.
    """
    warm, cold = KELVIN[severity - 1]
    kelvin = warm if generator.random() < 0.5 else cold
    blue, green, red = _weights(kelvin)
    if image.ndim == 2:
        return np.asarray(
            np.rint(image * (0.114 * blue + 0.587 * green + 0.299 * red)).clip(0, 255), np.uint8
        )
    lines = np.arange(256)[:, None] * np.array([blue, green, red])
    table = np.rint(lines).clip(0, 255).astype(np.uint8).reshape(1, 256, 3)
    return cast(Image, cv2.LUT(image, table))


@lru_cache(maxsize=32)
def _weights(kelvin: float) -> NDArray[np.float64]:
    """Factors of blue, green and red by daylight, green held."""
    from albumentations.augmentations.pixel import functional

    plain = np.full((1, 1, 3), 100, np.uint8)  # RGB; far from saturation
    lit = functional.planckian_jitter(plain, int(kelvin), "blackbody")[0, 0].astype(float)
    base = functional.planckian_jitter(plain, 6500, "blackbody")[0, 0].astype(float)
    red, green, blue = lit / base
    return np.array([blue / green, 1.0, red / green])
