"""The block ``data.import`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["ImportParams", "OwnSourceParams"]


class OwnSourceParams(StrictModel):
    """A folder or archive of one's own, as ``visionloop data import SOURCE`` takes it."""

    path: str = Field(min_length=1, description="folder, zip or tar, relative to the project")
    format: str = Field(default="", description="row of the format table; empty: guessed")
    camera: str = Field(default="", description="camera of samples that do not say")
    site: str = Field(default="", description="site of samples that do not say")
    on_error: Literal["refuse", "skip"] = Field(
        default="refuse", description="a wrong row: take in nothing, or all but it"
    )


class ImportParams(StrictModel):
    """What of the data set is brought in."""

    phases: list[str] = Field(
        min_length=1,
        description="phases of the data set, see visionloop.data.datasets.phases",
    )
    phase_sizes: dict[str, int] = Field(
        default_factory=dict, description="at most so many samples of a phase; absent means all"
    )
    sources: list[OwnSourceParams] = Field(
        default_factory=list,
        description="pictures of one's own; where there are any, the data set is not imported",
    )
