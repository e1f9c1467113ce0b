"""Ultralytics' training loop, fed by our files and watched by our callbacks."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import LOGGER, SETTINGS

from visionloop.core.errors import VisionloopError
from visionloop.core.progress import say_step, track
from visionloop.training.batch_statistics import measure_again
from visionloop.training.families.table import TrainingJob
from visionloop.training.families.yolo_files import write_yolo_folder
from visionloop.training.families.yolo_pictures import (
    AugmentPictures,
    draw_sheet,
    own_augmentation_off,
)
from visionloop.training.loop import choose_device, should_stop
from visionloop.training.precision import compute_in_half, half_precision, lay_out
from visionloop.training.resume import EpochRow

__all__ = ["train_yolo"]

INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")

METRICS = {
    "metrics/precision(B)": "val_precision",
    "metrics/recall(B)": "val_recall",
    "metrics/mAP50(B)": "val_map50",
    "metrics/mAP50-95(B)": "val_map50_95",
}


def train_yolo(job: TrainingJob, *, start: Any) -> tuple[Path, dict[str, float]]:
    """Train a detector.

    Parameters
    ----------
    start : Module or None
        Network with the weights to start from; None starts from random weights.

    Returns
    -------
    (Path, dict)
        The Ultralytics checkpoint of the best epoch, and that epoch's metrics.

    Raises
    ------
    DataError
        If the dataset version cannot be trained on.
    VisionloopError
        If the loss is not finite; the state of the last good epoch is kept.
    """
    say_step("training with Ultralytics, which is AGPL-3.0: see docs/licences.md")
    scratch = job.resume.folder / "ultralytics"
    draw_sheet(job)
    if not _is_done(job):
        data = write_yolo_folder(
            scratch / "data", job.version, fault=job.params.planted_fault, seed=job.project.seed
        )
        _run(job, data, scratch, start)
    best = scratch / "best.pt"
    best.parent.mkdir(parents=True, exist_ok=True)
    best.write_bytes(job.resume.path("best").read_bytes())
    row = max(job.resume.history, key=lambda one: (one["val_fitness"], one["epoch"]))
    return best, row


def _is_done(job: TrainingJob) -> bool:
    stopped = should_stop(job.resume.history, ("val_fitness", False), job.params.patience)
    return stopped or job.resume.epoch >= job.epochs


def _run(job: TrainingJob, data: dict[str, Any], scratch: Path, start: Any) -> None:
    level, threads = LOGGER.level, torch.get_num_threads()
    LOGGER.setLevel(logging.ERROR)  # also silences its progress bars
    # In memory only: the person's own settings file stays as it is.
    dict.update(SETTINGS, dict.fromkeys(INTEGRATIONS, False))
    try:
        trainer = _make_trainer(job, data, scratch)
        if not job.resume.epoch:
            trainer.model = trainer.get_model(
                cfg=job.weights.row.architecture, weights=start, verbose=False
            )
        torch.set_num_threads(threads)  # Ultralytics leaves a core idle, on two half of them
        watcher = _Watcher(job)
        trainer.callbacks = defaultdict(list, watcher.callbacks())  # ours and no others
        trainer.train()
    finally:
        torch.set_num_threads(threads)
        LOGGER.setLevel(level)


def _make_trainer(job: TrainingJob, data: dict[str, Any], scratch: Path) -> Any:
    class Trainer(DetectionTrainer):  # type: ignore[misc]
        """Takes our dataset and augmentation; the last validation is the evaluation stage's."""

        def get_dataset(self) -> dict[str, Any]:
            return dict(data)

        def build_dataset(
            self, img_path: str, mode: str = "train", batch: int | None = None
        ) -> Any:
            dataset = super().build_dataset(img_path, mode, batch)
            if mode == "train":
                self.our_step = AugmentPictures(job, dataset.im_files)
                dataset.transforms.insert(-1, self.our_step)  # before pixels become a tensor
            return dataset

        def _close_dataloader_mosaic(self) -> None:
            close: Any = super()._close_dataloader_mosaic
            close()  # makes the list of transforms anew
            self.train_loader.dataset.transforms.insert(-1, self.our_step)

        def _setup_train(self) -> None:
            set_up: Any = super()._setup_train
            set_up()
            lay_out(self.model)
            if job.params.average_decay:
                average: Any = self.ema
                average.decay = _rising_decay(job.params.average_decay)

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            done: dict[str, Any] = super().preprocess_batch(batch)
            done["img"] = compute_in_half(done["img"], half)
            return done

        def validate(self) -> Any:
            average: Any = self.ema
            spec = job.weights.picture_input(job.params.image_size, "letterbox")
            measure_again(average.ema, train_paths, spec, seed=job.project.seed)
            judge: Any = super().validate
            return judge()

        def final_eval(self) -> None:
            return None

    device = choose_device(job.params.device)
    half = half_precision(job.params.precision, device) if device == "cpu" else None
    names = job.version.split("train")["sample_id"]
    train_paths = [job.version.image_path(str(name)) for name in names]
    run_folder = str(scratch / "run")
    if job.resume.epoch:
        last = scratch / "last.pt"
        last.write_bytes(job.resume.path("last").read_bytes())
        return Trainer(overrides={"resume": str(last), "save_dir": run_folder})
    return Trainer(overrides=_options(job, run_folder))


