"""A camera's plane: pixels to metres and back, from marked points.

Floor, belt or table: four or more points whose place is known in the picture (pixels) and
in the plant (metres) give a homography (Hartley and Zisserman, 2003, chapter 4). Where the
camera is calibrated, points are straightened first; a plane is bound to that calibration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visionloop.core.workspace import Workspace
from visionloop.data.collection.calibration import (
    Calibration,
    newest_version,
    plane_folder,
    undistort_points,
)

__all__ = ["Plane", "load_plane", "to_metres", "to_pixels"]

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane seen by a camera.

    Attributes
    ----------
    camera : str
    plane_id : str
        First 12 hexadecimal digits of the SHA-256 of the content.
    measured_at : str
        UTC, RFC 3339.
    homography : float64 array (3, 3)
        From pixels to metres; from *undistorted* pixels where there is a calibration. Its
        third row is positive on the near side of the horizon.
    calibration_id : str
        The calibration that points were straightened with, empty for none.
    """

    camera: str
    plane_id: str
    measured_at: str
    homography: NDArray[np.float64]
    calibration_id: str = ""


def load_plane(
    workspace: Workspace, camera: str, plane_id: str = "", *, calibration_id: str | None = None
) -> Plane | None:
    """The plane of a camera: the newest, or the one asked for.

    Parameters
    ----------
    workspace : Workspace
    camera : str
    plane_id : str
        Empty takes the newest that is whole.
    calibration_id : str or None
        If given, a newest plane that was measured with another calibration is none.

    Raises
    ------
    DataError
        If the plane that is asked for by id is missing or damaged.
    """
    found = newest_version(plane_folder(workspace, camera), plane_id)
    if found is None:
        return None
    identity, content = found
    if calibration_id is not None and content["calibration_id"] != calibration_id:
        return None
    return Plane(
        camera=camera,
        plane_id=identity,
        measured_at=content["measured_at"],
        homography=np.array(content["homography"], np.float64).reshape(3, 3),
        calibration_id=content["calibration_id"],
    )


def to_metres(xy: Points, plane: Plane, *, calibration: Calibration | None = None) -> Points:
    """Places on the plane.

    Parameters
    ----------
    xy : float64 array (N, 2)
        Pixels. Without ``calibration`` they must be those of a straightened picture, where
        the plane was measured with a calibration.
    plane : Plane
    calibration : Calibration or None
        Straightens pixels of a raw picture first.

    Returns
    -------
    float64 array (N, 2)
        Metres; NaN beyond the plane's horizon.
    """
    points: Points = np.asarray(xy, np.float64).reshape(-1, 2)
    if calibration is not None:
        points = undistort_points(points, calibration)
    return _map(points, plane.homography)


def to_pixels(metres: Points, plane: Plane) -> Points:
    """The inverse of :func:`to_metres` without calibration: metres (N, 2) to pixels (N, 2)."""
    points = np.asarray(metres, np.float64).reshape(-1, 2)
    return _map(points, np.asarray(np.linalg.inv(plane.homography), np.float64))


def _map(points: Points, homography: NDArray[np.float64]) -> Points:
    """Apply a homography; what lies beyond the plane's horizon becomes NaN."""
    projected = np.hstack([points, np.ones((len(points), 1))]) @ homography.T
    depth = np.where(projected[:, 2:] > 0, projected[:, 2:], np.nan)
    return np.asarray(projected[:, :2] / depth, np.float64)
