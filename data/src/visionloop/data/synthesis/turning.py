"""Quarter turns and mirror images of made samples, boxes and masks with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.data.synthesis.recipes import MadeObject, MadeSample

__all__ = ["turn_sample"]

XYXY = tuple[float, float, float, float]


def turn_sample(made: MadeSample, *, quarters: int, mirrored: bool) -> MadeSample:
    """The sample turned counter-clockwise by quarter turns, then mirrored left to right.

    Parameters
    ----------
    made : MadeSample
    quarters : int
        0 to 3.
    mirrored : bool

    Returns
    -------
    MadeSample
        No pixel is interpolated; with an odd number of turns width and height change places.
    """
    height, width = made.image.shape[:2]
    objects = []
    for one in made.objects:
        mask = None if one.mask is None else _turn_array(one.mask, quarters, mirrored)
        xyxy = _turn_box(one.xyxy, width, height, quarters, mirrored)
        objects.append(MadeObject(one.class_name, xyxy, mask, one.is_real))
    image = _turn_array(made.image, quarters, mirrored)
    return replace(made, image=image, objects=tuple(objects))


def _turn_array(values: NDArray[Any], quarters: int, mirrored: bool) -> NDArray[Any]:
    turned = np.rot90(values, quarters)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)


def _turn_box(xyxy: XYXY, width: int, height: int, quarters: int, mirrored: bool) -> XYXY:
    x1, y1, x2, y2 = xyxy
    for _ in range(quarters):  # (x, y) goes to (y, width - x)
        x1, y1, x2, y2 = y1, width - x2, y2, width - x1
        width, height = height, width
    return (width - x2, y1, width - x1, y2) if mirrored else (x1, y1, x2, y2)
