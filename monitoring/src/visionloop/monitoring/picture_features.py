"""What a record lacks and its kept picture can give: embedding and image statistics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.core.image_statistics import STATISTIC_NAMES, measure_image
from visionloop.core.progress import say_step, track
from visionloop.core.workspace import Workspace

if TYPE_CHECKING:
    from visionloop.serving.predictor import Predictor

__all__ = ["FeatureSource", "find_picture"]

BATCH = 16
Row = dict[str, Any]


class FeatureSource:
    """Fills rows from kept pictures with the backbone package of the workspace.

    Detector packages give no embedding; the frozen backbone does, and the same for
    every package. It is loaded once, and only if a row needs it.

    Parameters
    ----------
    always_backbone : bool
        Replace embeddings that came with the answer.
    """

    def __init__(self, workspace: Workspace, *, always_backbone: bool = False) -> None:
        self._workspace = workspace
        self._always_backbone = always_backbone
        self._predictor: Predictor | None = None
        self._known: dict[tuple[str, str], Any] = {}
        self._damaged: list[str] = []
        self._unpictured = 0

    def remember(self, rows: Iterable[Row]) -> None:
        """Take the embeddings of earlier window files, so that none is computed twice."""
        for row in rows:
            if row["embedding"] is not None and row["embedding_package"]:
                self._known[row["sample_id"], row["embedding_package"]] = row["embedding"]

    def complete(self, rows: list[Row], name: str) -> int:
        """Fill embedding and statistics in place where they are missing.

        Returns
        -------
        int
            How many rows changed.
        """
        has_backbone = self._has_backbone()
        for row in rows if self._always_backbone else ():
            if row["embedding_package"] == row["package"]:
                row |= {"embedding": None, "embedding_package": ""}
        lacking = [row for row in rows if _needs(row, has_backbone)]
        changed = self._take_known(lacking)
        lacking = [row for row in lacking if _needs(row, has_backbone)]
        groups = [lacking[start : start + BATCH] for start in range(0, len(lacking), BATCH)]
        for group in track(groups, f"window {name}: features of {len(lacking)} pictures"):
            changed += self._fill(group, has_backbone)
        return changed

    def say_what_is_missing(self) -> None:
        """Tell which pictures could not be used."""
        if self._unpictured:
            say_step(f"{self._unpictured} frames have neither embedding nor kept picture")
        for problem in self._damaged[:5]:
            say_step(f"left out: {problem}")

    def _take_known(self, rows: list[Row]) -> int:
        if not (self._known and any(row["embedding"] is None for row in rows)):
            return 0
        package = self._backbone().package.sha256 if self._has_backbone() else ""
        found = 0
        for row in rows:
            vector = self._known.get((row["sample_id"], package))
            if row["embedding"] is None and vector is not None:
                row |= {"embedding": vector, "embedding_package": package}
                found += 1
        return found

    def _fill(self, rows: list[Row], has_backbone: bool) -> int:
        pictures: list[NDArray[np.uint8]] = []
        pictured: list[Row] = []
        for row in rows:
            picture = self._read(row)
            if picture is not None:
                pictures.append(picture)
                pictured.append(row)
        for row, picture in zip(pictured, pictures, strict=True):
            if _lacks_statistics(row):
                row.update(measure_image(picture).as_row())
        plain = [index for index, row in enumerate(pictured) if row["embedding"] is None]
        if has_backbone and plain:
            backbone = self._backbone()
            vectors = backbone.embed([pictures[index] for index in plain])
            for index, vector in zip(plain, vectors, strict=True):
                pictured[index]["embedding"] = vector
                pictured[index]["embedding_package"] = backbone.package.sha256
        return len(pictured)

    def _read(self, row: Row) -> NDArray[np.uint8] | None:
        from visionloop.serving.images import read_image

        path = find_picture(self._workspace, row)
        if path is None:
            self._unpictured += row["embedding"] is None
            return None
        try:
            return read_image(path)
        except DataError as error:
            self._damaged.append(str(error))
            return None

    def _has_backbone(self) -> bool:
        return (self._workspace.backbone / "manifest.json").is_file()

    def _backbone(self) -> Predictor:
        from visionloop.serving.package import load_package
        from visionloop.serving.predictor import Predictor

        if self._predictor is None:
            self._predictor = Predictor(load_package(self._workspace.backbone))
        return self._predictor


def find_picture(workspace: Workspace, row: Any) -> Path | None:
    """The kept picture of a frame, else the collected sample; None where there is neither.

    Parameters
    ----------
    row : mapping with ``image`` and ``sample_id``
    """
    if row["image"]:
        path = workspace.root / str(row["image"])
        if path.is_file():
            return path
    for suffix in (".png", ".jpg", ".jpeg"):
        path = workspace.images / f"{row['sample_id']}{suffix}"
        if path.is_file():
            return path
    return None


def _needs(row: Row, has_backbone: bool) -> bool:
    return (has_backbone and row["embedding"] is None) or _lacks_statistics(row)


def _lacks_statistics(row: Row) -> bool:
    values = [row.get(name) for name in STATISTIC_NAMES]
    return any(value is None or not np.isfinite(value) for value in values)
