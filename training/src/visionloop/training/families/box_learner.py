"""Pictures with boxes, for detectors that compute their own loss (transformers)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.entities import Detections
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput
from visionloop.serving.postprocess import decode_detr
from visionloop.serving.preprocess import make_batch
from visionloop.training.augment import Augmenter
from visionloop.training.contact_sheet import draw_contact_sheet
from visionloop.training.families.table import TrainingJob
from visionloop.training.loop import choose_device
from visionloop.training.truth import Boxes, train_boxes
from visionloop.training.validation import measure_boxes

__all__ = ["BoxLearner", "BoxSplit", "box_split"]

LEAST_CONFIDENCE = 0.01

Batch = tuple[torch.Tensor, list[dict[str, torch.Tensor]]]


@dataclass(frozen=True, eq=False)
class BoxSplit:
    """Image files of one split and the boxes of each."""

    paths: Sequence[Path]
    boxes: Sequence[Boxes]


def box_split(job: TrainingJob, name: str) -> BoxSplit:
    """The pictures of a split.

    Raises
    ------
    DataError
        If the train split has no box.
    """
    rows = job.version.split(name)
    ids = [str(one) for one in rows["sample_id"]]
    paths = [job.version.images / file_name for file_name in rows["file_name"]]
    if name == "train":
        known = train_boxes(job.version, ids, fault=job.params.planted_fault, seed=job.project.seed)
        return BoxSplit(paths, [known[one] for one in ids])
    return BoxSplit(paths, [job.version.boxes(one) for one in ids])


@dataclass(eq=False)
class BoxLearner:
    """Boxes; see :class:`visionloop.training.loop.Learner`.

    Attributes
    ----------
    network : Module
        Called with ``pixel_values`` and ``labels`` as transformers' detectors are.
    job : TrainingJob
    spec : ImageInput
        Pictures fill the input (``stretch``).
    train, val : BoxSplit
    answering : callable
        Makes of the network one that maps images to (detections (B, N, 4 + C), embedding).
    """

    network: Any
    job: TrainingJob
    spec: ImageInput
    train: BoxSplit
    val: BoxSplit
    answering: Callable[[Any], torch.nn.Module]
    best: tuple[str, bool] = ("val_map50", False)

    def __post_init__(self) -> None:
        self.device = choose_device(self.job.params.device)
        self.network.to(self.device)
        self.augmenter = Augmenter(self.job.params.augment, seed=self.job.project.seed)

    def draw_sheet(self) -> None:
        """What the network will see, with its boxes."""
        shown = [row for row, (xyxy, _) in enumerate(self.train.boxes) if len(xyxy)][:4]
        draw_contact_sheet(
            self.job.workspace.reports / "training" / "augmentation.png",
            [read_image(self.train.paths[row]) for row in shown],
            self.augmenter,
            [self.train.boxes[row][0] for row in shown],
        )

    def class_ids(self) -> NDArray[np.int64] | None:
        """None: a picture may hold boxes of several classes."""
        return None

    def train_size(self) -> int:
        """Number of train pictures."""
        return len(self.train.paths)

    def load(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """Augmented pictures, and their boxes as (centre, size) in shares of the picture."""
        images, labels = [], []
        for row in rows:
            xyxy, class_id = self.train.boxes[row]
            image = read_image(self.train.paths[row])
            done = self.augmenter(image, key=(epoch, int(row)), xyxy=xyxy, class_id=class_id)
            images.append(done.image)
            labels.append(_label(done.xyxy, done.class_id, done.image.shape))
        return torch.from_numpy(make_batch(images, self.spec)[0]), labels

    def loss(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """The detector's own loss of its set of boxes."""
        images, labels = batch
        moved = [{name: one.to(self.device) for name, one in row.items()} for row in labels]
        images = images.to(self.device, memory_format=torch.channels_last)
        return network(pixel_values=images, labels=moved).loss

    def validate(self) -> dict[str, float]:
        """AP50 of the classes that occur, their mean, and the loss, on the val split."""
        if not len(self.val.paths):
            return {}
        self.network.eval()
        answering = self.answering(self.network).eval()
        found: list[Detections] = []
        total, size = 0.0, self.job.params.batch_size
        smallest = np.full(len(self.job.project.classes), LEAST_CONFIDENCE, np.float32)
        with torch.inference_mode():
            for start in range(0, len(self.val.paths), size):
                images = [read_image(path) for path in self.val.paths[start : start + size]]
                batch, placements = make_batch(images, self.spec)
                pictures = torch.from_numpy(batch).to(self.device)
                rows = answering(pictures)[0].float().cpu().numpy()
                found += [
                    decode_detr(row, place, minimum_confidence=smallest)
                    for row, place in zip(rows, placements, strict=True)
                ]
                labels = [
                    _label(*self.val.boxes[start + number], image.shape)
                    for number, image in enumerate(images)
                ]
                moved = [{k: v.to(self.device) for k, v in row.items()} for row in labels]
                loss = self.network(pixel_values=pictures, labels=moved).loss
                total += float(loss) * len(images)
        measured = measure_boxes(found, self.val.boxes, len(self.job.project.classes))
        return {"val_loss": total / len(self.val.paths), **measured}


def _label(
    xyxy: NDArray[np.float32], class_id: NDArray[np.int64], shape: tuple[int, ...]
) -> dict[str, torch.Tensor]:
    height, width = shape[:2]
    share = np.asarray(xyxy, np.float32).reshape(-1, 4) / np.array(
        [width, height, width, height], np.float32
    )
    share = share.clip(0, 1)
    centre, size = (share[:, :2] + share[:, 2:]) / 2, share[:, 2:] - share[:, :2]
    kept = (size > 0).all(axis=1)
    boxes = np.concatenate([centre, size], axis=1)[kept]
    return {
        "class_labels": torch.from_numpy(np.asarray(class_id)[kept].astype(np.int64)),
        "boxes": torch.from_numpy(np.ascontiguousarray(boxes, np.float32)),
    }
