"""What ``check`` looks for, one function a family of faults; each gives rows with a reason."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.progress import track
from visionloop.data.datasets.oddities import PROBE
from visionloop.data.datasets.oddity import Facts
from visionloop.data.quality.finding import Finding
from visionloop.data.quality.params import CheckParams
from visionloop.data.splits.near_duplicates import hash_image

if TYPE_CHECKING:
    import pandas

__all__ = [
    "count_classes",
    "find_box_faults",
    "find_class_faults",
    "find_conflicts",
    "find_image_faults",
    "find_schema_faults",
    "read_and_hash",
]


def find_schema_faults(samples: pandas.DataFrame, limits: CheckParams) -> list[Finding]:
    """Ids that are no SHA-256 or come twice, names that do not fit, times that are no times,
    required columns that are missing or empty."""
    found = [
        Finding("schema", "", f"column '{name}' is missing", 1.0, True)
        for name in limits.required_columns
        if name not in samples
    ]
    for name in limits.required_columns:
        if name in samples and (empty := samples[name].isna() | (samples[name] == "")).any():
            reason = f"column '{name}' is empty on {int(empty.sum())} of {len(samples)} samples"
            found.append(Finding("schema", "", reason, 1.0, True))
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
    samples: pandas.DataFrame, images: Path, said: dict[str, list[Annotation]]
) -> tuple[list[Facts], list[Finding]]:
    """Read every image: what the checks of pictures need of it, and what cannot be read."""
    from visionloop.serving.images import read_image

    facts: list[Facts] = []
    found = []
    for row in track(list(samples.itertuples()), "reading images"):
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
        facts.append(_facts(row, image, said.get(one, [])))
    return facts, found


def _facts(row: Any, image: NDArray[np.uint8], said: Sequence[Annotation]) -> Facts:
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return Facts(
        file=str(getattr(row, "file", "") or row.sample_id),
        sample_id=str(row.sample_id),
        said=tuple(
            sorted(
                (one.class_name, tuple(round(value, 1) for value in one.xyxy or ())) for one in said
            )
        ),
        split=str(getattr(row, "official_split", "") or ""),
        image_hash=hash_image(image),
        probe=cv2.resize(grey, (PROBE, PROBE), interpolation=cv2.INTER_AREA).astype(np.int16),
    )


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


def find_conflicts(annotations: Sequence[Annotation], vision_task: str) -> list[Finding]:
    """Samples with two different classes (not in scenes), or classes beside "nothing there"."""
    said: dict[str, set[str]] = defaultdict(set)
    for row in annotations:
        if row.xyxy is None:
            several = vision_task == "scene" and row.class_name
            said[row.sample_id].add("(attributes)" if several else row.class_name)
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
            why = f"{shown} is {short:.1f} pixels thin"
            found.append(Finding("box", row.sample_id, why, 0.7, xyxy=row.xyxy))
        elif (x2 - x1) * (y2 - y1) > 0.98 * width * height:
            why = f"{shown} covers the whole image"
            found.append(Finding("box", row.sample_id, why, 0.5, xyxy=row.xyxy))
        key = (row.sample_id, row.class_name, tuple(round(value) for value in row.xyxy))
        if key in seen:
            why = f"{shown} comes twice"
            found.append(Finding("box", row.sample_id, why, 0.7, xyxy=row.xyxy))
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
