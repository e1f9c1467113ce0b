"""Calibrations of cameras: read, kept as dated versions, used to straighten pictures.

A calibration is ``data/calibration/<camera>/<date>-<id>.json``; its id is the start of the
SHA-256 of its content, so a changed file is noticed. The newest one counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError, InputError
from visionloop.core.files import canonical_json, read_json, sha256_of_bytes, write_json
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace

__all__ = [
    "Calibration",
    "calibration_folder",
    "load_calibration",
    "newest_version",
    "plane_folder",
    "save_calibration",
    "save_version",
    "undistort",
    "undistort_pixels",
    "undistort_points",
]

FORMAT_VERSION = 1
ID_LENGTH = 12
_CAMERA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, eq=False)
class Calibration:
    """A camera's lens: pinhole matrix and Brown-Conrady distortion.

    The model is that of OpenCV (Zhang, 2000, doi:10.1109/34.888718; Brown, 1966): pixel
    centres have whole coordinates, the distortion acts on normalised coordinates.

    Attributes
    ----------
    camera : str
    calibration_id : str
        First 12 hexadecimal digits of the SHA-256 of the content.
    calibrated_at : str
        UTC, RFC 3339.
    width, height : int
        Pixels of the pictures it holds for.
    matrix : float64 array (3, 3)
        ``[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]`` in pixels.
    distortion : float64 array (5,)
        ``k1, k2, p1, p2, k3``.
    rms : float
        Root mean square reprojection error, pixels.
    plane : float64 array (3, 3) or None
        Homography from undistorted pixels to metres, of the newest plane that was measured
        with this calibration.
    """

    camera: str
    calibration_id: str
    calibrated_at: str
    width: int
    height: int
    matrix: NDArray[np.float64]
    distortion: NDArray[np.float64]
    rms: float
    plane: NDArray[np.float64] | None = None


def load_calibration(
    workspace: Workspace, camera: str, calibration_id: str = ""
) -> Calibration | None:
    """The calibration of a camera.

    Parameters
    ----------
    workspace : Workspace
    camera : str
    calibration_id : str
        Which one; empty takes the newest that is whole. A damaged file is told on stderr
        and passed over.

    Returns
    -------
    Calibration or None
        None if the camera has none.

    Raises
    ------
    DataError
        If the calibration that is asked for by id is missing or damaged.
    """
    from visionloop.data.collection.plane import load_plane

    found = newest_version(calibration_folder(workspace, camera), calibration_id)
    if found is None:
        return None
    identity, content = found
    plane = load_plane(workspace, camera, calibration_id=identity)
    return Calibration(
        camera=camera,
        calibration_id=identity,
        calibrated_at=content["calibrated_at"],
        width=int(content["width"]),
        height=int(content["height"]),
        matrix=np.array(content["matrix"], np.float64).reshape(3, 3),
        distortion=np.array(content["distortion"], np.float64).reshape(5),
        rms=float(content["rms"]),
        plane=None if plane is None else plane.homography,
    )


def save_calibration(workspace: Workspace, camera: str, content: dict[str, Any]) -> Path:
    """Store a new calibration; ``content`` holds the fields of :class:`Calibration` and more."""
    folder = calibration_folder(workspace, camera)
    return save_version(folder, {"camera": camera, **content}, content["calibrated_at"])


def undistort(image: NDArray[np.uint8], calibration: Calibration) -> NDArray[np.uint8]:
    """Straighten a picture; the pinhole matrix stays, places without a source are black.

    Parameters
    ----------
    image : uint8 array (H, W, 3) or (H, W), BGR or grey
    calibration : Calibration

    Returns
    -------
    uint8 array of the same shape

    Raises
    ------
    DataError
        If the picture has another size than those of the calibration.
    """
    import cv2

    height, width = image.shape[:2]
    if (width, height) != (calibration.width, calibration.height):
        raise DataError(
            f"camera {calibration.camera}",
            f"sends {width} x {height} pixels, but calibration {calibration.calibration_id} "
            f"holds for {calibration.width} x {calibration.height}",
            f"visionloop data calibrate {calibration.camera} with pictures of this size",
        )
    maps = _maps(calibration.matrix.tobytes(), calibration.distortion.tobytes(), width, height)
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR), np.uint8)


def undistort_points(pixels: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    """Where points of a raw picture lie in the straightened one: (N, 2) to (N, 2), pixels."""
    return undistort_pixels(pixels, calibration.matrix, calibration.distortion)


def undistort_pixels(
    pixels: NDArray[np.float64], matrix: NDArray[np.float64], distortion: NDArray[np.float64]
) -> NDArray[np.float64]:
    """As :func:`undistort_points`, for a lens that is not stored."""
    import cv2

    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)
    raw = np.asarray(pixels, np.float64).reshape(-1, 1, 2)
    no_rotation = np.eye(3)
    straight = cv2.undistortPointsIter(raw, matrix, distortion, no_rotation, matrix, criteria)
    return np.asarray(straight, np.float64).reshape(-1, 2)


def calibration_folder(workspace: Workspace, camera: str) -> Path:
    """Folder of a camera's calibrations."""
    return _camera_folder(workspace.root / "data" / "calibration", camera)


