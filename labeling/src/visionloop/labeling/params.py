"""The ``labeling`` block of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from visionloop.core.config import ProjectParams, StrictModel, load_blocks
from visionloop.core.workspace import Workspace
from visionloop.labeling.review.params import ReviewParams

__all__ = ["PROGRAMS", "LabelingParams", "load_params"]

PROGRAMS = {"visionloop": "visionloop.pipelines", "dvc": "dvc"}
"""What a training command may begin with, and the module that it runs."""

TRAINING_COMMANDS = (
    "visionloop label pull",
    "visionloop data embed",
    "visionloop data split",
    "visionloop data freeze --next",
    "visionloop train train",
    "visionloop train export",
    "visionloop evaluate evaluate",
    "visionloop evaluate robustness",
    "visionloop evaluate gate",
    "visionloop evaluate promote",
    "visionloop watch --once",
)


class LabelingParams(StrictModel):
    """The ``labeling`` block."""

    port: int = Field(
        default=8080, ge=0, le=65535, description="of Label Studio on this machine; 0 takes any"
    )
    one_host: bool = Field(
        default=True,
        description="Label Studio and the ML backend share this machine: it may call local "
        "addresses; off, it may not",
    )
    interface: Literal["", "classes", "anomaly", "boxes", "polygons", "masks"] = Field(
        default="", description="what annotators draw; empty: classes or boxes, by the vision task"
    )
    strategy: str = Field(
        default="recommended",
        description="row of the table of selection strategies (visionloop.labeling.strategies)",
    )
    budget: int = Field(default=200, ge=1, description="samples that one round sends to people")
    batch: int = Field(
        default=1000,
        ge=1,
        le=5000,
        description="labeling tasks in one request to Label Studio; a push without drafts sends "
        "five times as many",
    )
    control_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="share of tasks shown without a draft, to measure annotation by hand",
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
    second_look_precision: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="kinds of findings that people confirm less often are sent in part only",
    )
    review: ReviewParams = Field(default_factory=ReviewParams, description="see ReviewParams")
    backend_port: int = Field(
        default=9090, ge=0, le=65535, description="of the ML backend on this machine; 0 takes any"
    )
    pull_minutes: float = Field(
        default=10.0, gt=0, description="longest time between two pulls while the backend runs"
    )
    train_after: int = Field(
        default=0, ge=0, description="new answers that start a training by themselves; 0: none do"
    )
    training_commands: list[str] = Field(
        default=list(TRAINING_COMMANDS),
        description="what the button Start training runs, one after another; new drafts follow",
    )

    @field_validator("training_commands")
    @classmethod
    def _known_programs(cls, commands: list[str]) -> list[str]:
        for command in commands:
            if (command.split() or [""])[0] not in PROGRAMS:
                raise ValueError(f"'{command}' must begin with {' or '.join(PROGRAMS)}")
        return commands


def load_params(workspace: Workspace) -> tuple[ProjectParams, LabelingParams]:
    """The ``project`` and ``labeling`` blocks of the workspace's ``params.yaml``.

    Raises
    ------
    ConfigError
        Naming every wrong key and value of both blocks.
    """
    blocks = load_blocks(workspace.params, {"project": ProjectParams, "labeling": LabelingParams})
    return blocks["project"], blocks["labeling"]
