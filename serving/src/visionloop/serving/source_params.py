"""Parameters of a source: where it is, how to log in there, how fast it is played."""

from __future__ import annotations

from pydantic import Field, model_validator

from visionloop.core.config import StrictModel

__all__ = ["CredentialParams", "SourceParams"]


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
    kind: str = Field(description="row of the source table: folder, file, rtsp, http, gstreamer")
    path: str = Field(
        min_length=1,
        description="folder or file (relative to the workspace), rtsp:// or http:// address, or a "
        "pipeline of GStreamer",
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
