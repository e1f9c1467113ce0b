"""Rules about single objects that are followed: entry, crossing, dwelling, forbidden class.

Each fires once an object; where an object left and came back, once more.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
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
from visionloop.serving.edge.zones import Zone, foot_points
from visionloop.serving.edge_params import RuleParams

__all__ = ["Dwell", "ForbiddenClass", "LineCrossing", "ZoneEntry"]

FORGET_S = 60.0
"""Objects that were not seen for so long are forgotten."""


class EntrySettings(StrictModel):
    """Of rule ``zone_entry``."""

    frames: int = Field(default=2, gt=0, description="frames in a row that it must be inside")
    first_seen_counts: bool = Field(
        default=True, description="an object that was inside when it was first seen has entered"
    )


class ZoneEntry:
    """Fires when an object has come into a zone (with its foot point)."""

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._settings = read_settings(params, EntrySettings)
        self._zone = place.zone_of(params)
        _check(params, place)
        self._inside: dict[int, int] = {}
        self._told: set[int] = set()
        self._known = _Memory()

    def look(self, scene: Scene) -> list[Observation]:
        """One observation for each object that entered."""
        boxes = _followed(selected(self.params, self._place, scene, zone=Zone.whole()))
        seen = []
        is_inside = self._zone.holds_boxes(boxes.xyxy, scene.width, scene.height)
        for row, (track, inside) in enumerate(zip(_tracks(boxes), is_inside, strict=True)):
            is_new = self._known.see(track, scene.seconds)
            if not inside:
                self._inside[track] = 0
                self._told.discard(track)
                continue
            if is_new and not self._settings.first_seen_counts:
                self._told.add(track)
            self._inside[track] = self._inside.get(track, 0) + 1
            if track not in self._told and self._inside[track] >= self._settings.frames:
                self._told.add(track)
                seen.append(most_confident(boxes[[row]], self._place, track=track))
        for gone in self._known.forget(scene.seconds):
            self._inside.pop(gone, None)
            self._told.discard(gone)
        return seen


class CrossingSettings(StrictModel):
    """Of rule ``line_crossing``."""

    direction: Literal["any", "forward", "backward"] = Field(
        default="any", description="forward is from left to right of the line's way"
    )


class LineCrossing:
    """Fires when the foot point of an object crosses a line."""

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        direction = read_settings(params, CrossingSettings).direction
        self._wanted = {"any": (1, -1), "forward": (1,), "backward": (-1,)}[direction]
        self._line = place.line_of(params)
        _check(params, place)
        self._last: dict[int, NDArray[np.float64]] = {}
        self._known = _Memory()

    def look(self, scene: Scene) -> list[Observation]:
        """One observation for each object that crossed since the last frame."""
        boxes = _followed(selected(self.params, self._place, scene, zone=Zone.whole()))
        seen = []
        feet = foot_points(boxes.xyxy, scene.width, scene.height)
        for row, (track, point) in enumerate(zip(_tracks(boxes), feet, strict=True)):
            self._known.see(track, scene.seconds)
            way = self._line.crossed(self._last[track], point) if track in self._last else 0
            if way in self._wanted:
                word = "forward" if way > 0 else "backward"
                seen.append(most_confident(boxes[[row]], self._place, track=track, direction=word))
            # Who stands on the line has crossed once he leaves it on the other side.
            if track not in self._last or not self._line.is_beneath(point):
                self._last[track] = point
        for gone in self._known.forget(scene.seconds):
            self._last.pop(gone, None)
        return seen


class DwellSettings(StrictModel):
    """Of rule ``dwell``."""

    seconds: float = Field(gt=0, description="so long may it stay")
    gap_s: float = Field(
        default=3.0, ge=0, description="a shorter absence from sight or zone does not count"
    )


class Dwell:
    """Fires when an object has stayed in a zone for longer than allowed."""

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._settings = read_settings(params, DwellSettings)
        self._zone = place.zone_of(params)
        _check(params, place)
        self._since: dict[int, float] = {}
        self._seen: dict[int, float] = {}
        self._told: set[int] = set()

    def look(self, scene: Scene) -> list[Observation]:
        """One observation for each object at the frame with which its time is over."""
        now = scene.seconds
        for track, last in list(self._seen.items()):
            if now - last > self._settings.gap_s:
                for memory in (self._since, self._seen):
                    memory.pop(track, None)
                self._told.discard(track)
        seen = []
        boxes = _followed(selected(self.params, self._place, scene, zone=self._zone))
        for row, track in enumerate(_tracks(boxes)):
            began = self._since.setdefault(track, now)
            self._seen[track] = now
            if now - began >= self._settings.seconds and track not in self._told:
                self._told.add(track)
                facts = {"track": track, "seconds": round(now - began, 1)}
                seen.append(most_confident(boxes[[row]], self._place, **facts))
        return seen


class ForbiddenSettings(StrictModel):
    """Of rule ``forbidden_class``."""

    frames: int = Field(default=2, gt=0, description="frames in which it must have been seen")


class ForbiddenClass:
    """Fires once for each object of a class that must not be there."""

    def __init__(self, params: RuleParams, place: RulePlace) -> None:
        self.params, self._place = params, place
        self._frames = read_settings(params, ForbiddenSettings).frames
        self._zone = place.zone_of(params)
        _check(params, place)
        if not params.class_name:
            raise ConfigError(f"rule '{params.name}'", "needs class_name: what is forbidden")
        self._count: dict[int, int] = {}
        self._known = _Memory()

    def look(self, scene: Scene) -> list[Observation]:
        """One observation for each object at the frame with which it is certain."""
        seen = []
        boxes = _followed(selected(self.params, self._place, scene, zone=self._zone))
        for row, track in enumerate(_tracks(boxes)):
            self._known.see(track, scene.seconds)
            self._count[track] = self._count.get(track, 0) + 1
            if self._count[track] == self._frames:
                seen.append(most_confident(boxes[[row]], self._place, track=track))
        for gone in self._known.forget(scene.seconds):
            self._count.pop(gone, None)
        return seen


class _Memory:
    """When each object was last seen, so that nothing is remembered without end."""

    def __init__(self) -> None:
        self._last: dict[int, float] = {}

    def see(self, track: int, now: float) -> bool:
        """Note an object; True if it is new."""
        is_new = track not in self._last
        self._last[track] = now
        return is_new

    def forget(self, now: float) -> list[int]:
        """The objects that are gone since long."""
        gone = [track for track, last in self._last.items() if now - last > FORGET_S]
        for track in gone:
            del self._last[track]
        return gone


def _followed(boxes: Detections) -> Detections:
    """The boxes that belong to an object."""
    if boxes.tracker_id is None:
        return Detections.empty()
    return boxes[boxes.tracker_id > 0]


def _tracks(boxes: Detections) -> list[int]:
    return [] if boxes.tracker_id is None else [int(track) for track in boxes.tracker_id]


def _check(params: RuleParams, place: RulePlace) -> None:
    if not place.is_followed:
        raise ConfigError(
            f"rule '{params.name}'",
            f"kind {params.kind} follows objects, which only cameras allow",
            "put it below a camera, or use kind detection_present",
        )
    if params.class_name:
        class_index(params, place.classes, params.class_name)
