"""The ``serving`` block of ``params.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.http.params import HttpParams

__all__ = ["BuildParams", "ServingParams", "TuneParams"]


class BuildParams(StrictModel):
    """Precision variants and engines."""

    precisions: list[Literal["fp16", "int8", "int8-cpu"]] = Field(
        default=["fp16", "int8", "int8-cpu"],
        description="variants to make: int8 is for TensorRT, int8-cpu for processors; refused "
        "ones are left out",
    )
    parity_images: int = Field(
        default=128, gt=0, description="images on which a variant is compared with FP32"
    )
    golden_images: int = Field(
        default=4, ge=1, le=32, description="images shipped with their answers: devices check them"
    )
    calibration_images: int = Field(
        default=48, gt=0, description="images that give INT8 its ranges, chosen for coverage"
    )
    search_images: int = Field(
        default=128,
        gt=0,
        description="images that judge how many layers stay in float, chosen for coverage too",
    )
    search_budget: float = Field(
        default=0.01,
        ge=0,
        description="metric lost plus .3 times the share of decisions changed (or expected to "
        "change), on these images, at which no further layer is kept in float",
    )
    search_seconds: float = Field(default=240.0, gt=0, description="time for that search")
    smaller_share: float = Field(
        default=0.7,
        ge=0,
        lt=1,
        description="sides of a second, smaller input for devices under pressure, by those of the "
        "package; 0 makes none",
    )
    smaller_loss: float = Field(
        default=0.15, ge=0, le=1, description="metric that it may lose; else the release has none"
    )
    aspects: list[Annotated[str, Field(pattern=r"^[1-9]\d{0,4}:[1-9]\d{0,4}$")]] = Field(
        default=[],
        description="shapes of cameras' pictures, as 16:9, for whose fitted input (no grey bars) "
        "int8-cpu is made too; for packages that letterbox",
    )
    compute_capability: str = Field(
        default="8.0", pattern=r"^\d+\.\d$", description="GPU that TensorRT-RTX builds for"
    )
    max_batch: int = Field(default=8, gt=0, description="largest batch of the engines")
    latency_calls: int = Field(default=30, gt=0, description="timed calls of each form")
    timeout_s: float = Field(default=600.0, gt=0, description="for each step of the build")


class TuneParams(StrictModel):
    """What `visionloop serve tune` measures on the device at hand."""

    backends: list[str] = Field(
        default=["onnxruntime", "openvino", "openvino-bf16", "tensorrt"],
        description="rows of the backend table; those that are not installed are said",
    )
    threads: list[int] = Field(default=[1, 2], min_length=1, description="of one call")
    sizes: list[int] = Field(
        default=[], description="further widths of the input, where the graph takes them"
    )
    rounds: int = Field(default=30, gt=0, description="timed calls of each form, in turn")
    images: int = Field(
        default=128,
        gt=0,
        description="pictures on which each form is compared with FP32 (times are taken on the "
        "first of them): few say little about half a point of a metric",
    )
    target_ms: float = Field(
        default=0.0, ge=0, description="largest p95; 0 takes latency.per_frame_ms of targets.yaml"
    )
    timeout_s: float = Field(default=900.0, gt=0, description="for all of it")


class ServingParams(StrictModel):
    """Engines, the edge agent, the HTTP server."""

    build: BuildParams = Field(default=BuildParams(), description="precision variants and engines")
    tune: TuneParams = Field(
        default=TuneParams(), description="what is measured to choose a backend"
    )
    edge: EdgeParams = Field(default=EdgeParams(), description="the edge agent")
    http: HttpParams = Field(default=HttpParams(), description="the HTTP server")
