"""Cached features of the frozen backbone for the samples of a dataset version."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import read_json, sha256_of_file
from visionloop.training.families.table import TrainingJob
from visionloop.training.head import FeatureSplit
from visionloop.training.truth import split_class_ids

__all__ = ["load_features"]

NEXT_STEP = "visionloop train backbone, then visionloop data embed"


def load_features(job: TrainingJob) -> tuple[FeatureSplit, FeatureSplit]:
    """Features of the train and val split of the job's dataset version.

    Raises
    ------
    ConfigError
        If the head would be trained on another network than the shared backbone.
    DataError
        If the backbone or embeddings of samples are missing, the embeddings came from
        another backbone package, or are not finite.
    """
    from visionloop.data.embeddings import load_embeddings

    package_sha256 = _check_backbone(job)
    embeddings = load_embeddings(job.workspace.embeddings)
    if embeddings.package != package_sha256:
        raise DataError(
            f"embeddings {job.workspace.embeddings}",
            f"were made by package {embeddings.package[:12]}, artifacts/backbone is "
            f"{package_sha256[:12]}",
            "visionloop data embed",
        )
    splits = []
    for name in ("train", "val"):
        ids = job.version.split(name)["sample_id"].tolist()
        features = _finite(embeddings.of(ids)) if ids else embeddings.vectors[:0]
        splits.append(FeatureSplit(features, split_class_ids(job.version, name, job)))
    return splits[0], splits[1]


def _finite(features: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(features).all():
        raise DataError("embeddings", "hold numbers that are not finite", NEXT_STEP)
    return np.ascontiguousarray(features, np.float32)


def _check_backbone(job: TrainingJob) -> str:
    """The backbone package's SHA-256, once it is sure that the head will sit on that network."""
    params = job.params
    wanted = (params.weights, params.image_size)
    if wanted != (params.backbone.weights, params.backbone.image_size):
        raise ConfigError(
            str(job.workspace.params),
            f"training.mode frozen trains a head on the backbone: weights and image_size "
            f"{wanted} must equal those of training.backbone",
            "make them equal, or set training.mode: full",
        )
    manifest_path = job.workspace.backbone / "manifest.json"
    if not manifest_path.is_file():
        raise DataError(str(job.workspace.backbone), "there is no backbone package", NEXT_STEP)
    weights = read_json(manifest_path)["lineage"]["weights"]
    if weights != job.weights.lineage:
        raise DataError(
            str(job.workspace.backbone),
            f"was made from weights {weights[:40]}, training found {job.weights.lineage[:40]}",
            NEXT_STEP,
        )
    return sha256_of_file(manifest_path)
