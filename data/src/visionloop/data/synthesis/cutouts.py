"""Objects and defects cut out of pictures: pixels, outline, class, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "CutOut", "Outline", "bounds_of", "cut_out", "mask_of_polygon", "turn"]

Image = NDArray[np.uint8]
Flags = NDArray[np.bool_]
Box = tuple[float, float, float, float]
Outline = Literal["box", "ellipse", "grabcut"]


@dataclass(frozen=True, eq=False)
class CutOut:
    """A patch of a picture with the object in it.

    Attributes
    ----------
    pixels : uint8 array (h, w, 3), BGR
        The object with some of its surroundings.
    mask : bool array (h, w)
        The object itself.
    margin : float
        How far its box reached beyond the mask, pixels (mean of four sides): people leave
        room, and boxes of pasted objects leave the same.
    class_name : str
    source : str
        Sample id of the picture.
    """

    pixels: Image
    mask: Flags
    margin: float = 0.0
    class_name: str = ""
    source: str = ""


def cut_out(
    image: Image,
    xyxy: Box,
    *,
    mask: Flags | None = None,
    outline: Outline = "box",
    context: int = 4,
    class_name: str = "",
    source: str = "",
) -> CutOut:
    """Cut the object of a box out of a picture.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    xyxy : box in pixels
    mask : bool array (H, W) or None
        The object's pixels where they are known; only what lies in the box counts.
    outline : {"box", "ellipse", "grabcut"}
        What counts as the object without a mask: the whole box, the ellipse in it, or what
        GrabCut (Rother et al., 2004; OpenCV) separates from the box's surroundings.
    context : int
        Pixels around the box that come along, for blending and for finding a like place.

    Raises
    ------
    ValueError
        If the box has no pixel in the image or the mask no pixel in the box.
    """
    height, width = image.shape[:2]
    x1, y1 = max(0, round(xyxy[0])), max(0, round(xyxy[1]))
    x2, y2 = min(width, round(xyxy[2])), min(height, round(xyxy[3]))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"box {xyxy} has no pixel in an image of {width} x {height}")
    flags: Flags = np.zeros((height, width), bool)
    if mask is not None:
        flags[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
        if not flags.any():
            raise ValueError(f"the mask has no pixel in box {xyxy}")
    elif outline == "ellipse":
        flags = _ellipse((height, width), (x1, y1, x2, y2))
    elif outline == "grabcut":
        flags = _grab(image, (x1, y1, x2, y2))
    else:
        flags[y1:y2, x1:x2] = True
    tight = bounds_of(flags)
    margin = ((tight[0] - x1) + (tight[1] - y1) + (x2 - tight[2]) + (y2 - tight[3])) / 4
    left, top = max(0, x1 - context), max(0, y1 - context)
    right, down = min(width, x2 + context), min(height, y2 + context)
    return CutOut(
        pixels=image[top:down, left:right].copy(),
        mask=flags[top:down, left:right].copy(),
        margin=max(0.0, margin),
        class_name=class_name,
        source=source,
    )


def turn(cut: CutOut, *, degrees: float = 0.0, scale: float = 1.0, flip: bool = False) -> CutOut:
    """The same object turned, resized, mirrored; quarter turns move pixels exactly."""
    pixels, mask = cut.pixels, cut.mask
    if flip:
        pixels, mask = pixels[:, ::-1], mask[:, ::-1]
    if degrees % 90 == 0 and scale == 1.0:
        quarter = int(degrees // 90) % 4
        pixels, mask = np.rot90(pixels, quarter), np.rot90(mask, quarter)
        return replace(cut, pixels=np.ascontiguousarray(pixels), mask=np.ascontiguousarray(mask))
    height, width = mask.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = (
        max(1, int(np.ceil(width * cosine + height * sine))),
        max(1, int(np.ceil(width * sine + height * cosine))),
    )
    matrix = matrix + np.array([[0, 0, (size[0] - width) / 2], [0, 0, (size[1] - height) / 2]])
    turned = cv2.warpAffine(
        np.ascontiguousarray(pixels), matrix, size, borderMode=cv2.BORDER_REPLICATE
    )
    soft = cv2.warpAffine(np.ascontiguousarray(mask).astype(np.float32), matrix, size)
    return replace(
        cut, pixels=np.asarray(turned, np.uint8), mask=soft > 0.5, margin=cut.margin * scale
    )


def mask_of_polygon(polygon: tuple[tuple[float, ...], ...], shape: tuple[int, int]) -> Flags:
    """Pixels inside the rings (x1, y1, x2, y2, ...) of an outline; bool array of this shape."""
    mask = np.zeros(shape, np.uint8)
    rings = [np.rint(np.array(ring).reshape(-1, 2)).astype(np.int32) for ring in polygon]
    cv2.fillPoly(mask, rings, 1)
    return mask > 0


def bounds_of(mask: Flags, margin: float = 0.0) -> Box:
    """The box of all True pixels, with a margin, clipped to the mask.

    Raises
    ------
    ValueError
        If there is none.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError("an empty mask has no box")
    height, width = mask.shape
    return (
        max(0.0, float(columns[0]) - margin),
        max(0.0, float(rows[0]) - margin),
        min(float(width), float(columns[-1]) + 1 + margin),
        min(float(height), float(rows[-1]) + 1 + margin),
    )


def _ellipse(shape: tuple[int, int], box: tuple[int, int, int, int]) -> Flags:
    x1, y1, x2, y2 = box
    y, x = np.mgrid[: shape[0], : shape[1]]
    across = (x + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 2)
    down = (y + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 2)
    return np.asarray(across**2 + down**2 <= 1)


def _grab(image: Image, box: tuple[int, int, int, int]) -> Flags:
    """GrabCut on the box and as much around it; the whole box where it finds nothing."""
    x1, y1, x2, y2 = box
    height, width = image.shape[:2]
    across, down = x2 - x1, y2 - y1
    left, top = max(0, x1 - across // 2 - 4), max(0, y1 - down // 2 - 4)
    right, low = min(width, x2 + across // 2 + 4), min(height, y2 + down // 2 + 4)
    part = np.ascontiguousarray(image[top:low, left:right])
    state = np.full(part.shape[:2], cv2.GC_BGD, np.uint8)
    inside = (slice(y1 - top, y2 - top), slice(x1 - left, x2 - left))
    state[inside] = cv2.GC_PR_FGD
    flags = np.zeros((height, width), bool)
    if (state == cv2.GC_BGD).any() and min(across, down) >= 4:
        cv2.setRNGSeed(0)  # GrabCut draws its clusters at random
        back, front = np.zeros((1, 65)), np.zeros((1, 65))
        cv2.grabCut(part, state, (0, 0, 1, 1), back, front, 3, cv2.GC_INIT_WITH_MASK)
        flags[top:low, left:right] = (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)
    if flags.sum() < 0.1 * across * down:
        flags[y1:y2, x1:x2] = True
    return flags
