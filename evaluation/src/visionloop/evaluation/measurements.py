"""``evaluation.json`` and ``robustness.json``: what was measured, as strict models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionloop.core.config import StrictModel, VisionTask
from visionloop.core.errors import DataError
from visionloop.core.files import write_json

__all__ = [
    "EVALUATION_NAME",
    "ConditionResult",
    "DataLineage",
    "DeviceLatency",
    "Estimate",
    "Evaluation",
    "ExportParity",
    "Latency",
    "MapQuality",
    "Part",
    "Robustness",
    "SlicePart",
    "SubsetError",
    "load_device_latencies",
    "load_evaluation",
    "load_parity",
    "load_robustness",
    "save_measurements",
]

Model = TypeVar("Model", bound=BaseModel)

EVALUATION_NAME = "evaluation.json"
PARITY_NAME = "parity.json"
ROBUSTNESS_NAME = "robustness.json"


class Estimate(StrictModel):
    """A metric with its interval; ``None`` where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = Field(description="samples, or true samples or boxes of a class")
    enough: bool = Field(description="false: too few to judge by")

    @classmethod
    def of(cls, value: float, ends: tuple[float, float], *, n: int, enough: bool) -> Estimate:
        """From numbers in which NaN stands for "not defined"."""
        value_or_none, low, high = (
            float(number) if math.isfinite(number) else None for number in (value, *ends)
        )
        return cls(
            value=value_or_none,
            low=low,
            high=high,
            n=n,
            enough=enough and value_or_none is not None,
        )


class Part(StrictModel):
    """A part of the test samples."""

    samples: int
    groups: int
    enough: bool
    why: str = Field(default="", description="why there is not enough data")
    metrics: dict[str, Estimate]
    classes: dict[str, dict[str, Estimate]] = Field(description="class, then metric")


class SlicePart(Part):
    """The samples that share one value of a metadata column."""

    column: str
    value: str
    status: Literal["guarded", "not trained for", "reported"] = Field(
        description="guarded: its limit binds; not trained for: its limit does not bind yet; "
        "reported: targets.yaml sets no limit"
    )
    train_samples: int | None = Field(
        default=None, description="samples of the slice the package was trained on, if it says so"
    )


class Latency(StrictModel):
    """Milliseconds from picture to answer, one picture a call, on the machine that measured."""

    p50_ms: float
    p95_ms: float
    mean_ms: float
    images: int
    threads: int
    backend: str
    machine: str
    p95_low: float | None = Field(default=None, description="lower end of the interval of p95")
    p95_high: float | None = None
    mean_low: float | None = Field(default=None, description="lower end of the mean's interval")
    mean_high: float | None = None


class DeviceLatency(StrictModel):
    """The whole of ``reports/latency/<device>.json``: measured on a device of that profile."""

    format_version: Literal[1] = 1
    device: str
    package: str = Field(description="SHA-256 of the package")
    latency: Latency


class DataLineage(StrictModel):
    """Which data judged the package, and which data made it."""

    version: str
    fingerprint: str
    trained_on: str = Field(description="dataset fingerprint that the package names, or empty")
    test_samples: int
    seen_in_training: int | None = Field(
        description="test samples the package was trained on; null where that version is not here"
    )


class MapQuality(StrictModel):
    """How well anomaly maps show where the defects are."""

    pixel_auroc: Estimate
    aupro: Estimate = Field(description="mean overlap of the true regions up to 30 % false pixels")
    regions: int
    without_outline: int = Field(description="anomalous samples that nobody outlined: left out")


class Evaluation(StrictModel):
    """The whole of ``evaluation.json``."""

    format_version: Literal[1] = 1
    vision_task: VisionTask
    metric: str = Field(description="quality.metric of targets.yaml")
    classes: list[str]
    package: str = Field(description="SHA-256 of the package")
    package_name: str
    thresholds: dict[str, float] = Field(description="of the package, by class")
    data: DataLineage
    guarded: Part = Field(description="the test samples of the slices that bind: the gate's number")
    overall: Part = Field(description="all test samples")
    slices: dict[str, SlicePart]
    maps: MapQuality | None = Field(default=None, description="of anomaly packages with a map")
    latency: Latency
    confusion: list[list[int]] = Field(
        description="of the guarded samples, true class by row, answer by column; for boxes "
        "the last row and column are the background"
    )


