"""The key ``serving.edge.release_server``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["ReleaseServerParams"]


class ReleaseServerParams(StrictModel):
    """How releases are fetched where ``releases`` is a web address."""

    token_env: str = Field(default="", description="environment variable with the device's token")
    token_file: str = Field(
        default="", description="file that holds the token alone, relative to the workspace"
    )
    ca_file: str = Field(
        default="", description="certificates to trust instead of the system's, in PEM"
    )
    allow_plaintext: bool = Field(
        default=False, description="plain http beyond loopback: the token can be read on the way"
    )
    max_mb: float = Field(default=2000.0, gt=0, description="a larger release is refused")
    timeout_s: float = Field(
        default=20.0, gt=0, le=300, description="for a connection, and for each piece of an answer"
    )
