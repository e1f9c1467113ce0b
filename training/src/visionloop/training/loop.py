"""One loop for all torch families: AdamW, warm-up, one cosine; resumable, early stopping.

All randomness of an epoch comes from (seed, epoch), so on a CPU a training that was interrupted
and resumed gives the same bytes as one that was not.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.errors import VisionloopError
from visionloop.core.progress import say_step, track
from visionloop.training.averaging import WeightAverage
from visionloop.training.distributed import Processes, this_process
from visionloop.training.families.table import TrainingJob
from visionloop.training.precision import half_precision, lay_out, spare_depthwise
from visionloop.training.resume import EpochRow

__all__ = ["Learner", "best_row", "choose_device", "run_loop", "should_stop"]

Rows = NDArray[np.int64]


class Learner(Protocol):
    """What a family teaches: how samples become a batch, and a batch a loss.

    Attributes
    ----------
    network : Module
        Its trainable parameters are trained; on the device of :func:`choose_device`.
    best : tuple of (str, bool)
        Column of the history that chooses the best epoch, and whether smaller is better.
    slow : tuple of (str, float), may be absent
        Part of the names of parameters, and the share of the learning rate that these have.
    """

    network: torch.nn.Module
    best: tuple[str, bool]

    def class_ids(self) -> NDArray[np.int64] | None:
        """Class of each train sample for balanced sampling, int64 (N,); None where samples have
        no single class."""
        ...

    def train_size(self) -> int:
        """Number of train samples."""
        ...

    def load(self, rows: Rows, epoch: int) -> Any:
        """The batch of these train samples, on the CPU; called in a thread of its own."""
        ...

    def loss(self, network: torch.nn.Module, batch: Any) -> torch.Tensor:
        """Mean loss of a batch. ``network`` is :attr:`network` or a wrapper around it."""
        ...

    def validate(self) -> dict[str, float]:
        """Metrics on the val split; empty where there is none."""
        ...


def choose_device(wanted: str) -> str:
    """``"cuda"`` or ``"cpu"``; ``"auto"`` takes CUDA where torch finds it."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted


def run_loop(learner: Learner, job: TrainingJob) -> EpochRow:
    """Train ``learner.network`` in place and leave it with the weights of its best epoch.

    Returns
    -------
    dict of str to float
        Row of the best epoch.

    Raises
    ------
    VisionloopError
        If the loss is not finite; the state of the last good epoch is kept.
    """
    loop = _Loop(learner, job)
    if job.resume.epoch:
        loop.restore(job.resume.path("last").read_bytes())
    for epoch in range(job.resume.epoch + 1, job.epochs + 1):
        if should_stop(job.resume.history, learner.best, job.params.patience):
            say_step(f"no better epoch in {job.params.patience}: stopped early")
            break
        row: EpochRow = {"epoch": float(epoch), "train_loss": loop.train_epoch(epoch)}
        files: dict[str, bytes] = {}
        with loop.average.in_place():
            row = loop.processes.agree(row | learner.validate())
            is_best = best_row([*job.resume.history, row], learner.best) is row
            if is_best and loop.processes.is_first:
                files["best"] = _to_bytes(learner.network.state_dict())
        if loop.processes.is_first:
            files["last"] = loop.state()
        job.resume.save_epoch(row, files)
        job.on_epoch(row)
    if loop.processes.is_first:
        learner.network.load_state_dict(_from_bytes(job.resume.path("best").read_bytes()))
    learner.network.cpu().to(memory_format=torch.contiguous_format).eval()
    return best_row(job.resume.history, learner.best)


def best_row(history: Sequence[EpochRow], best: tuple[str, bool] = ("val_loss", True)) -> EpochRow:
    """The first row that no later one beats; the last where the column is not measured."""
    column, smaller = best
    if column not in history[-1]:
        return history[-1]
    known = [row for row in history if column in row]
    return (min if smaller else max)(known, key=lambda row: row[column])


def should_stop(history: Sequence[EpochRow], best: tuple[str, bool], patience: int) -> bool:
    """Whether ``patience`` epochs have passed since the best one; never with patience 0."""
    if not patience or not history or best[0] not in history[-1]:
        return False
    return history[-1]["epoch"] - best_row(history, best)["epoch"] >= patience


