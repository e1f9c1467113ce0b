"""Train YOLOv8n on a pool of pictures for a fixed number of image passes, and measure it.

Shared by benchmarks that compare what a detector learns from. Both sides of a comparison
get the same settings, the same number of pictures an epoch and the same number of optimizer
steps, however large their pools are.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.core.privacy import set_quiet_environment

set_quiet_environment()  # Ultralytics reads its switches when it is imported

import torch  # noqa: E402
from ultralytics import YOLO  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402
from ultralytics.utils import LOGGER, SETTINGS  # noqa: E402

from visionloop.training.precision import compute_in_half, half_precision, lay_out  # noqa: E402

INTEGRATIONS = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
"""Reporters of Ultralytics that write outside our folder; switched off in memory only."""

__all__ = ["Budget", "Picture", "measure_detector", "train_detector", "write_pictures"]


@dataclass(frozen=True)
class Picture:
    """One picture: PNG bytes, boxes as rows of (x1, y1, x2, y2, class id) in pixels, its side."""

    content: bytes
    boxes: Sequence[tuple[float, float, float, float, int]]
    side: int


@dataclass(frozen=True)
class Budget:
    """What every training gets.

    Attributes
    ----------
    epochs, pictures_per_epoch : int
        Their product is the number of image passes.
    batch, image_size : int
    learning_rate : float
    precision : str
        ``mixed``: bfloat16 where the processor computes in it, at half the time; ``full``: float32.
        Every side of a comparison takes the same.
    """

    epochs: int = 12
    pictures_per_epoch: int = 100
    batch: int = 8
    image_size: int = 320
    learning_rate: float = 0.001
    precision: str = "full"


def write_pictures(folder: Path, pictures: dict[str, Picture]) -> list[str]:
    """Write images and box files as Ultralytics reads them; returns the image paths."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(exist_ok=True)
    paths = []
    for name, picture in pictures.items():
        path = folder / "images" / f"{name}.png"
        path.write_bytes(picture.content)
        lines = [
            f"{class_id} {(x1 + x2) / 2 / picture.side:.6f} {(y1 + y2) / 2 / picture.side:.6f} "
            f"{(x2 - x1) / picture.side:.6f} {(y2 - y1) / picture.side:.6f}\n"
            for x1, y1, x2, y2, class_id in picture.boxes
        ]
        (folder / "labels" / f"{name}.txt").write_text("".join(lines))
        paths.append(str(path))
    return paths


class _PassSampler(torch.utils.data.Sampler):  # type: ignore[type-arg,misc]
    """So many pictures an epoch, from several pools; each pool in random order, again and again.

    ``shares`` has a row for every epoch (the last one goes on) with the share of each pool.
    """

    def __init__(
        self,
        pools: Sequence[Sequence[int]],
        shares: Sequence[Sequence[float]],
        per_epoch: int,
        seed: int,
    ) -> None:
        self.pools, self.shares = [list(pool) for pool in pools], shares
        self.per_epoch, self.epoch = per_epoch, 0
        self.rng = np.random.default_rng(seed)
        self.waiting: list[list[int]] = [[] for _ in pools]

    def __len__(self) -> int:
        return self.per_epoch

    def __iter__(self) -> Iterator[int]:
        shares = self.shares[min(self.epoch, len(self.shares) - 1)]
        self.epoch += 1
        counts = [round(share * self.per_epoch) for share in shares]
        counts[-1] = self.per_epoch - sum(counts[:-1])
        chosen: list[int] = []
        for number, (pool, count) in enumerate(zip(self.pools, counts, strict=True)):
            for _ in range(count):
                if not self.waiting[number]:
                    self.waiting[number] = self.rng.permutation(pool).tolist()
                chosen.append(self.waiting[number].pop())
        return iter(self.rng.permutation(chosen).tolist())


