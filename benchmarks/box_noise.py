"""Errors of people who draw boxes, planted on annotations that are known to be right.

Four kinds: a box *missing*, one *shifted* (moved by 30 to 60 % of its size, or one side drawn
too long or too short), one *swapped* (another class), one *spurious* (of the size of some other
box, where nothing is). The scorer plants errors of its own to learn from; those are drawn from
other distributions, in ``visionloop.data.quality.planted_errors``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visionloop.core.geometry import box_iou

__all__ = ["KINDS", "BoxSet", "PlantedError", "plant"]

KINDS = ("missing", "shifted", "swapped", "spurious")
BoxSet = tuple[NDArray[np.float32], NDArray[np.int64]]
"""The boxes of one image: xyxy float32 (N, 4) in pixels, class_id int64 (N,)."""


@dataclass(frozen=True)
class PlantedError:
    """One error: number of the image, kind, and the place of the wrong (or missing) box."""

    image: int
    kind: str
    xyxy: tuple[float, float, float, float]


def plant(
    truth: Sequence[BoxSet],
    size: tuple[int, int],
    classes: int,
    *,
    rate: float,
    unit: Literal["boxes", "images"],
    seed: int,
) -> tuple[list[BoxSet], list[PlantedError]]:
    """Plant errors: in this share of the boxes, or one in each of this share of the images.

    Parameters
    ----------
    truth : sequence of (xyxy, class_id)
    size : (int, int)
        Width and height of the images in pixels.
    classes : int
    rate, unit, seed
    """
    generator = np.random.default_rng([seed, round(1000 * rate), len(unit)])
    pool = np.concatenate([xyxy for xyxy, _ in truth])
    noisy, errors = [], []
    for image, boxes in enumerate(truth):
        count = len(boxes[0])
        if unit == "boxes":
            hit = np.flatnonzero(generator.random(count) < rate)
        else:
            is_hit = count and generator.random() < rate
            hit = generator.integers(count, size=1) if is_hit else np.zeros(0, np.int64)
        wrong, found = _spoil(image, boxes, hit, pool, size, classes, generator)
        noisy.append(wrong)
        errors += found
    return noisy, errors


def _spoil(
    image: int,
    boxes: BoxSet,
    hit: NDArray[np.int64],
    pool: NDArray[np.float32],
    size: tuple[int, int],
    classes: int,
    generator: np.random.Generator,
) -> tuple[BoxSet, list[PlantedError]]:
    xyxy, class_id = boxes[0].copy(), boxes[1].copy()
    kept = np.ones(len(xyxy), bool)
    added: list[NDArray[np.float32]] = []
    errors = []
    for number in hit:
        kind = KINDS[generator.integers(len(KINDS))]
        place = xyxy[number].copy()
        if kind == "missing":
            kept[number] = False
        elif kind == "shifted":
            place = xyxy[number] = _shift(place, size, generator)
        elif kind == "swapped":
            class_id[number] = (class_id[number] + generator.integers(1, classes)) % classes
        else:
            place = _draw_elsewhere([*boxes[0], *added], pool, size, generator)
            added.append(place)
        errors.append(PlantedError(image, kind, (*(float(value) for value in place),)))
    extra = np.array(added, np.float32).reshape(-1, 4)
    extra_class = generator.integers(classes, size=len(extra))
    spoilt = (np.concatenate([xyxy[kept], extra]), np.concatenate([class_id[kept], extra_class]))
    return spoilt, errors


def _shift(
    box: NDArray[np.float32], size: tuple[int, int], generator: np.random.Generator
) -> NDArray[np.float32]:
    """Moved as a whole, or one side drawn wrong; it overlaps its old place by 10 to 60 %."""
    for _ in range(100):
        moved = box.copy()
        extent = np.array([box[2] - box[0], box[3] - box[1]], np.float32)
        if generator.random() < 0.5:
            angle = generator.uniform(0, 2 * np.pi)
            way = np.array([np.cos(angle), np.sin(angle)], np.float32)
            moved += np.tile(generator.uniform(0.3, 0.6) * way * extent, 2)
        else:
            side, factor = generator.integers(4), generator.choice([0.45, 0.55, 1.7, 2.2])
            axis = side % 2
            fixed = box[axis] if side >= 2 else box[axis + 2]
            moved[side] = fixed + (box[side] - fixed) * factor
        moved = np.clip(moved, 0, np.tile(np.array(size, np.float32), 2))
        if 0.1 < box_iou(box[None], moved[None])[0, 0] < 0.6:
            return moved
    return np.clip(box + np.tile(extent * 0.4, 2), 0, np.tile(np.array(size, np.float32), 2))


def _draw_elsewhere(
    there: list[NDArray[np.float32]],
    pool: NDArray[np.float32],
    size: tuple[int, int],
    generator: np.random.Generator,
) -> NDArray[np.float32]:
    """A box of the size of some other one where no box is."""
    for _ in range(100):
        other = pool[generator.integers(len(pool))]
        extent = np.minimum(other[2:] - other[:2], np.array(size) - 1)
        corner = generator.uniform([0, 0], np.array(size) - extent)
        drawn = np.concatenate([corner, corner + extent]).astype(np.float32)
        if not there or box_iou(drawn[None], np.stack(there)).max() < 0.05:
            return drawn
    return drawn
