"""Flaws made on pictures that have none: spots, strokes, regions of another surface, cut-outs.

For a network that learns to tell them from what is normal. Cut-outs are those of CutPaste (Li et
al., 2021, arXiv 2104.04015), regions of another surface those of DRAEM (Zavrtanik et al., 2021,
arXiv 2108.07610) with the product's own pictures as the source of texture, as in NSA (Schlüter et
al., 2022, arXiv 2109.15222). Nothing here knows a product: sizes are shares of the picture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.strokes import draw_spot, draw_stroke

__all__ = ["FLAWS", "make_flaw", "vary"]

Picture = NDArray[np.float32]
Flags = NDArray[np.bool_]
Generator = np.random.Generator

SHARES = {"spots": 0.2, "strokes": 0.3, "region": 0.4, "cut_out": 0.1}
"""How often each kind is made."""
DARKER = (0.3, 0.85)
"""Spots and strokes have such a share of the light around them; one in seven its inverse."""
NEAR = 0.025
"""How far around a spot its surroundings reach, as a share of the side."""
SMALLEST, LARGEST = 0.004, 0.8
"""Share of the picture that a region covers."""


def make_flaw(image: Picture, other: Picture, rng: Generator) -> tuple[Picture, Flags]:
    """Make one flaw, of one or several parts.

    Parameters
    ----------
    image, other : float32 arrays (H, W, 3)
        Two normal pictures of one size, grey levels 0 to 255; the second gives texture.
    rng : numpy Generator

    Returns
    -------
    (float32 array (H, W, 3), bool array (H, W))
        The changed picture, and where it was changed.
    """
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    changed, mask = FLAWS[kind](image, other, rng)
    return np.clip(changed, 0, 255), mask


def vary(image: Picture, rng: Generator) -> Picture:
    """What normal pictures differ in: how near, how sharp, and how they are lit.

    Parameters
    ----------
    image : float32 array (H, W, 3), grey levels 0 to 255
    rng : numpy Generator

    Returns
    -------
    float32 array (H, W, 3)
    """
    if rng.random() < 0.6:
        image = _nearer(image, rng)
    if rng.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9)), np.float32)
    if rng.random() < 0.5:
        waves = (_noise(_size(image)[0], (3, 3), rng) - 0.5) * rng.uniform(0, 0.6)
        image = image * np.exp(waves)[..., None]
    if rng.random() < 0.3:
        grain = rng.normal(0, rng.uniform(1, 5), image.shape[:2])[..., None]
        image = image + grain.astype(np.float32)
    if rng.random() < 0.3:
        mean = image.mean()
        image = (image - mean) * np.float32(rng.uniform(0.75, 1.3)) + mean
    lit = np.clip(image * np.float32(rng.uniform(0.75, 1.3)), 0, 255)
    if rng.random() < 0.3:
        lit = 255 * (lit / 255) ** np.float32(rng.uniform(0.8, 1.25))
    return np.asarray(lit, np.float32)


def _spots(image: Picture, other: Picture, rng: Generator) -> tuple[Picture, Flags]:
    """One to three spots; one in four lies on an edge of the picture and is larger."""
    shape, side = _size(image)
    whole = np.zeros(shape, bool)
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        radius = float(np.exp(rng.uniform(np.log(0.007), np.log(0.05)))) * side
        place = np.array([rng.uniform(0, shape[1]), rng.uniform(0, shape[0])])
        if rng.random() < 0.25:
            radius *= rng.uniform(1, 3)
            axis = int(rng.integers(2))
            inside = rng.uniform(0, 0.05) * side
            place[axis] = inside if rng.random() < 0.5 else shape[1 - axis] - 1 - inside
        size = (2 * radius * rng.uniform(0.6, 1.8), 2 * radius * rng.uniform(0.4, 1.0))
        spot = draw_spot(shape, place, size=size, generator=rng, ragged=0.3) > 0
        image = _shade(image, spot, rng, soft=rng.uniform(0.3, 1.2))
        whole |= spot
    return image, whole


def _strokes(image: Picture, other: Picture, rng: Generator) -> tuple[Picture, Flags]:
    """One or two thin lines, as of cracks and scratches; half of them begin at an edge."""
    shape, side = _size(image)
    whole = np.zeros(shape, bool)
    for _ in range(int(rng.choice([1, 1, 1, 2]))):
        start = np.array([rng.uniform(0, shape[1]), rng.uniform(0, shape[0])])
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.8) * side
        if rng.random() < 0.5:
            axis, far = (int(one) for one in rng.integers(2, size=2))
            start[axis] = far * (shape[1 - axis] - 1)
            angle = axis * np.pi / 2 + far * np.pi + rng.normal() * 0.35  # into the picture
            length = np.exp(rng.uniform(np.log(0.03), np.log(0.9))) * side
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        first, last = np.exp(rng.uniform(np.log(0.001), np.log(0.009), 2)) * side
        line = draw_stroke(shape, start, end, width=(first, last), generator=rng,
                           wobble=0.15 * rng.random() ** 3) > 0  # fmt: skip
        # Seldom as dark all along.
        strength = 1 - rng.uniform(0, 0.9) * _noise(shape, (6, 6), rng).clip(0, 1)
        image = _shade(
            image, np.asarray(line * strength, np.float32), rng, soft=rng.uniform(0.3, 0.7)
        )
        whole |= line
    return image, whole


def _region(image: Picture, other: Picture, rng: Generator) -> tuple[Picture, Flags]:
    """A large part with another texture, less or more contrast, or another brightness."""
    mask = _large_part(_size(image)[0], rng)
    local, draw = _around(image), rng.random()
    source: NDArray[Any]
    if draw < 0.6:
        source = other if rng.random() < 0.7 else _moved(image[::-1, ::-1], rng)
        if rng.random() < 0.7:
            source = source * (np.median(local) / max(float(np.median(source)), 1.0))
        if rng.random() < 0.3:
            turned = cv2.rotate(source, cv2.ROTATE_90_CLOCKWISE)
            source = cv2.resize(turned, (image.shape[1], image.shape[0]))
        source = source * rng.uniform(0.75, 1.33)
    elif draw < 0.8:
        source = (local + (image - local) * rng.uniform(0, 0.5)) * rng.uniform(0.85, 1.18)
    else:
        source = (local + (image - local) * rng.uniform(1.4, 2.2)) * rng.uniform(0.75, 1.35)
    return _blend(image, source, mask, soft=rng.uniform(0.3, 1.5)), mask


def _cut_out(image: Picture, other: Picture, rng: Generator) -> tuple[Picture, Flags]:
    """A small part of this or the other picture, somewhere else."""
    shape, side = _size(image)
    height, width = np.exp(rng.uniform(np.log(0.02), np.log(0.2), 2)) * side + 2
    place = np.array([rng.uniform(0, shape[1]), rng.uniform(0, shape[0])])
    mask = draw_spot(shape, place, size=(width, height), generator=rng, ragged=0.4) > 0
    source = _moved(other if rng.random() < 0.5 else image, rng)
    return _blend(image, source * rng.uniform(0.6, 1.3), mask, soft=rng.uniform(0.3, 1.0)), mask


FLAWS: dict[str, Callable[[Picture, Picture, Generator], tuple[Picture, Flags]]] = {
    "spots": _spots,
    "strokes": _strokes,
    "region": _region,
    "cut_out": _cut_out,
}
"""Kind to ``(image, other, rng) -> (changed picture, mask)``."""


def _size(image: Picture) -> tuple[tuple[int, int], int]:
    """Height and width, and the shorter of them."""
    return (image.shape[0], image.shape[1]), min(image.shape[:2])


def _large_part(shape: tuple[int, int], rng: Generator) -> Flags:
    """One side of a wavy border, a large spot, or islands."""
    draw = rng.random()
    if draw < 0.6:
        angle = rng.integers(4) * np.pi / 2 + rng.normal() * 0.25
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        along = (x / shape[1] - 0.5) * np.cos(angle) + (y / shape[0] - 0.5) * np.sin(angle)
        wave = (_noise(shape, (4, 4), rng) - 0.5) * rng.uniform(0, 0.15)
        mask = along + wave > rng.uniform(0, 0.42)
    elif draw < 0.8:
        mask = _large_spot(shape, rng)
    else:
        rows, columns = rng.integers(2, 7, 2)
        mask = _noise(shape, (int(rows), int(columns)), rng) > rng.uniform(0.6, 0.75)
    fits = SMALLEST < mask.mean() < LARGEST
    return np.asarray(mask if fits else _large_spot(shape, rng), np.bool_)


def _large_spot(shape: tuple[int, int], rng: Generator) -> Flags:
    side = min(shape)
    place = np.array([rng.uniform(0, shape[1]), rng.uniform(0, shape[0])])
    size = (rng.uniform(0.2, 0.8) * side, rng.uniform(0.15, 0.6) * side)
    spot = draw_spot(shape, place, size=size, generator=rng, ragged=0.3)
    return np.asarray(spot > 0, np.bool_)


def _noise(shape: tuple[int, int], cells: tuple[int, int], rng: Generator) -> Picture:
    """Smooth noise, about 0 to 1, of so many cells along each side."""
    coarse = rng.random((cells[0] + 1, cells[1] + 1)).astype(np.float32)
    fine = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def _nearer(image: Picture, rng: Generator) -> Picture:
    """A part of at least three quarters of each side, spread; edges of it are often true ones."""
    size = np.array([image.shape[1], image.shape[0]])
    share = rng.uniform(0.75, 1, 2)
    start = rng.random(2)
    at_edge = rng.random(2) < 0.5
    start = np.where(at_edge, np.round(start), start) * (1 - share) * size
    part = np.array([[share[0], 0, start[0]], [0, share[1], start[1]]], np.float32)
    spread = cv2.warpAffine(image, part, (image.shape[1], image.shape[0]),
                            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                            borderMode=cv2.BORDER_REPLICATE)  # fmt: skip
    return np.asarray(spread, np.float32)


def _moved(image: Picture, rng: Generator) -> Picture:
    """Rolled around both sides by any distance."""
    return np.roll(image, tuple(rng.integers(0, image.shape[:2])), (0, 1))


def _around(image: Picture) -> Picture:
    """Means of the surroundings of each pixel."""
    spread = NEAR * min(image.shape[:2])
    return np.asarray(cv2.GaussianBlur(image, (0, 0), spread), np.float32)


def _shade(image: Picture, mask: Flags | Picture, rng: Generator, *, soft: float) -> Picture:
    """Darken, seldom lighten, a part whose own texture is kept more or less; how much of it at each
    pixel may differ."""
    factor = rng.uniform(*DARKER)
    if rng.random() < 0.15:
        factor = 1 / factor
    kept = rng.uniform(0, 1)
    return _blend(image, (_around(image) * (1 - kept) + image * kept) * factor, mask, soft=soft)


def _blend(image: Picture, source: NDArray[Any], mask: Flags | Picture, *, soft: float) -> Picture:
    """``source`` inside the mask (a flag or a share, 0 to 1), with an outline so soft (pixels)."""
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), soft)[..., None]
    return np.asarray(image * (1 - share) + source * share, np.float32)
