"""The ``monitoring`` block of ``params.yaml``."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from visionloop.core.config import StrictModel

__all__ = ["DriftParams", "FeedbackParams", "MonitoringParams", "WindowParams"]

WINDOW_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class WindowParams(StrictModel):
    """Which edge frames make a window; every condition given must hold."""

    name: str = Field(description="name of the window and of its file")
    where: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="column and value: camera, site, package or any attribute of the frame",
    )
    captured_from: str = Field(default="", description="UTC, RFC 3339, first moment inside")
    captured_before: str = Field(default="", description="UTC, RFC 3339, first moment outside")
    first_sequence: int | None = Field(default=None, ge=0, description="first frame number inside")
    last_sequence: int | None = Field(default=None, ge=0, description="last frame number inside")

    @field_validator("name")
    @classmethod
    def _name_is_a_file_name(cls, name: str) -> str:
        if not WINDOW_NAME.fullmatch(name):
            raise ValueError("must be small letters, digits, '-' and '_'")
        return name

    @field_validator("captured_from", "captured_before", mode="before")
    @classmethod
    def _moment_as_text(cls, moment: Any) -> Any:
        # YAML reads an unquoted RFC 3339 moment as a datetime.
        return moment.isoformat() if hasattr(moment, "isoformat") else moment


class DriftParams(StrictModel):
    """How windows are compared; the false-alarm rate is ``monitoring.drift_alpha`` of targets."""

    reference: str = Field(default="reference", description="window that shows how it should be")
    current: str = Field(default="current", description="window that is judged")
    families: list[str] = Field(
        default=["embeddings", "image_statistics", "predictions"],
        min_length=1,
        description="what is compared; rows of the table of drift detectors",
    )
    min_frames: int = Field(
        default=30, ge=8, description="smallest window that is judged; below: insufficient data"
    )
    max_frames: int = Field(
        default=2000, ge=100, description="frames of a window that are tested, drawn evenly"
    )
    permutations: int = Field(
        default=999, ge=500, description="permutations of a test; smallest p-value 1/(1+n)"
    )
    random_features: int = Field(
        default=256, ge=16, description="random Fourier features of the embedding test"
    )
    null_draws: int = Field(
        default=20, ge=0, description="random halves of the reference that must not fire"
    )
    pictures: int = Field(default=8, ge=0, description="example pictures of each window")
    evidently: bool = Field(default=True, description="write the Evidently report as well")


class FeedbackParams(StrictModel):
    """What is asked to be annotated after drift."""

    max_requests: int = Field(default=2000, ge=1, description="most samples asked for at once")
    novelty_weight: float = Field(
        default=0.5, ge=0, le=1, description="share of novelty in the priority; rest: uncertainty"
    )


class MonitoringParams(StrictModel):
    """The ``monitoring`` block."""

    windows: list[WindowParams] = Field(default_factory=list, description="windows to summarise")
    embeddings: Literal["package", "backbone"] = Field(
        default="package",
        description="package: of the model that answered, backbone where it gives none; "
        "backbone: always of the frozen backbone, so that windows of different packages compare",
    )
    drift: DriftParams = Field(default_factory=DriftParams)
    feedback: FeedbackParams = Field(default_factory=FeedbackParams)

    @model_validator(mode="after")
    def _window_names_differ(self) -> MonitoringParams:
        names = [window.name for window in self.windows]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"window '{twice[0]}' is defined twice")
        return self
