"""The ``labeling`` block of ``params.yaml``."""

from __future__ import annotations

from pydantic import Field

from visionloop.core.config import ProjectParams, StrictModel, load_blocks
from visionloop.core.workspace import Workspace

__all__ = ["LabelingParams", "load_params"]


class LabelingParams(StrictModel):
    """The ``labeling`` block."""

    port: int = Field(
        default=8080, ge=0, le=65535, description="of Label Studio on this machine; 0 takes any"
    )
    strategy: str = Field(
        default="recommended",
        description="row of the table of selection strategies (visionloop.labeling.strategies)",
    )
    budget: int = Field(default=200, ge=1, description="samples that one round sends to people")
    batch: int = Field(
        default=50, ge=1, le=1000, description="labeling tasks in one request to Label Studio"
    )
    draft_confidence: float = Field(
        default=0.25, ge=0, le=1, description="smallest confidence of a box that becomes a draft"
    )
    sure: float = Field(
        default=0.9, ge=0, le=1, description="certainty above which the tab Check drafts shows it"
    )
    second_look: int = Field(
        default=40, ge=1, description="doubtful samples that go back for a second look"
    )


def load_params(workspace: Workspace) -> tuple[ProjectParams, LabelingParams]:
    """The ``project`` and ``labeling`` blocks of the workspace's ``params.yaml``.

    Raises
    ------
    ConfigError
        Naming every wrong key and value of both blocks.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "labeling": LabelingParams})
    return blocks["project"], blocks["labeling"]
