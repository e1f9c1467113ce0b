"""``reference.json``: real images with their truth, on which forms of a package are compared.

The export writes it from the dataset version that the model was trained on; serving itself
never reads a dataset version. Train samples are candidates for the calibration of INT8, val
samples come first where decisions are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, ValidationError

from visionloop.core.config import StrictModel
from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.core.progress import say_step
from visionloop.core.quality import Boxes
from visionloop.serving.images import IMAGE_SUFFIXES, read_image

__all__ = [
    "REFERENCE_NAME",
    "Reference",
    "ReferenceSample",
    "divide",
    "load_reference",
    "readable",
    "reference_of_folder",
    "save_reference",
]

REFERENCE_NAME = "reference.json"


class ReferenceSample(StrictModel):
    """One image and what people said about it."""

    file_name: str = Field(description="below the folder of images")
    split: Literal["train", "val", ""] = ""
    class_id: int | None = Field(default=None, ge=0, description="classification, anomaly")
    attributes: list[int] | None = Field(default=None, description="scene: classes that hold")
    xyxy: list[list[float]] | None = Field(default=None, description="detection: pixels")
    box_class_id: list[int] | None = Field(default=None, description="detection: one a box")

    @property
    def has_truth(self) -> bool:
        """Whether somebody annotated it."""
        return not (self.class_id is None and self.attributes is None and self.xyxy is None)

    def boxes(self) -> Boxes:
        """True boxes: xyxy float32 (N, 4) in pixels, class_id int64 (N,)."""
        xyxy = np.array(self.xyxy or [], np.float32).reshape(-1, 4)
        return xyxy, np.array(self.box_class_id or [], np.int64)


class Reference(StrictModel):
    """The whole of ``reference.json``."""

    format_version: Literal[1] = 1
    dataset_fingerprint: str = ""
    metric: str = Field(default="", description="quality.metric of targets.yaml")
    samples: list[ReferenceSample]

    @property
    def has_truth(self) -> bool:
        """Whether every sample was annotated; else FP32's own answers are the truth."""
        return bool(self.samples) and all(one.has_truth for one in self.samples)


def save_reference(path: Path, reference: Reference) -> Path:
    """Write ``reference.json`` durably."""
    return write_json(path, reference.model_dump(mode="json", exclude_defaults=True))


def load_reference(path: Path) -> Reference:
    """Read ``reference.json``.

    Raises
    ------
    DataError
        If it is missing or not in order.
    """
    try:
        return Reference.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read: {error.strerror}", "visionloop train export"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(str(path), f"{where}: {first['msg']}", "visionloop train export") from None


def reference_of_folder(folder: Path, count: int) -> Reference:
    """Images without truth: the first of a folder in the order of their names, which are hashes.

    Raises
    ------
    DataError
        If there is no image.
    """
    files = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise DataError(
            str(folder), "holds no images to compare on", "visionloop data import fills it"
        )
    return Reference(samples=[ReferenceSample(file_name=one.name) for one in files[:count]])


def readable(samples: Sequence[ReferenceSample], images: Path) -> list[ReferenceSample]:
    """Those whose file is a whole picture; the others are named and left out."""
    good = []
    for one in samples:
        try:
            read_image(images / one.file_name)
        except DataError as error:
            say_step(f"left out: {error.subject}: {error.problems[0]}")
            continue
        good.append(one)
    return good


def divide(
    samples: Sequence[ReferenceSample], *, parity: int
) -> tuple[list[ReferenceSample], list[ReferenceSample]]:
    """Candidates for calibration, and samples to compare on: never the same ones.

    Val samples are compared on first; where there are fewer than ``parity``, up to half of
    the others are too.
    """
    val = [one for one in samples if one.split == "val"]
    others = [one for one in samples if one.split != "val"]
    compared = val[:parity]
    if missing := min(parity - len(compared), (len(others) + 1) // 2):
        # Spread over the others, so that either half sees all of what there is.
        taken = set(np.linspace(len(others) - 1, 0, missing).round().astype(int).tolist())
        compared += [one for place, one in enumerate(others) if place in taken]
        others = [one for place, one in enumerate(others) if place not in taken]
    return others, compared
