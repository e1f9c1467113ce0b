"""``cameras.yaml``: which cameras there are and what is collected from each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, model_validator

from visionloop.core.config import StrictModel, load_yaml_model
from visionloop.core.errors import ConfigError
from visionloop.core.privacy import mask_secrets
from visionloop.core.tables import SAMPLES
from visionloop.data.collection.schedule import ScheduleParams
from visionloop.serving.source_params import CredentialParams, SourceParams

__all__ = [
    "CONFIG_NAME",
    "OWN_COLUMNS",
    "BurstParams",
    "CalibrationUse",
    "Camera",
    "CameraSource",
    "CamerasConfig",
    "DiversityParams",
    "RedactionUse",
    "load_cameras",
    "source_params",
]

CONFIG_NAME = "cameras.yaml"

OWN_COLUMNS = (
    "phase",
    "official_split",
    "sequence",
    "collected_by",
    "exposure_s",
    "iso",
    "lens_state",
    "calibration_id",
    "is_undistorted",
    "redacted_by",
    "redacted_boxes",
)
"""What a collected sample carries beside the columns that every sample has."""

_SCHEMES = {"rtsp": ("rtsp", "rtsps"), "http": ("http", "https")}
_SECRET_KEY = re.compile(r"(?i)pass|pwd|token|secret|key")


class CameraSource(StrictModel):
    """Where the pictures come from: a row of ``serving``'s source table."""

    kind: Literal["rtsp", "http", "folder", "file"] = Field(
        description="rtsp, http (a picture at an address), folder of images, file (video)"
    )
    path: str = Field(
        min_length=1, description="address without user and password; or folder or file"
    )

    @model_validator(mode="after")
    def _shows_no_password(self) -> CameraSource:
        schemes = _SCHEMES.get(self.kind, ("",))
        try:
            parts = urlsplit(self.path)
            is_address = bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            raise ValueError("the address cannot be read; a password has no place in it") from None
        if "" not in schemes and (parts.scheme not in schemes or not is_address):
            raise ValueError(f"kind {self.kind} needs an address that begins {schemes[0]}://")
        secret = [
            key
            for key, value in parse_qsl(parts.query, keep_blank_values=True)
            if _SECRET_KEY.search(key) and value != "{password}"
        ]
        if "@" in parts.netloc or secret:
            raise ValueError(
                "a password has no place in this file: take it out of the address and name "
                "credentials: {user: …, password_env: …} ({password} marks its place in a query)"
            )
        return self


class BurstParams(StrictModel):
    """Many frames at once, after something happened."""

    frames: int = Field(default=20, ge=1, le=10_000, description="frames of one burst")
    rate: float = Field(default=2.0, gt=0, le=60, description="frames a second while it lasts")
    on_events: bool = Field(
        default=False, description="a new event of the edge agent on this camera starts one"
    )
    rules: list[str] = Field(
        default_factory=list, description="only events of these rules; empty means all"
    )


class DiversityParams(StrictModel):
    """How much a frame must differ from what was kept of this camera before."""

    hash_bits: int | None = Field(
        default=4,
        ge=0,
        le=32,
        description="too similar: a kept frame within so many bits of its 64-bit perceptual "
        "hash, and correlated; null keeps every frame",
    )
    correlation: float = Field(
        default=0.98, ge=-1, le=1, description="of the 32 x 32 grey thumbnails, from which on"
    )
    embedding_distance: float | None = Field(
        default=0.02,
        ge=0,
        le=2,
        description="too similar: a kept frame nearer than this cosine distance of the "
        "backbone's embeddings (where artifacts/backbone exists); null does not ask",
    )


class CalibrationUse(StrictModel):
    """Which calibration stands in the samples, and whether pictures are straightened."""

    id: str = Field(default="", description="id of the calibration; empty takes the newest")
    undistort: bool = Field(default=False, description="straighten pictures before they are kept")


class RedactionUse(StrictModel):
    """What must not be recognisable in anything that is kept."""

    package: str = Field(min_length=1, description="signed detector package, in the workspace")
    classes: list[str] = Field(min_length=1, description="its classes that are made unrecognisable")
    mode: Literal["blur", "pixelate"] = Field(default="blur", description="how")


class Camera(StrictModel):
    """One camera."""

    id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="stands in every sample"
    )
    site: str = Field(default="", description="the plant; empty takes the file's site")
    source: CameraSource = Field(description="see CameraSource")
    credentials: CredentialParams | None = Field(
        default=None, description="user, and where the password is kept"
    )
    schedule: ScheduleParams = Field(description="see ScheduleParams")
    burst: BurstParams = Field(default_factory=BurstParams, description="see BurstParams")
    quota: int | None = Field(
        default=None, ge=1, description="most samples of one day (of the schedule's time zone)"
    )
    diversity: DiversityParams = Field(
        default_factory=DiversityParams, description="see DiversityParams"
    )
    calibration: CalibrationUse = Field(
        default_factory=CalibrationUse, description="see CalibrationUse"
    )
    redaction: RedactionUse | None = Field(default=None, description="see RedactionUse")
    attributes: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="further columns of its samples, for example line: A"
    )

    @property
    def is_live(self) -> bool:
        """Whether what is not taken now is gone."""
        return self.source.kind in _SCHEMES

    @model_validator(mode="after")
    def _attributes_are_free(self) -> Camera:
        given = ("exposure_s", "iso")  # a camera that never changes them may say so
        taken = [n for n in (*SAMPLES.columns, *OWN_COLUMNS) if n not in given]
        for name in self.attributes:
            if name in taken:
                raise ValueError(f"attribute '{name}' is a column that collection fills itself")
        return self


class CamerasConfig(StrictModel):
    """The whole file."""

    site: str = Field(default="site-1", min_length=1, description="the plant")
    cameras: list[Camera] = Field(min_length=1, description="see Camera")

    @model_validator(mode="after")
    def _ids_differ(self) -> CamerasConfig:
        seen: set[str] = set()
        for camera in self.cameras:
            if camera.id in seen:
                raise ValueError(f"two cameras have the id '{camera.id}'")
            seen.add(camera.id)
        return self

    def find(self, camera_id: str) -> Camera:
        """The camera of this id.

        Raises
        ------
        ConfigError
            If there is none; the nearest is offered.
        """
        from visionloop.core.plugins import nearest_hint

        rows = {camera.id: camera for camera in self.cameras}
        if camera_id not in rows:
            raise ConfigError(
                f"camera '{camera_id}'",
                "is not in the file of cameras",
                nearest_hint(camera_id, rows),
            )
        return rows[camera_id]


def load_cameras(path: Path) -> CamerasConfig:
    """Read the file of cameras.

    Raises
    ------
    ConfigError
        Naming every unknown key and wrong value with its line; no password in it.
    """
    try:
        return load_yaml_model(path, CamerasConfig)
    except ConfigError as error:
        hidden = [mask_secrets(problem) for problem in error.problems]
        raise ConfigError(error.subject, hidden, "correct these lines; nothing started") from None


def source_params(camera: Camera) -> SourceParams:
    """What ``serving`` opens for this camera."""
    return SourceParams(
        name=camera.id,
        kind=camera.source.kind,
        path=camera.source.path,
        credentials=camera.credentials,
        attributes=camera.attributes,
        reconnects=None,
    )
