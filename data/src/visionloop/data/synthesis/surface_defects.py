"""Scratches, dents, stains and pits on any surface, from noise masks and simple shading.

Each defect changes pixels only inside its mask: masks and boxes are exact. Strength is in
contrast: 1 is about the darkest and brightest that the surface itself shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.cutouts import Box, bounds_of
from visionloop.data.synthesis.strokes import draw_spot

__all__ = ["SURFACE_KINDS", "SurfaceDefect", "draw_surface_defect"]

Image = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Field = NDArray[np.float32]
Generator = np.random.Generator

TRIES = 20


@dataclass(frozen=True, eq=False)
class SurfaceDefect:
    """A surface with a defect: image like the one given, bool mask (H, W), box of the mask."""

    image: Image
    mask: Flags
    xyxy: Box


def draw_surface_defect(
    image: Image,
    kind: str,
    generator: Generator,
    *,
    strength: float = 0.6,
    size: float = 0.12,
    allowed: Flags | None = None,
    taken: Flags | None = None,
) -> SurfaceDefect | None:
    """Draw one defect.

    Parameters
    ----------
    image : uint8 array (H, W, 3) BGR or (H, W)
    kind : str
        A row of ``SURFACE_KINDS``.
    generator : numpy Generator
    strength : float
        In (0, 1].
    size : float
        Length of the defect as a share of the shorter side; each is 0.6 to 1.6 of it.
    allowed : bool array (H, W) or None
        The surface; the defect lies inside.
    taken : bool array (H, W) or None
        What it must not touch.

    Returns
    -------
    SurfaceDefect or None
        None where there is no room.

    Raises
    ------
    KeyError
        Unknown kind.
    ValueError
        If strength is not in (0, 1] or size not positive.
    """
    if not 0 < strength <= 1 or size <= 0:
        raise ValueError(f"strength {strength} must lie in (0, 1] and size {size} be positive")
    shape = (image.shape[0], image.shape[1])
    length = size * min(shape) * float(generator.uniform(0.6, 1.6))
    for _ in range(TRIES):
        place = np.array([generator.uniform(0, shape[1]), generator.uniform(0, shape[0])])
        mask, change = SURFACE_KINDS[kind](shape, place, max(4.0, length), generator)
        mask &= np.abs(change) > 0.04
        if mask.sum() < 6:
            continue
        if (allowed is not None and (mask & ~allowed).any()) or (
            taken is not None and (mask & taken).any()
        ):
            continue
        return SurfaceDefect(_change(image, mask, change * strength), mask, bounds_of(mask))
    return None


def _change(image: Image, mask: Flags, change: Field) -> Image:
    """Darken (change < 0) or lighten by shares of what the surface's own contrast allows."""
    around = image[mask].astype(np.float32)
    spread = max(45.0, 3.0 * float(np.std(image)))
    done = image.copy()
    step = change[mask] * spread
    done[mask] = np.rint(around + (step if image.ndim == 2 else step[:, None])).clip(0, 255)
    return done


def _scratch(
    shape: tuple[int, int], place: NDArray[np.float64], length: float, generator: Generator
) -> tuple[Flags, Field]:
    """A thin line, bright where the tool went, dark on the side of its burr."""
    angle = generator.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-way[1], way[0]])
    width = max(1.2, 0.02 * length) * generator.uniform(0.8, 1.6)
    share = np.linspace(0, 1, 24)[:, None]
    bow = generator.normal(0, 0.15) * length * share * (1 - share)
    track = place + 2 * length * (share - 0.5) * way + 4 * bow * across
    line = np.zeros(shape, np.uint8)
    points = np.round(track * 16).astype(np.int32)
    cv2.polylines(line, [points], False, 255, max(1, round(width)), cv2.LINE_8, 4)
    burr = np.array([[1, 0, -way[1] * width], [0, 1, way[0] * width]])
    shadow = cv2.warpAffine(line, burr, (shape[1], shape[0])) > 0
    bright = line > 0
    sign = generator.choice((-1.0, 1.0))
    depth = _noise(shape, 24, generator)  # the pressure was not the same everywhere
    change = (bright * 1.0 - (shadow & ~bright) * 0.5) * sign * (0.6 + 0.4 * depth)
    return bright | shadow, change.astype(np.float32)


def _dent(
    shape: tuple[int, int], place: NDArray[np.float64], length: float, generator: Generator
) -> tuple[Flags, Field]:
    """A hollow: light from one side makes one flank bright and the other dark."""
    wide, narrow = length / 2, length / 2 * generator.uniform(0.5, 1.0)
    turn, light = generator.uniform(0, np.pi, 2)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    x, y = x - np.float32(place[0]), y - np.float32(place[1])
    along = (x * np.cos(turn) + y * np.sin(turn)) / wide
    across = (-x * np.sin(turn) + y * np.cos(turn)) / narrow
    radius = along**2 + across**2
    slope = (along * np.cos(light) + across * np.sin(light)) * np.exp(-1.5 * radius)
    mask = radius < 1.7
    return mask, (slope * 2.3 * mask).astype(np.float32)


def _stain(
    shape: tuple[int, int], place: NDArray[np.float64], length: float, generator: Generator
) -> tuple[Flags, Field]:
    """A film with a ragged outline and a denser rim."""
    size = (1.3 * length, 1.3 * length * generator.uniform(0.5, 1.0))
    spot = draw_spot(shape, place, size=size, generator=generator, ragged=0.4)
    soft = cv2.GaussianBlur(spot.astype(np.float32) / 255, (0, 0), max(0.8, length / 25))
    clouds = 0.65 + 0.35 * _noise(shape, max(4, int(length / 5)), generator)
    film = soft * clouds
    inner = cv2.GaussianBlur(spot.astype(np.float32) / 255, (0, 0), max(1.0, length / 10))
    rim = np.clip(soft - inner, 0, 1)
    sign = generator.choice((-1.0, -1.0, 1.0))
    change = sign * (0.6 * film + 0.8 * rim)
    return soft > 0.05, change.astype(np.float32)


def _pit(
    shape: tuple[int, int], place: NDArray[np.float64], length: float, generator: Generator
) -> tuple[Flags, Field]:
    """A few small holes close together, dark, with a bright lower rim."""
    holes = np.zeros(shape, np.uint8)
    for _ in range(int(generator.integers(2, 7))):
        away = generator.normal(0, length / 4, 2)
        size = max(2.0, length * generator.uniform(0.1, 0.25))
        holes |= draw_spot(shape, place + away, size=(size, 0.8 * size), generator=generator)
    rim = cv2.warpAffine(holes, np.array([[1, 0, 1.0], [0, 1, 1.0]]), (shape[1], shape[0]))
    dark, bright = holes > 0, (rim > 0) & (holes == 0)
    return dark | bright, (bright * 0.6 - dark * 1.0).astype(np.float32)


def _noise(shape: tuple[int, int], cell: int, generator: Generator) -> Field:
    """Smooth noise in [-1, 1] whose cells are so many pixels wide."""
    rows, columns = max(2, shape[0] // cell + 2), max(2, shape[1] // cell + 2)
    coarse = generator.uniform(-1, 1, (rows, columns)).astype(np.float32)
    fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(fine, -1, 1), np.float32)


SURFACE_KINDS: dict[
    str,
    Callable[[tuple[int, int], NDArray[np.float64], float, Generator], tuple[Flags, Field]],
] = {"scratch": _scratch, "dent": _dent, "stain": _stain, "pit": _pit}
"""Kind to ``(shape, place, length, generator) -> (mask, change in -1..1)``."""
