"""What the network sees: some train pictures, each as it is and as augmentation changes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.files import write_bytes
from visionloop.training.augment import Augmenter

__all__ = ["draw_contact_sheet"]

SIDE, GAP, CHANGES = 128, 4, 7
BACKGROUND, BOX_COLOUR = 255, (0, 114, 230)

Boxes = NDArray[np.float32]


def draw_contact_sheet(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    augmenter: Augmenter,
    boxes: Sequence[Boxes] | None = None,
) -> None:
    """Write a PNG: one row a picture, the original first.

    Parameters
    ----------
    path : Path
    images : sequence of uint8 arrays (H, W, 3), BGR
        Nothing is written where there is none.
    augmenter : Augmenter
    boxes : sequence of float32 arrays (N, 4) or None
        Of each picture, in pixels; they are drawn where they went.
    """
    if not images:
        return
    rows = []
    for number, image in enumerate(images):
        xyxy = np.zeros((0, 4), np.float32) if boxes is None else boxes[number]
        cells = [_cell(image, xyxy)]
        for change in range(CHANGES):
            done = augmenter(image, key=(change + 1, number), xyxy=xyxy)
            cells.append(_cell(done.image, done.xyxy))
        rows.append(np.hstack(cells))
    write_bytes(path, cv2.imencode(".png", np.vstack(rows))[1].tobytes())


def _cell(image: NDArray[np.uint8], xyxy: Boxes) -> NDArray[np.uint8]:
    """The picture in a square, its boxes drawn."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    for x1, y1, x2, y2 in np.round(xyxy * scale).astype(int).tolist():
        cv2.rectangle(small, (x1, y1), (x2, y2), BOX_COLOUR, 1)
    cell = np.full((SIDE + GAP, SIDE + GAP, 3), BACKGROUND, np.uint8)
    cell[: small.shape[0], : small.shape[1]] = small
    return cell
