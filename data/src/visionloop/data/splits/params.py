"""The block ``data.split`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["SameViewParams", "SplitParams"]


class SameViewParams(StrictModel):
    """How pictures of one view under other light are found."""

    enabled: bool = Field(
        default=False, description="join pictures of one view at other exposures (see README)"
    )
    scale: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="pixels of the comparison per pixel of the image; one view has 60 to 160",
    )
    min_correlation: float = Field(
        default=0.45, gt=0, le=1, description="of the whitened pictures where they fit best"
    )
    candidates: int = Field(
        default=12, ge=1, description="neighbours of each picture that are compared in full"
    )


class SplitParams(StrictModel):
    """How samples are shared out between train, val and test."""

    val_fraction: float = Field(
        default=0.2, gt=0, lt=0.9, description="share of the training groups kept for validation"
    )
    test_fraction: float = Field(
        default=0.0,
        ge=0,
        lt=0.9,
        description="share of the groups held back as test where the data set reserves none",
    )
    stratify: Literal["presence", "shares"] = Field(
        default="presence",
        description="presence: a hash decides, no class is missing in train or val; shares: "
        "each side gets its share of every class (new groups fill up what is there)",
    )
    near_duplicate_distance: int = Field(
        default=4,
        ge=0,
        le=32,
        description="images whose 64-bit perceptual hashes differ in at most this many bits "
        "belong to one group",
    )
    same_view: SameViewParams = Field(
        default_factory=SameViewParams, description="see SameViewParams"
    )
    group_columns: list[str] = Field(
        default_factory=list,
        description="metadata columns whose equal values belong to one group (camera, site, ...)",
    )
    time_gap_seconds: float | None = Field(
        default=None,
        gt=0,
        description="samples of one camera that follow each other within so many seconds belong "
        "to one group; null leaves time out",
    )