class _Loop:
    """Optimizer, schedule and order of one training."""

    def __init__(self, learner: Learner, job: TrainingJob) -> None:
        self.learner, self.job, self.params = learner, job, job.params
        self.processes: Processes = this_process()
        self.device = choose_device(self.params.device)
        lay_out(learner.network)
        self.optimizer = torch.optim.AdamW(
            _groups(learner), lr=self.params.learning_rate, weight_decay=self.params.weight_decay
        )
        self.average = WeightAverage(learner.network, self.params.average_decay)
        self.network = self.processes.wrap(learner.network)
        self.half = half_precision(self.params.precision, self.device)
        if self.half is torch.bfloat16:
            spare_depthwise(learner.network)
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.half is torch.float16)
        self.steps = self._cut(np.arange(learner.train_size()))
        self.step = 0

    def train_epoch(self, epoch: int) -> float:
        """Mean loss of one pass over the train split."""
        seed = self.job.project.seed
        torch.manual_seed(seed * 100_003 + epoch)
        self.network.train()
        order = self._order(np.random.default_rng([seed, epoch]))
        parts = [self.processes.own_part(rows) for rows in self._cut(order)]
        total = seen = 0.0
        batches = _load_ahead(self.learner, parts, epoch)
        name = f"epoch {epoch}/{self.job.epochs}"
        for rows, batch in track(batches, name, total=len(parts)):
            total += self._train_step(batch, epoch) * len(rows)
            seen += len(rows)
        return self.processes.average(total / max(seen, 1))

    def state(self) -> bytes:
        """Everything needed to go on, readable without running code."""
        return _to_bytes(
            {
                "network": self.learner.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "average": self.average.state(),
                "step": self.step,
            }
        )

    def restore(self, content: bytes) -> None:
        """Go on from :meth:`state`."""
        state = _from_bytes(content)
        self.learner.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.average.restore(state["average"])
        self.step = int(state["step"])

    def _train_step(self, batch: Any, epoch: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate() * group["share"]
        with torch.autocast(self.device, self.half, enabled=self.half is not None):
            loss = self.learner.loss(self.network, batch)
        if not torch.isfinite(loss):
            raise VisionloopError(
                "training",
                f"the loss is not finite at epoch {epoch} ({float(loss)})",
                "make training.learning_rate smaller; look for damaged images",
            )
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        if self.params.max_gradient:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.params.max_gradient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update()
        self.step += 1
        return float(loss.detach())

    def _learning_rate(self) -> float:
        """A linear rise over the first part of all steps, then half a cosine down to 0."""
        whole = len(self.steps) * self.job.epochs
        warm = self.params.warmup_share * whole
        if self.step < warm:
            return self.params.learning_rate * (self.step + 1) / (warm + 1)
        along = (self.step - warm) / max(1.0, whole - warm)
        return self.params.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, along)))

    def _order(self, rng: np.random.Generator) -> Rows:
        """Train samples of an epoch: each once, or drawn so that classes come equally often."""
        count = self.learner.train_size()
        class_ids = self.learner.class_ids() if self.params.sampling == "balanced" else None
        if class_ids is None:
            return rng.permutation(count)
        share = 1 / np.bincount(class_ids)[class_ids]
        return rng.choice(count, count, p=share / share.sum())

    def _cut(self, order: Rows) -> list[Rows]:
        """Rows of each step; a last batch of one image joins the one before (batch norm)."""
        size = self.params.batch_size
        cuts = list(range(size, len(order), size))
        if cuts and len(order) - cuts[-1] == 1:
            cuts.pop()
        return list(np.split(order, cuts))


def _groups(learner: Learner) -> list[dict[str, Any]]:
    """Trained parameters, and the share of the learning rate that each group has."""
    slow: tuple[str, float] = getattr(learner, "slow", ("", 1.0))
    trained = [(name, one) for name, one in learner.network.named_parameters() if one.requires_grad]
    known = [one for name, one in trained if slow[0] and slow[0] in name]
    new = [one for name, one in trained if not (slow[0] and slow[0] in name)]
    groups = [{"params": new, "share": 1.0}, {"params": known, "share": slow[1]}]
    return [one for one in groups if one["params"]]


def _load_ahead(learner: Learner, parts: Sequence[Rows], epoch: int) -> Iterator[tuple[Rows, Any]]:
    """Batches in order; the next one is made in a thread while one is trained on."""
    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(learner.load, rows, epoch) for rows in parts[:1]]
        for number, rows in enumerate(parts):
            if number + 1 < len(parts):
                waiting.append(pool.submit(learner.load, parts[number + 1], epoch))
            yield rows, waiting.pop(0).result()


def _to_bytes(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _from_bytes(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
