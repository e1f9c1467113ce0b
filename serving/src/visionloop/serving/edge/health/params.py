"""The keys ``serving.edge.health``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["HealthParams"]


class HealthParams(StrictModel):
    """When a camera's picture counts as unusable. Shares are of the camera's own reference."""

    every_s: float = Field(default=1.0, gt=0, description="seconds between looks at a camera")
    raise_s: float = Field(
        default=4.0, ge=0, description="a condition must hold this long before it is an event"
    )
    clear_s: float = Field(
        default=8.0, ge=0, description="it must be gone this long before the event ends"
    )
    lost_s: float = Field(default=5.0, gt=0, description="no frame for this long: lost")
    frozen_s: float = Field(default=5.0, gt=0, description="the same picture for this long: frozen")
    still_frozen_s: float = Field(
        default=120.0,
        gt=0,
        description="as frozen_s, for a camera whose pictures always were nearly the same",
    )
    dark_below: float = Field(
        default=28.0, ge=0, le=255, description="99 % of the pixels darker than twice this, and "
        "their mean below it: too dark"
    )  # fmt: skip
    white_share: float = Field(
        default=0.55, gt=0, le=1, description="share of white pixels: blown out"
    )
    covered_share: float = Field(
        default=0.5, gt=0, le=1, description="share of the view whose structure is gone: covered"
    )
    moved_share: float = Field(
        default=0.6, gt=0, le=1, description="share of the view that shows something else: moved"
    )
    fogged_contrast: float = Field(
        default=0.5, gt=0, lt=1, description="contrast by that of the reference: fogged"
    )
    defocused_detail: float = Field(
        default=0.5, gt=0, lt=1, description="fine detail by that of the reference: defocused"
    )
    infrared_chroma: float = Field(
        default=2.5, ge=0, description="mean colour below which a colour camera is in infrared"
    )
    learn_looks: int = Field(default=8, ge=3, description="looks before a camera is judged")
    follow_s: float = Field(
        default=1200.0, gt=0, description="time in which the reference follows slow change"
    )
    relearn_s: float = Field(
        default=900.0,
        gt=0,
        description="a moved camera's new view becomes its reference after this long",
    )
