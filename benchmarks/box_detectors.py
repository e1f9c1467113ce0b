"""Out-of-fold answers of detectors that learned from wrong annotations, weak and strong.

Two folds: each image is answered by a detector that saw only the noisy annotations of the other
fold. One file of answers a (set, strength, fold) is kept in ``results/box_answers/``, so an
interrupted run goes on. Ultralytics is AGPL-3.0; start weights ``yolov8n-coco.pt`` from
``VISIONLOOP_WEIGHTS``.

    python benchmarks/box_detectors.py [--sets deeppcb,bccd]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from box_noise import BoxSet, plant
from numpy.typing import NDArray
from report import RESULTS

from visionloop.core.entities import Detections
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step

__all__ = [
    "ANSWERS",
    "PASSES",
    "TRAINED_RATE",
    "TRAINED_SEED",
    "BoxData",
    "answer_boxes",
    "grey_pictures",
    "load_answers",
    "load_boxes",
    "read_answers",
    "save_answers",
    "train_on_boxes",
]

ANSWERS = RESULTS / "box_answers"
PASSES = {
    ("deeppcb", "weak"): 400,
    ("deeppcb", "strong"): 1600,
    ("bccd", "weak"): 182,
    ("bccd", "strong"): 728,
}
"""Image passes of each training: whole epochs of the 200 (BCCD: 182) images of a fold."""
IMAGES = 400
TRAINED_RATE = 0.1
"""Share of the boxes that are wrong in what the detectors learn from."""
TRAINED_SEED = 990
PIXELS = 416
LOWEST_CONFIDENCE = 0.01


@dataclass(frozen=True, eq=False)
class BoxData:
    """A data set of boxes: file contents, size of the images in pixels, truth, class names."""

    name: str
    contents: list[bytes]
    size: tuple[int, int]
    truth: list[BoxSet]
    classes: tuple[str, ...]


def load_boxes(name: str) -> BoxData:
    """The images and boxes of a set: 400 boards of DeepPCB, or BCCD."""
    mirror = Path(os.environ["VISIONLOOP_MIRROR"])
    if name == "deeppcb":
        return _load_boards(mirror / "deeppcb.zip")
    return _load_cells(mirror / "bccd.zip")


def _load_boards(path: Path) -> BoxData:
    from visionloop.data.datasets.deeppcb import CLASSES, ZippedBoards

    boards = ZippedBoards(path)
    names = np.random.default_rng(0).permutation(sorted(boards.names()))[:IMAGES]
    truth = []
    for name in names:
        rows = boards.boxes(str(name))
        xyxy = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
        truth.append((xyxy, np.array([CLASSES.index(row[4]) for row in rows], np.int64)))
    contents = [boards.image(str(name)) for name in names]
    return BoxData("deeppcb", contents, (640, 640), truth, CLASSES)


def _load_cells(path: Path) -> BoxData:
    import xml.etree.ElementTree as ElementTree
    import zipfile

    classes = ("RBC", "WBC", "Platelets")
    contents, truth = [], []
    with zipfile.ZipFile(path) as archive:
        names = sorted(one for one in archive.namelist() if one.endswith(".xml"))
        for number in np.random.default_rng(0).permutation(len(names)):
            stem = Path(names[number]).stem
            root = ElementTree.fromstring(archive.read(names[number]))
            rows = [
                (
                    [float(one.findtext(f"bndbox/{side}", "0")) for side in SIDES],
                    one.findtext("name"),
                )
                for one in root.iter("object")
            ]
            rows = [row for row in rows if row[0][2] > row[0][0] and row[0][3] > row[0][1]]
            xyxy = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
            truth.append((xyxy, np.array([classes.index(str(row[1])) for row in rows], np.int64)))
            contents.append(archive.read(f"BCCD/JPEGImages/{stem}.jpg"))
    return BoxData("bccd", contents, (640, 480), truth, classes)


def grey_pictures(data: BoxData, images: Iterable[int]) -> list[Callable[[], NDArray[np.uint8]]]:
    """What reads these images, as the scorer wants it."""

    def read(image: int) -> NDArray[np.uint8]:
        content = np.frombuffer(data.contents[image], np.uint8)
        return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)

    return [partial(read, image) for image in images]


SIDES = ("xmin", "ymin", "xmax", "ymax")


def load_answers(data: BoxData, strength: str) -> list[Detections]:
    """Out-of-fold answers on every image; trains what is not there yet."""
    answers = [Detections.empty()] * len(data.contents)
    for fold in (0, 1):
        path = ANSWERS / f"{data.name}_{strength}_{fold}.npz"
        if not path.is_file():
            _train_and_answer(data, strength, fold, path)
        for image, answer in read_answers(path, range(fold, len(answers), 2)).items():
            answers[image] = answer
    return answers


def read_answers(path: Path, images: Iterable[int]) -> dict[int, Detections]:
    """The stored answers on these images."""
    stored = np.load(path)
    answers = {}
    for image in images:
        mine = stored["image"] == image
        answers[image] = Detections(
            stored["xyxy"][mine], stored["class_id"][mine], stored["confidence"][mine]
        )
    return answers


def _train_and_answer(data: BoxData, strength: str, fold: int, path: Path) -> None:
    """Fold 0 answers images 0, 2, 4, ... after learning 1, 3, 5, ..., and the other way round."""
    passes = PASSES[data.name, strength]
    say_step(f"{data.name}, {strength}: {passes} passes, fold {fold}")
    noisy, _ = plant(
        data.truth,
        data.size,
        len(data.classes),
        rate=TRAINED_RATE,
        unit="boxes",
        seed=TRAINED_SEED,
    )
    learned = range(1 - fold, len(data.contents), 2)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        model = train_on_boxes(data, noisy, list(learned), passes, Path(name))
        rows = answer_boxes(model, data.contents, range(fold, len(data.contents), 2))
    save_answers(path, rows, time.monotonic() - started)


def save_answers(path: Path, rows: Mapping[str, Any], seconds: float) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, seconds=seconds, **rows)
    os.replace(temporary, path)


def train_on_boxes(
    data: BoxData,
    given: Sequence[BoxSet],
    learned: Sequence[int],
    passes: int,
    folder: Path,
    *,
    pixels: int = PIXELS,
) -> Any:
    """A YOLOv8n that learned these boxes of these images, in so many image passes."""
    set_quiet_environment()
    from ultralytics import YOLO
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils import SETTINGS

    from visionloop.training.families.yolo_training import INTEGRATIONS

    # In memory only: nothing is logged to MLflow, DVC or anything else that is installed.
    dict.update(SETTINGS, dict.fromkeys(INTEGRATIONS, False))

    class Trainer(DetectionTrainer):  # type: ignore[misc]
        """Neither validates nor looks for the best epoch: there is no truth to choose by."""

        def validate(self) -> tuple[dict[str, float], float]:
            return {}, 0.0

        def final_eval(self) -> None:
            return None

    weights = folder / "yolov8n.pt"
    shutil.copyfile(Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolov8n-coco.pt", weights)
    _write_folder(data, given, learned, folder)
    epochs = -(-passes // len(learned))
    model = YOLO(weights)
    model.train(
        trainer=Trainer, data=str(folder / "data.yaml"), epochs=epochs, imgsz=pixels, batch=8,
        optimizer="AdamW", lr0=0.001, lrf=0.1, warmup_epochs=0, mosaic=0.0, seed=0, workers=0,
        amp=False, device="cpu", plots=False, val=False, verbose=False, project=str(folder),
        name="run", cache="ram",
    )  # fmt: skip
    return YOLO(folder / "run" / "weights" / "last.pt")


def _write_folder(
    data: BoxData, given: Sequence[BoxSet], learned: Sequence[int], folder: Path
) -> None:
    images, texts = folder / "images", folder / "labels"
    images.mkdir()
    texts.mkdir()
    scale = np.tile(np.array(data.size, np.float32), 2)
    for image in learned:
        (images / f"{image}.png").write_bytes(data.contents[image])
        xyxy, class_id = given[image]
        lines = []
        for box, number in zip(xyxy / scale, class_id, strict=True):
            middle, extent = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
            lines.append(
                f"{number} {middle[0]:.6f} {middle[1]:.6f} {extent[0]:.6f} {extent[1]:.6f}"
            )
        (texts / f"{image}.txt").write_text("\n".join(lines))
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(data.classes))
    (folder / "data.yaml").write_text(
        f"path: {folder}\ntrain: images\nval: images\nnames:\n{names}"
    )


def answer_boxes(
    model: Any,
    contents: Sequence[bytes],
    images: Iterable[int],
    *,
    pixels: int = PIXELS,
    agnostic: bool = False,
) -> dict[str, Any]:
    """Its answers on these images down to a confidence of .01, as arrays.

    ``agnostic`` lets boxes of different classes suppress each other.
    """
    found: dict[str, list[Any]] = {"image": [], "xyxy": [], "class_id": [], "confidence": []}
    for image in images:
        picture = cv2.imdecode(np.frombuffer(contents[image], np.uint8), cv2.IMREAD_COLOR)
        (answer,) = model.predict(
            picture, imgsz=pixels, conf=LOWEST_CONFIDENCE, iou=0.6, agnostic_nms=agnostic,
            device="cpu", verbose=False,
        )  # fmt: skip
        found["image"] += [image] * len(answer.boxes)
        found["xyxy"] += answer.boxes.xyxy.tolist()
        found["class_id"] += answer.boxes.cls.tolist()
        found["confidence"] += answer.boxes.conf.tolist()
    return {
        "image": np.array(found["image"], np.int64),
        "xyxy": np.array(found["xyxy"], np.float32).reshape(-1, 4),
        "class_id": np.array(found["class_id"], np.int64),
        "confidence": np.array(found["confidence"], np.float32),
    }


def main() -> None:
    """Train all detectors that have no answers yet."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="deeppcb,bccd", help="comma between them")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.sets.split(","):
        data = load_boxes(name)
        for strength in ("weak", "strong"):
            load_answers(data, strength)


if __name__ == "__main__":
    main()
