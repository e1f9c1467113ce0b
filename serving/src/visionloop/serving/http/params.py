"""The ``serving.http`` block of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel, VisionTask

__all__ = ["HttpParams"]


class HttpParams(StrictModel):
    """The HTTP server."""

    host: str = Field(
        default="127.0.0.1", description="address to listen on; beyond loopback put TLS before it"
    )
    port: int = Field(default=8600, ge=0, le=65535, description="0 takes any free port")
    model: str = Field(default="", description="name of the releases; empty is project.model")
    vision_task: VisionTask | None = Field(
        default=None,
        description="releases of another task are refused; null is project.vision_task",
    )
    releases: str = Field(default="releases", description="folder, relative to the workspace")
    state: str = Field(
        default="http",
        description="folder for the token and the newest index that was seen, relative to the "
        "workspace; each replica may have its own",
    )
    backend: str = Field(
        default="onnxruntime",
        description="row of the backend table; with tensorrt, onnxruntime serves until the engine "
        "of this machine is ready; tuned takes what `visionloop serve tune` chose",
    )
    device_profile: str = Field(
        default="edge/device.json",
        description="what `visionloop serve tune` wrote, relative to the workspace; for tuned",
    )
    threads: int = Field(
        default=1,
        gt=0,
        description="threads of one call of the model; with tuned those of the choice",
    )
    lanes: int = Field(
        default=0,
        ge=0,
        description="calls at once; 0 is as many as processors by threads, and one with an engine",
    )
    max_batch: int = Field(
        default=8, gt=0, description="most pictures of several requests in one call"
    )
    latency_budget_ms: float | None = Field(
        default=None,
        gt=0,
        description="from a request of one picture to its answer; who would wait longer is sent "
        "away with 429. null is 1.7 times what a picture takes alone, measured",
    )
    queue_pictures: int = Field(
        default=64, gt=0, description="most pictures that wait, whatever the budget says"
    )
    max_pictures: int = Field(default=16, gt=0, description="of one request")
    max_request_mb: float = Field(default=16.0, gt=0, description="body of one request")
    max_megapixels: float = Field(
        default=40.0, gt=0, le=64, description="of all pictures of a request together"
    )
    max_uploading_mb: float = Field(
        default=256.0, gt=0, description="of all bodies that are being received, together"
    )
    body_timeout_s: float = Field(default=10.0, gt=0, description="for a body to arrive")
    drain_s: float = Field(
        default=5.0,
        ge=0,
        description="after SIGTERM: not ready, but still answering, so that load balancers notice",
    )
