"""A model family of one's own: a small network, trained by the loop that all families share."""

from pathlib import Path

import numpy as np
import torch

from visionloop.serving.manifest import ModelOutputs
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.finetune import ImageSplit, PictureLearner, finetune
from visionloop.training.onnx_files import export_dynamic
from visionloop.training.truth import split_class_ids
from visionloop.training.validation import measure_classification


class Network(torch.nn.Module):
    """Images (B, 3, H, W) to logits (B, C)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        steps = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            steps += [torch.nn.Conv2d(before, after, 3, 2, 1), torch.nn.BatchNorm2d(after)]
            steps += [torch.nn.ReLU()]
        self.features = torch.nn.Sequential(*steps, torch.nn.AdaptiveAvgPool2d(1))
        self.head = torch.nn.Linear(64, classes)

    def forward(self, image):
        return self.head(self.features(image).flatten(1))


class TinyNet:
    vision_task = "classification"
    outputs = ModelOutputs(answer="probabilities", kind="probabilities")

    def train(self, job: TrainingJob) -> TrainedModel:
        torch.manual_seed(job.project.seed)
        network, spec = Network(len(job.project.classes)), job.weights.picture_input(64)
        splits = []
        for name in ("train", "val"):
            files = job.version.split(name)["file_name"]
            paths = [job.version.images / one for one in files]
            splits.append(ImageSplit(paths, split_class_ids(job.version, name, job)))

        def measure(logits, truth: np.ndarray) -> dict[str, float]:
            return measure_classification(torch.from_numpy(logits).softmax(1).numpy(), truth)

        learner = PictureLearner(network, job, spec, *splits, torch.nn.CrossEntropyLoss(), measure)
        row = finetune(learner)
        return TrainedModel(network.state_dict(), {"classes": len(job.project.classes)}, spec, row)

    def build(self, checkpoint) -> torch.nn.Module:
        network = Network(checkpoint.facts.architecture["classes"])
        network.load_state_dict(checkpoint.load_tensors())
        return torch.nn.Sequential(network, torch.nn.Softmax(dim=1), AsTuple()).eval()

    def export(self, network, checkpoint, path: Path) -> None:
        export_dynamic(network, path, height=64, width=64, outputs=["probabilities"])


class AsTuple(torch.nn.Module):
    def forward(self, answer):
        return (answer,)
