"""Where things are: zones and lines of a camera, and metres on its plane (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import read_json

__all__ = ["Line", "PlaneMap", "Zone", "foot_points", "load_plane_map"]

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Zone:
    """A polygon of a camera's picture; ``corners`` float64 (N, 2) in 0 to 1."""

    corners: Points

    @classmethod
    def of(cls, points: Sequence[Sequence[float]]) -> Zone:
        """From a list of [x, y]."""
        return cls(np.asarray(points, np.float64).reshape(-1, 2))

    @classmethod
    def whole(cls) -> Zone:
        """The whole picture."""
        return cls(np.zeros((0, 2)))

    @property
    def area(self) -> float:
        """Share of the picture, by the shoelace formula."""
        if not len(self.corners):
            return 1.0
        x, y = self.corners.T
        return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)

    def holds(self, points: Points) -> NDArray[np.bool_]:
        """Which points (N, 2) in 0 to 1 lie inside: a ray to the right crosses the outline
        an odd number of times."""
        if not len(self.corners):
            return np.ones(len(points), bool)
        start, end = self.corners, np.roll(self.corners, -1, axis=0)
        x, y = points[:, :1], points[:, 1:]
        spans = (start[:, 1] > y) != (end[:, 1] > y)
        rise = end[:, 1] - start[:, 1]
        share = np.divide(y - start[:, 1], rise, out=np.zeros_like(y - rise), where=rise != 0)
        right = start[:, 0] + share * (end[:, 0] - start[:, 0]) > x
        return np.asarray((spans & right).sum(axis=1) % 2 == 1)

    def holds_boxes(self, xyxy: NDArray[np.float32], width: int, height: int) -> NDArray[np.bool_]:
        """Which boxes (N, 4), in pixels of a picture, stand inside with their foot points."""
        if not len(self.corners):
            return np.ones(len(xyxy), bool)
        return self.holds(foot_points(xyxy, width, height))


@dataclass(frozen=True, eq=False)
class Line:
    """Two points of a camera's picture; ``ends`` float64 (2, 2) in 0 to 1."""

    ends: Points

    @classmethod
    def of(cls, points: Sequence[Sequence[float]]) -> Line:
        """From two [x, y]."""
        return cls(np.asarray(points, np.float64).reshape(2, 2))

    def crossed(self, before: Points, after: Points) -> int:
        """1 if the way between two points crosses forward, -1 backward, 0 if it does not.

        Forward is from the left of who walks along the line to the right, as seen in the
        picture.
        """
        first, second = self.ends
        side_before, side_after = _side(first, second, before), _side(first, second, after)
        if side_before * side_after >= 0:
            return 0
        if _side(before, after, first) * _side(before, after, second) > 0:
            return 0
        return 1 if side_after > 0 else -1

    def is_beneath(self, point: Points) -> bool:
        """Whether a point lies on the line, endlessly prolonged: on neither side."""
        return _side(self.ends[0], self.ends[1], point) == 0


@dataclass(frozen=True, eq=False)
class PlaneMap:
    """From pixels to metres on the plane of a camera.

    Attributes
    ----------
    homography : float64 array (3, 3)
        From pixels to metres, third row positive on the near side of the horizon.
    """

    homography: Points

    def to_metres(self, points: Points) -> Points:
        """Places (N, 2) in metres of points (N, 2) in pixels; NaN beyond the horizon."""
        hom = np.hstack([points, np.ones((len(points), 1))]) @ self.homography.T
        depth = np.where(hom[:, 2:] > 1e-12, hom[:, 2:], np.nan)
        return np.asarray(hom[:, :2] / depth, np.float64)

    def zone_area(self, zone: Zone, width: int, height: int) -> float:
        """Square metres of a zone; NaN if it reaches beyond the horizon."""
        corners = zone.corners if len(zone.corners) else _CORNERS
        x, y = self.to_metres(corners * [width, height]).T
        return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


_CORNERS = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)


def load_plane_map(path: Path, *, camera: str) -> PlaneMap:
    """Read the homography of ``plane.json``, which ``visionloop data calibrate`` writes.

    Raises
    ------
    ConfigError
        If it is missing, damaged, or belongs to straightened pixels.
    """
    subject = f"camera '{camera}'"
    try:
        content = read_json(path)
        matrix = np.asarray(content["homography"], np.float64).reshape(3, 3)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(subject, f"its plane {path} cannot be read: {error}") from None
    if content.get("calibration_id"):
        raise ConfigError(
            subject,
            f"its plane {path} holds for straightened pictures, and the agent does not "
            "straighten them",
            "measure the plane without a calibration",
        )
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-15:
        raise ConfigError(subject, f"its plane {path} maps the picture onto a line")
    return PlaneMap(matrix)


def foot_points(xyxy: NDArray[np.float32], width: int, height: int) -> Points:
    """Where boxes (N, 4) in pixels stand: middle of the lower edge, (N, 2) in 0 to 1."""
    x = (xyxy[:, 0] + xyxy[:, 2]) / 2 / max(width, 1)
    y = xyxy[:, 3] / max(height, 1)
    return np.stack([x, y], axis=1).astype(np.float64)


def _side(first: Points, second: Points, point: Points) -> float:
    """Positive to the right of the way from first to second (y points down)."""
    way, other = second - first, point - first
    return float(way[0] * other[1] - way[1] * other[0])
