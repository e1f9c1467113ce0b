"""YOLO of Ultralytics (v8, 11, 26): detection. Needs the ``yolo`` extra, which is AGPL-3.0.

Ultralytics trains; everything around it is ours: files, callbacks, checkpoints. Its
telemetry, downloads, plots and logging integrations are off.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.privacy import set_quiet_environment
from visionloop.serving.manifest import ModelOutputs
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.onnx_files import export_traced
from visionloop.training.weights import WEIGHTS

set_quiet_environment()  # Ultralytics reads its switches when it is imported

from ultralytics.nn.tasks import DetectionModel, torch_safe_load  # noqa: E402

from visionloop.training.families.yolo_training import train_yolo  # noqa: E402

__all__ = ["DetectorForExport", "Yolo"]

ONE_TO_ONE = ModelOutputs(answer="detections", embedding="embedding", kind="detr")


class Yolo:
    """Ultralytics YOLO; see :class:`visionloop.training.families.table.Family`."""

    vision_task = "detection"
    outputs = ModelOutputs(answer="detections", embedding="embedding", kind="yolo")

    def train(self, job: TrainingJob) -> TrainedModel:
        """Fine-tune a detector on the boxes of the dataset version."""
        if job.weights.row.library != "ultralytics":
            raise ConfigError(
                f"training.weights '{job.weights.name}'",
                f"belongs to {job.weights.row.library}, not to ultralytics",
                f"choose weights of this family: {', '.join(_own_weights())}",
            )
        start = None if job.weights.path is None else _read_checkpoint(job.weights.path)
        best, metrics = train_yolo(job, start=start)
        network = _read_checkpoint(best)
        structure = {key: value for key, value in network.yaml.items() if key != "yaml_file"}
        spec = job.weights.picture_input(job.params.image_size, "letterbox")
        architecture = {
            "structure": structure,
            "classes": len(job.project.classes),
            "class_width": network.model[-1].cv3[0][-1].in_channels,
        }
        return TrainedModel(dict(network.state_dict()), architecture, spec, metrics)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """The detector of a checkpoint: images to (detections, embedding)."""
        architecture = checkpoint.facts.architecture
        network = _make_network(architecture["structure"], architecture["classes"])
        _set_class_width(network, architecture["structure"], architecture["class_width"])
        network.load_state_dict(checkpoint.load_tensors())
        return DetectorForExport(network).eval()

    def export(self, network: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
        """ONNX with any batch size; batch norm is folded into the convolutions."""
        fused = _fuse(network)
        spec = checkpoint.facts.input
        names = ["detections", "embedding"]
        export_traced(fused, path, height=spec.height, width=spec.width, outputs=names)


def _fuse(network: torch.nn.Module) -> torch.nn.Module:
    """A copy with batch norm folded in; what stands around the detector stays."""
    fused = copy.deepcopy(network)
    for part in list(fused.modules()):
        if isinstance(part, DetectorForExport):
            part.network = part.network.fuse(verbose=False)
    return fused.eval()


class DetectorForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to detections and average-pooled backbone features (B, D).

    Detections are (B, 4 + C, N), to be suppressed; of a head that names each object once
    (YOLO 26, as YOLOv10: arXiv 2405.14458) they are (B, N, 4 + C), and nothing is suppressed.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        head = network.model[-1]
        head.export = True  # decoded boxes alone, no training outputs
        self.names_once = bool(network.yaml.get("end2end"))
        head.end2end = self.names_once  # which branch stays when batch norm is folded in
        self.outputs = ONE_TO_ONE if self.names_once else Yolo.outputs
        self.last_of_backbone = len(network.yaml["backbone"]) - 1

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (detections, embedding)."""
        kept: list[torch.Tensor] = []
        value: Any = image
        embedding = image
        for layer in self.network.model:
            if isinstance(layer.f, list):
                value = [value if place == -1 else kept[place] for place in layer.f]
            elif layer.f != -1:
                value = kept[layer.f]
            is_head = layer is self.network.model[-1]
            value = self._boxes(layer, value) if is_head and self.names_once else layer(value)
            kept.append(value)
            if layer.i == self.last_of_backbone:
                embedding = value.mean(dim=(2, 3))
        return value, embedding

    @staticmethod
    def _boxes(head: Any, features: list[torch.Tensor]) -> torch.Tensor:
        """The one-to-one branch, all rows: Ultralytics would keep 300, our thresholds choose."""
        rows: torch.Tensor = head._inference(head.forward_head(features, **head.one2one))
        corners, by_class = rows[:, :4], rows[:, 4:]
        low, high = corners[:, :2], corners[:, 2:]
        return torch.cat([(low + high) / 2, high - low, by_class], dim=1).transpose(1, 2)


def _own_weights() -> list[str]:
    return [name for name, row in WEIGHTS.items() if row.library == "ultralytics"]


def _make_network(structure: dict[str, Any], classes: int) -> Any:
    make: Any = DetectionModel
    return make(copy.deepcopy(structure), nc=classes, verbose=False)


def _set_class_width(network: Any, structure: dict[str, Any], width: int) -> None:
    """Give the class branches the width of the weights that training started from.

    Ultralytics derives the width from the number of classes, but keeps the branches of
    the weights it starts from, which had other classes.
    """
    head = network.model[-1]
    if head.cv3[0][-1].in_channels == width:
        return
    donor = _make_network(structure, width).model[-1]
    for name in ("cv3", "one2one_cv3"):
        branches = getattr(donor, name, None)
        if branches is not None:
            for branch in branches:
                branch[-1] = torch.nn.Conv2d(branch[-1].in_channels, head.nc, 1)
            setattr(head, name, branches)


def _read_checkpoint(path: Path) -> Any:
    """The network of an Ultralytics checkpoint; only classes of its allow-list are built.

    Raises
    ------
    DataError
        If the file is damaged, or holds anything that could run code.
    """
    try:
        load: Any = torch_safe_load
        content, _ = load(path, safe_only=True)
        network = content.get("ema") or content["model"]
        return network.float()
    except (TypeError, KeyError, AttributeError, RuntimeError, ModuleNotFoundError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise DataError(
            f"weights {path.name}",
            f"refused: not a plain Ultralytics checkpoint ({first_line})",
            "a pickle can run code when it is read; take the official file",
        ) from None
