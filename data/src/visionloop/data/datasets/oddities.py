"""What is odd about a set of pictures, found by general checks that know no set by name.

``facts_of`` keeps what the checks need of one sample; ``find_oddities`` runs them all. Each
check is a row of ``ODDITIES``: facts in, oddities out.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.data.datasets.file_names import find_name_fields, find_shared_prefixes
from visionloop.data.datasets.mirrored import mirrored_borders
from visionloop.data.datasets.oddity import Facts, Oddity
from visionloop.data.datasets.table import RawSample
from visionloop.data.formats.pictures import Fault
from visionloop.data.splits.near_duplicates import find_near_duplicates, hash_image

__all__ = ["ODDITIES", "facts_of", "find_oddities", "oddities_of_faults"]

PROBE = 64
SAME_DISTANCE, SAME_CORRELATION = 6, 0.995
SAME_GREY = 24
"""Two pictures are the same if no pixel of their 64 x 64 thumbnails differs by more grey levels:
a re-compressed copy stays below, a board with one more defect does not."""
MIN_SHARE_NAMED = 0.8
MIN_SHARE_MIRRORED = 0.02
"""Below, a few pictures are symmetrical by chance."""
MIN_SHARE_ALIKE = 0.2

FAULT_MEANING = {
    "degenerate_box": "rows without area",
    "empty_mask": "empty masks of pictures filed under a defect",
    "doubled_row": "rows that repeat an earlier row of their picture",
    "clipped": "boxes that stuck out by a rounding",
    "without_annotation": "pictures without annotation",
}
"""Kinds of faults and notes that say something about the set as a whole."""


def facts_of(raw: RawSample, image: NDArray[np.uint8]) -> Facts:
    """What the checks keep of a sample; ``image`` is its picture, uint8 (H, W, 3) BGR."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return Facts(
        file=str(raw.attributes.get("file", raw.sample_id[:12])),
        sample_id=raw.sample_id,
        said=tuple(
            sorted(
                (row.class_name, tuple(round(one, 1) for one in row.xyxy or ()))
                for row in raw.annotations
            )
        ),
        split=raw.official_split or "",
        image_hash=hash_image(image),
        probe=cv2.resize(grey, (PROBE, PROBE), interpolation=cv2.INTER_AREA).astype(np.int16),
        mirrored=mirrored_borders(image),
    )


def find_oddities(facts: Sequence[Facts], faults: Iterable[Fault] = ()) -> list[Oddity]:
    """Run every check; rows of a kind together, in the order of ``ODDITIES``."""
    found: list[Oddity] = []
    for check in ODDITIES.values():
        found += check(facts)
    return found + oddities_of_faults(faults)


def oddities_of_faults(faults: Iterable[Fault]) -> list[Oddity]:
    """Faults of a kind that says something about the whole set, counted."""
    by_kind: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        if fault.kind in FAULT_MEANING:
            by_kind[fault.kind].append(fault)
    return [
        Oddity(kind, tuple(row.file for row in rows), f"{len(rows)} {FAULT_MEANING[kind]}")
        for kind, rows in by_kind.items()
    ]


def find_same_pictures(facts: Sequence[Facts]) -> list[Oddity]:
    """One picture twice: with different annotations, or across official splits."""
    found: list[Oddity] = []
    doubled: list[str] = []
    for first, second in _same_pairs(facts):
        one, two = facts[first], facts[second]
        files = (one.file, two.file)
        if one.said != two.said and one.said and two.said:
            both = " and ".join(PurePosixPath(file).name for file in files)
            reason = f"{both} look the same but are annotated differently: "
            reason += _difference(one, two)
            found.append(Oddity("same_picture_other_annotations", files, reason))
        else:
            doubled += files
        if {one.split, two.split} == {"train", "test"}:
            both = " and ".join(PurePosixPath(file).name for file in files)
            reason = f"{both} look the same, on both sides of the official split"
            found.append(Oddity("same_picture_across_splits", files, reason))
    if doubled:
        names = tuple(dict.fromkeys(doubled))
        reason = f"{len(names)} pictures look like another one and are annotated alike"
        found.append(Oddity("same_picture", names, reason))
    return found


def find_foreign_classes(facts: Sequence[Facts]) -> list[Oddity]:
    """File names that begin with a class, and boxes of another class in them."""
    classes = {name for row in facts for name, _ in row.said if name}
    by_word = {_word(name): name for name in classes}
    named: list[tuple[Facts, str]] = []
    for row in facts:
        stem = re.sub(r"[\W_]*\d+$", "", PurePosixPath(row.file).stem)
        if (name := by_word.get(_word(stem))) is not None:
            named.append((row, name))
    if len(classes) < 2 or len(named) < MIN_SHARE_NAMED * len(facts):
        return []
    foreign = [row for row, name in named if {one for one, _ in row.said} - {name, ""}]
    if not foreign:
        return []
    example = foreign[0]
    there = ", ".join(sorted({one for one, _ in example.said}))
    reason = (
        f"{len(foreign)} pictures hold a box of another class than their file name says, "
        f"such as {PurePosixPath(example.file).name} ({there})"
    )
    return [Oddity("foreign_class", tuple(row.file for row in foreign), reason)]


def find_mirrored_borders(facts: Sequence[Facts]) -> list[Oddity]:
    """Pictures whose borders mirror what lies inside."""
    mirrored = [row for row in facts if any(row.mirrored)]
    if len(mirrored) < max(2, MIN_SHARE_MIRRORED * len(facts)):
        return []
    widths = Counter(width for row in mirrored for width in row.mirrored if width)
    # A tool that pads does it on both sides, or always by the same width; chance does not.
    both_sides = sum(_is_paired(row.mirrored) for row in mirrored)
    if max(both_sides, max(widths.values())) < max(2, MIN_SHARE_ALIKE * len(mirrored)):
        return []
    common = ", ".join(f"{width} px" for width, _ in widths.most_common(3))
    reason = (
        f"{len(mirrored)} of {len(facts)} pictures have borders padded with their mirror image "
        f"(mostly {common} wide): objects reflected there have no boxes"
    )
    return [Oddity("mirrored_border", tuple(row.file for row in mirrored), reason)]


def _is_paired(mirrored: tuple[int, int, int, int]) -> bool:
    left, top, right, bottom = mirrored
    return (left > 0 and abs(left - right) <= 2) or (top > 0 and abs(top - bottom) <= 2)


def _same_pairs(facts: Sequence[Facts]) -> Iterator[tuple[int, int]]:
    pairs = find_near_duplicates(
        [row.image_hash for row in facts],
        max_distance=SAME_DISTANCE,
        min_correlation=SAME_CORRELATION,
    )
    for first, second, _ in pairs:
        if np.abs(facts[first].probe - facts[second].probe).max() <= SAME_GREY:
            yield first, second


def _difference(one: Facts, two: Facts) -> str:
    ours, theirs = Counter(one.said), Counter(two.said)
    only_one, only_two = sum((ours - theirs).values()), sum((theirs - ours).values())
    shared = sum((ours & theirs).values())
    return f"{only_one} only in the first, {only_two} only in the second, {shared} in both"


def _word(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())


ODDITIES: dict[str, Callable[[Sequence[Facts]], list[Oddity]]] = {
    "same_pictures": find_same_pictures,
    "foreign_classes": find_foreign_classes,
    "mirrored_borders": find_mirrored_borders,
    "name_fields": find_name_fields,
    "shared_prefixes": find_shared_prefixes,
}
"""Name to check."""
