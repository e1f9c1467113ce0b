"""Detectors that learn while 1,000 boards are annotated, and their answers on the next boards.

For each seed the boards are put into one order. A detector learns after 50, 150 and 400 of them
and answers those up to the next training, which it has not seen. It goes on from the one before,
with pieces of 384 x 384 pixels at full resolution, most around a defect: one piece is one image
pass, 6,000 in all. It answers from four mirror images of a board, fused. One file of answers a
(seed, training) is kept in ``results/label_cost/``, so an interrupted run goes on. Ultralytics is
AGPL-3.0; start weights ``yolov8n-coco.pt`` from ``VISIONLOOP_WEIGHTS``.

    python benchmarks/label_cost_models.py [--seeds 0 1]
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from box_views import answer_by_views
from numpy.typing import NDArray
from report import RESULTS

from visionloop.core.entities import Detections
from visionloop.core.progress import say_step
from visionloop.data.datasets.deeppcb import CLASSES, ZippedBoards

__all__ = ["IMAGES", "SEEDS", "TRAININGS", "Boards", "load_answers", "load_boards"]

ANSWERS = RESULTS / "label_cost"
IMAGES = 1000
SEEDS = (0, 1)
TRAININGS = {50: 400, 150: 700, 400: 1900}
"""Boards annotated when a detector learns, and its image passes: most for whom most boards wait."""
OPTIONS = {
    "mosaic": 0.0,
    "scale": 0.15,
    "hsv_h": 0.0,
    "hsv_s": 0.0,
    "hsv_v": 0.1,
    "cos_lr": True,
    "lrf": 0.01,
    "warmup_epochs": 1,
}
"""Of Ultralytics; one half cosine a training."""
SIDE, PIECE = 640, 384
BATCH = 4
LEAST_LEFT = 0.4
"""A defect cut by the edge of a piece counts if so much of its area is left."""


@dataclass(frozen=True, eq=False)
class Boards:
    """Boards in the order in which they are annotated: PNG bytes, boxes, class numbers."""

    names: list[str]
    contents: list[bytes]
    xyxy: list[NDArray[np.float32]]
    class_id: list[NDArray[np.int64]]


def load_boards(seed: int, count: int = IMAGES) -> Boards:
    """The first boards of a random order; the templates in the archive are not read."""
    archive = ZippedBoards(Path(os.environ["VISIONLOOP_MIRROR"]) / "deeppcb.zip")
    order = np.random.default_rng(seed).permutation(sorted(archive.names()))[:count]
    names = [str(name) for name in order]
    boxes = [archive.boxes(name) for name in names]
    return Boards(
        names,
        [archive.image(name) for name in names],
        [np.array([row[:4] for row in rows], np.float32).reshape(-1, 4) for rows in boxes],
        [np.array([CLASSES.index(row[4]) for row in rows], np.int64) for rows in boxes],
    )


def load_answers(seed: int, boards: Boards | None = None) -> dict[int, dict[int, Detections]]:
    """For each training, its answers by place in the order; trains what is not there yet."""
    answers = {}
    for count in TRAININGS:
        path = ANSWERS / f"{seed}_{count}.npz"
        if not path.is_file():
            boards = boards or load_boards(seed)
            _train_and_answer(boards, seed, count, path)
        stored = np.load(path)
        answers[count] = {
            image: Detections(
                stored["xyxy"][stored["image"] == image],
                stored["class_id"][stored["image"] == image],
                stored["confidence"][stored["image"] == image],
            )
            for image in _next(count)
        }
    return answers


def _next(count: int) -> range:
    """The boards that are annotated with the drafts of a training."""
    later = [one for one in TRAININGS if one > count]
    return range(count, later[0] if later else IMAGES)


def _train_and_answer(boards: Boards, seed: int, count: int, path: Path) -> None:
    from detector_training import Budget, Picture, train_detector, write_pictures

    say_step(f"seed {seed}: {count} boards, {TRAININGS[count]} passes")
    started = time.monotonic()
    earlier = [one for one in TRAININGS if one < count]
    weights = (
        ANSWERS / f"{seed}_{earlier[-1]}.pt"
        if earlier
        else Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolov8n-coco.pt"
    )
    rng = np.random.default_rng((seed, count))
    wanted = 2 * TRAININGS[count]  # more pieces than passes: hardly any is seen twice
    with tempfile.TemporaryDirectory() as name:
        pieces = {
            f"{number}": Picture(*_cut(boards, int(rng.integers(count)), rng), PIECE)
            for number in range(wanted)
        }
        pool = write_pictures(Path(name) / "pieces", pieces)
        checkpoint = train_detector(
            Path(name) / "training",
            weights=weights,
            classes=CLASSES,
            pools=[pool],
            shares=[(1.0,)],
            budget=Budget(TRAININGS[count] // 100, 100, BATCH, PIECE, 0.001, "mixed"),
            seed=seed,
            threads=int(os.environ.get("OMP_NUM_THREADS", "2")),
            options=OPTIONS,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint, path.with_suffix(".pt"))
        trained = time.monotonic() - started
        rows = _answer(checkpoint, boards, _next(count))
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, training_seconds=trained, **rows)
    os.replace(temporary, path)


def _cut(
    boards: Boards, image: int, rng: np.random.Generator
) -> tuple[bytes, list[tuple[float, float, float, float, int]]]:
    """A piece of a board, turned by a multiple of 90 degrees; PNG bytes and boxes."""
    content = np.frombuffer(boards.contents[image], np.uint8)
    picture = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    xyxy, class_id = boards.xyxy[image], boards.class_id[image]
    corner = rng.uniform(0, SIDE - PIECE, 2)
    if len(xyxy) and rng.random() < 0.85:
        box = xyxy[rng.integers(len(xyxy))]
        middle = (box[:2] + box[2:]) / 2
        corner = middle - rng.uniform(0.1, 0.9, 2) * PIECE
    x, y = np.clip(np.round(corner), 0, SIDE - PIECE).astype(int)
    piece = picture[y : y + PIECE, x : x + PIECE]
    shifted = xyxy - np.array([x, y, x, y], np.float32)
    clipped = np.clip(shifted, 0, PIECE)
    left = _area(clipped) / np.maximum(_area(shifted), 1)
    clipped, class_id = clipped[left >= LEAST_LEFT], class_id[left >= LEAST_LEFT]
    for _ in range(int(rng.integers(4))):
        piece = np.ascontiguousarray(np.rot90(piece))
        x1, y1, x2, y2 = clipped.T
        clipped = np.stack([y1, PIECE - x2, y2, PIECE - x1], axis=1)
    rows = [(*map(float, box), int(one)) for box, one in zip(clipped, class_id, strict=True)]
    return cv2.imencode(".png", piece)[1].tobytes(), rows


def _area(xyxy: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.prod(np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0), axis=1)


def _answer(checkpoint: Path, boards: Boards, images: range) -> dict[str, Any]:
    from ultralytics import YOLO

    return answer_by_views(YOLO(str(checkpoint)), boards.contents, images, pixels=SIDE)


def main() -> None:
    """Train all detectors that have no answers yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    for seed in parser.parse_args().seeds:
        load_answers(seed)


if __name__ == "__main__":
    main()
