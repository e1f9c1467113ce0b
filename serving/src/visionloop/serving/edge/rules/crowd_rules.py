"""Rules about how many: count, density, absence. They need no tracking.

A state must last before it is told, and must have ended before it is told again.
"""

from __future__ import annotations

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

__all__ = ["Absence", "Count", "Density", "Lasting"]


class Lasting:
    """Says once when something has been true for long enough.

    Parameters
    ----------
    seconds : float
        So long must it last.
    gap_s : float
        So long may it be false in between: a frame in which the model was wrong.
    """

    def __init__(self, seconds: float, gap_s: float = 1.0) -> None:
        self._seconds, self._gap_s = seconds, gap_s
        self._since: float | None = None
        self._last_true = -np.inf
        self._is_told = False

    def look(self, is_true: bool, now: float) -> bool:
        """True at the moment at which it has lasted."""
        if is_true:
            self._last_true = now
            self._since = now if self._since is None else self._since
        elif now - self._last_true > self._gap_s:
            self._since, self._is_told = None, False
        if not is_true or self._since is None or self._is_told:
            return False
        self._is_told = now - self._since >= self._seconds
        return self._is_told


class CountSettings(StrictModel):
    """Of rule ``count``."""

    at_least: int | None = Field(default=None, ge=1, description="fires from so many on")
    at_most: int | None = Field(default=None, ge=0, description="fires down from so many")
    seconds: float = Field(default=1.0, ge=0, description="so long must it last")


class Count:
    """Fires when there are too many objects in a zone, or too few."""

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._settings = read_settings(params, CountSettings)
        if (self._settings.at_least is None) == (self._settings.at_most is None):
            raise ConfigError(f"rule '{params.name}'", "needs either at_least or at_most")
        self._zone = place.zone_of(params)
        _check_class(params, place)
        self._lasting = Lasting(self._settings.seconds)

    def look(self, scene: Scene) -> list[Observation]:
        """The boxes, at the frame with which there were too many or few for long enough."""
        boxes = selected(self.params, self._place, scene, zone=self._zone)
        least, most = self._settings.at_least, self._settings.at_most
        is_true = len(boxes) >= least if least is not None else len(boxes) <= (most or 0)
        if not self._lasting.look(is_true, scene.seconds):
            return []
        return [_tell(boxes, self.params, self._place, count=len(boxes))]


class DensitySettings(StrictModel):
    """Of rule ``density``."""

    per_square_metre: float = Field(gt=0, description="fires from this density on")
    seconds: float = Field(default=1.0, ge=0, description="so long must it last")


class Density:
    """Fires when objects stand too close in a zone; needs a camera with a plane.

    Raises
    ------
    ConfigError
        If the camera has no plane.
    """

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._settings = read_settings(params, DensitySettings)
        if place.plane is None:
            raise ConfigError(
                f"rule '{params.name}'",
                "needs metres, and the camera has no plane",
                "measure one with visionloop data calibrate plane, or use kind count",
            )
        self._plane = place.plane
        self._zone = place.zone_of(params)
        _check_class(params, place)
        self._lasting = Lasting(self._settings.seconds)

    def look(self, scene: Scene) -> list[Observation]:
        """The boxes, at the frame with which they were too dense for long enough."""
        boxes = selected(self.params, self._place, scene, zone=self._zone)
        area = self._plane.zone_area(self._zone, scene.width, scene.height)
        density = len(boxes) / area if np.isfinite(area) and area > 0 else 0.0
        is_true = density >= self._settings.per_square_metre
        if not self._lasting.look(is_true, scene.seconds):
            return []
        facts = {"per_square_metre": round(density, 3), "square_metres": round(area, 2)}
        return [_tell(boxes, self.params, self._place, count=len(boxes), **facts)]


class AbsenceSettings(StrictModel):
    """Of rule ``absence``."""

    seconds: float = Field(gt=0, description="so long may nobody and nothing be there")


class Absence:
    """Fires when nothing of a class has been seen in a zone for too long."""

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._seconds = read_settings(params, AbsenceSettings).seconds
        self._zone = place.zone_of(params)
        _check_class(params, place)
        self._last: float | None = None
        self._is_told = False

    def look(self, scene: Scene) -> list[Observation]:
        """Tells once when it is empty for too long; again after something was there."""
        boxes = selected(self.params, self._place, scene, zone=self._zone)
        if len(boxes) or self._last is None:
            self._last, self._is_told = scene.seconds, False
        empty = scene.seconds - self._last
        if self._is_told or empty < self._seconds:
            return []
        self._is_told = True
        return [_tell(boxes, self.params, self._place, seconds=round(empty, 1))]


def _tell(boxes: Detections, params: RuleParams, place: RulePlace, **facts: object) -> Observation:
    if len(boxes):
        return most_confident(boxes, place, **facts)
    return Observation(params.class_name, 0.0, boxes, dict(facts))


def _check_class(params: RuleParams, place: RulePlace) -> None:
    if params.class_name:
        class_index(params, place.classes, params.class_name)