def _rising_decay(decay: float) -> Callable[[int], float]:
    """Of Ultralytics' moving average, after so many steps; it rises as that of ``averaging``.

    Its own rises over 2,000 steps, in a short training to little: the weights that are judged and
    kept are then those of the last moment, with all their noise.
    """
    return lambda steps: min(decay, (1 + steps) / (10 + steps))


def _options(job: TrainingJob, run_folder: str) -> dict[str, Any]:
    params = job.params
    device = choose_device(params.device)
    # Not Ultralytics' float16: before it, it fetches a detector to try it on.
    return {
        "task": "detect",
        "mode": "train",
        "model": job.weights.row.architecture,
        "epochs": job.epochs,
        "patience": job.epochs,
        "augmentations": [],
        "imgsz": params.image_size,
        "batch": params.batch_size,
        # Otherwise 64 pictures make one step: too few steps in a short training.
        "nbs": params.batch_size,
        "optimizer": "AdamW",
        "lr0": params.learning_rate,
        "momentum": 0.9,
        "weight_decay": params.weight_decay,
        "warmup_bias_lr": 0.0,
        "seed": job.project.seed,
        "deterministic": True,
        "workers": 0,
        "amp": "bf16" if params.precision == "mixed" and device == "cuda" else False,
        "device": "0" if device == "cuda" else "cpu",
        **own_augmentation_off(job),
        "plots": False,
        "save": True,
        "val": True,
        "verbose": False,
        "exist_ok": True,
        "save_dir": run_folder,
    }


class _Watcher:
    """Progress, finite losses, and one durable resume point an epoch."""

    def __init__(self, job: TrainingJob) -> None:
        self.job = job
        self.progress: Iterator[int] = iter(())

    def callbacks(self) -> dict[str, list[Any]]:
        """Event of Ultralytics to our functions."""
        return {
            "on_train_epoch_start": [self.start_epoch],
            "on_train_batch_end": [self.end_batch],
            "on_train_epoch_end": [self.check_loss],
            "on_model_save": [self.save_epoch],
        }

    def start_epoch(self, trainer: Any) -> None:
        """A new progress bar."""
        trainer.our_step.epoch = trainer.epoch
        steps = range(len(trainer.train_loader))
        self.progress = track(steps, f"epoch {trainer.epoch + 1}/{trainer.epochs}")
        next(self.progress, None)

    def end_batch(self, trainer: Any) -> None:
        """One step further."""
        next(self.progress, None)

    def check_loss(self, trainer: Any) -> None:
        """Stop at once: Ultralytics would begin the epoch again, or go on."""
        if not math.isfinite(_train_loss(trainer)):
            raise VisionloopError(
                "training",
                f"the loss is not finite at epoch {trainer.epoch + 1}",
                "make training.learning_rate smaller; look for damaged images",
            )

    def save_epoch(self, trainer: Any) -> None:
        """Copy what Ultralytics has just written to the resume point, and report the epoch."""
        if trainer.epoch < self.job.resume.epoch:
            return
        row = _row(trainer)
        files = {"last": Path(trainer.last).read_bytes()}
        if trainer.best_fitness == trainer.fitness:
            files["best"] = files["last"]
        self.job.resume.save_epoch(row, files)
        self.job.on_epoch(row)
        trainer.stop = trainer.stop or _is_done(self.job)


def _train_loss(trainer: Any) -> float:
    return sum(float(value) for value in trainer.tloss.values())


def _row(trainer: Any) -> EpochRow:
    found = {name: float(value) for name, value in trainer.metrics.items()}
    val_losses = [value for name, value in found.items() if name.startswith("val/")]
    return {
        "epoch": float(trainer.epoch + 1),
        "train_loss": _train_loss(trainer),
        "val_loss": sum(val_losses),
        **{ours: found[theirs] for theirs, ours in METRICS.items() if theirs in found},
        "val_fitness": float(trainer.fitness),
    }
