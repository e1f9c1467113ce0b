"""Mode full: every weight of an image classifier is trained (AdamW, one cosine cycle).

All randomness of an epoch comes from (seed, epoch), so a training that was interrupted
and resumed gives the same bytes as one that was not.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.errors import VisionloopError
from visionloop.core.progress import track
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.preprocess import make_batch
from visionloop.training.families.table import TrainingJob
from visionloop.training.resume import EpochRow
from visionloop.training.validation import balanced_weights, measure_classification

__all__ = ["ImageSplit", "best_row", "choose_device", "finetune"]


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Image files and class_ids int64 (N,) of one split."""

    paths: Sequence[Path]
    class_ids: NDArray[np.int64]


def choose_device(wanted: str) -> str:
    """``"cuda"`` or ``"cpu"``; ``"auto"`` takes CUDA where torch finds it."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def finetune(
    network: torch.nn.Module,
    job: TrainingJob,
    *,
    spec: ImageInput,
    train: ImageSplit,
    val: ImageSplit,
) -> dict[str, float]:
    """Train ``network`` in place and leave it with the weights of its best epoch.

    The best epoch has the smallest ``val_loss`` (the last one where there is no val
    split). ``network`` maps float32 (B, 3, H, W) to logits (B, C).

    Returns
    -------
    dict of str to float
        Metrics of the best epoch.

    Raises
    ------
    VisionloopError
        If the loss is not finite; the state of the last good epoch is kept.
    """
    loop = _Loop(network, job, spec, train)
    if job.resume.epoch:
        loop.restore(job.resume.path("last").read_bytes())
    for epoch in range(job.resume.epoch + 1, job.epochs + 1):
        row: EpochRow = {"epoch": float(epoch), "train_loss": loop.train_epoch(epoch)}
        row |= loop.validate(val)
        files = {"last": loop.state()}
        if _is_best(row, job.resume.history):
            files["best"] = loop.weights()
        job.resume.save_epoch(row, files)
        job.on_epoch(row)
    loop.load_weights(job.resume.path("best").read_bytes())
    return best_row(job.resume.history)


def best_row(history: list[EpochRow]) -> EpochRow:
    """The first row that no later one beats by ``val_loss``; the last where there is none."""
    if "val_loss" not in history[-1]:
        return history[-1]
    return min(history, key=lambda row: row["val_loss"])


def _is_best(row: EpochRow, earlier: list[EpochRow]) -> bool:
    return best_row([*earlier, row]) is row


class _Loop:
    """Network, optimizer, schedule and data of one training."""

    def __init__(
        self, network: torch.nn.Module, job: TrainingJob, spec: ImageInput, train: ImageSplit
    ) -> None:
        self.device = choose_device(job.params.device)
        self.network = network.to(self.device)
        self.job, self.spec, self.train = job, spec, train
        params = job.params
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=params.learning_rate, weight_decay=params.weight_decay
        )
        steps = math.ceil(len(train.paths) / params.batch_size) * job.epochs
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)
        weights = balanced_weights(
            train.class_ids, len(job.project.classes), class_weight=params.class_weight
        )
        self.class_weights = torch.from_numpy(weights).float().to(self.device)

    def train_epoch(self, epoch: int) -> float:
        """Mean loss of one pass over the train split."""
        rng = np.random.default_rng([self.job.project.seed, epoch])
        torch.manual_seed(self.job.project.seed * 100_003 + epoch)
        self.network.train()
        total = 0.0
        batches = list(self._batches(rng.permutation(len(self.train.paths))))
        for rows in track(batches, f"epoch {epoch}/{self.job.epochs}"):
            images = [_turn(read_image(self.train.paths[row]), rng) for row in rows]
            batch, _ = make_batch(images, self.spec)
            class_ids = torch.from_numpy(self.train.class_ids[rows]).to(self.device)
            logits = self.network(torch.from_numpy(batch).to(self.device))
            loss = torch.nn.functional.cross_entropy(logits, class_ids, weight=self.class_weights)
            if not torch.isfinite(loss):
                raise VisionloopError(
                    "training",
                    f"the loss is not finite at epoch {epoch} ({float(loss)})",
                    "make training.learning_rate smaller; look for damaged images",
                )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            total += float(loss) * len(rows)
        return total / len(self.train.paths)

    def validate(self, val: ImageSplit) -> dict[str, float]:
        """Metrics on the val split."""
        self.network.eval()
        parts = []
        with torch.inference_mode():
            for start in range(0, len(val.paths), self.job.params.batch_size):
                paths = val.paths[start : start + self.job.params.batch_size]
                batch, _ = make_batch([read_image(path) for path in paths], self.spec)
                logits = self.network(torch.from_numpy(batch).to(self.device))
                parts.append(torch.softmax(logits, dim=1).cpu().numpy())
        if not parts:
            return {}
        return measure_classification(np.concatenate(parts), val.class_ids)

    def state(self) -> bytes:
        """Everything needed to go on, readable without running code."""
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        return _to_bytes(content)

    def restore(self, content: bytes) -> None:
        """Go on from :meth:`state`."""
        state = _from_bytes(content)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

    def weights(self) -> bytes:
        """The network's tensors alone."""
        return _to_bytes(self.network.state_dict())

    def load_weights(self, content: bytes) -> None:
        """Take what :meth:`weights` gave, and go to evaluation on the CPU."""
        self.network.load_state_dict(_from_bytes(content))
        self.network.cpu().eval()

    def _batches(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Rows of each step; a last batch of one image joins the one before (batch norm)."""
        size = self.job.params.batch_size
        cuts = list(range(size, len(order), size))
        if cuts and len(order) - cuts[-1] == 1:
            cuts.pop()
        yield from np.split(order, cuts)


def _turn(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One of the eight flips and quarter turns, uniformly."""
    turned = np.rot90(image, int(rng.integers(4)))
    return np.ascontiguousarray(turned[:, ::-1] if rng.integers(2) else turned)


def _to_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _from_bytes(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
