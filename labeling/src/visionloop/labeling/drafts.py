"""Drafts by the current package: what people are shown before they decide."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.config import ProjectParams
from visionloop.core.errors import PackageError
from visionloop.core.workspace import Workspace
from visionloop.labeling.params import LabelingParams
from visionloop.labeling.regions import from_prediction
from visionloop.labeling.tasks import Draft

if TYPE_CHECKING:
    from visionloop.serving.predictor import Predictor

__all__ = ["Drafter", "load_drafter"]

FAINT = 0.05
"""Boxes below the shown confidence and above this one still make an image uncertain."""

CHUNK = 8


class Drafter:
    """Makes drafts with a model package.

    Parameters
    ----------
    predictor : Predictor
    version : str
        ``<model>@<short fingerprint of the package>``.
    minimum_confidence : float
        Smallest confidence of a box that becomes a region.
    """

    def __init__(self, predictor: Predictor, version: str, minimum_confidence: float) -> None:
        self.version = version
        self._predictor = predictor
        self._minimum = minimum_confidence
        self._classes = predictor.package.manifest.classes

    def draft(self, images: Sequence[Path]) -> list[Draft]:
        """A draft for each image file.

        Raises
        ------
        DataError
            If a file is damaged.
        PackageError
            If the model fails.
        """
        from visionloop.serving.images import read_image

        faint = min(FAINT, self._minimum)
        drafts = []
        for start in range(0, len(images), CHUNK):
            pictures = [read_image(path) for path in images[start : start + CHUNK]]
            for prediction in self._predictor.predict(pictures, minimum_confidence=faint):
                regions, certainty = from_prediction(
                    prediction, self._classes, minimum_confidence=self._minimum
                )
                drafts.append(Draft(regions, certainty, self.version))
        return drafts

    def probabilities(self, images: Iterable[Path]) -> NDArray[np.float32]:
        """What selection by uncertainty needs.

        Returns
        -------
        float32 array (N, C)
            Class probabilities; for boxes (N, 2), so that the margin is the certainty.
        """
        from visionloop.core.entities import ClassProbabilities
        from visionloop.core.progress import track
        from visionloop.serving.images import read_image

        rows = []
        for path in track(list(images), "looking at the pool"):
            prediction = self._predictor.predict([read_image(path)], minimum_confidence=FAINT)[0]
            if isinstance(prediction.answer, ClassProbabilities):
                rows.append(prediction.answer.probabilities)
                continue
            certainty = from_prediction(prediction, self._classes, minimum_confidence=1.0)[1]
            rows.append(np.array([(1 + certainty) / 2, (1 - certainty) / 2], np.float32))
        return np.stack(rows)


def load_drafter(
    workspace: Workspace, project: ProjectParams, params: LabelingParams
) -> Drafter | None:
    """The drafter of the workspace's package; None before the first export.

    Raises
    ------
    PackageError
        If the package must not be loaded, or answers another question than the project.
    """
    if not (workspace.package / "manifest.json").exists():
        return None
    from visionloop.serving.package import load_package
    from visionloop.serving.predictor import Predictor

    package = load_package(workspace.package)
    manifest = package.manifest
    problems = []
    if manifest.vision_task != project.vision_task:
        problems.append(f"does {manifest.vision_task}, the project is {project.vision_task}")
    if list(manifest.classes) != project.classes:
        problems.append(f"knows the classes {manifest.classes}, the project {project.classes}")
    if problems:
        raise PackageError(
            str(workspace.package), problems, "export it again: visionloop train export"
        )
    version = f"{project.model}@{package.sha256[:12]}"
    return Drafter(Predictor(package), version, params.draft_confidence)
