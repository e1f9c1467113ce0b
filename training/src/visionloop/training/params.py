"""The ``training`` block of ``params.yaml``: every number of training and export."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.training.search.params import SearchParams

__all__ = [
    "AnomalyParams",
    "AugmentParams",
    "BackboneParams",
    "CalibrationParams",
    "ExportParams",
    "PlantedFault",
    "TrainingParams",
]

PlantedFault = Literal["none", "shuffled_labels"]


class BackboneParams(StrictModel):
    """The frozen network whose features are shared by data, training and monitors."""

    weights: str = Field(
        default="efficientnet-lite0", description="row of the weights table, of a timm family"
    )
    image_size: int = Field(
        default=224, ge=32, le=1280, multiple_of=32, description="side of its input, pixels"
    )


class AnomalyParams(StrictModel):
    """Families that learn normal pictures alone."""

    false_alarm_rate: float = Field(
        default=0.05, gt=0, lt=1, description="share of new normal pictures that may be reported"
    )
    top_share: float = Field(
        default=0.01, ge=0, le=1, description="part of the map whose mean is the picture's value"
    )
    layers: list[int] = Field(
        default=[1, 2, 3],
        min_length=1,
        description="flaws, gaussian, patch, clip: intermediate outputs of the network",
    )
    memory: int = Field(
        default=2000, ge=1, le=50_000, description="patch, clip: patches remembered"
    )
    max_patches: int = Field(
        default=40_000, ge=1, description="patch, clip: patches that these are chosen from"
    )
    object_name: str = Field(
        default="product", min_length=1, description="clip: what the pictures show, in English"
    )
    prompt_weight: float = Field(
        default=1.0, ge=0, description="clip: of what the prompts say, beside the memory"
    )
    members: list[Literal["autoencoder", "clip", "patch"]] = Field(
        default=["autoencoder", "clip"], min_length=2, description="of family ensemble"
    )


class AugmentParams(StrictModel):
    """How pictures are changed before the network sees them (mode full)."""

    strength: Literal["none", "light", "medium", "strong"] = Field(
        default="light",
        description="none; light: flips and quarter turns; medium, strong: also turned by degrees, "
        "scaled, shifted, brighter or darker, blurred, noisy",
    )
    flip: bool = Field(default=True, description="left to right")
    upside_down: bool = Field(default=True, description="for products without an upper side")
    quarter_turns: bool = Field(default=True, description="by 90, 180, 270 degrees")
    mosaic: float = Field(
        default=1.0, ge=0, le=1, description="family yolo: share of pictures that are four in one"
    )
    conditions: list[str] = Field(
        default_factory=list, description="of the data stage's table: darkness, fog, ..."
    )
    condition_share: float = Field(
        default=0.3, ge=0, le=1, description="share of the pictures under one of them"
    )
    max_severity: int = Field(default=3, ge=1, le=5, description="of a condition")


class CalibrationParams(StrictModel):
    """How confidences are made to mean what they say; the val split decides."""

    temperature: bool = Field(
        default=True, description="scale confidences by one temperature, inside the graph"
    )
    thresholds: Literal["fixed", "cost"] = Field(
        default="fixed",
        description="fixed: min_confidence for every class; cost: where misses and false alarms "
        "of a class cost least on the val split",
    )
    miss_cost: float = Field(default=1.0, ge=0, description="of an object or class not named")
    false_alarm_cost: float = Field(default=1.0, ge=0, description="of one wrongly named")
    class_miss_costs: dict[str, float] = Field(
        default_factory=dict, description="class to its own miss_cost"
    )
    min_samples: int = Field(
        default=30, ge=1, description="statements below which no temperature is fitted"
    )
    min_class_samples: int = Field(
        default=10, ge=1, description="true cases below which a class keeps min_confidence"
    )
    max_samples: int = Field(default=2000, ge=1, description="val samples that are looked at")


class ExportParams(StrictModel):
    """What ``export`` writes into the package; a change here needs no training."""

    min_confidence: float = Field(
        default=0.25, gt=0, le=1, description="detections below it are not shown (detection)"
    )
    max_iou: float = Field(
        default=0.6, gt=0, le=1, description="overlap at which the weaker box goes (detection)"
    )
    batch: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="pictures that the graph takes at a time; 0: any number",
    )
    parity_samples: int = Field(
        default=16, ge=1, description="images on which package and checkpoint are compared"
    )
    calibration: CalibrationParams = Field(
        default_factory=CalibrationParams, description="confidences, see CalibrationParams"
    )


class TrainingParams(StrictModel):
    """What is trained, from which weights, for how long."""

    family: str = Field(description="row of the model family table: efficientnet, yolo")
    weights: str = Field(description="row of the weights table: efficientnet-lite0, yolov8n")
    allow_scratch: bool = Field(
        default=False, description="train from random weights where the named ones cannot be had"
    )
    mode: Literal["frozen", "probe", "full"] = Field(
        default="full",
        description="frozen: a head on cached features of the backbone; probe: a head on features "
        "of the network itself; full: every weight",
    )
    image_size: int = Field(
        default=224, ge=32, le=1280, multiple_of=32, description="side of the model's input, pixels"
    )
    backbone: BackboneParams = Field(
        default_factory=BackboneParams, description="the frozen backbone, see BackboneParams"
    )
    epochs: int = Field(
        default=12, ge=1, description="passes over the train split (frozen: rounds of 10 steps)"
    )
    image_passes: int = Field(
        default=0,
        ge=0,
        description="if positive, the budget in images seen; epochs is then derived from it",
    )
    batch_size: int = Field(default=32, ge=1, description="images a step (frozen: all at once)")
    learning_rate: float = Field(
        default=0.001, gt=0, le=1, description="largest learning rate (frozen: not used, L-BFGS)"
    )
    warmup_share: float = Field(
        default=0.05, ge=0, lt=1, description="share of the steps in which the rate rises"
    )
    max_gradient: float = Field(
        default=1.0, ge=0, description="norm to which gradients are cut; 0 does not cut"
    )
    average_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share that a moving average of the weights keeps at each step; the average is "
        "judged and kept; 0: none (mode full; yolo has its own)",
    )
    patience: int = Field(
        default=0, ge=0, description="epochs without a better one that end it early; 0 none"
    )
    precision: Literal["full", "mixed"] = Field(
        default="full",
        description="mixed: half precision where it is safe (processors: bfloat16)",
    )
    sampling: Literal["natural", "balanced"] = Field(
        default="natural", description="balanced: classes come equally often (mode full)"
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of a class dealt out to all (mode full)"
    )
    weight_decay: float = Field(default=0.0001, ge=0, le=1, description="AdamW's, for mode full")
    l2: float = Field(
        default=500.0,
        ge=0,
        description="frozen: strength of the penalty on the standardised head, 1/C of scikit-learn",
    )
    anomaly: AnomalyParams = Field(
        default_factory=AnomalyParams, description="anomaly families, see AnomalyParams"
    )
    augment: AugmentParams = Field(
        default_factory=AugmentParams, description="changed pictures, see AugmentParams"
    )
    class_weight: Literal["balanced", "none"] = Field(
        default="balanced", description="balanced: classes count equally whatever their sizes"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to train")
    planted_fault: PlantedFault = Field(
        default="none", description="a fault on purpose, to see the gate refuse; recorded"
    )

    export: ExportParams = Field(
        default_factory=ExportParams, description="the verb export, see ExportParams"
    )

    search: SearchParams = Field(
        default_factory=SearchParams, description="the verb search, see SearchParams"
    )

    def epochs_for(self, train_samples: int) -> int:
        """Epochs to run on a train split of this size."""
        if not self.image_passes:
            return self.epochs
        return max(1, round(self.image_passes / max(1, train_samples)))
