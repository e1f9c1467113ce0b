"""Errors planted on annotations that people gave, for a scorer to learn what errors look like.

Most annotations are right. Where some are spoilt on purpose, the answers of a detector next to
the spoilt ones show how *this* detector, as weak or strong as it is, disagrees with an error, and
how with a box that is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.geometry import box_iou

__all__ = ["BOX_KINDS", "BoxSet", "SpoiltImage", "spoil"]

BOX_KINDS = ("right", "spurious", "shifted", "swapped")
"""What a box that is there can be; its place in this list is its class for the scorer."""
SHARE = 0.15
TRIES = 60
BoxSet = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Boxes of one image: xyxy float32 (N, 4) in pixels, class_id int64 (N,)."""


@dataclass(frozen=True, eq=False)
class SpoiltImage:
    """The annotations of one image with planted errors.

    Attributes
    ----------
    boxes : BoxSet
    kind : int64 array (N,)
        Of each box, an index of ``BOX_KINDS``.
    removed : float32 array (M, 4)
        Places of boxes that were taken away.
    """

    boxes: BoxSet
    kind: NDArray[np.int64]
    removed: NDArray[np.float32]


def spoil(
    given: Sequence[BoxSet], extent: Sequence[float], classes: int, generator: np.random.Generator
) -> list[SpoiltImage]:
    """Plant one of four errors at 15 % of the boxes: remove, shift, swap, or add a box.

    Shifts are Gaussian (a third of the size) with a log-normal scale; a box that is added has
    the size of any other box, at a place without one.

    Parameters
    ----------
    given : sequence of BoxSet
    extent : sequence of float
        Longer side of each image in pixels.
    classes : int
    generator
    """
    pool = np.concatenate([xyxy for xyxy, _ in given])
    return [
        _spoil_one(boxes, extent[number], pool, classes, generator)
        for number, boxes in enumerate(given)
    ]


def _spoil_one(
    boxes: BoxSet,
    extent: float,
    pool: NDArray[np.float32],
    classes: int,
    generator: np.random.Generator,
) -> SpoiltImage:
    xyxy, class_id = boxes[0].copy(), boxes[1].copy()
    count = len(xyxy)
    kind = np.zeros(count, np.int64)
    kept = np.ones(count, np.bool_)
    added: list[NDArray[np.float32]] = []
    for number in np.flatnonzero(generator.random(count) < SHARE):
        what = generator.integers(4 if classes > 1 else 3)
        if what == 0:
            kept[number] = False
        elif what == 1:
            added.append(_elsewhere(boxes[0], pool, extent, generator))
        elif what == 2:
            xyxy[number], kind[number] = _shifted(xyxy[number], generator), 2
        else:
            step = generator.integers(1, classes)
            class_id[number], kind[number] = (class_id[number] + step) % classes, 3
    extra = np.array(added, np.float32).reshape(-1, 4)
    chosen = generator.choice(class_id, len(extra)) if len(extra) else np.zeros(0, np.int64)
    return SpoiltImage(
        (np.concatenate([xyxy[kept], extra]), np.concatenate([class_id[kept], chosen])),
        np.concatenate([kind[kept], np.ones(len(extra), np.int64)]),
        boxes[0][~kept],
    )


def _shifted(box: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    size = box[2:] - box[:2]
    for _ in range(TRIES):
        middle = (box[:2] + box[2:]) / 2 + generator.normal(0, 0.33, 2) * size
        half = size / 2 * np.exp(generator.normal(0, 0.3, 2))
        moved = np.concatenate([middle - half, middle + half]).astype(np.float32)
        if 0.05 < box_iou(box[None], moved[None])[0, 0] < 0.65:
            return np.asarray(moved, np.float32)
    return np.asarray(box + np.tile(0.4 * size, 2), np.float32)


def _elsewhere(
    there: NDArray[np.float32],
    pool: NDArray[np.float32],
    extent: float,
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    for _ in range(TRIES):
        other = pool[generator.integers(len(pool))]
        size = other[2:] - other[:2]
        corner = generator.uniform(0, np.maximum(extent - size, 1))
        drawn = np.concatenate([corner, corner + size]).astype(np.float32)
        if not len(there) or box_iou(drawn[None], there).max() < 0.1:
            break
    return np.asarray(drawn, np.float32)