class ExportParity(BaseModel):
    """What the gate reads of ``parity.json``, which the export writes; the rest is passed over."""

    model_config = ConfigDict(frozen=True)

    package: str
    samples: int
    max_difference: float
    minimum_iou: float
    agreement: float = Field(description="share of answers that agree: classes, or boxes")
    boxes: int = 0


class ConditionResult(StrictModel):
    """The metric under one condition at one severity."""

    condition: str
    severity: int
    metric: Estimate


class ConditionSummary(StrictModel):
    """One condition over its severities."""

    mean: float | None = Field(description="mPC of the condition: mean over its severities")
    retained: float | None = Field(description="rPC of the condition: that, divided by clean")


class SubsetError(StrictModel):
    """How far mPC of so many samples is from that of all that were measured."""

    samples: int
    mean: float = Field(description="mean absolute error of 40 parts")
    high: float = Field(description="95th percentile of it")


class Robustness(StrictModel):
    """The whole of ``robustness.json``."""

    format_version: Literal[1] = 1
    metric: str
    package: str
    fingerprint: str
    samples: int
    clean: Estimate
    results: list[ConditionResult]
    severity: int = Field(description="severity at which targets.yaml sets its limits")
    mean: float | None = Field(description="mean over conditions at that severity")
    mean_low: float | None = Field(default=None, description="lower end of the mean's interval")
    mean_high: float | None = None
    worst: float | None = Field(description="worst condition at that severity")
    worst_condition: str
    mean_under_conditions: float | None = Field(
        default=None, description="mPC: mean over conditions and severities"
    )
    mean_under_conditions_low: float | None = None
    mean_under_conditions_high: float | None = None
    retained: float | None = Field(description="rPC: mPC, divided by clean")
    is_full: bool = Field(default=True, description="false: a quick look on a budget")
    error_against_full: float | None = Field(
        default=None, description="mPC of a budget less that of the full run, where there is one"
    )
    subset_errors: list[SubsetError] = Field(
        default_factory=list, description="of a full run: what fewer samples would have cost"
    )
    conditions: dict[str, ConditionSummary] = Field(
        default_factory=dict, description="each condition over its severities"
    )


def save_measurements(folder: Path, content: Evaluation | Robustness) -> Path:
    """Write ``evaluation.json`` or ``robustness.json`` durably."""
    name = EVALUATION_NAME if isinstance(content, Evaluation) else ROBUSTNESS_NAME
    return write_json(folder / name, content.model_dump(mode="json"))


def load_evaluation(folder: Path) -> Evaluation:
    """Read ``evaluation.json`` of an evaluation folder.

    Raises
    ------
    DataError
        If it is missing or has another shape.
    """
    return _load(folder / EVALUATION_NAME, Evaluation, "visionloop evaluate evaluate")


def load_robustness(folder: Path) -> Robustness:
    """Read ``robustness.json``; errors as in :func:`load_evaluation`."""
    return _load(folder / ROBUSTNESS_NAME, Robustness, "visionloop evaluate robustness")


def load_parity(folder: Path) -> ExportParity:
    """Read ``parity.json``; errors as in :func:`load_evaluation`."""
    return _load(folder / PARITY_NAME, ExportParity, "visionloop train export")


def load_device_latencies(folder: Path) -> dict[str, DeviceLatency]:
    """Read ``reports/latency``: device profile to what was measured there; may be empty."""
    found = [
        _load(path, DeviceLatency, "visionloop evaluate latency")
        for path in sorted(folder.glob("*.json"))
    ]
    return {one.device: one for one in found}


def _load(path: Path, model: type[Model], command: str) -> Model:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(str(path), "there is no such file", f"{command} writes it") from None
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
            for detail in error.errors()
        ]
        raise DataError(str(path), problems, f"{command} writes it again") from None