def plane_folder(workspace: Workspace, camera: str) -> Path:
    """Folder of a camera's planes."""
    return _camera_folder(workspace.root / "data" / "planes", camera)


def save_version(folder: Path, content: dict[str, Any], date: str) -> Path:
    """Write ``<date>-<id>.json``; the id is the start of the SHA-256 of the content.

    Parameters
    ----------
    folder : Path
    content : dict
        What JSON can hold.
    date : str
        UTC, RFC 3339.
    """
    content = {"format_version": FORMAT_VERSION, **content}
    identity = _identity(content)
    stamp = date.replace("-", "").replace(":", "")
    return write_json(folder / f"{stamp}-{identity}.json", {"id": identity, **content})


def newest_version(folder: Path, identity: str = "") -> tuple[str, dict[str, Any]] | None:
    """Id and content of one version, by default of the newest that is whole.

    Raises
    ------
    DataError
        If the version that is asked for by id is missing or damaged.
    """
    if identity:
        paths = list(folder.glob(f"*-{identity}.json")) if identity.isalnum() else []
        if not paths:
            known = ", ".join(sorted(path.stem for path in folder.glob("*.json"))) or "none"
            raise DataError(str(folder), f"there is no version {identity}", f"known: {known}")
        return identity, _read_version(paths[0])
    for path in sorted(folder.glob("*.json"), reverse=True):
        try:
            content = _read_version(path)
        except DataError as error:
            say_step(f"passed over: {error}")
            continue
        return content["id"], content
    return None


def _read_version(path: Path) -> dict[str, Any]:
    content = read_json(path)
    rest = {key: value for key, value in content.items() if key != "id"} if content else {}
    if rest.get("format_version") != FORMAT_VERSION:
        raise DataError(str(path), f"is not of format version {FORMAT_VERSION}")
    if content.get("id") != _identity(rest) or not path.stem.endswith(content["id"]):
        raise DataError(str(path), "was changed after it was written", "measure it again")
    return dict(content)


def _identity(content: dict[str, Any]) -> str:
    return sha256_of_bytes(canonical_json(content))[:ID_LENGTH]


def _camera_folder(parent: Path, camera: str) -> Path:
    """A camera's name becomes a folder's name, so it must be a plain one."""
    if not _CAMERA_NAME.fullmatch(camera):
        raise InputError(
            f"camera {camera!r}",
            "is no usable name",
            "use letters, digits, '.', '_' and '-', at most 100",
        )
    return parent / camera


@lru_cache(maxsize=8)
def _maps(matrix: bytes, distortion: bytes, width: int, height: int) -> tuple[Any, Any]:
    """Tables for ``cv2.remap``, fixed point; 12 bytes a pixel."""
    import cv2

    camera: Any = np.frombuffer(matrix, np.float64).reshape(3, 3)
    lens = np.frombuffer(distortion, np.float64)
    no_rotation = np.eye(3)
    size = (width, height)
    maps = cv2.initUndistortRectifyMap(camera, lens, no_rotation, camera, size, cv2.CV_16SC2)
    return maps[0], maps[1]
