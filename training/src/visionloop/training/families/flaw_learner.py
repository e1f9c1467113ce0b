"""How the networks of the family ``flaws`` learn, and how they judge what they did not learn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from visionloop.core.files import write_bytes
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch, place_image
from visionloop.training.augment import Augmenter
from visionloop.training.families.anomaly import AnomalyForExport, normal_split, raw_values
from visionloop.training.families.false_alarm_limit import HeldOut, deal_folds
from visionloop.training.families.flaw_network import FlawNetworks
from visionloop.training.families.made_flaws import make_flaw, vary
from visionloop.training.families.table import TrainingJob
from visionloop.training.loop import choose_device

__all__ = ["FlawLearner", "flaw_loss"]

FLAWED = 0.6
"""Share of the pictures on which a flaw is made."""
HARD = 1.5
"""Exponent of the focal loss (Lin et al., 2017, arXiv 1708.02002)."""
PLACES_WEIGHT, TOP_WEIGHT = 10.0, 0.5
TOP_PLACES = 5
"""The mean of so many largest logits tells whether the picture has a flaw."""
GRAZED, GRAZED_WEIGHT = 0.08, 0.3
"""A place of which a flaw covers less than the one counts for the other."""

Batch = tuple[torch.Tensor, torch.Tensor, NDArray[np.int64]]


def flaw_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Focal loss of places, and cross-entropy of whether the picture has a flaw.

    Parameters
    ----------
    logits : float32 tensor (B, h, w)
    masks : float32 tensor (B, H, W)
        1 where a flaw was made; H and W are multiples of h and w.
    """
    ratio = (masks.shape[1] // logits.shape[1], masks.shape[2] // logits.shape[2])
    touched = functional.max_pool2d(masks[:, None], ratio)[:, 0]
    covered = functional.avg_pool2d(masks[:, None], ratio)[:, 0]
    plain = functional.binary_cross_entropy_with_logits(logits, touched, reduction="none")
    sure = torch.sigmoid(logits)
    wrong = torch.where(touched > 0, 1 - sure, sure)
    grazed = (touched > 0) & (covered < GRAZED)
    weight = torch.where(grazed, GRAZED_WEIGHT, 1.0) * wrong**HARD
    largest = logits.flatten(1).topk(min(TOP_PLACES, logits[0].numel()), dim=1).values.mean(dim=1)
    has_flaw = masks.flatten(1).amax(dim=1)
    top = functional.binary_cross_entropy_with_logits(largest, has_flaw)
    return PLACES_WEIGHT * (weight * plain).mean() + TOP_WEIGHT * top


@dataclass(eq=False)
class FlawLearner:
    """Normal pictures with made flaws; see :class:`visionloop.training.loop.Learner`.

    Every network learns from the groups outside its own fold.
    """

    network: FlawNetworks
    job: TrainingJob
    spec: ImageInput
    best: tuple[str, bool] = ("val_loss", True)
    slow: tuple[str, float] = (".network.", 0.2)
    """What was learned from other pictures changes slowly."""

    def __post_init__(self) -> None:
        self.device = choose_device(self.job.params.device)
        self.network.to(self.device)
        train = normal_split(self.job, "train")
        self.paths, self.groups = train.normal, train.normal_groups
        rng = np.random.default_rng(self.job.project.seed)
        self.folds = deal_folds(self.groups, len(self.network.networks), rng)
        self.augmenter = Augmenter(self.job.params.augment, seed=self.job.project.seed)

    def learned_from(self, number: int) -> NDArray[np.bool_]:
        """Which pictures a network learns from: all where no group would be left."""
        others: NDArray[np.bool_] = self.folds != number
        return others if others.any() else ~others

    def draw_sheet(self) -> None:
        """Made flaws, as the network will see them."""
        rng = np.random.default_rng(self.job.project.seed)
        rows = rng.integers(len(self.paths), size=24)
        made = [self.make(int(row), rng)[0] for row in rows]
        small = [cv2.resize(one, (128, 128), interpolation=cv2.INTER_AREA) for one in made]
        sheet = np.vstack([np.hstack(small[one : one + 8]) for one in range(0, len(small), 8)])
        path = self.job.workspace.reports / "training" / "augmentation.png"
        write_bytes(path, cv2.imencode(".png", sheet)[1].tobytes())

    def class_ids(self) -> NDArray[np.int64] | None:
        """None: all are normal."""
        return None

    def train_size(self) -> int:
        """Number of normal train pictures."""
        return len(self.paths)

    def make(
        self, row: int, rng: np.random.Generator, share: float = 1.0
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """One picture at the size of the network, a flaw on such a share of them, and its mask."""
        # Texture of a picture of another fold would let a network see what it must not.
        alike = np.flatnonzero(self.folds == self.folds[row])
        image, other = self._look(row, rng), self._look(int(rng.choice(alike)), rng)
        mask = np.zeros(image.shape[:2], np.bool_)
        if rng.random() < share:
            image, mask = make_flaw(image, other, rng)
        return np.rint(image).astype(np.uint8), mask

    def load(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Pictures float32 (B, 3, H, W), masks float32 (B, H, W), and the rows."""
        seed = self.job.project.seed
        made = [self.make(int(row), np.random.default_rng([seed, epoch, int(row)]), FLAWED)
                for row in rows]  # fmt: skip
        images = torch.from_numpy(make_batch([image for image, _ in made], self.spec)[0])
        return images, torch.from_numpy(np.stack([mask for _, mask in made])).float(), rows

    def loss(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Mean over the networks, each on the pictures that are its own."""
        images, masks, rows = batch
        images = images.to(self.device, memory_format=torch.channels_last)
        flags = [self.learned_from(one)[rows] for one in range(len(self.network.networks))]
        # One without a picture of its own looks at the first, for nothing: processes that train
        # together wait for the gradients of all.
        own = [torch.from_numpy(np.flatnonzero(one) if one.any() else np.array([0]))
               for one in flags]  # fmt: skip
        total = torch.zeros((), device=self.device)
        for logits, part, flag in zip(network(images, own), own, flags, strict=True):
            found = flaw_loss(logits.float(), masks[part].to(self.device))
            total = total + found * float(flag.sum())
        return total / max(1, sum(int(flag.sum()) for flag in flags))

    def judge(self) -> HeldOut:
        """Raw values of the normal train pictures, each by a network that never saw its group."""
        values: NDArray[np.float64] = np.full(len(self.paths), np.nan)
        for number, network in enumerate(self.network.networks):
            rows = np.flatnonzero((self.folds == number) & ~self.learned_from(number))
            alone = AnomalyForExport(
                FlawNetworks([network]), top_share=self.job.params.anomaly.top_share, limit=1.0
            ).eval()
            paths = [self.paths[row] for row in rows]
            values[rows] = raw_values(alone, paths, self.spec, f"pictures new to network {number}")
        kept = ~np.isnan(values)
        return HeldOut(values[kept], self.groups[kept])

    def validate(self) -> dict[str, float]:
        """Nothing: the last epoch is the best known, for held-out pictures set the limit."""
        return {}

    def _look(self, row: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """A train picture, augmented, at the size of the network."""
        key = (int(rng.integers(1 << 31)), row)
        image = self.augmenter(read_image(self.paths[row]), key=key).image
        small, _ = place_image(image, self.spec)
        return vary(small.astype(np.float32), rng)
