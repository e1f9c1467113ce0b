"""``targets.yaml``: what the deployment needs, written before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from visionloop.core.config import StrictModel, VisionTask, load_yaml_model

__all__ = ["METRICS", "DeviceLatencyTargets", "SliceTarget", "Targets", "load_targets"]

METRICS: dict[str, tuple[str, ...]] = {
    "classification": ("balanced_accuracy", "accuracy", "auroc", "macro_f1"),
    "anomaly": ("auroc", "balanced_accuracy", "accuracy", "macro_f1"),
    "scene": ("macro_average_precision", "macro_f1"),
    "detection": ("map50", "map50_95"),
}
"""Vision task to the metrics that ``quality.metric`` may name."""


class SliceTarget(StrictModel):
    """A minimum for one part of the test samples."""

    column: str = Field(description="metadata column, for example cell_type")
    value: str = Field(description="value of that column")
    minimum: float = Field(ge=0, le=1, description="smallest allowed value of quality.metric")
    applies_after_train_samples: int = Field(
        default=0,
        ge=0,
        description="the limit binds once the train split holds this many samples of the slice",
    )


class QualityTargets(StrictModel):
    """How good the model must be on clean images."""

    metric: Literal[
        "balanced_accuracy",
        "accuracy",
        "auroc",
        "map50",
        "map50_95",
        "macro_average_precision",
        "macro_f1",
    ]
    minimum: float = Field(ge=0, le=1, description="over all test samples of guarded slices")
    per_class: dict[str, float] = Field(
        default_factory=dict, description="smallest recall (or AP50) of a class"
    )
    slices: list[SliceTarget] = Field(default_factory=list)
    max_loss_against_champion: float = Field(
        default=0.02, ge=0, le=1, description="largest loss on any guarded slice"
    )
    max_calibration_error: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="largest expected calibration error over the guarded samples; none: not asked",
    )


class WorstCaseTargets(StrictModel):
    """How much must be left in bad light, blur, noise and under occlusion."""

    severity: int = Field(ge=1, le=5, description="severity at which the limits hold")
    minimum_mean: float = Field(ge=0, le=1, description="mean of the metric over conditions")
    minimum_worst: float = Field(ge=0, le=1, description="metric under the worst condition")


class ParityTargets(StrictModel):
    """How far the package may be from the checkpoint it was exported from."""

    max_difference: float = Field(
        default=0.01, gt=0, description="of a probability or confidence, on real images"
    )
    minimum_iou: float = Field(default=0.99, ge=0, le=1, description="of matched boxes")
    max_metric_loss: float = Field(default=0.005, ge=0, description="FP16 against FP32")
    max_metric_loss_int8: float = Field(default=0.015, ge=0, description="INT8 against FP32")
    minimum_agreement: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="share of decisions that a precision variant must have in common with FP32; "
        "what lies within .05 of a threshold may differ while it is little (5 % of the decisions) "
        "and falls to both sides",
    )


class DeviceLatencyTargets(StrictModel):
    """How fast a kind of device must be, as measured on one of them."""

    per_frame_ms: float = Field(gt=0, description="pre-processing, model and post-processing, p95")
    cameras_per_device: int = Field(default=1, gt=0)


class LatencyTargets(StrictModel):
    """How fast one device must be."""

    per_frame_ms: float = Field(gt=0, description="pre-processing, model and post-processing, p95")
    cameras_per_device: int = Field(gt=0)
    frames_per_second: float = Field(gt=0, description="frames analysed a second and camera")
    devices: dict[str, DeviceLatencyTargets] = Field(
        default_factory=dict,
        description="device profile to its own limits, measured there by `evaluate latency`",
    )


class DeploymentTargets(StrictModel):
    """Where the model runs."""

    connectivity: Literal["reliable", "unreliable", "none"]
    privacy: Literal["images_stay_on_site", "cloud_allowed"]
    uptime_percent: float = Field(ge=0, le=100)
    sites: int = Field(gt=0)
    cameras: int = Field(
        default=0, ge=0, description="of all sites; 0: cameras_per_device at every site"
    )
    load: Literal["steady", "bursts"] = Field(
        default="steady", description="bursts: much at times, nothing for hours"
    )
    device: str = Field(
        default="jetson-orin-nano", description="row of the table of devices in pipelines/plan"
    )
    licences: Literal["any", "permissive"] = Field(
        default="any", description="permissive: no AGPL in training either"
    )


class CostTargets(StrictModel):
    """What it may cost."""

    per_1000_inferences: float = Field(ge=0, description="currency units, cloud side")
    per_core_hour: float = Field(
        default=0.05, ge=0, description="currency units that one cloud core costs an hour"
    )
    device_price: float = Field(ge=0, description="currency units a device")
    energy_per_kwh: float = Field(default=0.3, ge=0, description="currency units")
    months: int = Field(default=24, gt=0, description="in which hardware has to pay for itself")


class MonitoringTargets(StrictModel):
    """When the monitors speak up."""

    drift_alpha: float = Field(
        default=0.01, gt=0, lt=1, description="false-alarm rate of a drift check"
    )


class Targets(StrictModel):
    """The whole of ``targets.yaml``."""

    vision_task: VisionTask
    quality: QualityTargets
    worst_case: WorstCaseTargets
    parity: ParityTargets
    latency: LatencyTargets
    deployment: DeploymentTargets
    cost: CostTargets
    monitoring: MonitoringTargets

    @model_validator(mode="after")
    def _metric_fits(self) -> Targets:
        known = METRICS[self.vision_task]
        if self.quality.metric not in known:
            raise ValueError(
                f"quality.metric '{self.quality.metric}' is not one of {self.vision_task}: "
                f"{', '.join(known)}"
            )
        return self


def load_targets(path: Path) -> Targets:
    """Read ``targets.yaml``.

    Raises
    ------
    ConfigError
        With every problem at once, each with its line.
    """
    return load_yaml_model(path, Targets)
