"""What happened to the annotations of one sample between two dataset versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.geometry import box_iou

__all__ = ["KINDS", "BoxChange", "ChangeKind", "find_box_changes", "find_class_change"]

ChangeKind = Literal["added", "removed", "moved", "reshaped", "relabelled"]
KINDS: tuple[ChangeKind, ...] = ("added", "removed", "moved", "reshaped", "relabelled")

SAME_PLACE_PX = 0.1
"""Corners that differ by less are the same: formats round."""
MOVED_MIN_IOU = 0.1
"""Two boxes of one class that overlap less are a removed and an added one."""
RELABELLED_MIN_IOU = 0.5
"""Two boxes of different classes that overlap less are a removed and an added one."""


@dataclass(frozen=True)
class BoxChange:
    """One change of one box.

    Attributes
    ----------
    kind : str
        ``added``, ``removed``, ``moved`` (same class, other place or size), ``reshaped``
        (same box, other outline), ``relabelled`` (other class; it may have moved too).
    class_before, class_after : str
        Empty where there was, or is, no box.
    xyxy_before, xyxy_after : tuple of 4 floats or None
        Pixels.
    iou : float
        Of the two places, in [0, 1]; 0 for added and removed.
    shift_px : float
        Distance between the two centres, pixels.
    edge_px : float
        Largest shift of an edge, pixels: also a box that only grew has one.
    """

    kind: ChangeKind
    class_before: str
    class_after: str
    xyxy_before: tuple[float, float, float, float] | None
    xyxy_after: tuple[float, float, float, float] | None
    iou: float = 0.0
    shift_px: float = 0.0
    edge_px: float = 0.0

    @property
    def severity(self) -> float:
        """How much it matters, for the order of the page: a wrong class misleads most."""
        if self.kind in ("moved", "reshaped"):
            return 1.0 - self.iou
        return 3.0 if self.kind == "relabelled" else 2.0


def find_box_changes(before: list[Annotation], after: list[Annotation]) -> list[BoxChange]:
    """Match the boxes of a sample and tell what changed, worst first.

    Boxes of one class in one place are the same. Of what is left, pairs are taken in order
    of falling overlap, each box once: of one class from IoU .1 on (moved), of different
    classes from IoU .5 on (relabelled); at equal overlap the same class goes first. What
    remains was removed or added.
    """
    old = [row for row in before if row.xyxy is not None]
    new = [row for row in after if row.xyxy is not None]
    pairs = _pairs(old, new)
    changes = [
        _pair_change(old[first], new[second], iou)
        for first, second, iou in pairs
        if not _is_same(old[first], new[second]) or _outline(old[first]) != _outline(new[second])
    ]
    paired_old, paired_new = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    changes += [
        BoxChange("removed", row.class_name, "", row.xyxy, None)
        for number, row in enumerate(old)
        if number not in paired_old
    ]
    changes += [
        BoxChange("added", "", row.class_name, None, row.xyxy)
        for number, row in enumerate(new)
        if number not in paired_new
    ]
    return sorted(changes, key=lambda change: -change.severity)


def find_class_change(
    before: list[Annotation], after: list[Annotation]
) -> tuple[list[str], list[str]] | None:
    """Classes of the whole image before and after, with the probabilities of soft ones.

    None where they are the same.
    """
    said = [
        sorted(_class_words(row) for row in rows if row.xyxy is None and row.class_name)
        for rows in (before, after)
    ]
    return None if said[0] == said[1] else (said[0], said[1])


def _class_words(row: Annotation) -> str:
    if not row.probabilities:
        return row.class_name
    return " ".join(f"{name} {share:.2f}" for name, share in sorted(row.probabilities))


def _pairs(old: list[Annotation], new: list[Annotation]) -> list[tuple[int, int, float]]:
    if not old or not new:
        return []
    iou = box_iou(_boxes(old), _boxes(new)).astype(np.float64)
    same_class = np.array([[a.class_name == b.class_name for b in new] for a in old])
    same = np.array([[_is_same(a, b) for b in new] for a in old])
    limit = np.where(same_class, MOVED_MIN_IOU, RELABELLED_MIN_IOU)
    candidates = np.argwhere((iou >= limit) | same)
    # Unchanged pairs first, then by overlap; a lead smaller than any rounding for one class.
    rank = np.where(same, 2.0, iou + 1e-6 * same_class)[candidates[:, 0], candidates[:, 1]]
    pairs: list[tuple[int, int, float]] = []
    for first, second in candidates[np.argsort(-rank, kind="stable")]:
        if all(first != a and second != b for a, b, _ in pairs):
            pairs.append((int(first), int(second), float(iou[first, second])))
    return pairs


def _pair_change(old: Annotation, new: Annotation, iou: float) -> BoxChange:
    first, second = (_boxes([row])[0] for row in (old, new))
    step = second - first
    centre = (step[:2] + step[2:]) / 2
    return BoxChange(
        kind=_kind(old, new),
        class_before=old.class_name,
        class_after=new.class_name,
        xyxy_before=old.xyxy,
        xyxy_after=new.xyxy,
        iou=round(iou, 4),
        shift_px=round(float(np.hypot(*centre)), 2),
        edge_px=round(float(np.abs(step).max()), 2),
    )


def _kind(old: Annotation, new: Annotation) -> ChangeKind:
    if old.class_name != new.class_name:
        return "relabelled"
    return "reshaped" if _is_same(old, new) else "moved"


def _outline(row: Annotation) -> list[list[float]]:
    return [[round(value, 1) for value in ring] for ring in row.polygon]


def _is_same(old: Annotation, new: Annotation) -> bool:
    return old.class_name == new.class_name and all(
        abs(a - b) < SAME_PLACE_PX for a, b in zip(old.xyxy or (), new.xyxy or (), strict=True)
    )


def _boxes(rows: list[Annotation]) -> NDArray[np.float32]:
    return np.array([row.xyxy for row in rows], np.float32).reshape(-1, 4)
