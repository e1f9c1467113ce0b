"""The ``labeling.review`` block of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["ReviewParams"]


class ReviewParams(StrictModel):
    """The ``labeling.review`` block."""

    share: float = Field(
        default=0.1, ge=0, le=1, description="of the first answers that get a second opinion"
    )
    new_annotator_share: float = Field(
        default=0.3, ge=0, le=1, description="the same, of people of whom little was reviewed"
    )
    new_annotator_tasks: int = Field(
        default=50, ge=0, description="second opinions until a person is no longer new"
    )
    weak_class_share: float = Field(
        default=0.2, ge=0, le=1, description="the same, of classes on which people often differ"
    )
    weak_agreement: float = Field(
        default=0.8, ge=0, le=1, description="a class on which people agree less often is weak"
    )
    min_pairs: int = Field(
        default=20, ge=2, description="samples seen by two people below which nothing is concluded"
    )
    min_iou: float = Field(
        default=0.5, gt=0, le=1, description="overlap of two people's boxes that are one object"
    )
    tasks: int = Field(
        default=200, ge=1, description="at most so many tasks of each kind in one run"
    )
    reviewers: list[str] = Field(
        default=[], description="addresses of who gives second opinions; empty: all who annotate"
    )
