"""What training learns from: classes and boxes of the train split, faults planted on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.data.versions.version import DatasetVersion

if TYPE_CHECKING:
    import pandas

    from visionloop.training.families.table import TrainingJob

__all__ = [
    "Boxes",
    "count_train_mix",
    "split_attributes",
    "split_class_ids",
    "train_boxes",
]

Boxes = tuple[NDArray[np.float32], NDArray[np.int64]]
"""xyxy float32 (N, 4) in pixels, class_id int64 (N,)."""

MAX_VALUES = 20
"""Columns with more values than this are no slices."""

NOT_SLICES = frozenset({"sample_id", "file_name", "captured_at", "group", "split", "phase"})


def split_class_ids(version: DatasetVersion, split: str, job: TrainingJob) -> NDArray[np.int64]:
    """Class index of each sample of a split, shape (N,), in the order of the samples.

    With the planted fault "shuffled_labels" the classes of the train split are dealt out
    to other samples.

    Raises
    ------
    DataError
        If fewer than two classes are in the train split.
    """
    class_ids = version.class_ids(version.split(split)["sample_id"].tolist())
    if split != "train":
        return class_ids
    present = set(class_ids.tolist())
    if len(present) < 2:
        names = ", ".join(version.classes[one] for one in sorted(present)) or "none"
        raise DataError(
            f"dataset version {version.name}",
            f"the train split needs at least two classes, it has: {names}",
            "annotate more samples, then visionloop data freeze",
        )
    if job.params.planted_fault == "shuffled_labels":
        return np.random.default_rng(job.project.seed).permutation(class_ids)
    return class_ids


def split_attributes(version: DatasetVersion, split: str, job: TrainingJob) -> NDArray[np.float32]:
    """Attributes of each sample of a split, 0 or 1, shape (N, C), in the order of the samples.

    With the planted fault "shuffled_labels" the rows of the train split are dealt out to
    other samples.

    Raises
    ------
    DataError
        If some attribute is held by no train sample, or by all.
    """
    given = version.attributes(version.split(split)["sample_id"].tolist()).astype(np.float32)
    if split != "train":
        return given
    share = given.mean(axis=0) if len(given) else np.zeros(len(version.classes))
    same = [name for name, one in zip(version.classes, share, strict=True) if one in (0.0, 1.0)]
    if same:
        raise DataError(
            f"dataset version {version.name}",
            f"in the train split these attributes are held by no sample or by all: "
            f"{', '.join(same)}",
            "annotate more samples or take them out of project.classes, then freeze",
        )
    if job.params.planted_fault == "shuffled_labels":
        return np.random.default_rng(job.project.seed).permutation(given)
    return given


def train_boxes(
    version: DatasetVersion, sample_ids: Sequence[str], *, fault: str, seed: int
) -> dict[str, Boxes]:
    """Boxes of each train sample.

    With ``fault`` "shuffled_labels" each image gets the boxes of another one, and the
    classes are dealt out anew.

    Raises
    ------
    DataError
        If there is no box at all.
    """
    boxes = [version.boxes(sample_id) for sample_id in sample_ids]
    if not any(len(class_id) for _, class_id in boxes):
        raise DataError(
            f"dataset version {version.name}",
            "the train split has no box",
            "annotate samples, then visionloop data freeze",
        )
    if fault == "shuffled_labels":
        rng = np.random.default_rng(seed)
        boxes = [boxes[place] for place in rng.permutation(len(boxes))]
        dealt = rng.permutation(np.concatenate([class_id for _, class_id in boxes]))
        ends = np.cumsum([len(class_id) for _, class_id in boxes])
        parts = np.split(dealt, ends[:-1])
        boxes = [(xyxy, part) for (xyxy, _), part in zip(boxes, parts, strict=True)]
    return dict(zip(sample_ids, boxes, strict=True))


def classes_without_truth(version: DatasetVersion) -> list[str]:
    """Classes that no train sample shows: whatever is trained will never answer them."""
    ids = set(version.split("train")["sample_id"])
    shown = {row.class_name for row in version.annotations if row.sample_id in ids}
    return [name for name in version.classes if name not in shown]


def count_train_mix(samples: pandas.DataFrame) -> dict[str, dict[str, int]]:
    """Train samples by value of each metadata column that can be a slice.

    Parameters
    ----------
    samples : DataFrame
        The train split.

    Returns
    -------
    dict of column to (dict of value to count)
        Text columns with at most 20 values, such as ``camera`` and ``cell_type``.
    """
    mix: dict[str, dict[str, int]] = {}
    for column in samples.columns:
        values = samples[column].dropna()
        if column in NOT_SLICES or not all(isinstance(value, str) for value in values):
            continue
        counts = values[values != ""].value_counts()
        if 0 < len(counts) <= MAX_VALUES:
            mix[str(column)] = {str(key): int(counts[key]) for key in sorted(counts.index)}
    return mix
