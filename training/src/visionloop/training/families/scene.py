"""Scene understanding: a vision transformer that says which attributes a whole picture has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput, ModelOutputs
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.attention import draw_attention
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.families.timm_classifier import Vit
from visionloop.training.families.timm_networks import build_network, make_network
from visionloop.training.finetune import ImageSplit, PictureLearner, finetune
from visionloop.training.onnx_files import export_dynamic
from visionloop.training.truth import split_attributes
from visionloop.training.validation import measure_attributes

__all__ = ["SceneForExport", "SceneVit"]

SHOWN = 6
MOST_WEIGHT = 20.0
"""An attribute that is rarer counts no more than this often."""


class SceneVit(Vit):
    """ViT with one yes-or-no answer an attribute."""

    vision_task = "scene"
    outputs = ModelOutputs(answer="attributes", embedding="embedding", kind="attributes")

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train every weight; maps of attention are drawn at the end."""
        self.refuse_other_weights(job)
        if job.params.mode != "full":
            raise ConfigError(
                f"training.mode '{job.params.mode}'", "is not for scenes", "set training.mode: full"
            )
        torch.manual_seed(job.project.seed)
        size, classes = job.params.image_size, job.project.classes
        network = make_network(job.weights, classes=len(classes), image_size=size)
        spec = job.weights.picture_input(size)
        metrics = _train_whole(network, job, spec)
        _draw_attention(network, job, spec)
        architecture = {
            "timm": job.weights.row.architecture,
            "classes": len(classes),
            "image_size": size,
        }
        return TrainedModel(dict(network.state_dict()), architecture, spec, metrics)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """The network of a checkpoint: images to (attributes, embedding)."""
        network = build_network(checkpoint.facts.architecture)
        network.load_state_dict(checkpoint.load_tensors())
        return SceneForExport(network).eval()

    def export(self, network: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
        """ONNX with any batch size."""
        spec = checkpoint.facts.input
        names = ["attributes", "embedding"]
        export_dynamic(network, path, height=spec.height, width=spec.width, outputs=names)


class SceneForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to attributes (B, C), each in [0, 1], and pooled features (B, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (attributes, embedding)."""
        features = self.network.forward_features(image)
        embedding = self.network.forward_head(features, pre_logits=True)
        return torch.sigmoid(self.network.get_classifier()(embedding)), embedding


def _train_whole(network: Any, job: TrainingJob, spec: ImageInput) -> dict[str, float]:
    train, val = _split(job, "train"), _split(job, "val")
    positive = train.truth.sum(axis=0)
    weight = torch.ones(len(positive))
    if job.params.class_weight == "balanced":
        rest = (len(train.truth) - positive) / np.maximum(positive, 1)
        weight = torch.from_numpy(np.clip(rest, 1 / MOST_WEIGHT, MOST_WEIGHT)).float()

    def criterion(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, truth, pos_weight=weight.to(logits.device)
        )

    def measure(logits: NDArray[np.float32], truth: NDArray[Any]) -> dict[str, float]:
        return measure_attributes(torch.sigmoid(torch.from_numpy(logits)).numpy(), truth > 0.5)

    return finetune(PictureLearner(network, job, spec, train, val, criterion, measure))


def _split(job: TrainingJob, name: str) -> ImageSplit:
    rows = job.version.split(name)
    paths = [job.version.images / file_name for file_name in rows["file_name"]]
    return ImageSplit(paths, split_attributes(job.version, name, job))


def _draw_attention(network: Any, job: TrainingJob, spec: ImageInput) -> None:
    """Pictures of the val split (train where there is none), spread over it."""
    rows = job.version.split("val")
    rows = job.version.split("train") if rows.empty else rows
    places = np.unique(np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int))
    ids = [str(rows["sample_id"].iloc[place]) for place in places]
    given = job.version.attributes(ids)
    captions = [", ".join(np.array(job.project.classes)[one]) or "no attribute" for one in given]
    images = [read_image(job.version.image_path(one)) for one in ids]
    path = job.workspace.reports / "training" / "attention.png"
    draw_attention(path, network, images, spec, captions)