def train_detector(
    folder: Path,
    *,
    weights: Path,
    classes: Sequence[str],
    pools: Sequence[Sequence[str]],
    shares: Sequence[Sequence[float]],
    budget: Budget,
    seed: int,
    threads: int,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Fine-tune from ``weights``; returns the checkpoint.

    Parameters
    ----------
    pools : sequence of sequences of image paths
    shares : sequence of rows
        For every epoch (the last row goes on) which share each pool gives; rows sum to 1.
    options : mapping or None
        Settings of Ultralytics that replace those of :func:`_options`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    data = {
        "path": folder,
        "train": str(_list_file(folder / "train.txt", [one for pool in pools for one in pool])),
        "val": str(_list_file(folder / "val.txt", pools[0][:1])),
        "nc": len(classes),
        "names": dict(enumerate(classes)),
        "channels": 3,
    }
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    dict.update(SETTINGS, dict.fromkeys(INTEGRATIONS, False))
    try:
        overrides = {**_options(folder, weights, budget, seed), **(options or {})}
        trainer = _make_trainer(data, pools, shares, budget, seed, overrides)
        trainer.callbacks.clear()  # the integrations' were added before they were switched off
        torch.set_num_threads(threads)
        trainer.train()
    finally:
        LOGGER.setLevel(level)
    return folder / "run" / "weights" / "last.pt"


def _make_trainer(
    data: dict[str, Any],
    pools: Sequence[Sequence[str]],
    shares: Sequence[Sequence[float]],
    budget: Budget,
    seed: int,
    overrides: dict[str, Any],
) -> Any:
    half = half_precision(budget.precision, "cpu")

    class Trainer(DetectionTrainer):  # type: ignore[misc]
        """Our pictures, our sampler, no validation."""

        def get_dataset(self) -> dict[str, Any]:
            return dict(data)

        def get_dataloader(
            self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train"
        ) -> Any:
            if mode != "train":
                return super().get_dataloader(dataset_path, batch_size, rank, mode)
            dataset = self.build_dataset(dataset_path, mode, batch_size)
            place = {Path(name).name: number for number, name in enumerate(dataset.im_files)}
            rows = [[place[Path(name).name] for name in pool] for pool in pools]
            loader: Any = torch.utils.data.DataLoader(
                dataset,
                batch_size,
                sampler=_PassSampler(rows, shares, budget.pictures_per_epoch, seed),
                collate_fn=dataset.collate_fn,
                drop_last=True,
            )
            loader.reset = lambda: None  # there are no workers to start again
            return loader

        def _setup_train(self) -> None:
            set_up: Any = super()._setup_train
            set_up()
            lay_out(self.model)

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            done: dict[str, Any] = super().preprocess_batch(batch)
            done["img"] = compute_in_half(done["img"], half)
            return done

        def final_eval(self) -> None:
            return None

    return Trainer(overrides=overrides)


def _list_file(path: Path, names: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(names) + "\n")
    return path


def _options(folder: Path, weights: Path, budget: Budget, seed: int) -> dict[str, Any]:
    return {
        "task": "detect",
        "mode": "train",
        "model": str(weights),
        "epochs": budget.epochs,
        "patience": budget.epochs,
        "imgsz": budget.image_size,
        "batch": budget.batch,
        "nbs": budget.batch,  # one optimizer step a batch
        "optimizer": "AdamW",
        "lr0": budget.learning_rate,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "warmup_epochs": 2,
        "warmup_bias_lr": 0.0,
        "close_mosaic": max(1, budget.epochs // 6),
        "flipud": 0.5,  # a board has no upper side
        "seed": seed,
        "deterministic": True,
        "workers": 0,
        "amp": False,
        "device": "cpu",
        "plots": False,
        "val": False,
        "verbose": False,
        "exist_ok": True,
        "save_dir": str(folder / "run"),
    }


def measure_detector(
    checkpoint: Path, folder: Path, *, classes: Sequence[str], image_size: int, threads: int
) -> dict[str, float]:
    """AP50 of every class on the pictures below ``folder``, and ``map50``, their mean."""
    level = LOGGER.level
    LOGGER.setLevel(logging.ERROR)
    os.environ["YOLO_VERBOSE"] = "false"
    listing = folder / "data.yaml"
    names = "\n".join(f"  {number}: {name}" for number, name in enumerate(classes))
    listing.write_text(f"path: {folder}\ntrain: images\nval: images\nnames:\n{names}\n")
    try:
        torch.set_num_threads(threads)
        metrics = YOLO(str(checkpoint)).val(
            data=str(listing),
            imgsz=image_size,
            batch=16,
            device="cpu",
            workers=0,
            plots=False,
            verbose=False,
            project=str(checkpoint.parent),
            name="measured",
            exist_ok=True,
        )
    finally:
        LOGGER.setLevel(level)
    values = {
        classes[int(class_id)]: float(value)
        for class_id, value in zip(metrics.box.ap_class_index, metrics.box.ap50, strict=True)
    }
    return {"map50": float(np.mean(list(values.values()))), **values}
