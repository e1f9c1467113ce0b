"""The ``evaluation`` block of ``params.yaml``: one sub-block a verb, and what they share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from visionloop.core.config import ProjectParams, StrictModel, load_blocks
from visionloop.core.workspace import Workspace
from visionloop.data.params import DataParams

__all__ = [
    "AlarmParams",
    "EvaluateParams",
    "EvaluationParams",
    "GateParams",
    "IntervalParams",
    "PromoteParams",
    "RobustnessParams",
    "load_params",
]


class IntervalParams(StrictModel):
    """Intervals, and when there is too little data to judge."""

    draws: int = Field(default=1000, ge=100, description="resamplings of groups behind an interval")
    level: float = Field(default=0.95, gt=0.5, lt=1, description="of every interval")
    min_samples: int = Field(
        default=30, ge=1, description="a part with fewer samples says 'not enough data'"
    )
    min_class_samples: int = Field(
        default=5,
        ge=1,
        description="a class with fewer true samples (or boxes) says 'not enough data'",
    )


class EvaluateParams(StrictModel):
    """How a package is measured on the test samples."""

    slice_columns: list[str] = Field(
        default_factory=list,
        description="metadata columns to report by value; numeric columns in three equal parts; "
        "hour (quarters of the day, UTC) and size (megapixels) are made where they are not there",
    )
    threads: int = Field(default=1, ge=1, description="of one call; latency is measured with it")
    min_confidence: float = Field(
        default=0.01, ge=0, lt=1, description="boxes below are dropped before mAP (detection)"
    )
    worst_images: int = Field(default=24, ge=1, description="pictures in the gallery of errors")


class RobustnessParams(StrictModel):
    """The worst-case set: which conditions, how hard, on how many samples."""

    conditions: list[str] = Field(
        default=["darkness", "blur", "noise", "occlusion"],
        min_length=1,
        description="rows of the data stage's table of conditions; joined by + they come "
        "together: darkness+occlusion",
    )
    severities: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        default=[3, 5],
        min_length=1,
        description="1 (slight) to 5 (severe); the severity of targets.yaml is always added",
    )
    max_samples: int = Field(
        default=120, ge=1, description="size of the fixed, stratified subset that is distorted"
    )
    workers: int = Field(default=2, ge=1, description="pictures at a time, one thread each")


class GateParams(StrictModel):
    """What the gate insists on beside the limits of ``targets.yaml``."""

    require_data_contract: bool = Field(
        default=True, description="refuse where the data contract was not checked"
    )
    valid_days: int = Field(
        default=90,
        ge=1,
        le=3650,
        description="days until a gate report expires: data, limits and champion move on",
    )


class AlarmParams(StrictModel):
    """How many false alarms are allowed, and the day that is made to count them."""

    target_per_camera_day: float = Field(
        default=1.0, gt=0, description="largest number of false alarms a camera and day"
    )
    day_frames_per_second: float = Field(
        default=1.0, gt=0, le=30, description="frames a second of the made day"
    )


class PromoteParams(StrictModel):
    """How far a passed package is taken."""

    alias: Literal["challenger", "champion"] = Field(
        default="champion", description="the last MLflow alias that is set"
    )


class EvaluationParams(StrictModel):
    """The ``evaluation`` block."""

    intervals: IntervalParams = Field(default_factory=IntervalParams)
    evaluate: EvaluateParams = Field(default_factory=EvaluateParams)
    robustness: RobustnessParams = Field(default_factory=RobustnessParams)
    alarms: AlarmParams = Field(default_factory=AlarmParams)
    gate: GateParams = Field(default_factory=GateParams)
    promote: PromoteParams = Field(default_factory=PromoteParams)


def load_params(workspace: Workspace) -> tuple[ProjectParams, DataParams, EvaluationParams]:
    """The ``project``, ``data`` and ``evaluation`` blocks of the workspace's ``params.yaml``.

    Raises
    ------
    ConfigError
        Naming every wrong key and value of these blocks.
    """
    blocks = load_blocks(
        workspace.params,
        {"project": ProjectParams, "data": DataParams, "evaluation": EvaluationParams},
    )
    return blocks["project"], blocks["data"], blocks["evaluation"]
