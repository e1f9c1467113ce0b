"""Two people's answers to one sample, laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from visionloop.core.geometry import match_boxes
from visionloop.labeling.regions import Region
from visionloop.labeling.shapes import XYXY

__all__ = ["MIN_IOU", "Comparison", "Difference", "average", "compare_answers"]

MIN_IOU = 0.5
"""Boxes that overlap less are not at one place."""

TOUCHING = 0.1
"""Boxes of one class that overlap this much mean the same object, drawn differently."""

Indexed = list[tuple[int, Region]]


@dataclass(frozen=True)
class Difference:
    """A place where two answers differ.

    Attributes
    ----------
    kind : "class", "place" or "alone"
        Another class at one place; one class but the boxes overlap too little; only one of
        the two has it.
    first, second : Region or None
    iou : float
        0 where one of them has nothing there.
    """

    kind: Literal["class", "place", "alone"]
    first: Region | None
    second: Region | None
    iou: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """What two answers have in common.

    Attributes
    ----------
    same : list of (Region, Region, float)
        The first person's, the second's, and how well they overlap (1 for a class of the
        whole image).
    differences : list of Difference
    """

    same: list[tuple[Region, Region, float]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether nothing differs; two answers that nothing is there agree."""
        return not self.differences


def compare_answers(
    first: Sequence[Region], second: Sequence[Region], *, min_iou: float = MIN_IOU
) -> Comparison:
    """Pair the regions of two answers.

    Boxes of one class are paired first, best overlap first, then boxes of different classes
    at one place, then boxes of one class that only touch; each at most once. Outlines are
    compared by the boxes around them.

    Parameters
    ----------
    first, second : sequence of Region
    min_iou : float
        Smallest overlap of two boxes at one place.
    """
    found = Comparison()
    whole = [[row for row in rows if row.xyxy is None] for rows in (first, second)]
    boxes = [[row for row in rows if row.xyxy is not None] for rows in (first, second)]
    _compare_whole(whole[0], whole[1], found)
    left = (list(enumerate(boxes[0])), list(enumerate(boxes[1])))
    for one, two, iou in _match_by_class(left, min_iou):
        found.same.append((one, two, iou))
    for one, two, iou in _take(left, left, min_iou):
        found.differences.append(Difference("class", one, two, iou))
    for one, two, iou in _match_by_class(left, min(TOUCHING, min_iou)):
        found.differences.append(Difference("place", one, two, iou))
    found.differences.extend(Difference("alone", row, None) for _, row in left[0])
    found.differences.extend(Difference("alone", None, row) for _, row in left[1])
    return found


def average(first: Sequence[Region], comparison: Comparison) -> list[Region]:
    """What two agreeing answers say together: the first's regions, boxes in the middle of both.

    In the order of ``first``. An outline stays as the first person drew it.
    """
    partners = {id(one): two for one, two, _ in comparison.same}
    return [_middle(one, partners.get(id(one), one)) for one in first]


def _middle(one: Region, two: Region) -> Region:
    if one.xyxy is None or two.xyxy is None or one.polygon or two.polygon:
        return one
    x1, y1, x2, y2 = ((a + b) / 2 for a, b in zip(one.xyxy, two.xyxy, strict=True))
    return replace(one, xyxy=(x1, y1, x2, y2))


def _compare_whole(first: list[Region], second: list[Region], found: Comparison) -> None:
    left = list(second)
    alone = []
    for one in first:
        partner = next((row for row in left if row.class_name == one.class_name), None)
        if partner is None:
            alone.append(one)
        else:
            left.remove(partner)
            found.same.append((one, partner, 1.0))
    for number in range(max(len(alone), len(left))):
        here = alone[number] if number < len(alone) else None
        there = left[number] if number < len(left) else None
        kind: Literal["class", "alone"] = "class" if here and there else "alone"
        found.differences.append(Difference(kind, here, there))


def _match_by_class(
    left: tuple[Indexed, Indexed], min_iou: float
) -> list[tuple[Region, Region, float]]:
    names = sorted({row.class_name for side in left for _, row in side})
    matched = []
    for name in names:
        some = tuple([entry for entry in side if entry[1].class_name == name] for side in left)
        matched += _take((some[0], some[1]), left, min_iou)
    return matched


def _take(
    some: tuple[Indexed, Indexed], left: tuple[Indexed, Indexed], min_iou: float
) -> list[tuple[Region, Region, float]]:
    """Match boxes of ``some`` and take them out of what is ``left``."""
    arrays = [np.array([_corners(row) for _, row in side], np.float32) for side in some]
    pairs = match_boxes(arrays[0].reshape(-1, 4), arrays[1].reshape(-1, 4), min_iou=min_iou)
    chosen = [(some[0][one], some[1][two], iou) for one, two, iou in pairs]
    for one, two, _ in chosen:
        left[0].remove(one)
        left[1].remove(two)
    return [(one[1], two[1], iou) for one, two, iou in chosen]


def _corners(region: Region) -> XYXY:
    assert region.xyxy is not None
    return region.xyxy
