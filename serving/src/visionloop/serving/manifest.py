"""``manifest.json``: what a model package holds and how its model must be fed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from visionloop.core.config import StrictModel, VisionTask

__all__ = ["CalibrationFacts", "ImageInput", "Lineage", "Manifest", "ModelOutputs"]


OUTPUT_KINDS: dict[str, tuple[str, ...]] = {
    "classification": ("probabilities",),
    "anomaly": ("probabilities",),
    "scene": ("attributes",),
    "detection": ("yolo", "detr"),
    "embedding": ("embedding",),
}
"""Vision task to the kinds of answer that its packages may give."""


class ImageInput(StrictModel):
    """The picture that the model wants: ``x = (pixel - mean) / std``, float32 NCHW."""

    width: int = Field(gt=0, le=8192, description="pixels")
    height: int = Field(gt=0, le=8192, description="pixels")
    colour: Literal["RGB", "BGR"] = Field(default="RGB", description="order of the channels")
    mean: list[float] = Field(
        default=[0.0, 0.0, 0.0], min_length=3, max_length=3, description="on the scale 0 to 255"
    )
    std: list[float] = Field(
        default=[255.0, 255.0, 255.0],
        min_length=3,
        max_length=3,
        description="on the scale 0 to 255",
    )
    resize: Literal["stretch", "letterbox"] = Field(
        default="stretch", description="fill the input, or keep the proportions and pad"
    )
    pad_value: int = Field(default=114, ge=0, le=255, description="grey level of the padding")

    @field_validator("std")
    @classmethod
    def _positive(cls, std: list[float]) -> list[float]:
        if not all(value > 0 for value in std):
            raise ValueError("must be larger than 0")
        return std


class ModelOutputs(StrictModel):
    """Which output of the ONNX graph is the answer, and how to read it."""

    answer: str = Field(min_length=1, description="name of the graph's output")
    embedding: str | None = Field(default=None, description="name of the feature output, or null")
    heatmap: str | None = Field(
        default=None,
        description="name of the output (B, h, w) in [0, 1] that says where, or null",
    )
    kind: Literal["probabilities", "attributes", "yolo", "detr", "embedding"] = Field(
        description="probabilities (B, C) that sum to 1; attributes (B, C), each in [0, 1]; "
        "yolo (B, 4 + C, N): centre x, centre y, width, height in pixels of the model's input, "
        "then class confidences; detr (B, N, 4 + C): the same by box, one box an object; "
        "embedding (B, D)"
    )


class Lineage(StrictModel):
    """Where the model came from; empty where there is nothing to say."""

    dataset_fingerprint: str = ""
    run_id: str = Field(default="", description="MLflow run")
    git_commit: str = ""
    weights: str = Field(default="", description="the weights that training started from")


class CalibrationFacts(StrictModel):
    """How the confidences were calibrated; the temperature is inside the graph."""

    temperature: float = Field(default=1.0, gt=0, description="1: as the network gives them")
    samples: int = Field(default=0, ge=0, description="statements it was fitted on")
    error_before: float = Field(default=0.0, ge=0, description="expected calibration error")
    error_after: float = Field(default=0.0, ge=0, description="with the temperature")
    why_not: str = Field(default="", description="why the temperature is 1")


class Manifest(StrictModel):
    """The whole of ``manifest.json``."""

    format_version: Literal[1] = 1
    name: str = Field(min_length=1, max_length=100)
    vision_task: VisionTask | Literal["embedding"]
    family: str = Field(default="", description="row of the table of model families")
    classes: list[str] = Field(default=[], description="in the order of the model's outputs")
    input: ImageInput
    outputs: ModelOutputs
    thresholds: dict[str, float] = Field(
        default={}, description="smallest confidence that counts, by class"
    )
    calibration: CalibrationFacts = CalibrationFacts()
    max_iou: float = Field(
        default=0.7, ge=0, le=1, description="boxes of a class that overlap more are one"
    )
    lineage: Lineage = Lineage()
    train_mix: dict[str, dict[str, int]] = Field(
        default={}, description="metadata column to number of train samples by value"
    )
    licence: str = Field(default="", description="of the model, as an SPDX expression")
    files: dict[str, str] = Field(default={}, description="file name to SHA-256; filled in")

    @model_validator(mode="after")
    def _agrees(self) -> Manifest:
        expected = OUTPUT_KINDS[self.vision_task]
        if self.outputs.kind not in expected:
            raise ValueError(
                f"outputs.kind of a {self.vision_task} package must be "
                f"{' or '.join(repr(kind) for kind in expected)}, not '{self.outputs.kind}'"
            )
        if self.vision_task != "embedding" and not self.classes:
            raise ValueError(f"a {self.vision_task} package needs classes")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ from each other")
        if unknown := sorted(set(self.thresholds) - set(self.classes)):
            raise ValueError(f"thresholds for unknown classes: {', '.join(unknown)}")
        if not all(0 <= value <= 1 for value in self.thresholds.values()):
            raise ValueError("thresholds must lie in [0, 1]")
        return self

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values, in the order of the fields."""
        return self.model_dump(mode="json")
