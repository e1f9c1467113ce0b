"""What the agent knows of one camera between frames: objects, rules, light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Detections, Prediction
from visionloop.core.errors import ConfigError
from visionloop.serving.edge.daylight import Daylight
from visionloop.serving.edge.rules.table import Observation, Rule, RulePlace, Scene, make_rules
from visionloop.serving.edge.schedule import is_scheduled
from visionloop.serving.edge.tracking import ClassTracker
from visionloop.serving.edge.zones import Line, Zone, load_plane_map
from visionloop.serving.edge_params import CameraParams, RuleParams
from visionloop.serving.manifest import Manifest

__all__ = ["Seen", "Station", "rules_of"]

NO_BOX_SURE = 0.5


@dataclass(frozen=True, eq=False)
class Seen:
    """What came of a frame: the answer as rules saw it, the events, the light."""

    prediction: Prediction
    events: list[tuple[Rule, Observation]]
    light: str


class Station:
    """One camera.

    Parameters
    ----------
    camera : CameraParams
    rules : sequence of RuleParams
        From :func:`rules_of`.
    manifest : Manifest
        Of the package that answers.
    root : Path
        What relative paths start from.

    Raises
    ------
    ConfigError
        If a rule or a threshold does not fit the package or the camera; the camera is named.
    """

    def __init__(
        self, camera: CameraParams, rules: Sequence[RuleParams], manifest: Manifest, root: Path
    ) -> None:
        self.camera = camera
        self._params = list(rules)
        self._classes = manifest.classes
        plane = load_plane_map(root / camera.plane, camera=camera.name) if camera.plane else None
        place = RulePlace(
            classes=manifest.classes,
            zones={name: Zone.of(points) for name, points in camera.zones.items()},
            lines={name: Line.of(points) for name, points in camera.lines.items()},
            plane=plane,
            is_followed=True,
        )
        try:
            self.rules = make_rules(rules, manifest, place)
        except ConfigError as error:
            raise ConfigError(
                f"camera '{camera.name}', {error.subject}", error.problems, error.next_step
            ) from None
        self._thresholds = {
            light: self._by_class(given, light)
            for light, given in (("day", camera.thresholds.day), ("night", camera.thresholds.night))
        }
        limits = [one.params.minimum_confidence for one in self.rules]
        sure = min((one for one in limits if one is not None), default=NO_BOX_SURE)
        self._tracker = ClassTracker(sure=max(sure, 0.05))
        self._daylight = Daylight()
        self._fired: dict[str, float] = {}
        self._relevant = self._relevant_classes(rules)

    def is_like(self, other: Station) -> bool:
        """Whether another station stands for the same camera, rules and classes."""
        return (self.camera, self._params, self._classes) == (
            other.camera,
            other._params,
            other._classes,
        )

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of a frame (H, W, 3) that the model sees."""
        x1, y1, x2, y2 = self._corners(image)
        return image[y1:y2, x1:x2]

    def take(
        self, image: NDArray[np.uint8], prediction: Prediction, *, seconds: float, moment: datetime
    ) -> Seen:
        """Take the model's answer on a frame through tracking and rules.

        Parameters
        ----------
        image : uint8 array (H, W, 3), BGR
            The whole frame.
        prediction : Prediction
            Of :meth:`crop`; boxes in pixels of it.
        seconds : float
            Monotonic clock.
        moment : datetime
            Local time, for schedules.
        """
        light = self._daylight.look(image)
        height, width = image.shape[:2]
        if isinstance(prediction.answer, Detections):
            boxes = self._place(prediction.answer, image)
            boxes = boxes[boxes.confidence >= self._thresholds[light][boxes.class_id]]
            boxes = self._tracker.follow(boxes, width, height)
            prediction = replace(prediction, answer=boxes)
        scene = Scene(prediction, width, height, seconds)
        events: list[tuple[Rule, Observation]] = []
        if is_scheduled(self.camera.schedule, moment):
            for rule in self.rules:
                events += self._ask(rule, scene, moment)
        return Seen(prediction, events, light)

    def has_objects(self, prediction: Prediction) -> bool:
        """Whether something is there that a rule may be waiting for."""
        answer = prediction.answer
        return isinstance(answer, Detections) and bool(
            np.isin(answer.class_id, self._relevant).any()
        )

    def _ask(self, rule: Rule, scene: Scene, moment: datetime) -> list[tuple[Rule, Observation]]:
        params = rule.params
        if not is_scheduled(params.schedule, moment):
            return []
        found = rule.look(scene)
        last = self._fired.get(params.name)
        if last is not None and scene.seconds - last < params.cooldown_s:
            return []
        if found:
            self._fired[params.name] = scene.seconds
        return [(rule, one) for one in found]

    def _corners(self, image: NDArray[np.uint8]) -> tuple[int, int, int, int]:
        height, width = image.shape[:2]
        x1, y1, x2, y2 = self.camera.region
        left, top = int(x1 * width), int(y1 * height)
        return left, top, max(left + 1, round(x2 * width)), max(top + 1, round(y2 * height))

    def _place(self, boxes: Detections, image: NDArray[np.uint8]) -> Detections:
        """Boxes of the cropped part, in pixels of the whole frame."""
        left, top, _, _ = self._corners(image)
        if not left and not top:
            return boxes
        return replace(boxes, xyxy=boxes.xyxy + np.array([left, top] * 2, np.float32))

    def _by_class(self, given: dict[str, float], light: str) -> NDArray[np.float32]:
        unknown = sorted(set(given) - set(self._classes))
        if unknown:
            raise ConfigError(
                f"camera '{self.camera.name}'",
                f"thresholds.{light} names unknown classes: {', '.join(unknown)}",
                f"the package's classes: {', '.join(self._classes)}",
            )
        values = [given.get(name, 0.0) for name in self._classes]
        return np.asarray(values, np.float32)

    def _relevant_classes(self, rules: Sequence[RuleParams]) -> NDArray[np.int64]:
        names: set[str] = set()
        for one in rules:
            named = {one.class_name, *map(str, one.settings.values())} & set(self._classes)
            names |= named or set(self._classes)
        rows = [row for row, name in enumerate(self._classes) if name in names]
        return np.asarray(rows, np.int64)


def rules_of(camera: CameraParams, shared: Sequence[RuleParams]) -> list[RuleParams]:
    """The rules of the device that hold for a camera, and its own.

    Raises
    ------
    ConfigError
        If two of them have the same name.
    """
    rules = [one for one in shared if not one.cameras or camera.name in one.cameras]
    rules += camera.rules
    names = [one.name for one in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"camera '{camera.name}'", f"has two rules of the same name: {', '.join(twice)}"
        )
    return rules
