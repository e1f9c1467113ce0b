"""Pictures that are there twice: what their two annotations say, and where they stand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from visionloop.core.entities import Annotation
from visionloop.core.geometry import match_boxes
from visionloop.data.datasets.oddities import find_foreign_classes
from visionloop.data.datasets.oddity import Facts
from visionloop.data.quality.finding import Finding

__all__ = ["find_foreign", "find_twins"]

SAME_GREY = 24
"""The same picture: no pixel of the 64 x 64 thumbnails differs by more grey levels."""
SAME_BOX = 0.5
"""IoU from which two boxes of two copies mean the same."""


def find_twins(
    pairs: Sequence[tuple[int, int]],
    facts: Sequence[Facts],
    annotations: dict[str, list[Annotation]],
    splits: dict[str, str],
) -> list[Finding]:
    """Near-duplicate pairs: told, and worse if they contradict each other.

    Parameters
    ----------
    pairs : sequence of (index, index)
        Near-duplicates among the facts.
    facts : sequence of Facts
    annotations : dict of sample id to its annotations
    splits : dict of sample id to train, val, test, excluded or reserved
    """
    found = []
    for first, second in pairs:
        one, other = facts[first].sample_id, facts[second].sample_id
        sides = {splits.get(one, ""), splits.get(other, "")}
        same = int(np.abs(facts[first].probe - facts[second].probe).max()) <= SAME_GREY
        what = "are the same picture" if same else "show the same view"
        pair = f"{one[:12]} and {other[:12]} {what}"
        if "reserved" in sides and len(sides) > 1:
            outside = other if splits.get(one) == "reserved" else one
            found.append(Finding("reserved_twin", outside, f"{pair}, one reserved for test", 0.3))
        else:
            kind = "duplicate" if same else "near_duplicate"
            found.append(Finding(kind, one, pair, 0.2 if same else 0.1))
        found += _contradictions(pair, annotations.get(one, []), annotations.get(other, []), same)
    return found


def _contradictions(
    pair: str, ours: Sequence[Annotation], theirs: Sequence[Annotation], same: bool
) -> Iterator[Finding]:
    """Two classes for one view; two sets of boxes on one picture."""
    if not ours or not theirs:
        return
    one = ours[0].sample_id
    said, other = _whole(ours), _whole(theirs)
    if said and other and said != other:
        reason = f"{pair}, annotated '{said}' and '{other}'"
        yield Finding("conflict", one, reason, 0.6)
    if not same or said or other:
        return
    alone, alone_there, both = _unmatched(ours, theirs)
    if alone or alone_there:
        reason = (
            f"{pair}, with different boxes: {alone} only in the first, {alone_there} only in the "
            f"second, {both} in both"
        )
        yield Finding("conflict", one, reason, 0.8)


def _whole(rows: Sequence[Annotation]) -> str:
    """The class of the whole image; empty for boxes."""
    return next((row.class_name for row in rows if row.xyxy is None), "")


def _unmatched(ours: Sequence[Annotation], theirs: Sequence[Annotation]) -> tuple[int, int, int]:
    """Boxes only in the first, only in the second, in both (same class, same place)."""
    both = 0
    for name in {row.class_name for row in (*ours, *theirs)}:
        boxes = [
            np.array([row.xyxy for row in rows if row.class_name == name and row.xyxy], np.float32)
            for rows in (ours, theirs)
        ]
        both += len(match_boxes(*(part.reshape(-1, 4) for part in boxes), min_iou=SAME_BOX))
    counts = [sum(row.xyxy is not None for row in rows) for rows in (ours, theirs)]
    return counts[0] - both, counts[1] - both, both


def find_foreign(facts: Iterable[Facts]) -> list[Finding]:
    """File names that begin with a class, and annotations of another class."""
    rows = list(facts)
    by_file = {row.file: row for row in rows}
    found = []
    for oddity in find_foreign_classes(rows):
        for file in oddity.files:
            there = ", ".join(sorted({name for name, _ in by_file[file].said}))
            reason = f"the file is named '{file.rsplit('/', 1)[-1]}', its annotations say {there}"
            found.append(Finding("foreign_class", by_file[file].sample_id, reason, 0.5))
    return found
