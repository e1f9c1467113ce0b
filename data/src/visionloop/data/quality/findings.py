"""What ``check`` looks for, one function a family of faults; each gives rows with a reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.progress import track
from visionloop.data.params import CheckParams
from visionloop.data.splits.near_duplicates import ImageHash, hash_image

if TYPE_CHECKING:
    import pandas

__all__ = [
    "MEANING",
    "Finding",
    "count_classes",
    "find_box_faults",
    "find_class_faults",
    "find_conflicts",
    "find_duplicates",
    "find_image_faults",
    "find_schema_faults",
    "read_and_hash",
]

MEANING = {
    "schema": "a row that does not follow the schema",
    "corrupt": "an image that cannot be read",
    "dark": "a dark image",
    "bright": "an overexposed image",
    "blurred": "a blurred image",
    "near_duplicate": "a pair of near-duplicates",
    "conflict": "contradicting annotations of one view",
    "leak": "a near-duplicate pair across training and test",
    "reserved_twin": "a near-duplicate of a test sample, which split will leave out",
    "box": "a box that makes no sense",
    "class": "a class with too few annotations",
    "imbalance": "classes out of balance",
}
"""Kind to what one finding of it is."""


@dataclass(frozen=True)
class Finding:
    """Something found.

    Attributes
    ----------
    kind : str
        A row of ``MEANING``.
    sample_id : str
        Empty where it concerns the whole.
    reason : str
        One sentence.
    severity : float
        In [0, 1], larger is worse.
    is_breach : bool
        Breaks the contract by itself.
    """

    kind: str
    sample_id: str
    reason: str
    severity: float
    is_breach: bool = False


def find_schema_faults(samples: pandas.DataFrame) -> list[Finding]:
    """Ids that are no SHA-256 or come twice, names that do not fit, times that are no times."""
    found = []
    twice = samples["sample_id"][samples["sample_id"].duplicated()]
    for one in twice:
        found.append(Finding("schema", str(one), "its sample_id comes twice", 1.0, True))
    for row in samples.itertuples():
        one = str(row.sample_id)
        problems = []
        if len(one) != 64 or not set(one) <= set("0123456789abcdef"):
            problems.append("sample_id is no SHA-256")
        if Path(str(row.file_name)).stem != one:
            problems.append(f"file_name {row.file_name} does not follow the sample_id")
        if not (row.width > 0 and row.height > 0):
            problems.append(f"size {row.width} x {row.height}")
        if row.captured_at and not _is_time(row.captured_at):  # an imported set may not know
            problems.append(f"captured_at '{row.captured_at}' is no RFC 3339 time")
        if problems:
            found.append(Finding("schema", one, "; ".join(problems), 1.0, True))
    return found


def _is_time(text: object) -> bool:
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False


def read_and_hash(
    samples: pandas.DataFrame, images: Path
) -> tuple[dict[str, ImageHash], list[Finding]]:
    """Read every image: perceptual hash by sample id, and what cannot be read."""
    from visionloop.serving.images import read_image

    hashes: dict[str, ImageHash] = {}
    found = []
    rows = list(samples.itertuples())
    for row in track(rows, "reading images"):
        one = str(row.sample_id)
        try:
            image = read_image(images / str(row.file_name))
        except DataError as error:
            found.append(Finding("corrupt", one, "; ".join(error.problems), 1.0))
            continue
        if image.shape[:2] != (row.height, row.width):
            size = f"{image.shape[1]} x {image.shape[0]}"
            reason = f"the image has {size} pixels, the table says {row.width} x {row.height}"
            found.append(Finding("schema", one, reason, 1.0, True))
        hashes[one] = hash_image(image)
    return hashes, found


def find_image_faults(samples: pandas.DataFrame, limits: CheckParams) -> list[Finding]:
    """Dark, overexposed and blurred images, by the limits of ``data.check``."""
    found = []
    for row in samples.itertuples():
        light, sharp = float(row.luminance), float(row.blur)
        one = str(row.sample_id)
        if light < limits.dark_below:
            reason = f"mean grey level {light:.1f}, below {limits.dark_below:g}"
            found.append(Finding("dark", one, reason, 1 - light / limits.dark_below))
        if light > limits.bright_above:
            reason = f"mean grey level {light:.1f}, above {limits.bright_above:g}"
            found.append(Finding("bright", one, reason, 0.5))
        if sharp < limits.blurred_below:
            reason = f"variance of the Laplacian {sharp:.2f}, below {limits.blurred_below:g}"
            found.append(Finding("blurred", one, reason, 1 - sharp / limits.blurred_below))
    return found


def find_duplicates(
    twins: Sequence[tuple[str, str]], annotations: Sequence[Annotation], splits: dict[str, str]
) -> list[Finding]:
    """Near-duplicate pairs: told, worse if they contradict each other, worst if they leak.

    Parameters
    ----------
    twins : sequence of (sample id, sample id)
    annotations : sequence of Annotation
    splits : dict of sample id to train, val, test, excluded or reserved
    """
    said = {row.sample_id: row.class_name for row in annotations if row.xyxy is None}
    found = []
    for first, second in twins:
        pair = f"{first[:12]} and {second[:12]} show the same view"
        sides = {splits.get(first, ""), splits.get(second, "")}
        if "test" in sides and sides & {"train", "val"}:
            found.append(Finding("leak", first, f"{pair}, one in test, one in training", 1.0))
        elif "reserved" in sides and len(sides) > 1:
            outside = second if splits.get(first) == "reserved" else first
            found.append(Finding("reserved_twin", outside, f"{pair}, one reserved for test", 0.3))
        else:
            found.append(Finding("near_duplicate", first, pair, 0.1))
        if said.get(first, "") != said.get(second, "") and first in said and second in said:
            reason = f"{pair}, annotated '{said[first]}' and '{said[second]}'"
            found.append(Finding("conflict", first, reason, 0.6))
    return found


def find_conflicts(annotations: Sequence[Annotation], vision_task: str) -> list[Finding]:
    """Samples with two different classes (classification), or classes beside "nothing there"."""
    said: dict[str, set[str]] = defaultdict(set)
    for row in annotations:
        if row.xyxy is None:
            said[row.sample_id].add(row.class_name)
        elif vision_task == "detection":
            said[row.sample_id].add("(boxes)")
    return [
        Finding("conflict", one, f"annotated {' and '.join(sorted(names))}", 1.0, True)
        for one, names in sorted(said.items())
        if len(names) > 1
    ]


def find_box_faults(
    annotations: Sequence[Annotation], samples: pandas.DataFrame, limits: CheckParams
) -> list[Finding]:
    """Boxes that are tiny, cover the whole image, or come twice."""
    sizes = {row.sample_id: (row.width, row.height) for row in samples.itertuples()}
    found = []
    seen: set[tuple[str, str, tuple[int, ...]]] = set()
    for row in annotations:
        if row.xyxy is None:
            continue
        x1, y1, x2, y2 = row.xyxy
        width, height = sizes.get(row.sample_id, (1, 1))
        shown = f"box {[round(value) for value in row.xyxy]} of '{row.class_name}'"
        short = min(x2 - x1, y2 - y1)
        if row.sample_id not in sizes:
            found.append(Finding("box", row.sample_id, f"{shown} of an unknown sample", 1.0, True))
        elif short < limits.min_box_pixels:
            found.append(Finding("box", row.sample_id, f"{shown} is {short:.1f} pixels thin", 0.7))
        elif (x2 - x1) * (y2 - y1) > 0.98 * width * height:
            found.append(Finding("box", row.sample_id, f"{shown} covers the whole image", 0.5))
        key = (row.sample_id, row.class_name, tuple(round(value) for value in row.xyxy))
        if key in seen:
            found.append(Finding("box", row.sample_id, f"{shown} comes twice", 0.7))
        seen.add(key)
    return found


def count_classes(annotations: Sequence[Annotation], classes: Sequence[str]) -> dict[str, int]:
    """Annotations of each class, unknown classes included."""
    counted = Counter(row.class_name for row in annotations if row.class_name)
    return {name: counted[name] for name in [*classes, *sorted(set(counted) - set(classes))]}


def find_class_faults(class_counts: dict[str, int], limits: CheckParams) -> list[Finding]:
    """Classes that are missing or too few, and classes out of balance."""
    found = [
        Finding(
            "class",
            "",
            f"class '{name}' has {count} annotations, fewer than {limits.min_per_class} "
            "(data.check.min_per_class)",
            1.0,
            True,
        )
        for name, count in class_counts.items()
        if count < limits.min_per_class
    ]
    least = min(class_counts, key=lambda name: class_counts[name])
    most = max(class_counts, key=lambda name: class_counts[name])
    ratio = class_counts[most] / max(class_counts[least], 1)
    if ratio > limits.max_imbalance:
        reason = f"'{most}' is {ratio:.0f} times as frequent as '{least}'"
        found.append(Finding("imbalance", "", reason, 0.5))
    return found
