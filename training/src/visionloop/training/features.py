"""Features that a linear head is trained on: cached ones of the frozen backbone, or new ones."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import write_bytes
from visionloop.core.progress import track
from visionloop.data.embeddings import Embeddings, load_embeddings
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch
from visionloop.training.families.table import TrainingJob
from visionloop.training.head import FeatureSplit
from visionloop.training.truth import split_class_ids

__all__ = ["compute_features", "load_features"]

NEXT_STEP = "visionloop train backbone, then visionloop data embed"
SAMPLES_CHECKED = 2
MAX_RELATIVE_DIFFERENCE = 1e-2


def load_features(
    job: TrainingJob, network: torch.nn.Module, spec: ImageInput
) -> tuple[FeatureSplit, FeatureSplit]:
    """Features of the train and val split of the job's dataset version.

    Parameters
    ----------
    network : Module
        The backbone that the head will sit on, float32 (B, 3, H, W) to (B, D): cached
        features that are not its own are refused.
    spec : ImageInput
        How pictures are fed to it.

    Raises
    ------
    ConfigError
        If the head would be trained on another network than the shared backbone.
    DataError
        If embeddings of samples are missing, not finite, or of another network.
    """
    params = job.params
    wanted = (params.weights, params.image_size)
    if wanted != (params.backbone.weights, params.backbone.image_size):
        raise ConfigError(
            str(job.workspace.params),
            f"training.mode frozen trains a head on the backbone: weights and image_size "
            f"{wanted} must equal those of training.backbone",
            "make them equal, or set training.mode: full",
        )
    embeddings = load_embeddings(job.workspace.embeddings)
    splits = []
    for name in ("train", "val"):
        ids = job.version.split(name)["sample_id"].tolist()
        features = _finite(embeddings.of(ids)) if ids else embeddings.vectors[:0]
        splits.append(FeatureSplit(features, split_class_ids(job.version, name, job)))
    _refuse_other_network(job, embeddings, network, spec)
    return splits[0], splits[1]


def compute_features(
    job: TrainingJob, network: torch.nn.Module, spec: ImageInput
) -> tuple[FeatureSplit, FeatureSplit]:
    """Features of the train and val split by a network of the job's own (mode probe).

    They are kept beside the resume point: a training that goes on does not compute them again.
    Parameters as in :func:`load_features`.

    Raises
    ------
    DataError
        If an image is missing or damaged, or a feature is not finite.
    """
    splits = []
    for name in ("train", "val"):
        kept = job.resume.folder / f"features-{name}.npy"
        rows = job.version.split(name)
        if kept.is_file() and job.resume.epoch:
            features = np.load(kept, allow_pickle=False)
        else:
            paths = [job.version.images / file_name for file_name in rows["file_name"]]
            features = _embed(network, paths, spec, job.params.batch_size, name)
            buffer = io.BytesIO()
            np.save(buffer, features)
            write_bytes(kept, buffer.getvalue())
        splits.append(FeatureSplit(_finite(features), split_class_ids(job.version, name, job)))
    return splits[0], splits[1]


def _embed(
    network: torch.nn.Module, paths: list[Path], spec: ImageInput, size: int, name: str
) -> NDArray[np.float32]:
    parts = []
    with torch.inference_mode():
        for start in track(range(0, len(paths), size), f"features of the {name} split"):
            images = [read_image(path) for path in paths[start : start + size]]
            batch, _ = make_batch(images, spec)
            parts.append(network(torch.from_numpy(batch)).numpy())
    if parts:
        return np.concatenate(parts)
    with torch.inference_mode():  # an empty split still says how many features there are
        width = network(torch.zeros(1, 3, spec.height, spec.width)).shape[1]
    return np.zeros((0, width), np.float32)


def _finite(features: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(features).all():
        raise DataError("embeddings", "hold numbers that are not finite", NEXT_STEP)
    return np.ascontiguousarray(features, np.float32)


def _refuse_other_network(
    job: TrainingJob, embeddings: Embeddings, network: torch.nn.Module, spec: ImageInput
) -> None:
    """Embed a few samples again: a head on features of another network would be worthless."""
    ids = job.version.split("train")["sample_id"].tolist()[:SAMPLES_CHECKED]
    images = [read_image(job.version.image_path(sample_id)) for sample_id in ids]
    batch, _ = make_batch(images, spec)
    with torch.inference_mode():
        ours = network(torch.from_numpy(batch)).numpy()
    cached = embeddings.of(ids)
    difference = float("inf")
    if ours.shape == cached.shape:
        difference = float(np.abs(ours - cached).max() / max(float(np.abs(ours).max()), 1e-12))
    if not difference <= MAX_RELATIVE_DIFFERENCE:
        raise DataError(
            f"embeddings of package {embeddings.package[:12]}",
            f"are not those of {job.weights.name} at {spec.width} pixels (they differ by "
            f"{difference:.2g} of the largest feature)",
            NEXT_STEP,
        )
