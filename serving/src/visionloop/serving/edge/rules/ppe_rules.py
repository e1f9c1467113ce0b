"""Missing protective equipment: a person without it, or its opposite seen by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.core.entities import Detections
from visionloop.core.errors import ConfigError
from visionloop.serving.edge.rules.crowd_rules import Lasting
from visionloop.serving.edge.rules.frame_rules import most_confident
from visionloop.serving.edge.rules.table import (
    Observation,
    RulePlace,
    Scene,
    class_index,
    read_settings,
)
from visionloop.serving.edge.zones import Zone
from visionloop.serving.edge_params import RuleParams

__all__ = ["MissingPpe"]


class PpeSettings(StrictModel):
    """Of rule ``missing_ppe``."""

    person: str = Field(
        default="", description="class of people; with ppe: who has none of it fires"
    )
    ppe: str = Field(default="", description="class of the equipment, for example helmet")
    bare: str = Field(
        default="", description="class of its absence, for example no helmet; fires by itself"
    )
    part: list[float] = Field(
        default=[0.0, 0.4],
        min_length=2,
        max_length=2,
        description="from where to where of a person, from the top, it is looked for",
    )
    seconds: float = Field(default=0.5, ge=0, description="so long must it last")


class MissingPpe:
    """Fires when somebody in a zone lacks equipment for long enough.

    Either the package knows the bare part (``bare``), or people and equipment (``person``
    and ``ppe``): then the middle of a piece of equipment must lie in the given part of a
    person's box. Several people are not told apart: the event shows all of them.
    """

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._settings = read_settings(params, PpeSettings)
        named = self._settings
        if bool(named.bare) == bool(named.person and named.ppe):
            raise ConfigError(f"rule '{params.name}'", "needs either bare, or person and ppe")
        for name in filter(None, (named.person, named.ppe, named.bare)):
            class_index(params, place.classes, name)
        self._zone = place.zone_of(params)
        self._lasting = Lasting(named.seconds)

    def look(self, scene: Scene) -> list[Observation]:
        """Everybody without, at the frame with which it has lasted."""
        answer = scene.prediction.answer
        if not isinstance(answer, Detections):
            return []
        sure = answer[answer.confidence >= (self.params.minimum_confidence or 0.0)]
        if self._settings.bare:
            lacking = self._inside(self._of(sure, self._settings.bare), scene)
        else:
            people = self._inside(self._of(sure, self._settings.person), scene)
            # Equipment counts from the package's own limit on: a doubt is in the person's favour.
            worn = self._of(answer, self._settings.ppe)
            lacking = people[~self._has(people.xyxy, worn.xyxy)]
        if not self._lasting.look(len(lacking) > 0, scene.seconds):
            return []
        missing = self._settings.ppe or self._settings.bare
        return [most_confident(lacking, self._place, missing=missing, count=len(lacking))]

    def _of(self, boxes: Detections, name: str) -> Detections:
        return boxes[boxes.class_id == list(self._place.classes).index(name)]

    def _inside(self, boxes: Detections, scene: Scene) -> Detections:
        zone: Zone = self._zone
        return boxes[zone.holds_boxes(boxes.xyxy, scene.width, scene.height)]

    def _has(self, people: NDArray[np.float32], worn: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which people (N, 4) have one of the boxes (M, 4) in the right place."""
        x, y = (worn[:, 0] + worn[:, 2]) / 2, (worn[:, 1] + worn[:, 3]) / 2
        height = people[:, 3] - people[:, 1]
        begin, end = self._settings.part
        top, bottom = people[:, 1] + begin * height, people[:, 1] + end * height
        across = (x >= people[:, :1]) & (x <= people[:, 2:3])
        along = (y >= top[:, None]) & (y <= bottom[:, None])
        return np.asarray((across & along).any(axis=1))
