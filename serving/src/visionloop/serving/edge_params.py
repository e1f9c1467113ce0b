"""Parameters of the edge agent: ``edge.yaml``, or ``serving.edge`` in ``params.yaml``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from visionloop.core.config import StrictModel
from visionloop.serving.edge.delivery.sinks.params import OutboxParams, SinkParams
from visionloop.serving.edge.health.params import HealthParams
from visionloop.serving.edge.ladder import LadderParams
from visionloop.serving.edge.status.params import StatusParams
from visionloop.serving.edge.updates.release_params import ReleaseServerParams
from visionloop.serving.source_params import SourceParams

__all__ = [
    "CameraParams",
    "EdgeParams",
    "EvidenceParams",
    "GateParams",
    "RuleParams",
    "ScheduleParams",
    "ThresholdParams",
    "UpdateParams",
]

Point = list[float]
Days = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
TIME = r"^([01]\d|2[0-3]):[0-5]\d$"
NAME = r"^[A-Za-z0-9._-]+$"


class ScheduleParams(StrictModel):
    """One stretch of the week, in the device's local time."""

    days: list[Days] = Field(default=[], description="days on which it begins; empty is every day")
    begin: str = Field(default="00:00", pattern=TIME, description="HH:MM")
    end: str = Field(
        default="00:00", pattern=TIME, description="HH:MM; not after begin: it ends the next day"
    )


