"""The ``serving`` block of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from visionloop.core.config import StrictModel

__all__ = [
    "BuildParams",
    "CredentialParams",
    "EdgeParams",
    "RuleParams",
    "ServingParams",
    "SourceParams",
]


class CredentialParams(StrictModel):
    """Who logs in at a camera, and where the password is kept; never the password itself."""

    user: str = Field(min_length=1, description="name that the camera knows")
    password_env: str = Field(default="", description="environment variable with the password")
    password_file: str = Field(
        default="", description="file that holds the password alone, relative to the workspace"
    )

    @model_validator(mode="after")
    def _names_one_place(self) -> CredentialParams:
        # Said without the value: people write the password itself here by mistake.
        if bool(self.password_env) == bool(self.password_file):
            raise ValueError("name the password's place: either password_env or password_file")
        if self.password_env and not self.password_env.isidentifier():
            raise ValueError("password_env must be the name of an environment variable")
        return self


class SourceParams(StrictModel):
    """One camera, or what plays one."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="its frames are counted under this name; each source has its own",
    )
    camera: str = Field(default="", description="name of the camera; empty is the source's name")
    kind: str = Field(description="row of the source table: folder, file, rtsp, http")
    path: str = Field(
        min_length=1,
        description="folder or file (relative to the workspace), or rtsp:// or http:// address",
    )
    credentials: CredentialParams | None = Field(
        default=None, description="rtsp, http: user, and where the password is kept"
    )
    rate: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="frames a second; 0 is as fast as possible (http: once a second)",
    )
    attributes: dict[str, str | int | float | bool] = Field(
        default={}, description="metadata of every frame, for example cell_type: poly"
    )
    reconnects: int | None = Field(
        default=5,
        ge=0,
        description="rtsp, http: attempts after the camera went away; null never gives up",
    )


class RuleParams(StrictModel):
    """When an answer becomes an event."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="stands in its events and in the names of their pictures",
    )
    kind: str = Field(description="row of the rule table: class_confidence, detection_present")
    class_name: str = Field(
        default="", description="the class that matters; empty is any (detection_present)"
    )
    minimum_confidence: float | None = Field(
        default=0.5,
        ge=0,
        le=1,
        description="smallest probability or confidence that counts; null: the threshold that the "
        "package has for the class",
    )
    priority: int = Field(default=1, ge=0, le=9, description="0 leaves the device first")


class EdgeParams(StrictModel):
    """The edge agent."""

    site: str = Field(default="site-1", min_length=1, description="the plant")
    model: str = Field(default="", description="name of the releases; empty is project.model")
    releases: str = Field(default="releases", description="folder, relative to the workspace")
    backend: Literal["onnxruntime", "tensorrt"] = Field(
        default="onnxruntime", description="tensorrt falls back to onnxruntime and says so"
    )
    threads: int = Field(default=2, gt=0, description="threads of one call of the model")
    keep_share: float = Field(
        default=1.0, ge=0, le=1, description="share of frames kept as files for collection"
    )
    sources: list[SourceParams] = Field(default=[], description="played one after another")
    rules: list[RuleParams] = Field(default=[], description="what becomes an event")


class BuildParams(StrictModel):
    """Precision variants and engines."""

    precisions: list[Literal["fp16", "int8"]] = Field(
        default=["fp16", "int8"], description="variants to make; refused ones are left out"
    )
    parity_images: int = Field(
        default=128, gt=0, description="images on which a variant is compared with FP32"
    )
    calibration_images: int = Field(
        default=48, gt=0, description="images that give INT8 its ranges, chosen for coverage"
    )
    search_images: int = Field(
        default=24, gt=0, description="of these, so many judge which layers stay in float"
    )
    search_budget: float = Field(
        default=0.01,
        ge=0,
        description="metric lost plus share of decisions changed, on the calibration images, at "
        "which no further layer is kept in float",
    )
    search_seconds: float = Field(default=240.0, gt=0, description="time for that search")
    compute_capability: str = Field(
        default="8.0", pattern=r"^\d+\.\d$", description="GPU that TensorRT-RTX builds for"
    )
    max_batch: int = Field(default=8, gt=0, description="largest batch of the engines")
    latency_calls: int = Field(default=30, gt=0, description="timed calls of each form")
    timeout_s: float = Field(default=600.0, gt=0, description="for each step of the build")


class ServingParams(StrictModel):
    """Engines and the edge agent."""

    build: BuildParams = Field(default=BuildParams(), description="precision variants and engines")
    edge: EdgeParams = Field(default=EdgeParams(), description="the edge agent")
