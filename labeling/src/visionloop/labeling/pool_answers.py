"""What packages say about the samples that could be annotated next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.labeling.drafts import FAINT, load_drafter
from visionloop.labeling.params import load_params
from visionloop.labeling.regions import from_prediction

__all__ = ["PoolAnswers", "ask_challenger", "ask_champion", "summarise"]


@dataclass(frozen=True, eq=False)
class PoolAnswers:
    """The fields of the same names of a strategy's ``Pool``."""

    probabilities: NDArray[np.float32]
    presence: NDArray[np.float32] | None = None
    box_confidences: list[NDArray[np.float32]] | None = None


def ask_champion(workspace: Workspace, images: Sequence[Path]) -> PoolAnswers | None:
    """The answers of the newest release, else of the workspace's package; None without either.

    Raises
    ------
    DataError
        If an image is damaged.
    PackageError
        If the package must not be loaded, or the model fails.
    """
    from visionloop.core.progress import track

    drafter = load_drafter(workspace, *load_params(workspace))
    if drafter is None:
        return None
    answers = (
        answer
        for image in track(images, "looking at the pool")
        for answer in drafter.predict([image])
    )
    return summarise(answers, drafter.package.manifest.classes)


def ask_challenger(workspace: Workspace, images: Sequence[Path]) -> NDArray[np.float32]:
    """What the workspace's package answers beside the release: probabilities, or presence.

    Raises
    ------
    DataError
        If there are no two packages, or an image is damaged.
    """
    from visionloop.core.progress import track
    from visionloop.serving.images import read_image
    from visionloop.serving.package import load_package
    from visionloop.serving.predictor import Predictor

    champion = load_drafter(workspace, *load_params(workspace))
    has_package = (workspace.package / "manifest.json").exists()
    challenger = load_package(workspace.package) if has_package else None
    if champion is None or challenger is None or champion.package.sha256 == challenger.sha256:
        raise DataError(
            str(workspace.package),
            "this strategy compares two packages, and there is no second one",
            "release a champion and export another package, or select with --strategy margin",
        )
    predictor = Predictor(challenger)
    seen = summarise(
        (
            predictor.predict([read_image(path)], minimum_confidence=FAINT)[0]
            for path in track(images, "asking the challenger")
        ),
        challenger.manifest.classes,
    )
    return seen.probabilities if seen.presence is None else seen.presence


def summarise(predictions: Iterable[Prediction], classes: list[str]) -> PoolAnswers:
    """Arrays of the answers: class probabilities, or for detection what the boxes come to."""
    rows, presence, confidences = [], [], []
    for one in predictions:
        if isinstance(one.answer, ClassProbabilities):
            rows.append(one.answer.probabilities)
            continue
        certainty = from_prediction(one, classes, minimum_confidence=1.0)[1]
        rows.append(np.array([(1 + certainty) / 2, (1 - certainty) / 2], np.float32))
        if isinstance(one.answer, AttributeProbabilities):
            presence.append(one.answer.probabilities)
            confidences.append(one.answer.probabilities)
            continue
        presence.append(_presence(one.answer, len(classes)))
        confidences.append(one.answer.confidence)
    if not presence:
        return PoolAnswers(np.stack(rows))
    return PoolAnswers(np.stack(rows), np.stack(presence), confidences)


def _presence(boxes: Detections, classes: int) -> NDArray[np.float32]:
    """Probability that any box of a class is there, were the boxes independent: float32 (C,)."""
    absent = np.ones(classes, np.float32)
    np.multiply.at(absent, boxes.class_id, 1 - boxes.confidence)
    return 1 - absent
