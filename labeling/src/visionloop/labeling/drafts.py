"""Drafts by the newest release: what people are shown before they decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visionloop.core.config import ProjectParams
from visionloop.core.entities import Prediction
from visionloop.core.errors import PackageError
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.labeling.params import LabelingParams
from visionloop.labeling.regions import from_prediction
from visionloop.labeling.tasks import Draft

if TYPE_CHECKING:
    from visionloop.serving.package import ModelPackage
    from visionloop.serving.predictor import Predictor

__all__ = ["FAINT", "Drafter", "load_drafter"]

FAINT = 0.05
"""Boxes below the shown confidence and above this one still make an image uncertain."""

CHUNK = 8


class Drafter:
    """Makes drafts with a model package.

    Parameters
    ----------
    predictor : Predictor
    version : str
        Which model: ``<model>@<short fingerprint of the package>``. That of the drafts goes on
        with what was shown of its boxes: ``.<short fingerprint of the thresholds>``.
    minimum_confidence : float
        Smallest confidence of a box that becomes a region.
    thresholds : mapping of str to float
        The same of single classes.
    """

    def __init__(
        self,
        predictor: Predictor,
        version: str,
        minimum_confidence: float,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self.package = predictor.package
        self._predictor = predictor
        self._classes = predictor.package.manifest.classes
        self.minimum = dict.fromkeys(self._classes, minimum_confidence) | dict(thresholds or {})
        # Label Studio tells drafts apart by this name alone: other thresholds, other drafts.
        self.version = version + self._thresholds_key()

    def _thresholds_key(self) -> str:
        if self.package.manifest.vision_task != "detection":
            return ""  # a class of the whole image is always shown
        return "." + sha256_of_bytes(canonical_json(self.minimum))[:6]

    def predict(self, images: Sequence[Path]) -> Iterator[Prediction]:
        """What the model sees on each image file, faint boxes too.

        Raises
        ------
        DataError
            If a file is missing or damaged.
        PackageError
            If the model fails.
        """
        from visionloop.serving.images import read_image

        faint = min(FAINT, *self.minimum.values())
        for start in range(0, len(images), CHUNK):
            pictures = [read_image(path) for path in images[start : start + CHUNK]]
            yield from self._predictor.predict(pictures, minimum_confidence=faint)

    def warm_up(self) -> None:
        """Let the model answer once: the first call is slow, and a broken model is told now.

        Raises
        ------
        PackageError
            If the model fails.
        """
        size = self.package.manifest.input
        self._predictor.predict([np.full((size.height, size.width, 3), 114, np.uint8)])

    def draft(self, images: Sequence[Path]) -> list[Draft]:
        """A draft for each image file; raises as :meth:`predict`."""
        return [self._draft(prediction) for prediction in self.predict(images)]

    def draft_each(self, images: Sequence[Path]) -> list[Draft | None]:
        """As :meth:`draft`, but an image that fails costs its own draft alone.

        Returns
        -------
        list of Draft or None
            None where the file is missing or damaged or the model fails on it; the reason is
            said.
        """
        drafts: list[Draft | None] = []
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            try:
                drafts += self.draft(chunk)
            except Exception:  # whatever a library raises: which of the images was it?
                drafts += [self._draft_or_none(path) for path in chunk]
        return drafts

    def _draft_or_none(self, path: Path) -> Draft | None:
        try:
            return self.draft([path])[0]
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            say_step(f"no draft for {path.name}: {reason or type(error).__name__}")
            return None

    def _draft(self, prediction: Prediction) -> Draft:
        smallest = min(self.minimum.values())
        regions, certainty = from_prediction(prediction, self._classes, minimum_confidence=smallest)
        shown = [
            region
            for region in regions
            if region.xyxy is None or (region.confidence or 0) >= self.minimum[region.class_name]
        ]
        return Draft(shown, certainty, self.version)


def load_drafter(
    workspace: Workspace, project: ProjectParams, params: LabelingParams
) -> Drafter | None:
    """The drafter of the newest release, else of the workspace's package; None without either.

    Its thresholds are those that ``visionloop label thresholds`` chose for this very package,
    else ``labeling.draft_confidence``.

    Raises
    ------
    PackageError
        If the release or package must not be loaded, or answers another question than the
        project; if the releases were set back to an older one.
    """
    package = _newest_package(workspace, project.model)
    if package is None:
        return None
    from visionloop.labeling.calibration import read_thresholds
    from visionloop.serving.predictor import Predictor

    manifest = package.manifest
    problems = []
    if manifest.vision_task != project.vision_task:
        problems.append(f"does {manifest.vision_task}, the project is {project.vision_task}")
    if list(manifest.classes) != project.classes:
        problems.append(f"knows the classes {manifest.classes}, the project {project.classes}")
    if problems:
        raise PackageError(str(package.path), problems, "export it again: visionloop train export")
    version = f"{project.model}@{package.sha256[:12]}"
    thresholds = read_thresholds(workspace, package.sha256)
    return Drafter(Predictor(package), version, params.draft_confidence, thresholds)


def _newest_package(workspace: Workspace, model: str) -> ModelPackage | None:
    from visionloop.serving.releases.index import INDEX_NAME

    # What opens packages takes a tenth of a second to import: only where there is one.
    if (workspace.releases / INDEX_NAME).exists():
        from visionloop.labeling.state import state_folder
        from visionloop.serving.releases.store import fetch_newest, newest

        if newest(workspace.releases, model):
            seen = state_folder(workspace) / f"release-seen-{model}.json"
            return fetch_newest(releases=workspace.releases, model=model, state=seen)[1]
    if (workspace.package / "manifest.json").exists():
        from visionloop.serving.package import load_package

        return load_package(workspace.package)
    return None
