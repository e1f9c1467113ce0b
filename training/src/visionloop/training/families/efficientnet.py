"""EfficientNet of timm: classification, with a frozen backbone or all weights trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch

from visionloop.core.errors import ConfigError, DataError
from visionloop.serving.manifest import ImageInput, ModelOutputs
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.features import load_features
from visionloop.training.finetune import ImageSplit, finetune
from visionloop.training.head import train_head
from visionloop.training.onnx_files import export_dynamic
from visionloop.training.truth import split_class_ids
from visionloop.training.weight_files import load_tensors
from visionloop.training.weights import FoundWeights

__all__ = ["ClassifierForExport", "EfficientNet", "make_backbone", "make_network"]


class EfficientNet:
    """timm's EfficientNet; see :class:`visionloop.training.families.table.Family`."""

    vision_task = "classification"
    outputs = ModelOutputs(answer="probabilities", embedding="embedding", kind="probabilities")

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train by ``training.mode``."""
        torch.manual_seed(job.project.seed)
        network = make_network(job.weights, classes=len(job.project.classes))
        spec = job.weights.picture_input(job.params.image_size)
        if job.params.mode == "frozen":
            metrics = _train_frozen(network, job, spec)
        else:
            train, val = _image_split(job, "train"), _image_split(job, "val")
            metrics = finetune(network, job, spec=spec, train=train, val=val)
        architecture = {"timm": job.weights.row.architecture, "classes": len(job.project.classes)}
        return TrainedModel(dict(network.state_dict()), architecture, spec, metrics)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """The classifier of a checkpoint: images to (probabilities, embedding)."""
        architecture = checkpoint.facts.architecture
        network = timm.create_model(architecture["timm"], num_classes=architecture["classes"])
        network.load_state_dict(checkpoint.load_tensors())
        return ClassifierForExport(network).eval()

    def export(self, network: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
        """ONNX with any batch size."""
        spec = checkpoint.facts.input
        names = ["probabilities", "embedding"]
        export_dynamic(network, path, height=spec.height, width=spec.width, outputs=names)


class ClassifierForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to probabilities (B, C) and average-pooled features (B, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (probabilities, embedding)."""
        features = self.network.forward_features(image)
        embedding = self.network.forward_head(features, pre_logits=True)
        logits = self.network.get_classifier()(embedding)
        return torch.softmax(logits, dim=1), embedding


class BackboneForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to average-pooled features (B, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, H, W) to float32 (B, D)."""
        features = self.network.forward_features(image)
        return self.network.forward_head(features, pre_logits=True)


def make_backbone(weights: FoundWeights, *, seed: int) -> torch.nn.Module:
    """The network of these weights without its head; ``seed`` matters from scratch only."""
    torch.manual_seed(seed)
    return BackboneForExport(make_network(weights, classes=1)).eval()


def make_network(weights: FoundWeights, *, classes: int) -> Any:
    """The timm network with these weights and a new head of ``classes`` outputs.

    Files of other origins name the tensors differently: they are taken in order where
    the names differ, and every shape must fit.

    Raises
    ------
    ConfigError
        If the weights are not of a timm family.
    DataError
        If number or shapes of the tensors do not fit.
    """
    row = weights.row
    if row.library != "timm":
        raise ConfigError(
            f"training.weights '{weights.name}'",
            f"belongs to {row.library}, not to timm",
            "choose weights of this family: efficientnet-lite0",
        )
    network = timm.create_model(row.architecture)
    if not weights.is_scratch:
        found = load_tensors(weights)
        wanted = network.state_dict()
        if set(found) != set(wanted) and len(found) == len(wanted):
            found = dict(zip(wanted, found.values(), strict=True))
        fits = set(found) == set(wanted)
        if not fits or any(found[key].shape != wanted[key].shape for key in wanted):
            raise DataError(
                f"weights '{weights.name}'",
                f"their tensors do not fit {row.architecture}",
                "check the file, it is not what its name says",
            )
        network.load_state_dict(found)
    network.reset_classifier(classes)
    return network


def _train_frozen(network: Any, job: TrainingJob, spec: ImageInput) -> dict[str, float]:
    train, val = load_features(job, BackboneForExport(network).eval(), spec)
    head = train_head(
        train,
        val,
        classes=len(job.project.classes),
        l2=job.params.l2,
        class_weight=job.params.class_weight,
        epochs=job.epochs,
        resume=job.resume,
        on_epoch=job.on_epoch,
    )
    with torch.no_grad():
        classifier = network.get_classifier()
        classifier.weight.copy_(head.weight)
        classifier.bias.copy_(head.bias)
    network.eval()
    return job.resume.history[-1]


def _image_split(job: TrainingJob, name: str) -> ImageSplit:
    files = job.version.split(name)["file_name"]
    paths = [job.version.images / file_name for file_name in files]
    return ImageSplit(paths, split_class_ids(job.version, name, job))
