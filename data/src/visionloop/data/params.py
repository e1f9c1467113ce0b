"""The ``data`` block of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from visionloop.core.config import ProjectParams, StrictModel, load_blocks
from visionloop.core.workspace import Workspace
from visionloop.data.collection.calibration_params import CalibrateParams, PlaneParams
from visionloop.data.collection.params import CollectionParams
from visionloop.data.datasets.params import ImportParams
from visionloop.data.quality.params import CheckParams
from visionloop.data.splits.params import SplitParams
from visionloop.data.synthesis.params import SynthesiseParams

__all__ = [
    "DataParams",
    "EmbedParams",
    "LabelIssueParams",
    "load_params",
]


class EmbedParams(StrictModel):
    """How embeddings are computed."""

    batch: int = Field(default=16, ge=1, description="images per call of the backbone")
    save_every: int = Field(
        default=256, ge=1, description="vectors between two savings; an interrupt loses fewer"
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; null lets it choose")


class LabelIssueParams(StrictModel):
    """How doubtful annotations are found."""

    suspects: Literal["studio", "all"] = Field(
        default="studio", description="whose annotations may be doubted: Label Studio's or all"
    )
    folds: int = Field(default=5, ge=2, description="grouped folds of the out-of-fold answers")
    max_findings: int = Field(
        default=40, ge=1, description="length of the list that goes back for a second look"
    )


class DataParams(StrictModel):
    """The ``data`` block."""

    dataset: str = Field(description="row of the dataset table (visionloop.data.datasets.table)")
    imports: ImportParams = Field(alias="import", description="see ImportParams")
    version: str = Field(description="dataset version that freeze writes and training reads")
    collection: CollectionParams = Field(
        default_factory=CollectionParams, description="see CollectionParams"
    )
    split: SplitParams = Field(default_factory=SplitParams, description="see SplitParams")
    check: CheckParams = Field(default_factory=CheckParams, description="see CheckParams")
    synthesise: SynthesiseParams = Field(
        default_factory=SynthesiseParams, description="see SynthesiseParams"
    )
    embed: EmbedParams = Field(default_factory=EmbedParams, description="see EmbedParams")
    label_issues: LabelIssueParams = Field(
        default_factory=LabelIssueParams, description="see LabelIssueParams"
    )
    calibrate: CalibrateParams = Field(
        default_factory=CalibrateParams, description="see CalibrateParams"
    )
    plane: PlaneParams = Field(default_factory=PlaneParams, description="see PlaneParams")


def load_params(workspace: Workspace) -> tuple[ProjectParams, DataParams]:
    """The ``project`` and ``data`` blocks of the workspace's ``params.yaml``.

    Raises
    ------
    ConfigError
        Naming every wrong key and value of both blocks.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "data": DataParams})
    return blocks["project"], blocks["data"]
