"""The ``data.collection`` block of ``params.yaml``: numbers that all cameras share."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["CollectionParams", "LensParams"]


class LensParams(StrictModel):
    """When a lens counts as something else than clear; the first that fits is said."""

    dark_below: float = Field(default=40.0, ge=0, le=255, description="dark: mean grey level")
    overexposed_above: float = Field(
        default=235.0, ge=0, le=255, description="overexposed: mean grey level"
    )
    fogged_contrast_below: float = Field(
        default=16.0, ge=0, description="fogged: standard deviation of the grey level"
    )
    fogged_luminance_above: float = Field(
        default=140.0, ge=0, le=255, description="fogged as well: mean grey level"
    )
    dirty_detail_below: float = Field(
        default=0.015,
        ge=0,
        description="dirty: variance of the Laplacian divided by the variance of the grey level "
        "of the picture at 320 pixels width; smear, droplets and defocus take detail away",
    )


class CollectionParams(StrictModel):
    """How pictures of cameras are kept."""

    jpeg_quality: int = Field(
        default=95, ge=50, le=100, description="of pictures that did not come as files"
    )
    save_every: int = Field(
        default=200, ge=1, description="samples between two writings of the table of samples"
    )
    save_seconds: float = Field(
        default=60.0, gt=0, description="and at least so often; until then the journal holds them"
    )
    look_seconds: float = Field(
        default=30.0, gt=0, description="longest time that a look waits for a picture"
    )
    compared: int = Field(
        default=2000,
        ge=1,
        description="newest kept samples of a camera that a frame is compared to",
    )
    minimum_free_mb: float = Field(
        default=200.0, ge=0, description="nothing is kept while the disk has less space than this"
    )
    trigger_seconds: float = Field(
        default=300.0, gt=0, description="older triggers and events start no burst any more"
    )
    lens: LensParams = Field(default_factory=LensParams, description="see LensParams")
