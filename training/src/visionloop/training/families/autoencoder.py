"""``autoencoder``: a convolutional autoencoder that has seen normal pictures alone.

Loss and map of differences are structural similarity beside squared error (Bergmann et al., 2019,
arXiv 1807.02011; SSIM: Wang et al., 2004): what the network cannot draw again is anomalous.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from visionloop.core.errors import ConfigError
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch
from visionloop.training.augment import Augmenter
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.contact_sheet import draw_contact_sheet
from visionloop.training.families.anomaly import (
    AnomalyFamily,
    AnomalyForExport,
    finish,
    normal_split,
    refuse_heads,
)
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.loop import choose_device, run_loop
from visionloop.training.resume import EpochRow

__all__ = ["Autoencoder", "Redrawing", "redraw_normal", "structural_similarity"]

WIDTHS = (32, 64, 128, 128)
"""Channels after each halving of the picture."""
WINDOW = 7
GRID = 4
"""The map has one place for so many pixels a side."""
C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants, for values from 0 to 1."""


class Autoencoder(AnomalyFamily):
    """A convolutional autoencoder; see :class:`visionloop.training.families.table.Family`."""

    def train(self, job: TrainingJob) -> TrainedModel:
        """Learn to draw normal pictures again."""
        refuse_heads(job)
        if not job.weights.is_scratch:
            raise ConfigError(
                f"training.weights '{job.weights.name}'",
                "an autoencoder starts from random weights",
                "set training.weights: none",
            )
        spec = job.weights.picture_input(job.params.image_size)
        network, row = redraw_normal(job, spec)
        return finish(job, network, spec, {"widths": list(WIDTHS)}, row)

    def build(self, checkpoint: Checkpoint) -> torch.nn.Module:
        """Images to (probabilities, embedding, heatmap)."""
        facts = checkpoint.facts.architecture
        whole = AnomalyForExport(Redrawing(), top_share=facts["top_share"], limit=1.0)
        whole.load_state_dict(checkpoint.load_tensors())
        return whole.eval()


class Redrawing(torch.nn.Module):  # type: ignore[misc]
    """Images to (raw map (B, h, w), embedding (B, D)); while it trains, to the images redrawn."""

    def __init__(self) -> None:
        super().__init__()
        down: list[torch.nn.Module] = []
        up: list[torch.nn.Module] = []
        for before, after in zip((3, *WIDTHS[:-1]), WIDTHS, strict=True):
            down += [torch.nn.Conv2d(before, after, 4, 2, 1), torch.nn.BatchNorm2d(after),
                     torch.nn.LeakyReLU(0.1)]  # fmt: skip
            up = [torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(after, before, 3, 1, 1),
                  torch.nn.BatchNorm2d(before), torch.nn.LeakyReLU(0.1), *up]  # fmt: skip
        self.encoder = torch.nn.Sequential(*down)
        self.decoder = torch.nn.Sequential(*up[:-2], torch.nn.Sigmoid())

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) in [0, 1]."""
        code = self.encoder(image)
        drawn = self.decoder(code)
        if self.training:
            return drawn
        unlike = 1 - structural_similarity(image, drawn).mean(dim=1)
        error = (image - drawn).square().mean(dim=1)
        places = functional.avg_pool2d((unlike + error)[:, None], GRID)[:, 0]
        return places.clamp(min=0), code.mean(dim=(2, 3))


def structural_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """SSIM of each place in a flat window: (B, C, H, W) in [0, 1] to the same, 1 where equal.

    In float32 whatever is computed around it: variances are small differences.
    """

    def mean(values: torch.Tensor) -> torch.Tensor:
        # One side after the other and channels apart: the same means, in a fraction of the time.
        for sides in ((WINDOW, 1), (1, WINDOW)):
            padding = (sides[0] // 2, sides[1] // 2)
            values = functional.avg_pool2d(
                values.contiguous(), sides, stride=1, padding=padding, count_include_pad=False
            )
        return values

    with torch.autocast(first.device.type, enabled=False):
        first, second = first.float(), second.float()
        a, b = mean(first), mean(second)
        variance = mean(first * first) - a * a + mean(second * second) - b * b
        shared = mean(first * second) - a * b
        return ((2 * a * b + C1) * (2 * shared + C2)) / ((a * a + b * b + C1) * (variance + C2))


def redraw_normal(job: TrainingJob, spec: ImageInput) -> tuple[Redrawing, EpochRow]:
    """Train an autoencoder on the normal train pictures, and leave a sheet of what it saw."""
    torch.manual_seed(job.project.seed)
    learner = _Learner(Redrawing(), job, spec)
    learner.draw_sheet()
    row = run_loop(learner, job)
    learner.network.eval()
    return learner.network, row


@dataclass(eq=False)
class _Learner:
    """Normal pictures, drawn again; see :class:`visionloop.training.loop.Learner`."""

    network: Redrawing
    job: TrainingJob
    spec: ImageInput
    best: tuple[str, bool] = ("val_loss", True)

    def __post_init__(self) -> None:
        self.device = choose_device(self.job.params.device)
        self.network.to(self.device)
        self.paths = normal_split(self.job, "train").normal
        self.held_out = normal_split(self.job, "val").normal
        self.augmenter = Augmenter(self.job.params.augment, seed=self.job.project.seed)

    def draw_sheet(self) -> None:
        """What the network will see."""
        path = self.job.workspace.reports / "training" / "augmentation.png"
        draw_contact_sheet(path, [read_image(one) for one in self.paths[:4]], self.augmenter)

    def class_ids(self) -> NDArray[np.int64] | None:
        """None: all are normal."""
        return None

    def train_size(self) -> int:
        """Number of normal train pictures."""
        return len(self.paths)

    def load(self, rows: NDArray[np.int64], epoch: int) -> torch.Tensor:
        """Augmented pictures, float32 (B, 3, H, W) in [0, 1]."""
        images = [
            self.augmenter(read_image(self.paths[row]), key=(epoch, int(row))).image for row in rows
        ]
        return torch.from_numpy(make_batch(images, self.spec)[0])

    def loss(self, network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
        """Squared error and lost structural similarity."""
        image = batch.to(self.device, memory_format=torch.channels_last)
        return _loss(image, network(image))

    def validate(self) -> dict[str, float]:
        """Loss on held-out normal pictures."""
        if not self.held_out:
            return {}
        self.network.eval()
        total, size = 0.0, self.job.params.batch_size
        with torch.inference_mode():
            for start in range(0, len(self.held_out), size):
                images = [read_image(path) for path in self.held_out[start : start + size]]
                image = torch.from_numpy(make_batch(images, self.spec)[0]).to(self.device)
                drawn = self.network.decoder(self.network.encoder(image))
                total += float(_loss(image, drawn)) * len(images)
        return {"val_loss": total / len(self.held_out)}


def _loss(image: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    return functional.mse_loss(drawn, image) + 1 - structural_similarity(image, drawn).mean()
