"""From masks to outlines and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Outlined", "draw_outline", "trace_objects"]

Ring = tuple[float, ...]


@dataclass(frozen=True)
class Outlined:
    """An object of a mask: its exact box in pixels and its outline (rings, see Annotation)."""

    xyxy: tuple[float, float, float, float]
    polygon: tuple[Ring, ...]


def trace_objects(mask: NDArray[np.bool_], *, as_one: bool = False) -> list[Outlined]:
    """The connected objects of a mask, in order of their first row.

    Parameters
    ----------
    mask : bool array (H, W)
    as_one : bool
        All of it is one object, in several parts perhaps.

    Returns
    -------
    list of Outlined
        Outlines run through the centres of the border pixels (Suzuki and Abe, 1985);
        holes are filled.
    """
    contours, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
    )
    if not contours:
        return []
    found = [Outlined(_box(contour), (_ring(contour),)) for contour in contours]
    found.sort(key=lambda one: (one.xyxy[1], one.xyxy[0]))
    if not as_one:
        return found
    boxes = np.array([one.xyxy for one in found])
    x1, y1 = boxes[:, :2].min(axis=0).tolist()
    x2, y2 = boxes[:, 2:].max(axis=0).tolist()
    return [Outlined((x1, y1, x2, y2), tuple(one.polygon[0] for one in found))]


def draw_outline(polygon: tuple[Ring, ...], width: int, height: int) -> NDArray[np.bool_]:
    """The pixels of an outline, its border included: bool array (H, W)."""
    canvas = np.zeros((height, width), np.uint8)
    for ring in polygon:
        points = np.array(ring, np.float64).reshape(-1, 2) - 0.5
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
    return canvas.astype(bool)


def _box(contour: NDArray[Any]) -> tuple[float, float, float, float]:
    x, y, width, height = cv2.boundingRect(contour)
    return float(x), float(y), float(x + width), float(y + height)


def _ring(contour: NDArray[Any]) -> Ring:
    points = contour.reshape(-1, 2).astype(np.float64) + 0.5
    if len(points) < 3:
        points = _thicken(points)
    return tuple(float(value) for value in points.reshape(-1))


def _thicken(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """One or two pixels have no area as an outline: a quarter of a pixel to each side has."""
    first, last = points[0], points[-1]
    along = last - first
    length = float(np.hypot(*along))
    if length == 0:
        corners = [(-0.25, -0.25), (0.25, -0.25), (0.25, 0.25), (-0.25, 0.25)]
        return np.array([first + corner for corner in corners], np.float64)
    across = 0.25 * np.array([-along[1], along[0]]) / length
    return np.array([first + across, last + across, last - across, first - across], np.float64)
