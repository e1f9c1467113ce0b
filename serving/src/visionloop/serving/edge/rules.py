"""Rules: when an answer becomes an event. One row of the table a kind of rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from visionloop.core.entities import Detections, Prediction
from visionloop.core.errors import ConfigError
from visionloop.core.plugins import resolve
from visionloop.serving.params import RuleParams

__all__ = ["RULES", "ClassConfidence", "DetectionPresent", "Observation", "Rule", "make_rules"]

RULES = {
    "class_confidence": "visionloop.serving.edge.rules:ClassConfidence",
    "detection_present": "visionloop.serving.edge.rules:DetectionPresent",
}


@dataclass(frozen=True, eq=False)
class Observation:
    """What a rule saw on one frame.

    Attributes
    ----------
    class_name : str
        Of the most confident answer that counts.
    confidence : float
        Its confidence.
    detections : Detections or None
        All boxes that count.
    """

    class_name: str
    confidence: float
    detections: Detections | None = None


class Rule(Protocol):
    """A rule; built with ``(params, classes)``."""

    params: RuleParams

    def look(self, prediction: Prediction) -> Observation | None:
        """What the rule sees on this answer, or None."""
        ...


class ClassConfidence:
    """Fires where a class or an attribute of the whole picture is at least this probable.

    Raises
    ------
    ConfigError
        If ``class_name`` is not a class of the package.
    """

    def __init__(self, params: RuleParams, classes: Sequence[str]) -> None:
        self.params = params
        self._class_id = _class_id(params, classes)

    def look(self, prediction: Prediction) -> Observation | None:
        """The class, where it is probable enough."""
        if isinstance(prediction.answer, Detections):
            return None
        confidence = float(prediction.answer.probabilities[self._class_id])
        if confidence < self.params.minimum_confidence:
            return None
        return Observation(self.params.class_name, confidence)


class DetectionPresent:
    """Fires where at least one box of a class (of any class, if none is named) is found.

    Raises
    ------
    ConfigError
        If ``class_name`` is not a class of the package.
    """

    def __init__(self, params: RuleParams, classes: Sequence[str]) -> None:
        self.params = params
        self._classes = list(classes)
        self._class_id = _class_id(params, classes) if params.class_name else None

    def look(self, prediction: Prediction) -> Observation | None:
        """The boxes that are confident enough."""
        answer = prediction.answer
        if not isinstance(answer, Detections):
            return None
        counts = answer.confidence >= self.params.minimum_confidence
        if self._class_id is not None:
            counts &= answer.class_id == self._class_id
        if not counts.any():
            return None
        boxes = answer[counts]
        best = int(np.argmax(boxes.confidence))
        name = self._classes[int(boxes.class_id[best])]
        return Observation(name, float(boxes.confidence[best]), boxes)


def make_rules(params: Sequence[RuleParams], classes: Sequence[str]) -> list[Rule]:
    """Build the rules of a configuration for a package's classes.

    Raises
    ------
    ConfigError
        If a kind or a class is unknown.
    """
    return [resolve(RULES, row.kind, kind="rule", extra="edge")(row, classes) for row in params]


def _class_id(params: RuleParams, classes: Sequence[str]) -> int:
    if params.class_name not in classes:
        raise ConfigError(
            f"rule '{params.name}'",
            f"the package has no class '{params.class_name}'",
            f"its classes: {', '.join(classes)}",
        )
    return list(classes).index(params.class_name)
