"""The table of model families, and what a family must do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visionloop.core.config import ProjectParams
from visionloop.core.errors import ConfigError, MissingExtraError
from visionloop.core.plugins import resolve
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import DatasetVersion
from visionloop.serving.manifest import ImageInput, ModelOutputs
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.params import TrainingParams
from visionloop.training.resume import EpochRow, ResumePoint
from visionloop.training.weights import FoundWeights

if TYPE_CHECKING:
    import torch

__all__ = ["FAMILIES", "Family", "TrainedModel", "TrainingJob", "load_family"]

FAMILIES: dict[str, str] = {
    "efficientnet": "visionloop.training.families.timm_classifier:EfficientNet",
    "convnext": "visionloop.training.families.timm_classifier:ConvNext",
    "vit": "visionloop.training.families.timm_classifier:Vit",
    "autoencoder": "visionloop.training.families.autoencoder:Autoencoder",
    "clip": "visionloop.training.families.clip:Clip",
    "ensemble": "visionloop.training.families.ensemble:Ensemble",
    "flaws": "visionloop.training.families.flaws:Flaws",
    "gaussian": "visionloop.training.families.gaussian:Gaussian",
    "patch": "visionloop.training.families.patch:Patch",
    "rtdetr": "visionloop.training.families.rtdetr:RtDetr",
    "yolo": "visionloop.training.families.yolo:Yolo",
}
"""Family name -> "module:Class"; each stands alone and needs the libraries of its extra."""

FOR_SCENES = {"vit": "visionloop.training.families.scene:SceneVit"}
"""Families that understand scenes (vision task ``scene``), where that is another class."""

EXTRAS = {"yolo": "yolo"}
"""Family name -> the extra that brings its libraries, where it is not ``training``."""


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """Everything a family needs to train once.

    Attributes
    ----------
    epochs : int
        Passes over the train split.
    on_epoch : callable
        To be called after each epoch's state was saved, with the row of that epoch.
    """

    workspace: Workspace
    project: ProjectParams
    params: TrainingParams
    version: DatasetVersion
    weights: FoundWeights
    epochs: int
    resume: ResumePoint
    on_epoch: Callable[[EpochRow], None]


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What training gave.

    Attributes
    ----------
    tensors : dict of str to Tensor
        The chosen weights.
    architecture : dict
        JSON from which the family builds the network again.
    input : ImageInput
        How pictures must be fed.
    metrics : dict of str to float
        Of the chosen epoch, on the val split.
    """

    tensors: dict[str, torch.Tensor]
    architecture: dict[str, Any]
    input: ImageInput
    metrics: dict[str, float]


class Family(Protocol):
    """A model family: a protocol, not a base class."""

    vision_task: str
    outputs: ModelOutputs

    def train(self, job: TrainingJob) -> TrainedModel:
        """Train, saving a resume point and reporting a row after every epoch.

        Raises
        ------
        DataError
            If the dataset version cannot be trained on.
        VisionloopError
            If the loss is not finite.
        """
        ...

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """The network of a checkpoint, in evaluation mode.

        It maps float32 (B, 3, H, W) to a tuple of the tensors of ``outputs``: the
        answer, and the embedding where there is one.
        """
        ...

    def export(self, network: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
        """Write what :meth:`build` gave as ONNX, with any batch size."""
        ...


def load_family(name: str, folder: Path, vision_task: str = "") -> Family:
    """The family ``name``, its libraries imported.

    Parameters
    ----------
    name : str
        Row of the table, or ``"module:Class"`` of a family of the project's own.
    folder : Path
        The project's folder; modules of families of its own are looked for here first.
    vision_task : str
        Of the project: a family may have a class of its own for scenes.

    Raises
    ------
    ConfigError
        If there is no such family.
    MissingExtraError
        If its libraries are not installed.
    """
    if ":" in name:
        return _load_own(name, folder)
    table = FAMILIES | FOR_SCENES if vision_task == "scene" else FAMILIES
    family: Family = resolve(table, name, kind="model family", extra=EXTRAS.get(name, "training"))()
    return family


def _load_own(name: str, folder: Path) -> Family:
    """A family that stands in no table: a module beside ``params.yaml``, or an installed one."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    module_name = name.partition(":")[0]
    try:
        family: Family = resolve({name: name}, name, kind="model family")()
    except MissingExtraError:
        if (folder / f"{module_name.replace('.', '/')}.py").is_file():
            raise
        raise ConfigError(
            f"training.family '{name}'",
            f"there is no module '{module_name}' in {folder}, nor an installed one",
            f"name a file beside params.yaml, or a row of the table: {', '.join(FAMILIES)}",
        ) from None
    except AttributeError as error:
        raise ConfigError(f"training.family '{name}'", f"the module has none: {error}") from None
    lacking = [part for part in ("vision_task", "outputs", "train", "build", "export")
               if not hasattr(family, part)]  # fmt: skip
    if lacking:
        raise ConfigError(
            f"training.family '{name}'",
            f"is no model family: it lacks {', '.join(lacking)}",
            "see examples/02_add_a_model_family",
        )
    return family
