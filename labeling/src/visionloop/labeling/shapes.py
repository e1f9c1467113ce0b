"""Rectangles, polygons and brush masks of Label Studio as outlines in pixels of the image.

A turned rectangle keeps its four corners as outline; its box is the upright one around them.
A mask becomes the outlines of its parts, drawn through the centres of its border pixels:
filling them again gives the mask. A hole in it is filled, for an outline cannot say it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "XYXY",
    "Ring",
    "bounds",
    "filled",
    "from_mask",
    "from_polygon",
    "from_rectangle",
    "placed",
    "repainted",
    "to_mask",
    "to_points",
]

XYXY = tuple[float, float, float, float]
Ring = tuple[float, ...]
"""``(x1, y1, x2, y2, ...)`` in pixels, at least three points."""

Points = list[tuple[float, float]]


def from_rectangle(
    value: Mapping[str, Any], width: int, height: int, turn: int
) -> tuple[XYXY, Ring]:
    """Box and outline of a rectangle; the outline is empty where the rectangle is upright.

    Parameters
    ----------
    value : mapping
        ``x``, ``y``, ``width``, ``height`` in percent of the image as it was shown,
        ``rotation`` in degrees, clockwise about the top left corner.
    width, height : int
        Pixels of the image.
    turn : int
        By how many degrees the image was turned clockwise when it was shown: 0, 90, 180, 270.
    """
    across, down = _shown_size(width, height, turn)
    x, y = value["x"] * across / 100, value["y"] * down / 100
    w, h = value["width"] * across / 100, value["height"] * down / 100
    if not turn and not value.get("rotation"):  # almost all are: no corners need be turned
        return bounds([_clipped([(x, y), (x + w, y + h)], width, height)]), ()
    angle = math.radians(value.get("rotation") or 0)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = [(x + a * w * cos - b * h * sin, y + a * w * sin + b * h * cos)
               for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]  # fmt: skip
    points = _unturned(corners, width, height, turn)
    is_upright = (value.get("rotation") or 0) % 90 == 0
    ring = () if is_upright else _clipped(points, width, height)
    return bounds([_clipped(points, width, height)]), ring


def from_polygon(value: Mapping[str, Any], width: int, height: int, turn: int) -> Ring:
    """Outline of a polygon whose ``points`` are in percent of the image as it was shown."""
    across, down = _shown_size(width, height, turn)
    shown = [(x * across / 100, y * down / 100) for x, y in value["points"]]
    return _clipped(_unturned(shown, width, height, turn), width, height)


def to_points(ring: Sequence[float], width: int, height: int) -> list[list[float]]:
    """An outline as a polygon's ``points`` in percent."""
    pairs = zip(ring[::2], ring[1::2], strict=True)
    return [[100 * x / width, 100 * y / height] for x, y in pairs]


def from_mask(rle: Sequence[int], width: int, height: int) -> tuple[Ring, ...]:
    """Outlines of the parts of a brush mask, in Label Studio's own run lengths.

    Raises
    ------
    ValueError
        If the run lengths are damaged or of another size.
    """
    from label_studio_sdk.converter.brush import decode_rle

    try:
        flat = np.asarray(decode_rle(list(rle)), np.uint8)
        mask = flat.reshape(height, width, 4)[:, :, 3]
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"a mask is damaged, or of another size ({error})") from None
    return _outlines(mask)


def _outlines(mask: NDArray[np.uint8]) -> tuple[Ring, ...]:
    import cv2

    found, _ = cv2.findContours((mask > 127).astype(np.uint8), cv2.RETR_EXTERNAL,
                                cv2.CHAIN_APPROX_SIMPLE)  # fmt: skip
    rings = [tuple(float(number) for number in part.reshape(-1)) for part in found]
    # A part of one or two pixels has no outline of three points.
    return tuple(sorted(ring if len(ring) >= 6 else _doubled(ring) for ring in rings))


def to_mask(rings: Sequence[Ring], width: int, height: int) -> list[int]:
    """Outlines, filled, in Label Studio's own run lengths."""
    from label_studio_sdk.converter.brush import encode_rle

    grey = filled(rings, width, height)
    pixels = np.repeat(grey[:, :, None], 4, axis=2).reshape(-1)
    return [int(number) for number in encode_rle(pixels)]  # type: ignore[no-untyped-call]


def filled(rings: Sequence[Ring], width: int, height: int) -> NDArray[np.uint8]:
    """Outlines as a mask (height, width) of 0 and 255."""
    import cv2

    mask = np.zeros((height, width), np.uint8)
    parts = [np.round(np.reshape(ring, (-1, 2))).astype(np.int32) for ring in rings]
    # One by one: together, parts that touch would leave holes.
    for part in parts:
        cv2.fillPoly(mask, [part], 255)
    return mask


def repainted(rings: Sequence[Ring]) -> tuple[Ring, ...]:
    """The outlines of what these outlines fill: alike for every way to say one mask."""
    _, _, right, bottom = bounds(rings)
    return _outlines(filled(rings, math.ceil(right) + 2, math.ceil(bottom) + 2))


def placed(rings: Sequence[Ring], before: XYXY, after: XYXY) -> tuple[Ring, ...]:
    """Outlines moved and scaled as the box around them was."""
    old, new = np.reshape(before, (2, 2)), np.reshape(after, (2, 2))
    scale = (new[1] - new[0]) / (old[1] - old[0])
    moved = [(np.reshape(ring, (-1, 2)) - old[0]) * scale + new[0] for ring in rings]
    return tuple(tuple(float(one) for one in ring.reshape(-1)) for ring in moved)


def bounds(rings: Sequence[Ring]) -> XYXY:
    """The upright box around outlines."""
    xs = [x for ring in rings for x in ring[::2]]
    ys = [y for ring in rings for y in ring[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def _shown_size(width: int, height: int, turn: int) -> tuple[int, int]:
    return (height, width) if turn in (90, 270) else (width, height)


def _unturned(points: Points, width: int, height: int, turn: int) -> Points:
    """Points of the image as it was shown, on the image as it is."""
    if turn == 90:
        return [(y, height - x) for x, y in points]
    if turn == 180:
        return [(width - x, height - y) for x, y in points]
    if turn == 270:
        return [(width - y, x) for x, y in points]
    return points


def _clipped(points: Points, width: int, height: int) -> Ring:
    right, bottom = float(width), float(height)
    ring: list[float] = []
    for x, y in points:
        ring += (min(max(x, 0.0), right), min(max(y, 0.0), bottom))
    return tuple(ring)


def _doubled(ring: Ring) -> Ring:
    return (ring + ring[-2:] * 2)[: max(6, len(ring))]
