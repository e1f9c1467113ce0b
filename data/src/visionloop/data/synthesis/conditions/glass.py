"""Conditions of the glass in front of the lens: fog, drops of water, dirt, scratches."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.conditions.changed import Generator, Image

__all__ = ["add_dirt", "add_droplets", "add_fog", "make_clouds", "scratch_glass"]

EXTINCTION = (0.20, 0.35, 0.50, 0.65, 0.78)
"""fog: share of the light scattered away (Koschmieder: I t + A (1 - t), t = 1 - share)."""
VEIL = 210.0
"""fog: grey level of the scattered light."""
DROPS = (6, 12, 22, 36, 55)
"""droplets: how many on the glass."""
DROP_SIZE = (0.02, 0.055)
"""droplets: smallest and largest radius, share of the shorter side."""
SPECKS = (8, 16, 30, 50, 80)
"""dirt: specks on the glass."""
SPECK_SIZE = (0.008, 0.035)
"""dirt: smallest and largest radius, share of the shorter side; out of focus by as much."""
SCRATCHES = (8, 14, 22, 34, 50)
"""scratched_glass: how many."""
SCRATCH_LIGHT = (0.35, 0.45, 0.55, 0.65, 0.75)
"""scratched_glass: share of stray light in a scratch."""

Field = NDArray[np.float32]


def add_fog(image: Image, severity: int, generator: Generator) -> Image:
    """Fog on the lens: light is scattered away and a grey veil is added, in soft clouds."""
    clouds = make_clouds(image.shape[:2], generator)
    share = np.clip(EXTINCTION[severity - 1] * (1 + 0.35 * clouds), 0, 0.97)
    return _blend(image, share, VEIL)


def make_clouds(shape: tuple[int, ...], generator: Generator) -> Field:
    """Smooth noise of three octaves and mean 0: float32 (H, W), about -1 to 1."""
    height, width = shape[0], shape[1]
    clouds = np.zeros((height, width), np.float32)
    for cells in (2, 4, 8):
        coarse = generator.random((cells, cells), dtype=np.float32)
        clouds += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / cells
    return np.asarray(clouds - clouds.mean(), np.float32)


def add_droplets(image: Image, severity: int, generator: Generator) -> Image:
    """Drops of water: each is a small lens that shows its surroundings upside down."""
    height, width = image.shape[:2]
    side = min(height, width)
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    from_x, from_y = x.copy(), y.copy()
    light = np.ones((height, width), np.float32)
    count = DROPS[severity - 1]
    places = generator.uniform(0, 1, (max(DROPS), 2)) * (width, height)
    sizes = generator.uniform(*DROP_SIZE, max(DROPS)) * side
    for (x0, y0), radius in zip(places[:count], np.maximum(sizes, 2.0), strict=False):
        part = _window((x0, y0), radius, (height, width))
        across, down = (x[part] - x0) / radius, (y[part] - y0) / radius
        squares = across**2 + down**2
        inside = squares < 1
        bend = -1.6 * radius * (0.4 + squares)
        from_x[part][inside] = (x0 + across * bend)[inside]
        from_y[part][inside] = (y0 + down * bend)[inside]
        shade = 0.88 + 0.2 * down - 0.4 * np.clip(squares - 0.7, 0, 1)
        light[part][inside] = shade[inside]
    moved = cv2.remap(image, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    wet = (light != 1).astype(np.float32)
    soft = cv2.GaussianBlur(wet, (0, 0), max(0.6, 0.002 * side))
    bright = light if image.ndim == 2 else light[..., None]
    share = soft if image.ndim == 2 else soft[..., None]
    mixed = image * (1 - share) + moved * bright * share
    return np.asarray(np.rint(mixed).clip(0, 255), np.uint8)


def add_dirt(image: Image, severity: int, generator: Generator) -> Image:
    """Dust and mud on the glass: dark specks, out of focus because they are near."""
    height, width = image.shape[:2]
    side = min(height, width)
    hidden = np.zeros((height, width), np.float32)
    places = generator.uniform(0, 1, (max(SPECKS), 2)) * (width, height)
    sizes = (
        np.exp(generator.uniform(np.log(SPECK_SIZE[0]), np.log(SPECK_SIZE[1]), max(SPECKS))) * side
    )
    opacity = generator.uniform(0.45, 0.9, max(SPECKS))
    stretch = generator.uniform(0.6, 1.6, max(SPECKS))
    for number in range(SPECKS[severity - 1]):
        radius = max(1.2, float(sizes[number]))
        part = _window(tuple(places[number]), 3 * radius, (height, width))
        y, x = np.mgrid[part]
        across = (x - places[number][0]) / radius * stretch[number]
        down = (y - places[number][1]) / radius / stretch[number]
        speck = opacity[number] / (1 + np.exp(5 * (np.sqrt(across**2 + down**2) - 1)))
        hidden[part] = np.maximum(hidden[part], speck)
    return _blend(image, hidden, 38.0)


def scratch_glass(image: Image, severity: int, generator: Generator) -> Image:
    """Scratches in the cover glass catch light: thin bright lines, a little out of focus."""
    height, width = image.shape[:2]
    side = min(height, width)
    lines = np.zeros((height, width), np.uint8)
    start = generator.uniform(-0.1, 1.1, (max(SCRATCHES), 2)) * (width, height)
    way = generator.normal(generator.uniform(0, np.pi), 0.35, max(SCRATCHES))
    length = generator.uniform(0.2, 0.9, max(SCRATCHES)) * side
    for number in range(SCRATCHES[severity - 1]):
        step = length[number] * np.array([np.cos(way[number]), np.sin(way[number])])
        bow = start[number] + step / 2 + generator.normal(0, 0.03, 2) * side
        share = np.linspace(0, 1, 12)[:, None]
        track = (
            (1 - share) ** 2 * start[number]
            + 2 * share * (1 - share) * bow
            + share**2 * (start[number] + step)
        )
        points = np.round(track * 16).astype(np.int32)
        thick = max(1, round(0.0025 * side))
        cv2.polylines(lines, [points], False, 255, thick, cv2.LINE_AA, 4)
    soft = cv2.GaussianBlur(lines, (0, 0), max(0.7, 0.0015 * side)).astype(np.float32) / 255
    return _blend(image, SCRATCH_LIGHT[severity - 1] * np.minimum(1.3 * soft, 1), 235.0)


def _blend(image: Image, share: NDArray[np.floating[Any]], grey: float) -> Image:
    """The image, and a share (H, W) of a grey level."""
    part = np.asarray(share, np.float32)
    if image.ndim == 3:
        part = part[..., None]
    mixed = image * (1 - part) + np.float32(grey) * part
    return np.asarray(np.rint(mixed).clip(0, 255), np.uint8)


def _window(place: tuple[float, ...], reach: float, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns within reach of a place (x, y)."""
    left, right = int(max(0, place[0] - reach)), int(min(shape[1], place[0] + reach + 1))
    top, down = int(max(0, place[1] - reach)), int(min(shape[0], place[1] + reach + 1))
    return slice(top, max(top, down)), slice(left, max(left, right))
