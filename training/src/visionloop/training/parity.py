"""Parity: does the package answer like the checkpoint it was exported from?

Both see the same real images through the same pre- and post-processing (serving's), so
what is compared is the network in torch against the network in the package's backend.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.targets import ParityTargets
from visionloop.serving.package import ModelPackage
from visionloop.serving.postprocess import decode
from visionloop.serving.predictor import DEFAULT_CONFIDENCE, Predictor
from visionloop.serving.preprocess import make_batch
from visionloop.serving.variants.parity import SEARCH_CONFIDENCE, Parity, compare_predictions

__all__ = ["compare_embeddings", "compare_package", "parity_problems"]

Images = Sequence[NDArray[np.uint8]]


def compare_package(network: torch.nn.Module, package: ModelPackage, images: Images) -> Parity:
    """Compare answers on images: probabilities, or detections after suppression.

    Parameters
    ----------
    network : Module
        What the package was exported from, in evaluation mode.
    package : ModelPackage
    images : sequence of uint8 arrays (H, W, 3), BGR
        At least one.
    """
    counts_from = min(package.manifest.thresholds.values(), default=DEFAULT_CONFIDENCE)
    smallest = min(SEARCH_CONFIDENCE, counts_from / 2)
    ours = _predict(network, package, images, smallest)
    theirs = Predictor(package).predict(images, minimum_confidence=smallest)
    return compare_predictions(ours, theirs, counts_from=counts_from)


def compare_embeddings(network: torch.nn.Module, package: ModelPackage, images: Images) -> float:
    """Largest difference of a feature, relative to the largest feature."""
    theirs = Predictor(package).embed(images)
    ours = np.concatenate([_answer(network, package, image)[0] for image in images])
    return float(np.abs(ours - theirs).max() / max(float(np.abs(ours).max()), 1e-12))


def parity_problems(parity: Parity, limits: ParityTargets) -> list[str]:
    """What goes beyond the limits of ``targets.yaml``, empty if nothing does."""
    problems = []
    if not parity.max_difference <= limits.max_difference:
        problems.append(
            f"a probability or confidence differs by {parity.max_difference:.6f}, allowed are "
            f"{limits.max_difference}"
        )
    if parity.minimum_iou < limits.minimum_iou:
        problems.append(
            f"a pair of boxes overlaps by {parity.minimum_iou:.4f}, wanted {limits.minimum_iou}"
        )
    if parity.agreement < 1:
        problems.append(f"only {parity.agreement:.2%} of the answers agree")
    return problems


def _answer(
    network: torch.nn.Module, package: ModelPackage, image: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """The network's outputs on one image, each with a batch axis of 1."""
    batch, _ = make_batch([image], package.manifest.input)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(batch))
    rows = outputs if isinstance(outputs, tuple) else (outputs,)
    return [row.numpy() for row in rows]


def _predict(
    network: torch.nn.Module, package: ModelPackage, images: Images, minimum_confidence: float
) -> list[Prediction]:
    manifest = package.manifest
    smallest = np.full(len(manifest.classes), minimum_confidence, np.float32)
    predictions = []
    for image in images:
        _, placements = make_batch([image], manifest.input)
        (answer,) = decode(
            _answer(network, package, image)[0],
            placements,
            kind=manifest.outputs.kind,
            minimum_confidence=smallest,
            max_iou=manifest.max_iou,
        )
        predictions.append(Prediction(answer))
    return predictions
