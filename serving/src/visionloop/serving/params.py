"""The ``serving`` block of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.serving.edge_params import EdgeParams

__all__ = ["BuildParams", "ServingParams"]


class BuildParams(StrictModel):
    """FP16 variants and engines."""

    parity_images: int = Field(default=32, gt=0, description="images that FP16 is compared on")
    golden_images: int = Field(
        default=4, ge=1, le=32, description="of them, shipped with their answers: devices check"
    )
    fp16_max_difference: float = Field(
        default=0.05, gt=0, description="largest difference of a probability or confidence"
    )
    compute_capability: str = Field(
        default="8.0", pattern=r"^\d+\.\d$", description="GPU that TensorRT-RTX builds for"
    )
    max_batch: int = Field(default=8, gt=0, description="largest batch of the engine")
    timeout_s: float = Field(default=600.0, gt=0, description="for each step of the build")


class ServingParams(StrictModel):
    """Engines and the edge agent."""

    build: BuildParams = Field(default=BuildParams(), description="FP16 variants and engines")
    edge: EdgeParams = Field(default=EdgeParams(), description="the edge agent")
