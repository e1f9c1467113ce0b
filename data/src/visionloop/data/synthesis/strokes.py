"""Marks as a hand or a tool leaves them: wobbling strokes whose width changes, ragged spots.

Hand-drawn and etched defects are strokes rather than discs: on DeepPCB's training boards a
spur is 20 x 9 px (median), a pin-hole 18 x 10 px, and one end is often thicker than the other.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Mask", "crumble", "draw_spot", "draw_stroke"]

Mask = NDArray[np.uint8]
Point = NDArray[np.float64]

_SHIFT = 4
"""OpenCV draws with 1/16 pixel."""


def draw_stroke(
    shape: tuple[int, int],
    start: Point,
    end: Point,
    *,
    width: tuple[float, float],
    generator: np.random.Generator,
    wobble: float = 0.12,
) -> Mask:
    """A stroke from start to end.

    Parameters
    ----------
    shape : (height, width)
        Of the mask.
    start, end : float arrays (2,)
        x, y in pixels.
    width : (float, float)
        Of the stroke at its start and at its end, pixels.
    generator : numpy Generator
    wobble : float
        How far the stroke strays sidewards, as a share of its length.

    Returns
    -------
    uint8 array (height, width), 255 on the stroke
    """
    mask = np.zeros(shape, np.uint8)
    way = end - start
    length = float(np.hypot(*way))
    count = max(3, int(length / 4) + 2)
    share = np.linspace(0, 1, count)
    across = np.array([-way[1], way[0]]) / max(length, 1e-6)
    stray = 1.5 * _smooth(_smooth(generator.normal(0, 1, count))) * wobble * length
    stray -= stray[0] + (stray[-1] - stray[0]) * share  # ends stay where they were asked for
    points = start + share[:, None] * way + stray[:, None] * across
    rough = 1 + 0.18 * _smooth(generator.normal(0, 1, count))
    widths = (width[0] + share * (width[1] - width[0])) * rough
    for place, radius in zip(_dense(points), _dense(widths[:, None])[:, 0] / 2, strict=True):
        centre = np.round(place * 2**_SHIFT).astype(int).tolist()
        cv2.circle(mask, centre, max(8, round(radius * 2**_SHIFT)), 255, -1, cv2.LINE_8, _SHIFT)
    return mask


def draw_spot(
    shape: tuple[int, int],
    place: Point,
    *,
    size: tuple[float, float],
    generator: np.random.Generator,
    ragged: float = 0.25,
) -> Mask:
    """A ragged ellipse of this length and width in a random direction; see draw_stroke."""
    mask = np.zeros(shape, np.uint8)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = 1 + ragged * _smooth(generator.normal(0, 1, 24), around=True)
    turn = generator.uniform(0, np.pi)
    x = radius * np.cos(angle) * size[0] / 2
    y = radius * np.sin(angle) * size[1] / 2
    outline = np.stack(
        [x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=1
    )
    corners = np.round((place + outline) * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_8, _SHIFT)
    return mask


def crumble(mask: Mask, generator: np.random.Generator, *, share: float) -> Mask:
    """Leave crumbs: up to this share of a mark is not marked, and its rim becomes ragged.

    Scans made black and white by a threshold look like that: on real boards a cut trace keeps
    specks of copper.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask
    part = np.s_[max(0, rows[0] - 3) : rows[-1] + 4, max(0, columns[0] - 3) : columns[-1] + 4]
    inside = mask[part] > 0
    raw = cv2.GaussianBlur(generator.normal(0, 1, inside.shape), (0, 0), 0.9)
    grain = np.asarray(raw, np.float64) / max(1e-6, float(np.asarray(raw).std()))
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.0)
    left = float(generator.uniform(0, share)) * float(generator.random() < 0.7)
    deep = inside & (soft > 0.9)
    kept = soft + 0.09 * grain > 0.5
    if left > 0.01 and deep.any():
        kept &= ~(deep & (grain > np.quantile(grain[deep], 1 - left)))
    done = np.zeros_like(mask)
    done[part] = np.where(kept, 255, 0)
    return done


def _smooth(values: NDArray[np.float64], *, around: bool = False) -> NDArray[np.float64]:
    mode = "wrap" if around else "edge"
    padded = np.pad(values, 1, mode=mode)  # type: ignore[call-overload]
    smooth: NDArray[np.float64] = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return smooth


def _dense(rows: NDArray[np.float64], *, per_row: int = 8) -> NDArray[np.float64]:
    """Rows (N, D) with points in between, so that circles join to a line."""
    place = np.linspace(0, len(rows) - 1, (len(rows) - 1) * per_row + 1)
    known = np.arange(len(rows))
    return np.stack([np.interp(place, known, column) for column in rows.T], axis=1)
