"""From a frame to the picture that may be kept: straightened, and redacted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError
from visionloop.core.workspace import Workspace
from visionloop.data.collection.calibration import Calibration, load_calibration, undistort
from visionloop.data.collection.cameras import Camera
from visionloop.data.collection.redaction import Redactor

__all__ = ["Preparation"]

Image = NDArray[np.uint8]


class Preparation:
    """What is done to the pictures of one camera.

    Raises
    ------
    ConfigError
        If the camera wants straight pictures and has no calibration, or its redaction
        cannot work.
    DataError
        If the calibration that it names is missing or damaged.
    PackageError
        If the detector package of its redaction cannot be trusted.
    """

    def __init__(self, camera: Camera, workspace: Workspace) -> None:
        self._camera = camera
        self._calibration: Calibration | None = load_calibration(
            workspace, camera.id, camera.calibration.id
        )
        if camera.calibration.undistort and self._calibration is None:
            raise ConfigError(
                f"camera '{camera.id}'",
                "undistort is true, but it has no calibration",
                f"run: visionloop data calibrate {camera.id} …",
            )
        self._redactor: Redactor | None = None
        if camera.redaction is not None:
            use = camera.redaction
            package = workspace.root / use.package
            self._redactor = Redactor(package, use.classes, use.mode, threads=1)

    @property
    def changes_pictures(self) -> bool:
        """Whether the camera's own file must not be kept."""
        return self._camera.calibration.undistort or self._redactor is not None

    def straighten(self, image: Image) -> Image:
        """The picture without the lens's distortion, if that is wanted.

        Raises
        ------
        DataError
            If the picture has another size than the calibration.
        """
        if self._calibration is None or not self._camera.calibration.undistort:
            return image
        return undistort(image, self._calibration)

    def redact(self, image: Image) -> tuple[Image, dict[str, Any]]:
        """The picture that may be kept, and the columns that say what was done to it."""
        columns: dict[str, Any] = {
            "calibration_id": self._calibration.calibration_id if self._calibration else "",
            "is_undistorted": self._camera.calibration.undistort,
            "redacted_by": "",
            "redacted_boxes": 0,
        }
        if self._redactor is None:
            return image, columns
        image, boxes = self._redactor.redact(image)
        columns |= {
            "redacted_by": self._redactor.package.sha256,
            "redacted_boxes": len(boxes),
        }
        return image, columns