class RuleParams(StrictModel):
    """When answers become an event."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=NAME,
        description="stands in its events and in the names of their pictures",
    )
    kind: str = Field(description="row of the rule table, see serving/README.md")
    class_name: str = Field(
        default="", description="the class that matters; empty is any, where a kind allows that"
    )
    minimum_confidence: float | None = Field(
        default=0.5,
        ge=0,
        le=1,
        description="smallest probability or confidence that counts; null: the threshold that the "
        "package has for the class",
    )
    priority: int = Field(default=1, ge=0, le=9, description="0 leaves the device first")
    cameras: list[str] = Field(
        default=[], description="rules of the whole device: only these cameras; empty is all"
    )
    zone: str = Field(default="", description="zone of the camera; empty is the whole picture")
    line: str = Field(default="", description="line of the camera (line_crossing)")
    cooldown_s: float = Field(
        default=0.0, ge=0, description="seconds after an event in which it makes no other one"
    )
    schedule: list[ScheduleParams] = Field(
        default=[], description="when it counts; empty is always"
    )
    settings: dict[str, Any] = Field(
        default={}, description="numbers of this kind of rule, see serving/README.md"
    )


class ThresholdParams(StrictModel):
    """Smallest confidences of a camera by class; they stand above those of the package."""

    day: dict[str, float] = Field(default={}, description="class name to confidence, by day")
    night: dict[str, float] = Field(
        default={}, description="in darkness or infrared, sensed from the picture"
    )


class GateParams(StrictModel):
    """What work is saved before the network."""

    enabled: bool = Field(default=True, description="false: every frame at the rate is analysed")
    active_fps: float = Field(
        default=5.0, gt=0, le=60, description="frames a second that are analysed while active"
    )
    quiet_s: float = Field(
        default=3.0, ge=0, description="seconds without motion after which a camera is idle"
    )
    full_look_s: float = Field(
        default=30.0, gt=0, description="longest time without a look, whatever the gate says"
    )
    key_frames: bool = Field(
        default=True, description="idle cameras decode key frames only, where they come often"
    )
    max_key_gap_s: float = Field(
        default=4.0, gt=0, description="key frames that are farther apart are not waited for"
    )
    minimum_change: float = Field(
        default=10.0, ge=1, le=255, description="grey levels by which a place must differ"
    )
    minimum_area: float = Field(
        default=0.002, ge=0, le=1, description="share of the picture that must differ"
    )
    absorb_s: float = Field(
        default=120.0, gt=0, description="time constant in which what stays becomes background"
    )


class CameraParams(SourceParams):
    """A camera that is watched around the clock: its newest frame counts."""

    reconnects: int | None = Field(
        default=None, ge=0, description="attempts after it went away; null never gives up"
    )
    loop: bool = Field(
        default=False, description="file, folder: starts again at its end, as a camera goes on"
    )
    priority: int = Field(
        default=1, ge=0, le=9, description="0 is analysed first where there is too much"
    )
    keep_share: float = Field(
        default=0.001, ge=0, le=1, description="share of its analysed frames that is kept as files"
    )
    zones: dict[str, list[Point]] = Field(
        default={}, description="polygons: [x, y] in 0 to 1 of the picture, from its upper left"
    )
    lines: dict[str, list[Point]] = Field(
        default={}, description="two points each; forward is from left to right of their way"
    )
    region: list[float] = Field(
        default=[0.0, 0.0, 1.0, 1.0],
        min_length=4,
        max_length=4,
        description="x1, y1, x2, y2 in 0 to 1: the part that the model sees",
    )
    ignored: list[list[Point]] = Field(
        default=[], description="polygons in which motion does not count: trees, screens"
    )
    rules: list[RuleParams] = Field(default=[], description="beside those of the whole device")
    schedule: list[ScheduleParams] = Field(
        default=[], description="when its rules count; empty is always"
    )
    thresholds: ThresholdParams = Field(
        default=ThresholdParams(), description="smallest confidences by class, day and night"
    )
    plane: str = Field(
        default="", description="plane.json of data calibrate; sizes are then in metres"
    )
    gate: GateParams | None = Field(default=None, description="null: that of the device")

    @field_validator("zones")
    @classmethod
    def _polygons(cls, zones: dict[str, list[Point]]) -> dict[str, list[Point]]:
        for name, points in zones.items():
            if len(points) < 3:
                raise ValueError(f"zone '{name}' needs at least 3 points")
            _check_points(f"zone '{name}'", points)
        return zones

    @field_validator("lines")
    @classmethod
    def _segments(cls, lines: dict[str, list[Point]]) -> dict[str, list[Point]]:
        for name, points in lines.items():
            if len(points) != 2 or points[0] == points[1]:
                raise ValueError(f"line '{name}' needs 2 different points")
            _check_points(f"line '{name}'", points)
        return lines

    @field_validator("ignored")
    @classmethod
    def _ignored(cls, ignored: list[list[Point]]) -> list[list[Point]]:
        for points in ignored:
            if len(points) < 3:
                raise ValueError("a polygon needs at least 3 points")
            _check_points("ignored", points)
        return ignored

    @field_validator("region")
    @classmethod
    def _inside(cls, region: list[float]) -> list[float]:
        x1, y1, x2, y2 = region
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise ValueError("must be x1 < x2 and y1 < y2 in 0 to 1")
        return region


class EvidenceParams(StrictModel):
    """Pictures and clips of events on the device."""

    clip_before_s: float = Field(
        default=5.0, ge=0, le=60, description="seconds before the event, from memory"
    )
    clip_after_s: float = Field(default=3.0, ge=0, le=60, description="seconds after it")
    clips: bool = Field(default=True, description="false: pictures alone")
    ring_megabytes: float = Field(
        default=8.0, gt=0, description="most memory of a camera for the seconds before"
    )
    max_megabytes: float = Field(
        default=2000.0, gt=0, description="on disk; beyond it the oldest go first"
    )
    max_days: float = Field(default=30.0, gt=0, description="older evidence is removed")


class UpdateParams(StrictModel):
    """How a new release takes over."""

    look_s: float = Field(default=60.0, gt=0, description="seconds between two looks at the index")
    shadow_frames: int = Field(
        default=20, ge=0, description="frames that the new one answers beside the old"
    )
    shadow_s: float = Field(
        default=60.0, gt=0, description="longest time of the shadow, where frames are rare"
    )
    minimum_agreement: float = Field(
        default=0.0, ge=0, le=1, description="share of shadow answers that must agree; 0 is any"
    )
    max_slowdown: float = Field(
        default=3.0, gt=0, description="times the time of the old one that it may take"
    )
    probation_s: float = Field(
        default=60.0, ge=0, description="seconds after the switch in which a fault rolls back"
    )
    max_faults: int = Field(default=3, gt=0, description="failed calls in probation that do it")


class EdgeParams(StrictModel):
    """The edge agent."""

    site: str = Field(default="site-1", min_length=1, description="the plant")
    device: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="this computer; empty is its host name",
    )
    model: str = Field(default="", description="name of the releases; empty is project.model")
    releases: str = Field(
        default="releases",
        description="folder, relative to the workspace, or https://hub/v1/releases",
    )
    release_server: ReleaseServerParams = Field(
        default=ReleaseServerParams(), description="where releases is a web address"
    )
    fallback_model: str = Field(
        default="",
        description="name of releases of a smaller package with the same classes: it answers when "
        "a device under pressure cannot afford the model; empty is none",
    )
    backend: str = Field(
        default="onnxruntime",
        description="row of the backend table; with tensorrt, onnxruntime serves until the engine "
        "of this device is ready; tuned takes what `visionloop serve tune` chose",
    )
    threads: int = Field(default=2, gt=0, description="threads of one call of the model")
    keep_share: float = Field(
        default=1.0, ge=0, le=1, description="share of the sources' frames that is kept as files"
    )
    sources: list[SourceParams] = Field(
        default=[], description="played one after another to their ends, every frame of them"
    )
    rules: list[RuleParams] = Field(default=[], description="what becomes an event")
    cameras: list[CameraParams] = Field(
        default=[], description="watched all at once until stopped; the newest frame counts"
    )
    gate: GateParams = Field(default=GateParams(), description="work saved before the network")
    max_age_s: float = Field(
        default=2.0, gt=0, description="older frames of cameras are not analysed"
    )
    service_ms: float = Field(
        default=50.0, gt=0, description="time that a batch of frames should take at most"
    )
    cameras_per_process: int = Field(
        default=16, gt=0, le=64, description="cameras that one decoding process reads"
    )
    max_records: int = Field(
        default=100_000, gt=0, description="frames of cameras in the record; the oldest go"
    )
    evidence: EvidenceParams = Field(
        default=EvidenceParams(), description="pictures and clips of events"
    )
    updates: UpdateParams = Field(
        default=UpdateParams(), description="how a new release takes over"
    )

    outbox: OutboxParams = Field(
        default=OutboxParams(), description="events that wait on the device"
    )
    sinks: list[SinkParams] = Field(default=[], description="where events go; none keeps them here")
    health: HealthParams = Field(
        default=HealthParams(), description="when a camera's picture is of no use"
    )
    ladder: LadderParams = Field(
        default=LadderParams(), description="what is given up under pressure"
    )
    status: StatusParams = Field(
        default=StatusParams(), description="the local page and /metrics, while cameras are watched"
    )

    @model_validator(mode="after")
    def _names_differ(self) -> EdgeParams:
        for what, names in (
            ("sources", [one.name for one in self.sources]),
            ("cameras", [one.name for one in self.cameras]),
            ("sinks", [one.name for one in self.sinks]),
            ("sources and cameras", [one.name for one in (*self.sources, *self.cameras)]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two {what} have the same name: {', '.join(twice)}")
        return self


def _check_points(subject: str, points: list[Point]) -> None:
    for point in points:
        if len(point) != 2 or not all(0 <= value <= 1 for value in point):
            raise ValueError(f"{subject}: {point} is no [x, y] in 0 to 1")
