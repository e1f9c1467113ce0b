"""The data contract: limits of ``data.check`` in params.yaml and of ``data/contract.yaml``.

One model for both. A plant that signs a contract writes ``data/contract.yaml``; a key that stands
there counts, for every other key the value of ``data.check`` does.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from visionloop.core.config import StrictModel, load_yaml_model
from visionloop.core.workspace import Workspace

__all__ = ["CheckParams", "load_contract"]


class CheckParams(StrictModel):
    """What ``data check`` finds worth a word, and what it refuses."""

    max_corrupt_fraction: float = Field(
        default=0.02, ge=0, le=1, description="refused above: unreadable images of all seen"
    )
    min_per_class: int = Field(
        default=10, ge=0, description="refused below: annotated samples (or boxes) of each class"
    )
    max_imbalance: float = Field(
        default=50.0, gt=1, description="warned above: most frequent class to rarest"
    )
    min_box_pixels: float = Field(
        default=2.0, ge=0, description="warned below: shorter side of a box in pixels"
    )
    dark_below: float = Field(default=10.0, ge=0, le=255, description="mean grey level")
    bright_above: float = Field(default=250.0, ge=0, le=255, description="mean grey level")
    blurred_below: float = Field(
        default=3.0, ge=0, description="variance of the Laplacian, grey levels squared"
    )
    refuse_leaks: bool = Field(
        default=True, description="refuse when a group crosses from training into test"
    )
    required_columns: list[str] = Field(
        default_factory=list, description="metadata columns that must be there and filled"
    )
    class_by: list[str] = Field(
        default_factory=lambda: ["site", "camera"],
        description="columns of whose every value each class should have samples",
    )
    min_part: int = Field(
        default=30, ge=1, description="annotated samples of a site or camera before that is asked"
    )
    picture_checks: bool = Field(
        default=True,
        description="cleanvision looks for low-information, odd-size and odd-shape pictures, and "
        "for dark and bright ones by its own measures",
    )
    compare_with: str = Field(
        default="newest",
        description="dataset version that class mix, image statistics and embeddings are compared "
        "with: a name, newest or none",
    )
    max_class_change: float = Field(
        default=0.2, gt=0, le=1, description="warned above: share of annotations in other classes"
    )
    max_statistic_change: float = Field(
        default=0.8,
        gt=0,
        description="warned above: shift of an image statistic, in standard deviations",
    )
    max_share: dict[str, float] = Field(
        default_factory=dict,
        description="refused above: share of the samples with a finding of this kind, "
        "{dark: 0.05, label_issue: 0.1, change: 0.0}",
    )


def load_contract(workspace: Workspace, base: CheckParams) -> CheckParams:
    """The limits that count: ``data/contract.yaml`` over ``data.check``.

    Raises
    ------
    ConfigError
        Naming every unknown key and wrong value of the file, with its line.
    """
    path = workspace.root / "data" / "contract.yaml"
    if not path.is_file():
        return base
    signed = load_yaml_model(path, CheckParams)
    values: dict[str, Any] = {**base.model_dump(), **signed.model_dump(exclude_unset=True)}
    return CheckParams.model_validate(values)
