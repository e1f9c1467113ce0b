"""The table of rules, what a rule looks at, and what it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from visionloop.core.entities import Detections, Prediction
from visionloop.core.errors import ConfigError
from visionloop.core.plugins import resolve
from visionloop.serving.edge.zones import Line, PlaneMap, Zone
from visionloop.serving.edge_params import RuleParams
from visionloop.serving.manifest import Manifest

__all__ = [
    "RULES",
    "Observation",
    "Rule",
    "RulePlace",
    "Scene",
    "class_index",
    "make_rules",
    "read_settings",
    "selected",
]

_HOME = "visionloop.serving.edge.rules"
RULES = {
    "class_confidence": f"{_HOME}.frame_rules:ClassConfidence",
    "detection_present": f"{_HOME}.frame_rules:DetectionPresent",
    "anomaly": f"{_HOME}.frame_rules:Anomaly",
    "zone_entry": f"{_HOME}.track_rules:ZoneEntry",
    "line_crossing": f"{_HOME}.track_rules:LineCrossing",
    "dwell": f"{_HOME}.track_rules:Dwell",
    "forbidden_class": f"{_HOME}.track_rules:ForbiddenClass",
    "count": f"{_HOME}.crowd_rules:Count",
    "density": f"{_HOME}.crowd_rules:Density",
    "absence": f"{_HOME}.crowd_rules:Absence",
    "missing_ppe": f"{_HOME}.ppe_rules:MissingPpe",
    "defect_size": f"{_HOME}.defect_rules:DefectSize",
    "defect_rate": f"{_HOME}.defect_rules:DefectRate",
}


@dataclass(frozen=True, eq=False)
class Observation:
    """What a rule saw on one frame.

    Attributes
    ----------
    class_name : str
        Of the most confident answer that counts.
    confidence : float
        Its confidence, in [0, 1].
    detections : Detections or None
        All boxes that count.
    facts : dict
        What this kind of rule measured: seconds, count, metres, track.
    """

    class_name: str
    confidence: float
    detections: Detections | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scene:
    """One frame, as rules see it.

    Attributes
    ----------
    prediction : Prediction
        Boxes carry track numbers where frames follow each other.
    width, height : int
        Pixels of the frame.
    seconds : float
        Monotonic clock; never goes back.
    """

    prediction: Prediction
    width: int = 0
    height: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class RulePlace:
    """Where a rule stands: the classes of the package and the geometry of the camera.

    Frames of a camera follow each other (``is_followed``), and objects are tracked; those of a
    source that is played to its end are products of their own.
    """

    classes: Sequence[str]
    zones: Mapping[str, Zone] = field(default_factory=dict)
    lines: Mapping[str, Line] = field(default_factory=dict)
    plane: PlaneMap | None = None
    is_followed: bool = False

    def zone_of(self, params: RuleParams) -> Zone:
        """The zone that a rule names; the whole picture where it names none.

        Raises
        ------
        ConfigError
            If the camera has no such zone.
        """
        if not params.zone:
            return Zone.whole()
        if params.zone not in self.zones:
            raise _refuse(params, f"there is no zone '{params.zone}'", self.zones)
        return self.zones[params.zone]

    def line_of(self, params: RuleParams) -> Line:
        """The line that a rule names.

        Raises
        ------
        ConfigError
            If it names none, or the camera has no such line.
        """
        if params.line not in self.lines:
            raise _refuse(params, f"there is no line '{params.line}'", self.lines)
        return self.lines[params.line]


class Rule(Protocol):
    """A rule; built with ``(params, place)``. It keeps what it must remember of one camera."""

    params: RuleParams

    def look(self, scene: Scene) -> list[Observation]:
        """What the rule sees on this frame; empty where there is nothing to tell."""
        ...


def make_rules(
    params: Sequence[RuleParams], manifest: Manifest, place: RulePlace | None = None
) -> list[Rule]:
    """Build the rules of a camera for a package.

    Raises
    ------
    ConfigError
        If a kind, class, zone, line or setting is unknown, or a rule leaves its limit to a
        package that has none for the class.
    """
    place = place or RulePlace(manifest.classes)
    return [
        resolve(RULES, row.kind, kind="rule", extra="edge")(row, place)
        for row in (_with_limit(row, manifest) for row in params)
    ]


Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(params: RuleParams, model: type[Settings]) -> Settings:
    """The settings of a rule, checked against the model of its kind.

    Raises
    ------
    ConfigError
        Naming every unknown, missing or wrong setting, and what there is.
    """
    try:
        return model.model_validate(params.settings)
    except ValidationError as error:
        known = ", ".join(f"{name} ({one.description})" for name, one in model.model_fields.items())
        problems = [
            f"settings.{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()
        ]
        hint = f"{params.kind} has: {known}" if known else f"{params.kind} has no settings"
        raise ConfigError(f"rule '{params.name}'", problems, hint) from None


def class_index(params: RuleParams, classes: Sequence[str], name: str) -> int:
    """Index of a class of the package.

    Raises
    ------
    ConfigError
        If the package has no such class.
    """
    if name not in classes:
        raise _refuse(params, f"the package has no class '{name}'", classes)
    return list(classes).index(name)


def selected(params: RuleParams, place: RulePlace, scene: Scene, *, zone: Zone) -> Detections:
    """Boxes of the rule's class in a zone that are confident enough; of any class if none
    is named. Empty where the answer is no boxes."""
    answer = scene.prediction.answer
    if not isinstance(answer, Detections):
        return Detections.empty()
    counts = answer.confidence >= (params.minimum_confidence or 0.0)
    if params.class_name:
        counts &= answer.class_id == list(place.classes).index(params.class_name)
    boxes = answer[counts]
    return boxes[zone.holds_boxes(boxes.xyxy, scene.width, scene.height)]


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


def _refuse(params: RuleParams, what: str, known: Any) -> ConfigError:
    there_is = f"there is: {', '.join(known)}" if known else "there is none"
    return ConfigError(f"rule '{params.name}'", what, there_is)
