"""The keys ``serving.edge.status``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["StatusParams"]


class StatusParams(StrictModel):
    """The local page and ``/metrics``."""

    enabled: bool = Field(default=True, description="serve them")
    host: str = Field(
        default="127.0.0.1", description="address to listen on; others than loopback are seen "
        "by the whole network, without encryption"
    )  # fmt: skip
    port: int = Field(default=8461, ge=1, le=65535, description="port to listen on")
    token_env: str = Field(
        default="",
        description="environment variable with the token; empty: made once and kept in "
        "edge/status.token",
    )
    refresh_s: int = Field(
        default=5, ge=1, description="seconds after which the page renews itself"
    )
