"""Answers as JSON: the models that describe them, and how predictions become them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.files import sha256_of_bytes
from visionloop.serving.http.jobs import Answered, Picture
from visionloop.serving.http.maps import HeatMapAnswer, describe_map
from visionloop.serving.http.served import Served
from visionloop.serving.manifest import Manifest

__all__ = [
    "BoxAnswer",
    "Milliseconds",
    "ModelAnswer",
    "PictureAnswer",
    "PredictAnswer",
    "Problems",
    "describe_answer",
    "describe_model",
]


class BoxAnswer(BaseModel):
    """One box."""

    class_name: str
    confidence: float = Field(description="in [0, 1]")
    xyxy: list[float] = Field(description="x1, y1, x2, y2 in pixels of the picture that was sent")


class PictureAnswer(BaseModel):
    """What the model says about one picture; the vision task decides which fields are there."""

    name: str = Field(description="as it was sent")
    sample_id: str = Field(description="SHA-256 of the file that was sent")
    width: int = Field(description="pixels")
    height: int = Field(description="pixels")
    class_name: str | None = Field(default=None, description="classification, anomaly")
    confidence: float | None = Field(default=None, description="of that class")
    probabilities: dict[str, float] | None = Field(
        default=None, description="classification, anomaly: by class, summing to 1"
    )
    attributes: dict[str, float] | None = Field(
        default=None, description="scene: probability of each attribute"
    )
    boxes: list[BoxAnswer] | None = Field(
        default=None, description="detection: by falling confidence"
    )
    heatmap: HeatMapAnswer | None = Field(
        default=None, description="anomaly, where `?maps=true` asked for it"
    )


class Milliseconds(BaseModel):
    """Where the time went, inside the server."""

    waited: float = Field(description="in the queue")
    worked: float = Field(description="decoding and the model, for the whole batch")


class PredictAnswer(BaseModel):
    """The answer to a request."""

    model: str
    release: int = Field(description="number of the release that answered")
    package: str = Field(description="SHA-256 of its package: the fingerprint of the manifest")
    vision_task: str
    predictions: list[PictureAnswer] = Field(description="one a picture, in the order sent")
    milliseconds: Milliseconds


class ModelAnswer(BaseModel):
    """What is served now."""

    model: str
    release: int
    package: str
    vision_task: str
    classes: list[str]
    thresholds: dict[str, float] = Field(description="smallest confidence that counts, by class")
    input: dict[str, int] = Field(description="width and height that the model sees, pixels")


class Problems(BaseModel):
    """Why a request was not answered."""

    problems: list[str] = Field(description="all of them at once")


def describe_model(served: Served) -> dict[str, Any]:
    """As :class:`ModelAnswer`."""
    manifest = served.package.manifest
    return {
        **_origin(served),
        "classes": manifest.classes,
        "thresholds": manifest.thresholds,
        "input": {"width": manifest.input.width, "height": manifest.input.height},
    }


def describe_answer(
    answered: Answered, pictures: list[Picture], *, with_maps: bool = False
) -> dict[str, Any]:
    """As :class:`PredictAnswer`; heat maps only where they are asked for: they are large."""
    manifest = answered.served.package.manifest
    rows = zip(pictures, answered.sizes, answered.predictions, strict=True)
    return {
        **_origin(answered.served),
        "predictions": [
            {
                "name": picture.name,
                "sample_id": sha256_of_bytes(picture.content),
                "width": width,
                "height": height,
                **_describe(prediction, manifest),
                **(_describe_map(prediction) if with_maps else {}),
            }
            for picture, (width, height), prediction in rows
        ],
        "milliseconds": {
            "waited": round(answered.waited * 1e3, 2),
            "worked": round(answered.worked * 1e3, 2),
        },
    }


def _origin(served: Served) -> dict[str, Any]:
    return {
        "model": served.release.model,
        "release": served.release.number,
        "package": served.package.sha256,
        "vision_task": served.package.manifest.vision_task,
    }


def _describe(prediction: Prediction, manifest: Manifest) -> dict[str, Any]:
    answer, classes = prediction.answer, manifest.classes
    if isinstance(answer, Detections):
        rows = zip(
            answer.class_id.tolist(), answer.confidence.tolist(), answer.xyxy.tolist(), strict=True
        )
        return {
            "boxes": [
                {
                    "class_name": classes[class_id],
                    "confidence": _rounded(confidence),
                    "xyxy": [round(value, 2) for value in xyxy],
                }
                for class_id, confidence, xyxy in rows
            ]
        }
    if isinstance(answer, ClassProbabilities):
        return {
            "class_name": classes[answer.class_id],
            "confidence": _rounded(answer.confidence),
            "probabilities": _by_class(answer, classes),
        }
    return {"attributes": _by_class(answer, classes)}


def _describe_map(prediction: Prediction) -> dict[str, Any]:
    """Nothing where another release, one without maps, took over since the request came."""
    return {} if prediction.heatmap is None else {"heatmap": describe_map(prediction.heatmap)}


def _by_class(
    answer: ClassProbabilities | AttributeProbabilities, classes: list[str]
) -> dict[str, float]:
    values = answer.probabilities.tolist()
    return {name: _rounded(value) for name, value in zip(classes, values, strict=True)}


def _rounded(value: float) -> float:
    return round(value, 6)
