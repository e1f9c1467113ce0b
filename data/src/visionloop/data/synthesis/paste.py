"""Put cut-out objects and defects into other pictures: where, how blended, with exact boxes.

Blending: ``alpha`` (feathered outline), ``shadow`` (alpha, with a soft shadow beside it),
``seamless`` (gradients instead of colours: Pérez et al., "Poisson Image Editing", 2003, by
OpenCV). A picture of two grey levels stays one: the result is black and white again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.cutouts import Box, CutOut, bounds_of

__all__ = ["Blend", "Pasted", "Where", "find_place", "is_two_level", "paste"]

Image = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Blend = Literal["alpha", "shadow", "seamless"]
Where = Literal["anywhere", "dark", "bright", "edge", "flat", "matching"]

MAX_MISMATCH = 0.06
"""matching: share of the surroundings' contrast by which a like place may differ."""


@dataclass(frozen=True, eq=False)
class Pasted:
    """A picture with an object in it.

    Attributes
    ----------
    image : uint8 array (H, W, 3)
    mask : bool array (H, W)
        The object's pixels.
    xyxy : (x1, y1, x2, y2)
        Of the mask, with the margin that the object's box had.
    """

    image: Image
    mask: Flags
    xyxy: Box


def find_place(
    image: Image,
    cut: CutOut,
    generator: np.random.Generator,
    *,
    where: Where = "anywhere",
    allowed: Flags | None = None,
    taken: Flags | None = None,
) -> tuple[int, int] | None:
    """A random place for the patch of a cut-out: its left and top pixel.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
    cut : CutOut
    where : str
        ``dark``, ``bright``: every pixel of the object falls on that side of Otsu's
        threshold. ``edge``, ``flat``: among the quarter of places with the strongest (and
        a fifth of the strongest at least) or weakest gradients. ``matching``: what lies
        around the object there looks like what lay around it here.
    allowed : bool array (H, W) or None
        The object must lie inside.
    taken : bool array (H, W) or None
        The patch must not touch it.

    Returns
    -------
    (x, y) or None
        None where no such place exists.
    """
    height, width = image.shape[:2]
    down, across = cut.mask.shape
    if down > height or across > width:
        return None
    free = np.ones((height - down + 1, width - across + 1), bool)
    if taken is not None:
        free &= _count(taken, np.ones((down, across), np.float32)) < 0.5
    if allowed is not None:
        free &= _count(~allowed, cut.mask.astype(np.float32)) < 0.5
    free &= _suits(image, cut, where, free)
    rows, columns = np.nonzero(free)
    if not len(rows):
        return None
    number = int(generator.integers(len(rows)))
    return int(columns[number]), int(rows[number])


def _suits(image: Image, cut: CutOut, where: Where, free: Flags) -> Flags:
    """Which places follow the rule."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    kernel = cut.mask.astype(np.float32)
    if where == "anywhere":
        return np.ones_like(free)
    if where in ("dark", "bright"):
        flag = cv2.THRESH_BINARY if where == "dark" else cv2.THRESH_BINARY_INV
        _, wrong = cv2.threshold(grey, 0, 1, flag | cv2.THRESH_OTSU)
        return _count(wrong > 0, kernel) < 0.5
    if where == "matching":
        return _matches(image, cut)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strength = _sum(np.asarray(slope, np.float32), kernel)
    inside = strength[free] if free.any() else strength
    if where == "edge":
        least = max(float(np.quantile(inside, 0.75)), 0.2 * float(inside.max()))
        return np.asarray(strength >= least)
    return np.asarray(strength <= np.quantile(inside, 0.25))


def _matches(image: Image, cut: CutOut) -> Flags:
    """Places whose pixels around the object differ little from those of the patch."""
    around = cv2.dilate(cut.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    if around.sum() < 8:
        return np.ones(_shape_of_places(image, cut), bool)
    patch = cv2.cvtColor(cut.pixels, cv2.COLOR_BGR2GRAY).astype(np.float32)
    weight = around.astype(np.float32)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    # sum of w (I - P)^2, as three correlations
    squares = _sum(grey**2, weight) - 2 * _sum(grey, weight * patch)
    squares += float((weight * patch**2).sum())
    contrast = max(20.0, float(patch[around].std()))
    mismatch = np.sqrt(np.maximum(squares, 0) / weight.sum()) / (2 * contrast)
    return np.asarray(mismatch**2 <= MAX_MISMATCH)


def _shape_of_places(image: Image, cut: CutOut) -> tuple[int, int]:
    down, across = cut.mask.shape
    return image.shape[0] - down + 1, image.shape[1] - across + 1


def _sum(values: NDArray[np.float32], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum of values under the kernel at every place where it lies inside: a correlation."""
    return np.asarray(cv2.matchTemplate(values, np.ascontiguousarray(kernel), cv2.TM_CCORR))


