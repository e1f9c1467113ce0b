"""Which images of a dataset version the precision variants of its package are compared on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas

from visionloop.data.versions.version import DatasetVersion
from visionloop.serving.variants.reference import Reference, ReferenceSample

__all__ = ["make_reference"]

MAX_OF_SPLIT = 256
"""Samples of a split; they are drawn evenly from the table, whose ids are hashes."""


def make_reference(version: DatasetVersion, metric: str) -> Reference:
    """Train samples as candidates for calibration, val samples to compare on, with their truth.

    Test samples stay unseen: nothing may be chosen by them.

    Parameters
    ----------
    version : DatasetVersion
    metric : str
        ``quality.metric`` of ``targets.yaml``.
    """
    samples = []
    for split in ("train", "val"):
        rows = version.split(split)
        places = np.unique(np.linspace(0, len(rows) - 1, min(MAX_OF_SPLIT, len(rows))).astype(int))
        samples += [_sample(version, rows.iloc[place]) for place in places if len(rows)]
    return Reference(dataset_fingerprint=version.fingerprint, metric=metric, samples=samples)


def _sample(version: DatasetVersion, row: pandas.Series) -> ReferenceSample:
    sample_id, given = str(row["sample_id"]), {}
    if version.vision_task == "detection":
        xyxy, class_id = version.boxes(sample_id)
        given = {"xyxy": xyxy.astype(float).tolist(), "box_class_id": class_id.tolist()}
    elif version.vision_task == "scene":
        (holds,) = version.attributes([sample_id])
        given = {"attributes": np.flatnonzero(holds).tolist()}
    else:
        given = {"class_id": int(version.class_ids([sample_id])[0])}
    split: Any = row["split"]
    return ReferenceSample(file_name=str(row["file_name"]), split=split, **given)
