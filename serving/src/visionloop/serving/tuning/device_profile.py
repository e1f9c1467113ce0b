"""``edge/device.json``: which form of a package runs best on this device, measured, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from visionloop.core.config import StrictModel
from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.serving.engines.record import Precision

__all__ = [
    "PROFILE_NAME",
    "Choice",
    "DeviceProfile",
    "MeasuredForm",
    "load_profile",
    "profile_path",
    "save_profile",
]

PROFILE_NAME = "device.json"


class Choice(StrictModel):
    """One form of a package: what runs it, and how."""

    backend: str
    precision: Precision
    threads: int = Field(gt=0)
    width: int = Field(gt=0, description="pixels of the model's input")
    height: int = Field(gt=0)


class MeasuredForm(Choice):
    """A form and what it took; ``reason`` where it could not run."""

    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    cpu_ms: float = Field(default=0.0, description="time of all threads for a picture, median")
    metric: str = ""
    loss: float = Field(default=0.0, description="of the metric against FP32 at full size")
    agreement: float = Field(default=1.0, description="share of decisions as FP32's")
    reason: str = ""


class DeviceProfile(StrictModel):
    """The whole of ``device.json``."""

    format_version: Literal[1] = 1
    package_sha256: str
    machine: str
    target_ms: float = Field(description="latency.per_frame_ms of targets.yaml, for p95")
    is_met: bool
    choice: Choice
    why: list[str]
    measured: list[MeasuredForm]


def profile_path(workspace: Workspace) -> Path:
    """Where the profile of this device is."""
    return workspace.edge / PROFILE_NAME


def save_profile(path: Path, profile: DeviceProfile) -> Path:
    """Write the profile durably."""
    return write_json(path, profile.model_dump(mode="json"))


def load_profile(path: Path) -> DeviceProfile:
    """Read a profile.

    Raises
    ------
    DataError
        If it is missing or not in order.
    """
    try:
        return DeviceProfile.model_validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise DataError(str(path), f"cannot be read: {first}", "visionloop serve tune") from None