def _count(flags: Flags, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    return _sum(flags.astype(np.float32), kernel)


def paste(
    image: Image,
    cut: CutOut,
    place: tuple[int, int],
    *,
    blend: Blend = "alpha",
    feather: float = 1.0,
) -> Pasted:
    """Put an object into a picture.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    cut : CutOut
    place : (x, y)
        Left and top pixel of the patch; it must lie inside the picture.
    blend : {"alpha", "shadow", "seamless"}
    feather : float
        Softness of the outline, pixels (standard deviation).
    """
    x, y = place
    down, across = cut.mask.shape
    mask = np.zeros(image.shape[:2], bool)
    mask[y : y + down, x : x + across] = cut.mask
    if blend == "seamless":
        done = _clone(image, cut, place)
    else:
        ground = _shade(image, mask) if blend == "shadow" else image
        done = _mix(ground, cut, place, feather)
    if is_two_level(image):
        middle = (int(image.min()) + int(image.max())) / 2
        done = np.where(done > middle, image.max(), image.min()).astype(np.uint8)
    return Pasted(done, mask, bounds_of(mask, cut.margin))


def is_two_level(image: Image) -> bool:
    """Whether a picture is black and white: two grey levels far apart, as scans of boards."""
    low, high = int(image.min()), int(image.max())
    return high - low > 100 and bool(((image == low) | (image == high)).all())


def _mix(image: Image, cut: CutOut, place: tuple[int, int], feather: float) -> Image:
    x, y = place
    down, across = cut.mask.shape
    alpha = cut.mask.astype(np.float32)
    if feather > 0:
        alpha = np.minimum(cv2.GaussianBlur(alpha, (0, 0), feather) * 2 - 1, 1).clip(0) * alpha
        alpha = np.maximum(alpha, 0.5 * cut.mask)  # thin objects stay visible
    done = image.copy()
    part = done[y : y + down, x : x + across]
    part[:] = np.rint(part + (cut.pixels.astype(np.float32) - part) * alpha[..., None])
    return done


def _shade(image: Image, mask: Flags) -> Image:
    """A soft shadow, right below the object: its height is taken as a tenth of its size."""
    x1, y1, x2, y2 = bounds_of(mask)
    away = max(1.5, 0.1 * min(x2 - x1, y2 - y1))
    moved = np.array([[1, 0, away], [0, 1, away]], np.float64)
    size = (mask.shape[1], mask.shape[0])
    soft = cv2.warpAffine(mask.astype(np.float32), moved, size)
    soft = cv2.GaussianBlur(soft, (0, 0), away)
    return np.asarray(np.rint(image * (1 - 0.45 * soft[..., None])), np.uint8)


def _clone(image: Image, cut: CutOut, place: tuple[int, int]) -> Image:
    """OpenCV's seamlessClone; it wants the object inside the picture with a pixel around it."""
    x, y = place
    padded = cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    # with its rim, whose gradient is what makes the object stand out
    rim = cv2.dilate(cut.mask.astype(np.uint8), np.ones((7, 7), np.uint8))
    x1, y1, x2, y2 = (int(value) for value in bounds_of(rim > 0))
    object_mask = np.pad(rim[y1:y2, x1:x2] * 255, 1).astype(np.uint8)
    pixels = cv2.copyMakeBorder(cut.pixels[y1:y2, x1:x2], 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    # the centre of the rectangle around the mask, as seamlessClone computes it
    centre = (x + x1 + 2 + (x2 - x1) // 2, y + y1 + 2 + (y2 - y1) // 2)
    done = cv2.seamlessClone(pixels, padded, object_mask, centre, cv2.NORMAL_CLONE)
    return np.ascontiguousarray(done[2:-2, 2:-2])
