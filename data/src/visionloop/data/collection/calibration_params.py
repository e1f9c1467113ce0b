"""The ``data.calibrate`` and ``data.plane`` blocks of ``params.yaml``: what is refused."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["CalibrateParams", "PlaneParams"]


class CalibrateParams(StrictModel):
    """When a calibration is good enough to be kept."""

    max_error_px: float = Field(
        default=1.0,
        gt=0,
        description="refused above: reprojection error (RMS) of all pictures, and of each",
    )
    min_pictures: int = Field(default=10, ge=4, description="refused below: pictures that fit")
    min_covered: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="refused below: share of the 8 x 6 cells of the picture that hold a corner",
    )
    tilt_degrees: float = Field(
        default=12.0, gt=0, lt=80, description="a board at this angle or more counts as tilted"
    )
    min_tilted: int = Field(
        default=2, ge=1, description="refused below: pictures tilted sideways, and up or down"
    )
    max_focal_uncertainty: float = Field(
        default=0.01,
        gt=0,
        description="refused above: standard deviation of the focal length by the focal length",
    )


class PlaneParams(StrictModel):
    """When a plane's homography is good enough to be kept."""

    max_error_px: float = Field(
        default=5.0, gt=0, description="refused above: distance of a point from its place, pixels"
    )
    max_error_m: float = Field(
        default=0.05, gt=0, description="refused above: distance of a point from its place, metres"
    )
