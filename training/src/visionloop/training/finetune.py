"""Mode full: every weight of a network that looks at whole pictures is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch
from visionloop.training.augment import Augmenter
from visionloop.training.contact_sheet import draw_contact_sheet
from visionloop.training.families.table import TrainingJob
from visionloop.training.loop import choose_device, run_loop
from visionloop.training.resume import EpochRow

__all__ = ["ImageSplit", "PictureLearner", "finetune"]

Outputs = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Image files of one split and what is true of them.

    Attributes
    ----------
    paths : sequence of Path
    truth : array (N,) or (N, C)
        Class ids int64, or attributes float32 of 0 and 1.
    """

    paths: Sequence[Path]
    truth: NDArray[Any]


@dataclass(eq=False)
class PictureLearner:
    """Pictures and one row of truth each; see :class:`visionloop.training.loop.Learner`.

    Attributes
    ----------
    network : Module
        float32 (B, 3, H, W) to logits (B, C).
    job : TrainingJob
    spec : ImageInput
    train, val : ImageSplit
    criterion : callable
        (logits, truth) tensors to the mean loss.
    measure : callable
        (logits of the val split as float32 (N, C), truth) to metrics.
    """

    network: torch.nn.Module
    job: TrainingJob
    spec: ImageInput
    train: ImageSplit
    val: ImageSplit
    criterion: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    measure: Callable[[Outputs, NDArray[Any]], dict[str, float]]
    best: tuple[str, bool] = ("val_loss", True)

    def __post_init__(self) -> None:
        self.device = choose_device(self.job.params.device)
        self.network.to(self.device)
        self.augmenter = Augmenter(self.job.params.augment, seed=self.job.project.seed)

    def class_ids(self) -> NDArray[np.int64] | None:
        """Of the train split; None for attributes."""
        return self.train.truth if self.train.truth.ndim == 1 else None

    def train_size(self) -> int:
        """Number of train pictures."""
        return len(self.train.paths)

    def load(self, rows: NDArray[np.int64], epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented pictures float32 (B, 3, H, W) and their truth."""
        images = [
            self.augmenter(read_image(self.train.paths[row]), key=(epoch, int(row))).image
            for row in rows
        ]
        batch, _ = make_batch(images, self.spec)
        return torch.from_numpy(batch), torch.from_numpy(self.train.truth[rows])

    def loss(
        self, network: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        """Mean loss of a batch."""
        images, truth = batch
        images = images.to(self.device, memory_format=torch.channels_last)
        return self.criterion(network(images), truth.to(self.device))

    def validate(self) -> dict[str, float]:
        """Metrics on the val split, whose pictures are not augmented."""
        if not len(self.val.paths):
            return {}
        self.network.eval()
        parts = []
        size = self.job.params.batch_size
        with torch.inference_mode():
            for start in range(0, len(self.val.paths), size):
                paths = self.val.paths[start : start + size]
                batch, _ = make_batch([read_image(path) for path in paths], self.spec)
                logits = self.network(torch.from_numpy(batch).to(self.device))
                parts.append(logits.float().cpu().numpy())
        return self.measure(np.concatenate(parts), self.val.truth)


def finetune(learner: PictureLearner) -> EpochRow:
    """Train, and leave a sheet of what the network saw beside the reports.

    Raises
    ------
    VisionloopError
        If the loss is not finite; the state of the last good epoch is kept.
    """
    draw_contact_sheet(
        learner.job.workspace.reports / "training" / "augmentation.png",
        [read_image(path) for path in learner.train.paths[:4]],
        learner.augmenter,
    )
    return run_loop(learner, learner.job)
