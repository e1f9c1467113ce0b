"""``rtdetr``: RT-DETRv2 through transformers (Apache-2.0): boxes as a set, nothing to suppress.

Lv et al., 2024, arXiv 2407.17140; Zhao et al., 2023, arXiv 2304.08069.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when it is imported

import torch
from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

from visionloop.core.errors import ConfigError, DataError
from visionloop.serving.manifest import ModelOutputs
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.box_learner import BoxLearner, box_split
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.loop import run_loop
from visionloop.training.onnx_files import export_traced
from visionloop.training.weight_files import load_tensors
from visionloop.training.weights import FoundWeights

__all__ = ["ARCHITECTURES", "DetrForExport", "RtDetr"]

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "rtdetr_v2_r18vd": {
        "backbone": {
            "depths": [2, 2, 2, 2],
            "hidden_sizes": [64, 128, 256, 512],
            "layer_type": "basic",
        },
        "encoder_in_channels": [128, 256, 512],
        "decoder_layers": 3,
        "hidden_expansion": 0.5,
    },
    "rtdetr_v2_nano": {
        "backbone": {
            "embedding_size": 24,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [24, 48, 96, 128],
            "layer_type": "basic",
        },
        "encoder_in_channels": [48, 96, 128],
        "encoder_hidden_dim": 128,
        "d_model": 128,
        "decoder_in_channels": [128, 128, 128],
        "encoder_ffn_dim": 256,
        "decoder_ffn_dim": 256,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "num_queries": 100,
        "num_denoising": 20,
    },
}
"""Architecture of the weights table to what differs from RT-DETRv2's own numbers. ``nano`` is small
enough to be trained from random weights on a processor."""

STRIDES, QUERIES = (8, 16, 32), 300
"""Pixels between the places of each level; boxes that RT-DETRv2 asks about."""

CLASS_HEADS = ("class_embed", "enc_score_head", "denoising_class_embed")
"""Tensors whose shape is that of the classes: they begin anew."""


class RtDetr:
    """RT-DETRv2; see :class:`visionloop.training.families.table.Family`."""

    vision_task = "detection"
    outputs = ModelOutputs(answer="detections", embedding="embedding", kind="detr")

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train every weight on the boxes of the dataset version."""
        _refuse(job)
        torch.manual_seed(job.project.seed)
        size = job.params.image_size
        facts = {
            "transformers": job.weights.row.architecture,
            "classes": len(job.project.classes),
            "image_size": size,
        }
        network = _make_network(facts, frozen_norms=not job.weights.is_scratch)
        if not job.weights.is_scratch:
            _load(network, job.weights)
        spec = job.weights.picture_input(size)
        learner = BoxLearner(
            network, job, spec, box_split(job, "train"), box_split(job, "val"), DetrForExport
        )
        learner.draw_sheet()
        row = run_loop(learner, job)
        return TrainedModel(dict(network.state_dict()), facts, spec, row)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """The detector of a checkpoint: images to (detections, embedding)."""
        network = _make_network(checkpoint.facts.architecture, frozen_norms=False)
        network.load_state_dict(checkpoint.load_tensors())
        return DetrForExport(network).eval()

    def export(self, network: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
        """ONNX with any batch size (torch.export would fix it to one)."""
        spec = checkpoint.facts.input
        names = ["detections", "embedding"]
        export_traced(network, path, height=spec.height, width=spec.width, outputs=names)


class DetrForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to detections (B, N, 4 + C) in pixels of the input, and pooled features (B, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (detections, embedding)."""
        found = self.network(pixel_values=image)
        height, width = image.shape[2], image.shape[3]
        scale = torch.tensor([width, height, width, height], dtype=torch.float32)
        boxes = found.pred_boxes * scale.to(image.device)
        embedding = found.encoder_last_hidden_state[-1].mean(dim=(2, 3))
        return torch.cat([boxes, found.logits.sigmoid()], dim=2), embedding


def _make_network(facts: dict[str, Any], *, frozen_norms: bool) -> Any:
    numbers = dict(ARCHITECTURES[facts["transformers"]])
    stages = {"out_features": ["stage2", "stage3", "stage4"], **numbers.pop("backbone")}
    numbers |= {
        "backbone_config": RTDetrResNetConfig(**stages),
        "num_labels": facts["classes"],
        "freeze_backbone_batch_norms": frozen_norms,
    }
    return RTDetrV2ForObjectDetection(RTDetrV2Config(**numbers))


def _load(network: Any, weights: FoundWeights) -> None:
    """Take the tensors of the weights; the class heads begin anew where the classes differ."""
    found, wanted = load_tensors(weights), network.state_dict()
    taken = {}
    for name, tensor in wanted.items():
        is_head = any(part in name for part in CLASS_HEADS)
        if name in found and found[name].shape == tensor.shape:
            taken[name] = found[name]
        elif not is_head:
            raise DataError(
                f"weights '{weights.name}'",
                f"their tensors do not fit {weights.row.architecture} (first: {name})",
                "check the file, it is not what its name says",
            )
    network.load_state_dict(wanted | taken)


def _refuse(job: TrainingJob) -> None:
    row = job.weights.row
    if row.library != "transformers" or row.architecture not in ARCHITECTURES:
        raise ConfigError(
            f"training.weights '{job.weights.name}'",
            f"belongs to {row.library or 'no library'}, not to transformers",
            "choose weights of this family: rtdetr-v2-r18, rtdetr-v2-nano",
        )
    size = job.params.image_size
    places = sum((size // stride) ** 2 for stride in STRIDES)
    queries = ARCHITECTURES[row.architecture].get("num_queries", QUERIES)
    if places < queries:
        raise ConfigError(
            f"training.image_size {size}",
            f"has {places} places for the {queries} boxes that {row.architecture} asks about",
            "make it larger",
        )
    if job.params.mode != "full":
        raise ConfigError(
            f"training.mode '{job.params.mode}'",
            f"is not for training.family '{job.params.family}'",
            "set training.mode: full",
        )
