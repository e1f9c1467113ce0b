"""Rules that need one frame alone, or a few of them: class, boxes, anomaly."""

from __future__ import annotations

from collections import deque

import numpy as np
from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.core.entities import Detections
from visionloop.core.errors import ConfigError
from visionloop.serving.edge.rules.table import (
    Observation,
    RulePlace,
    Scene,
    class_index,
    read_settings,
    selected,
)
from visionloop.serving.edge_params import RuleParams

__all__ = ["Anomaly", "ClassConfidence", "DetectionPresent", "most_confident"]


class NoSettings(StrictModel):
    """This kind has none."""


class ClassConfidence:
    """Fires where a class or an attribute of the whole picture is at least this probable.

    Raises
    ------
    ConfigError
        If ``class_name`` is not a class of the package, or there is no limit.
    """

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params = params
        read_settings(params, NoSettings)
        self._limit = _limit_of(params)
        self._class_id = class_index(params, place.classes, params.class_name)

    def look(self, scene: Scene) -> list[Observation]:
        """The class, where it is probable enough."""
        answer = scene.prediction.answer
        if isinstance(answer, Detections):
            return []
        confidence = float(answer.probabilities[self._class_id])
        return (
            [Observation(self.params.class_name, confidence)] if confidence >= self._limit else []
        )


class DetectionPresent:
    """Fires on every frame with a box of a class (of any class, if none is named).

    Raises
    ------
    ConfigError
        If ``class_name`` is not a class of the package, or there is no limit.
    """

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        read_settings(params, NoSettings)
        _limit_of(params)
        if params.class_name:
            class_index(params, place.classes, params.class_name)
        self._zone = place.zone_of(params)

    def look(self, scene: Scene) -> list[Observation]:
        """The boxes that are confident enough."""
        boxes = selected(self.params, self._place, scene, zone=self._zone)
        return [most_confident(boxes, self._place)] if len(boxes) else []


class AnomalySettings(StrictModel):
    """Of rule ``anomaly``."""

    of_frames: int = Field(default=1, gt=0, le=1000, description="frames that are looked back on")
    at_least: int = Field(default=1, gt=0, description="so many of them must be abnormal")

    def checked(self, subject: str) -> AnomalySettings:
        """Raises ConfigError if more frames are asked for than are looked back on."""
        if self.at_least > self.of_frames:
            raise ConfigError(subject, "at_least is larger than of_frames: it could never fire")
        return self


class Anomaly:
    """Fires when the abnormal class (the last one, if none is named) was probable in enough of
    the newest frames; again only after it was not."""

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params = params
        settings = read_settings(params, AnomalySettings).checked(f"rule '{params.name}'")
        self._name = params.class_name or place.classes[-1]
        self._class_id = class_index(params, place.classes, self._name)
        self._limit = _limit_of(params)
        self._at_least = settings.at_least
        self._newest: deque[bool] = deque(maxlen=settings.of_frames)
        self._fires = False

    def look(self, scene: Scene) -> list[Observation]:
        """The abnormal class, at the frame with which it has lasted long enough."""
        answer = scene.prediction.answer
        if isinstance(answer, Detections):
            return []
        confidence = float(answer.probabilities[self._class_id])
        self._newest.append(confidence >= self._limit)
        fired, self._fires = self._fires, sum(self._newest) >= self._at_least
        if not self._fires or fired:
            return []
        return [Observation(self._name, confidence, facts={"frames": sum(self._newest)})]


def most_confident(boxes: Detections, place: RulePlace, **facts: object) -> Observation:
    """What is told about boxes, at least one: the class and confidence of the best."""
    best = int(np.argmax(boxes.confidence))
    name = place.classes[int(boxes.class_id[best])]
    return Observation(name, float(boxes.confidence[best]), boxes, dict(facts))


def _limit_of(params: RuleParams) -> float:
    """The smallest confidence of a rule whose limit is known.

    Raises
    ------
    ConfigError
        If it still is that of a package.
    """
    if params.minimum_confidence is None:
        raise ConfigError(f"rule '{params.name}'", "has no minimum_confidence")
    return params.minimum_confidence
