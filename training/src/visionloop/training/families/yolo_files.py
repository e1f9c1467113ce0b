"""The folder that Ultralytics reads: links to images, one text file of boxes an image."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from visionloop.core.errors import DataError
from visionloop.data.versions.version import DatasetVersion
from visionloop.training.truth import Boxes, train_boxes

__all__ = ["write_yolo_folder"]

JPEG_END = b"\xff\xd9"


def write_yolo_folder(
    folder: Path, version: DatasetVersion, *, fault: str, seed: int
) -> dict[str, Any]:
    """Lay out the train and val split below ``folder``.

    Returns
    -------
    dict
        What Ultralytics calls a dataset: paths, number and names of classes.

    Raises
    ------
    DataError
        If a split is empty, has no box, or an image file is missing.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for split in ("train", "val"):
        rows = version.split(split)
        if rows.empty:
            raise DataError(
                f"dataset version {version.name}",
                f"a detector needs samples in train and val; {split} has none",
                "set data.split.val_fraction, then visionloop data split and freeze",
            )
        ids = rows["sample_id"].tolist()
        if split == "train":
            boxes = train_boxes(version, ids, fault=fault, seed=seed)
        else:
            boxes = {sample_id: version.boxes(sample_id) for sample_id in ids}
        _write_split(folder, split, version, rows, boxes)
    return {
        "path": folder,
        "train": str(folder / "images" / "train"),
        "val": str(folder / "images" / "val"),
        "nc": len(version.classes),
        "names": dict(enumerate(version.classes)),
        "channels": 3,
    }


def _write_split(
    folder: Path, split: str, version: DatasetVersion, rows: Any, boxes: dict[str, Boxes]
) -> None:
    images, texts = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    texts.mkdir(parents=True)
    missing = []
    for row in rows.itertuples():
        source = version.images / row.file_name
        if not source.is_file():
            missing.append(f"image {row.file_name[:16]}… is missing")
            continue
        _place_image(source, images / row.file_name)
        lines = _box_lines(boxes[row.sample_id], int(row.width), int(row.height))
        (texts / row.file_name).with_suffix(".txt").write_text(lines)
    if missing:
        raise DataError(f"dataset version {version.name}", missing, "dvc checkout")


def _place_image(source: Path, target: Path) -> None:
    """Link, but copy a JPEG whose end is missing: Ultralytics would write it again in place."""
    if source.suffix.lower() in (".jpg", ".jpeg"):
        with source.open("rb") as file:
            file.seek(-2, os.SEEK_END)
            if file.read() != JPEG_END:
                shutil.copyfile(source, target)
                return
    target.symlink_to(source.resolve())


def _box_lines(boxes: Boxes, width: int, height: int) -> str:
    """``class cx cy w h`` a line, as shares of width and height, clipped to the image."""
    xyxy, class_id = boxes
    if not len(class_id):
        return ""
    shares = np.clip(xyxy / np.array([width, height, width, height], np.float32), 0, 1)
    centre, size = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    return "".join(
        f"{number} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
        for number, (x, y), (w, h) in zip(class_id, centre, size, strict=True)
        if w > 0 and h > 0
    )
