"""Redaction: what a detector finds is made unrecognisable before a picture goes anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.core.errors import ConfigError
from visionloop.data.collection.obscure import MAX_CELLS, MODES, Mode, obscure, widen

__all__ = ["Redactor"]

Image = NDArray[np.uint8]


class Redactor:
    """Makes the objects of some classes unrecognisable.

    Parameters
    ----------
    package_path : Path
        A signed detector package.
    classes : sequence of str
        Class names of the package that must not be recognisable.
    mode : str
        ``blur`` (smooth) or ``pixelate`` (mosaic).
    min_confidence : float
        Boxes from this confidence on are redacted. Low on purpose: a box too many costs a
        patch of background, a box too few costs somebody's privacy.
    margin : float
        Each box is widened on every side by this share of its longer side.
    trusted_keys : sequence of Path or None
        Public keys; None takes those of ``VISIONLOOP_TRUSTED_KEYS``.
    cells : int
        0 (default) keeps nothing of the inside. 1 to 4: a mosaic of so many cells along the
        longer side keeps its coarse colour (a helmet stays yellow); somebody who has the
        same photograph can then tell which it was.
    threads : int or None
        Threads of one call; None lets the backend choose.

    Raises
    ------
    PackageError
        If the package is unsigned, damaged or no detector.
    ConfigError
        If a class is not one of the package, or a number is out of range.
    """

    def __init__(
        self,
        package_path: Path,
        classes: Sequence[str],
        mode: Mode = "blur",
        min_confidence: float = 0.05,
        margin: float = 0.25,
        trusted_keys: Sequence[Path] | None = None,
        *,
        cells: int = 0,
        threads: int | None = None,
    ) -> None:
        from visionloop.serving.package import load_package
        from visionloop.serving.predictor import Predictor

        package = load_package(Path(package_path), trusted_keys=trusted_keys)
        manifest = package.manifest
        problems = []
        if manifest.vision_task != "detection":
            problems.append(f"the package is for {manifest.vision_task}, not for detection")
        else:
            known = ", ".join(manifest.classes)
            problems += [
                f"the package has no class '{name}' (it has {known})"
                for name in classes
                if name not in manifest.classes
            ]
        if not classes:
            problems.append("no class is named")
        problems += _range_problems(mode, min_confidence, margin, cells)
        if problems:
            raise ConfigError(f"redaction with {package.path}", problems, "nothing was passed on")
        self.package = package
        self.mode: Mode = mode
        self.min_confidence = min_confidence
        self.margin = margin
        self.cells = cells
        self._class_ids = [manifest.classes.index(name) for name in classes]
        self._predictor = Predictor(package, threads=threads)
        # Not seeded: noise that somebody can make again can be subtracted.
        self._generator = np.random.default_rng()

    def redact(self, image: Image) -> tuple[Image, list[NDArray[np.float32]]]:
        """Redact one picture; the one given is not changed.

        Parameters
        ----------
        image : uint8 array (H, W, 3), BGR

        Returns
        -------
        (uint8 array (H, W, 3) BGR, list of float32 arrays (4,))
            The redacted picture, and the widened boxes ``xyxy`` in pixels.

        Raises
        ------
        PackageError
            If the model fails or answers with numbers that are not finite. There is then no
            picture to pass on.
        """
        (prediction,) = self._predictor.predict([image], minimum_confidence=self.min_confidence)
        assert isinstance(prediction.answer, Detections)
        found = prediction.answer
        chosen = found[np.isin(found.class_id, self._class_ids)]
        boxes = widen(chosen.xyxy, self.margin, width=image.shape[1], height=image.shape[0])
        hidden = obscure(image, boxes, mode=self.mode, cells=self.cells, generator=self._generator)
        return hidden, list(boxes)


def _range_problems(mode: str, min_confidence: float, margin: float, cells: int) -> list[str]:
    problems = []
    if mode not in MODES:
        problems.append(f"mode '{mode}' is not one of {', '.join(MODES)}")
    if not 0 < min_confidence <= 1:
        problems.append(f"min_confidence {min_confidence} is not above 0 and at most 1")
    if not 0 <= margin <= 2:
        problems.append(f"margin {margin} is not between 0 and 2")
    if not 0 <= cells <= MAX_CELLS:
        problems.append(f"cells {cells} is not between 0 and {MAX_CELLS}")
    return problems
