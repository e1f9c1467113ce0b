"""Classifiers of timm (EfficientNet, ConvNeXt, ViT), frozen, as a linear probe, or whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError
from visionloop.serving.manifest import ImageInput, ModelOutputs
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.families.timm_networks import (
    BackboneForExport,
    build_network,
    make_network,
)
from visionloop.training.features import compute_features, load_features
from visionloop.training.finetune import ImageSplit, PictureLearner, finetune
from visionloop.training.head import train_head
from visionloop.training.onnx_files import export_dynamic
from visionloop.training.resume import EpochRow
from visionloop.training.truth import split_class_ids
from visionloop.training.validation import balanced_weights, measure_classification

__all__ = ["ClassifierForExport", "ConvNext", "EfficientNet", "TimmClassifier", "Vit"]


class TimmClassifier:
    """What the classifiers share; see :class:`visionloop.training.families.table.Family`."""

    vision_task = "classification"
    outputs = ModelOutputs(answer="probabilities", embedding="embedding", kind="probabilities")
    architectures: tuple[str, ...] = ()
    """How the names of timm's architectures of this family begin."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train by ``training.mode``."""
        self.refuse_other_weights(job)
        torch.manual_seed(job.project.seed)
        size, classes = job.params.image_size, len(job.project.classes)
        network = make_network(job.weights, classes=classes, image_size=size)
        spec = job.weights.picture_input(size)
        metrics = (
            _train_whole(network, job, spec)
            if job.params.mode == "full"
            else _train_head(network, job, spec)
        )
        architecture = {
            "timm": job.weights.row.architecture,
            "classes": classes,
            "image_size": size,
        }
        return TrainedModel(dict(network.state_dict()), architecture, spec, metrics)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """The classifier of a checkpoint: images to (probabilities, embedding)."""
        network = build_network(checkpoint.facts.architecture)
        network.load_state_dict(checkpoint.load_tensors())
        return ClassifierForExport(network).eval()

    def export(self, network: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
        """ONNX with any batch size."""
        spec = checkpoint.facts.input
        names = ["probabilities", "embedding"]
        export_dynamic(network, path, height=spec.height, width=spec.width, outputs=names)

    def refuse_other_weights(self, job: TrainingJob) -> None:
        """Weights of another family would train, but nobody could tell from the recipe what."""
        architecture = job.weights.row.architecture
        if not architecture.startswith(self.architectures):
            raise ConfigError(
                f"training.weights '{job.weights.name}'",
                f"are of {architecture or 'no architecture'}, not of training.family "
                f"'{job.params.family}'",
                f"choose weights whose architecture begins with {' or '.join(self.architectures)}",
            )


class EfficientNet(TimmClassifier):
    """EfficientNet (arXiv 1905.11946)."""

    architectures = ("efficientnet", "tf_efficientnet")


class ConvNext(TimmClassifier):
    """ConvNeXt (arXiv 2201.03545)."""

    architectures = ("convnext",)


class Vit(TimmClassifier):
    """Vision transformer (arXiv 2010.11929)."""

    architectures = ("vit", "deit")


class ClassifierForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to probabilities (B, C) and pooled features (B, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (probabilities, embedding)."""
        features = self.network.forward_features(image)
        embedding = self.network.forward_head(features, pre_logits=True)
        logits = self.network.get_classifier()(embedding)
        return torch.softmax(logits, dim=1), embedding


def _train_whole(network: Any, job: TrainingJob, spec: ImageInput) -> EpochRow:
    train, val = _image_split(job, "train"), _image_split(job, "val")
    weights = balanced_weights(
        train.truth, len(job.project.classes), class_weight=job.params.class_weight
    )
    weight = torch.from_numpy(weights).float()

    def criterion(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            logits,
            truth,
            weight=weight.to(logits.device),
            label_smoothing=job.params.label_smoothing,
        )

    def measure(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> dict[str, float]:
        probabilities = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
        return measure_classification(probabilities, truth)

    return finetune(PictureLearner(network, job, spec, train, val, criterion, measure))


def _train_head(network: Any, job: TrainingJob, spec: ImageInput) -> EpochRow:
    """A linear head on features: those of the shared backbone, or of this very network."""
    backbone = BackboneForExport(network).eval()
    load = load_features if job.params.mode == "frozen" else compute_features
    train, val = load(job, backbone, spec)
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
