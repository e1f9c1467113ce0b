"""Parity: does the package answer like the checkpoint it was exported from?

Both see the same real images through the same pre- and post-processing (serving's), so
what is compared is the network in torch against the network in the package's backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.geometry import match_boxes
from visionloop.core.targets import ParityTargets
from visionloop.serving.package import ModelPackage
from visionloop.serving.postprocess import decode_yolo
from visionloop.serving.predictor import DEFAULT_CONFIDENCE, Predictor
from visionloop.serving.preprocess import make_batch

__all__ = ["Parity", "compare_embeddings", "compare_package"]

Images = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True)
class Parity:
    """How far the package is from the checkpoint.

    Attributes
    ----------
    samples : int
        Images compared.
    max_difference : float
        Largest difference of a probability, or of the confidence of two matched boxes.
    minimum_iou : float
        Smallest overlap of two matched boxes; 1 for classification.
    matched, unmatched : int
        Boxes that have a partner of the same class, and that have none. A box without
        one counts only if its confidence is further from the threshold than
        ``max_difference`` allows.
    problems : tuple of str
        What goes beyond the limits, empty if nothing does.
    """

    samples: int
    max_difference: float
    minimum_iou: float
    matched: int
    unmatched: int
    problems: tuple[str, ...]

    @property
    def is_passed(self) -> bool:
        """Whether everything is within the limits."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, with the verdict."""
        return {**asdict(self), "problems": list(self.problems), "passed": self.is_passed}


def compare_package(
    network: torch.nn.Module, package: ModelPackage, images: Images, limits: ParityTargets
) -> Parity:
    """Compare answers on images.

    Parameters
    ----------
    network : Module
        What the package was exported from, in evaluation mode.
    package : ModelPackage
    images : sequence of uint8 arrays (H, W, 3), BGR
        At least one.
    limits : ParityTargets
    """
    predictions = Predictor(package).predict(images)
    if package.manifest.vision_task == "classification":
        theirs = np.stack([one.answer.probabilities for one in predictions])  # type: ignore[union-attr]
        return _compare_probabilities(_answers(network, package, images), theirs, limits)
    first = _detect(network, package, images)
    second = [one.answer for one in predictions if isinstance(one.answer, Detections)]
    return _compare_detections(first, second, package, limits)


def compare_embeddings(network: torch.nn.Module, package: ModelPackage, images: Images) -> float:
    """Largest difference of a feature, relative to the largest feature."""
    theirs = Predictor(package).embed(images)
    ours = _answers(network, package, images)
    return float(np.abs(ours - theirs).max() / max(float(np.abs(ours).max()), 1e-12))


def _answers(
    network: torch.nn.Module, package: ModelPackage, images: Images
) -> NDArray[np.float32]:
    """The first output of the network, one image at a time (images differ in size)."""
    rows = []
    with torch.inference_mode():
        for image in images:
            batch, _ = make_batch([image], package.manifest.input)
            outputs = network(torch.from_numpy(batch))
            answer = outputs[0] if isinstance(outputs, tuple) else outputs
            rows.append(answer.numpy())
    return np.concatenate(rows)


def _detect(network: torch.nn.Module, package: ModelPackage, images: Images) -> list[Detections]:
    smallest = _smallest_confidences(package)
    answers = _answers(network, package, images)
    _, placements = make_batch(images, package.manifest.input)
    max_iou = package.manifest.max_iou
    return [
        decode_yolo(answer, placement, minimum_confidence=smallest, max_iou=max_iou)
        for answer, placement in zip(answers, placements, strict=True)
    ]


def _smallest_confidences(package: ModelPackage) -> NDArray[np.float32]:
    manifest = package.manifest
    values = [manifest.thresholds.get(name, DEFAULT_CONFIDENCE) for name in manifest.classes]
    return np.asarray(values, np.float32)


def _compare_probabilities(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], limits: ParityTargets
) -> Parity:
    difference = float(np.abs(ours - theirs).max())
    problems = []
    if not difference <= limits.max_difference:
        problems.append(
            f"a probability differs by {difference:.6f}, allowed are {limits.max_difference}"
        )
    return Parity(len(ours), difference, 1.0, 0, 0, tuple(problems))


def _compare_detections(
    ours: list[Detections],
    theirs: list[Detections],
    package: ModelPackage,
    limits: ParityTargets,
) -> Parity:
    smallest = _smallest_confidences(package)
    differences, overlaps = [0.0], [1.0]
    matched = unmatched = 0
    for first, second in zip(ours, theirs, strict=True):
        for class_id in range(len(smallest)):
            a, b = first[first.class_id == class_id], second[second.class_id == class_id]
            pairs = match_boxes(a.xyxy, b.xyxy)
            matched += len(pairs)
            for row, column, iou in pairs:
                overlaps.append(iou)
                differences.append(abs(float(a.confidence[row]) - float(b.confidence[column])))
            alone = np.concatenate(
                [
                    np.delete(a.confidence, [row for row, _, _ in pairs]),
                    np.delete(b.confidence, [column for _, column, _ in pairs]),
                ]
            )
            unmatched += int((alone > smallest[class_id] + limits.max_difference).sum())
    difference, overlap = max(differences), min(overlaps)
    problems = []
    if unmatched:
        problems.append(f"{unmatched} boxes have no partner")
    if overlap < limits.minimum_iou:
        problems.append(f"a pair of boxes overlaps {overlap:.4f}, wanted {limits.minimum_iou}")
    if difference > limits.max_difference:
        problems.append(
            f"a confidence differs by {difference:.4f}, allowed are {limits.max_difference}"
        )
    return Parity(len(ours), difference, overlap, matched, unmatched, tuple(problems))
