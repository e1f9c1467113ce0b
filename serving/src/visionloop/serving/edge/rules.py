"""Rules: when an answer becomes an event. One row of the table a kind of rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from visionloop.core.entities import Detections, Prediction
from visionloop.core.errors import ConfigError
from visionloop.core.plugins import resolve
from visionloop.serving.manifest import Manifest
from visionloop.serving.params import RuleParams

__all__ = [
    "RULES",
    "ClassConfidence",
    "DetectionPresent",
    "Observation",
    "Rule",
    "make_rules",
]

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
        self._limit = _limit_of(params)
        self._class_id = _class_id(params, classes)

    def look(self, prediction: Prediction) -> Observation | None:
        """The class, where it is probable enough."""
        if isinstance(prediction.answer, Detections):
            return None
        confidence = float(prediction.answer.probabilities[self._class_id])
        if confidence < self._limit:
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
        self._limit = _limit_of(params)
        self._classes = list(classes)
        self._class_id = _class_id(params, classes) if params.class_name else None

    def look(self, prediction: Prediction) -> Observation | None:
        """The boxes that are confident enough."""
        answer = prediction.answer
        if not isinstance(answer, Detections):
            return None
        counts = answer.confidence >= self._limit
        if self._class_id is not None:
            counts &= answer.class_id == self._class_id
        if not counts.any():
            return None
        boxes = answer[counts]
        best = int(np.argmax(boxes.confidence))
        name = self._classes[int(boxes.class_id[best])]
        return Observation(name, float(boxes.confidence[best]), boxes)


def make_rules(params: Sequence[RuleParams], manifest: Manifest) -> list[Rule]:
    """Build the rules of a configuration for a package.

    Raises
    ------
    ConfigError
        If a kind or a class is unknown, or a rule leaves its limit to a package that has
        none for the class.
    """
    return [
        resolve(RULES, row.kind, kind="rule", extra="edge")(row, manifest.classes)
        for row in (_with_limit(row, manifest) for row in params)
    ]


def _with_limit(params: RuleParams, manifest: Manifest) -> RuleParams:
    """The rule with the package's threshold where it names none of its own."""
    if params.minimum_confidence is not None:
        return params
    if not params.class_name and manifest.thresholds:
        # The predictor shows no box below its class's threshold, so the least of them is none.
        limit: float | None = min(manifest.thresholds.values())
    else:
        limit = manifest.thresholds.get(params.class_name)
    if limit is None:
        raise ConfigError(
            f"rule '{params.name}'",
            f"leaves minimum_confidence to the package, which has no threshold for "
            f"'{params.class_name}'",
            "give the rule a number, or export with calibration.thresholds: cost",
        )
    return params.model_copy(update={"minimum_confidence": limit})


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


def _class_id(params: RuleParams, classes: Sequence[str]) -> int:
    if params.class_name not in classes:
        raise ConfigError(
            f"rule '{params.name}'",
            f"the package has no class '{params.class_name}'",
            f"its classes: {', '.join(classes)}",
        )
    return list(classes).index(params.class_name)
