"""Checkpoints: a trained network inside the trainer; never shipped, never a pickle.

A checkpoint is a folder with ``model.safetensors`` and ``checkpoint.json``, from which
``export`` makes the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from visionloop.core.config import StrictModel, VisionTask
from visionloop.core.errors import DataError
from visionloop.core.files import (
    read_json,
    replace_folder,
    sha256_of_bytes,
    sha256_of_file,
    write_bytes,
    write_json,
)
from visionloop.serving.manifest import ImageInput

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "CheckpointFacts", "load_checkpoint", "save_checkpoint"]

MODEL_NAME = "model.safetensors"
FACTS_NAME = "checkpoint.json"


class CheckpointFacts(StrictModel):
    """``checkpoint.json``: everything but the numbers of the network."""

    name: str = Field(description="name of the registered model")
    family: str
    vision_task: VisionTask
    classes: list[str]
    architecture: dict[str, Any] = Field(description="from which the family builds the network")
    input: ImageInput
    dataset_version: str
    dataset_fingerprint: str
    train_mix: dict[str, dict[str, int]]
    weights: str = Field(description="name@sha256 of the weights that training started from")
    weights_source: str
    licence: str
    run_id: str
    git_commit: str
    planted_fault: str
    seed: int
    metrics: dict[str, float]
    training: dict[str, Any] = Field(description="the training block of params.yaml")
    model_sha256: str = ""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint on disk: its folder and its facts."""

    folder: Path
    facts: CheckpointFacts

    def load_tensors(self) -> dict[str, torch.Tensor]:
        """The network's tensors by name."""
        from safetensors.torch import load_file

        return dict(load_file(self.folder / MODEL_NAME))


def save_checkpoint(
    folder: Path, tensors: dict[str, torch.Tensor], facts: CheckpointFacts
) -> Checkpoint:
    """Write a checkpoint; an old one in its place is replaced only at the end."""
    from safetensors.torch import save

    # Copied, because tensors that a network uses twice share memory, which the format refuses.
    content = save({name: one.detach().cpu().contiguous().clone() for name, one in tensors.items()})
    facts = facts.model_copy(update={"model_sha256": sha256_of_bytes(content)})
    with replace_folder(folder) as staging:
        write_bytes(staging / MODEL_NAME, content)
        write_json(staging / FACTS_NAME, facts.model_dump(mode="json"))
    return Checkpoint(folder, facts)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    DataError
        If it is missing, incomplete or was changed.
    """
    if not (folder / FACTS_NAME).is_file():
        raise DataError(f"checkpoint {folder}", "there is none", "visionloop train train")
    try:
        facts = CheckpointFacts.model_validate(read_json(folder / FACTS_NAME))
    except ValidationError as error:
        problems = [f"{detail['loc'][0]}: {detail['msg']}" for detail in error.errors()]
        raise DataError(str(folder / FACTS_NAME), problems, "train again") from None
    model = folder / MODEL_NAME
    if not model.is_file() or sha256_of_file(model) != facts.model_sha256:
        raise DataError(str(model), "is missing, or not what checkpoint.json names", "train again")
    return Checkpoint(folder, facts)
