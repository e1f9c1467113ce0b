"""What a condition did to a picture, and what that means for boxes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Changed", "ConditionedSample", "Generator", "Image", "carry_boxes"]

Image = NDArray[np.uint8]
Generator = np.random.Generator

MIN_LEFT = 0.25
"""A box of which less is left in view is lost."""


@dataclass(frozen=True, eq=False)
class Changed:
    """The result of a condition that moves or covers.

    Attributes
    ----------
    image : uint8 array (H, W, 3) or (H, W)
    matrix : float array (3, 3) or None
        Homography from old to new pixel positions; None where nothing moved.
    covered : bool array (H, W) or None
        New pixels that hide what was there.
    """

    image: Image
    matrix: NDArray[np.float64] | None = None
    covered: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class ConditionedSample:
    """A picture under a condition with the boxes that are true on it.

    Attributes
    ----------
    image : uint8 array, shape as given
    xyxy : float32 array (M, 4)
        Boxes that are still to be seen, pixels, clipped to the image.
    kept : bool array (N,)
        Which of the boxes given these are; the others were covered or left the picture.
    """

    image: Image
    xyxy: NDArray[np.float32]
    kept: NDArray[np.bool_]


def carry_boxes(
    changed: Changed, xyxy: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Boxes after a condition, and which of them are still to be seen.

    A box is lost if less than a quarter of it is left inside the picture and uncovered. A
    turned box becomes the upright box around its four corners, as augmentation libraries do.
    """
    boxes = np.asarray(xyxy, np.float64).reshape(-1, 4)
    height, width = changed.image.shape[:2]
    moved = boxes if changed.matrix is None else _move(boxes, changed.matrix)
    clipped = np.clip(moved, 0, [width, height, width, height])
    kept = np.zeros(len(boxes), bool)
    for number, (whole, seen) in enumerate(zip(moved, clipped, strict=True)):
        kept[number] = _share_left(whole, seen, changed.covered) >= MIN_LEFT
    return clipped[kept].astype(np.float32), kept


def _move(boxes: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    points = np.stack([x, y, np.ones_like(x)], axis=-1) @ matrix.T
    x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
    return np.stack([x.min(1), y.min(1), x.max(1), y.max(1)], axis=1)


def _share_left(
    whole: NDArray[np.float64], seen: NDArray[np.float64], covered: NDArray[np.bool_] | None
) -> float:
    area = max(1e-9, float((whole[2] - whole[0]) * (whole[3] - whole[1])))
    left = max(0.0, float(seen[2] - seen[0])) * max(0.0, float(seen[3] - seen[1])) / area
    if covered is None or left == 0:
        return left
    x1, y1 = (int(value) for value in seen[:2])
    x2, y2 = max(x1 + 1, int(np.ceil(seen[2]))), max(y1 + 1, int(np.ceil(seen[3])))
    part = covered[y1:y2, x1:x2]
    return left * (1 - float(part.mean())) if part.size else left
