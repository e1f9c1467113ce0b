"""``edge/model.json``: which release serves on this device, which one did, which never will."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from visionloop.core.config import StrictModel
from visionloop.core.errors import VisionloopError
from visionloop.core.files import read_json, write_json
from visionloop.core.progress import say_step

__all__ = ["STATE_NAME", "ModelState", "read_state", "write_state"]

STATE_NAME = "model.json"


class ModelState(StrictModel):
    """Which release serves; the whole of ``model.json``."""

    current: int = Field(default=0, ge=0, description="0: none yet")
    previous: int = Field(default=0, ge=0, description="what a rollback returns to; 0: none")
    phase: Literal["good", "probation"] = "good"
    starts: int = Field(default=0, ge=0, description="of the agent since the switch")
    rejected: dict[str, str] = Field(default={}, description="number to reason: never again")


def read_state(folder: Path) -> ModelState:
    """That of the agent's folder; an empty one where there is none or it cannot be read."""
    path = folder / STATE_NAME
    if not path.is_file():
        return ModelState()
    try:
        return ModelState.model_validate(read_json(path))
    except (VisionloopError, ValueError) as error:
        # It is replaced as a whole; only a damaged disk leads here. Begin anew.
        say_step(f"edge: {path} cannot be read ({error}); the newest release is taken")
        return ModelState()


def write_state(folder: Path, state: ModelState) -> None:
    """Write it durably.

    Raises
    ------
    OSError
        If the disk is full or read-only: what serves goes on, a restart begins with the file.
    """
    write_json(folder / STATE_NAME, state.model_dump(mode="json"))
