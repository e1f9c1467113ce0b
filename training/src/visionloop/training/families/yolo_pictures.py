"""What Ultralytics trains on: its mosaic, then our augmentation instead of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from visionloop.serving.images import read_image
from visionloop.training.augment import Augmenter
from visionloop.training.contact_sheet import draw_contact_sheet
from visionloop.training.families.table import TrainingJob
from visionloop.training.truth import train_boxes

__all__ = ["AugmentPictures", "draw_sheet", "own_augmentation_off"]

MOSAIC_ZOOM = 0.5
"""Four joined pictures are shown at half to one and a half of their size (arXiv 2004.10934)."""


def own_augmentation_off(job: TrainingJob) -> dict[str, float]:
    """Ultralytics' options under which it joins pictures, and changes nothing else."""
    augment = job.params.augment
    mosaic = 0.0 if augment.strength == "none" else augment.mosaic
    others = ("hsv_h", "hsv_s", "hsv_v", "fliplr", "flipud", "degrees", "mixup", "cutmix",
              "copy_paste", "erasing", "shear", "perspective")  # fmt: skip
    moved = {"scale": MOSAIC_ZOOM if mosaic else 0.0, "translate": 0.1 if mosaic else 0.0}
    return {**dict.fromkeys(others, 0.0), **moved, "mosaic": mosaic}


class AugmentPictures:
    """A step for Ultralytics' list of transforms; what it draws depends on seed, epoch, picture.

    Attributes
    ----------
    epoch : int
        To be set before each epoch.
    """

    def __init__(self, job: TrainingJob, files: list[str]) -> None:
        self.augmenter = Augmenter(job.params.augment, seed=job.project.seed)
        self.rows = {name: row for row, name in enumerate(sorted(files))}
        self.epoch = 0

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """``img`` uint8 (H, W, 3) BGR, ``instances`` and ``cls`` (N, 1), changed together."""
        image, instances = labels["img"], labels["instances"]
        instances.convert_bbox("xyxy")
        instances.denormalize(image.shape[1], image.shape[0])
        class_id = np.asarray(labels["cls"], np.int64).reshape(-1)
        done = self.augmenter(
            image,
            key=(self.epoch, self.rows[labels["im_file"]]),
            xyxy=instances.bboxes,
            class_id=class_id,
        )
        instances.update(done.xyxy)
        labels["img"], labels["instances"] = done.image, instances
        labels["cls"] = done.class_id.reshape(-1, 1).astype(np.float32)
        return labels


def draw_sheet(job: TrainingJob) -> None:
    """Some train pictures with their boxes, as augmentation changes them."""
    rows = job.version.split("train")
    ids = [str(one) for one in rows["sample_id"]]
    boxes = train_boxes(job.version, ids, fault=job.params.planted_fault, seed=job.project.seed)
    files = dict(zip(ids, rows["file_name"], strict=True))
    shown = [one for one in ids if len(boxes[one][1])][:4]
    draw_contact_sheet(
        Path(job.workspace.reports) / "training" / "augmentation.png",
        [read_image(job.version.images / files[one]) for one in shown],
        Augmenter(job.params.augment, seed=job.project.seed),
        [boxes[one][0] for one in shown],
    )
