"""Rules of a line: how large a defect is, and how many come in an hour."""

from __future__ import annotations

from collections import deque

import numpy as np
from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.core.entities import Detections
from visionloop.core.errors import ConfigError
from visionloop.serving.edge.rules.frame_rules import most_confident
from visionloop.serving.edge.rules.table import (
    Observation,
    RulePlace,
    Scene,
    class_index,
    read_settings,
    selected,
)
from visionloop.serving.edge_params import RuleParams

__all__ = ["DefectRate", "DefectSize"]

HOUR_S = 3600.0


class SizeSettings(StrictModel):
    """Of rule ``defect_size``."""

    millimetres: float | None = Field(
        default=None, gt=0, description="longest side from which it fires; needs a plane"
    )
    share: float | None = Field(
        default=None, gt=0, le=1, description="the same as a share of the picture's longer side"
    )


class DefectSize:
    """Fires where a box is too large; once for an object that is followed.

    Raises
    ------
    ConfigError
        If millimetres are asked for and the camera has no plane.
    """

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._settings = read_settings(params, SizeSettings)
        if (self._settings.millimetres is None) == (self._settings.share is None):
            raise ConfigError(f"rule '{params.name}'", "needs either millimetres or share")
        if self._settings.millimetres is not None and place.plane is None:
            raise ConfigError(f"rule '{params.name}'", "needs metres, and the camera has no plane")
        if params.class_name:
            class_index(params, place.classes, params.class_name)
        self._zone = place.zone_of(params)
        self._told: deque[int] = deque(maxlen=1000)

    def look(self, scene: Scene) -> list[Observation]:
        """The boxes that are too large and were not told before."""
        boxes = selected(self.params, self._place, scene, zone=self._zone)
        corners = boxes.xyxy.astype(np.float64)
        if self._settings.millimetres is not None and self._place.plane is not None:
            first = self._place.plane.to_metres(corners[:, :2])
            sizes = np.abs(self._place.plane.to_metres(corners[:, 2:]) - first) * 1000
            limit, unit = self._settings.millimetres, "millimetres"
        else:
            sizes = (corners[:, 2:] - corners[:, :2]) / max(scene.width, scene.height, 1)
            limit, unit = self._settings.share or 1.0, "share"
        longest = sizes.max(axis=1) if len(sizes) else np.zeros(0)
        rows = [row for row in np.flatnonzero(longest >= limit) if self._is_new(boxes, row)]
        if not rows:
            return []
        largest = round(float(longest[rows].max()), 4)
        return [most_confident(boxes[rows], self._place, **{unit: largest})]

    def _is_new(self, boxes: Detections, row: int) -> bool:
        track = _track(boxes, row)
        if track is None:
            return True
        if track in self._told:
            return False
        self._told.append(track)
        return True


class RateSettings(StrictModel):
    """Of rule ``defect_rate``."""

    per_hour: float = Field(gt=0, description="fires when more come than this")
    window_s: float = Field(default=HOUR_S, gt=0, description="seconds over which they are counted")
    minimum: int = Field(default=3, gt=0, description="fewer never fire, whatever their rate")


class DefectRate:
    """Fires when defects come more often than allowed; again after the rate fell below.

    What is followed counts once. The rate is that of the window, also while the window has
    not passed yet: a bad start is told early, once ``minimum`` defects are there.
    """

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._settings = read_settings(params, RateSettings)
        if params.class_name:
            class_index(params, place.classes, params.class_name)
        self._zone = place.zone_of(params)
        self._moments: deque[float] = deque(maxlen=100_000)
        self._counted: deque[int] = deque(maxlen=1000)
        self._is_told = False

    def look(self, scene: Scene) -> list[Observation]:
        """The newest boxes, at the frame with which there were too many."""
        now = scene.seconds
        boxes = selected(self.params, self._place, scene, zone=self._zone)
        for row in range(len(boxes)):
            track = _track(boxes, row)
            if track is None or track not in self._counted:
                self._moments.append(now)
                if track is not None:
                    self._counted.append(track)
        while self._moments and now - self._moments[0] > self._settings.window_s:
            self._moments.popleft()
        count = len(self._moments)
        rate = count * HOUR_S / self._settings.window_s
        is_over = count >= self._settings.minimum and rate > self._settings.per_hour
        fires = is_over and not self._is_told and len(boxes) > 0
        self._is_told = is_over and (self._is_told or fires)
        if not fires:
            return []
        return [most_confident(boxes, self._place, per_hour=round(rate, 1), count=count)]


def _track(boxes: Detections, row: int) -> int | None:
    """Number of the object that a box belongs to; None where nothing is followed."""
    if boxes.tracker_id is None:
        return None
    return int(boxes.tracker_id[row])
