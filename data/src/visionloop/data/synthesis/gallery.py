"""The gallery: every condition at every severity on one picture, to be looked at.

People judge with it which conditions their plant knows, and at which severity a person
could not do the job either.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.files import write_json, write_text
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.synthesis.conditions.table import (
    CAUSES,
    apply_condition_to_sample,
    changes_boxes,
)
from visionloop.data.synthesis.synthesise_page import embed_picture
from visionloop.serving.images import read_image

__all__ = ["GalleryReport", "draw_scene", "gallery"]

Image = NDArray[np.uint8]
Boxes = NDArray[np.float32]

SIDE = 460
"""Longer side at which conditions are applied."""
SHOWN = 230
"""Longer side of a picture on the page."""
GREEN, WHITE = (80, 200, 60), (255, 255, 255)


@dataclass(frozen=True)
class GalleryReport:
    """What the gallery shows.

    Attributes
    ----------
    conditions, pictures : int
    difference : dict of condition to list of 5 floats
        Mean absolute difference from the clean picture, grey levels, by severity.
    """

    conditions: int
    pictures: int
    difference: dict[str, list[float]]


def gallery(*, workspace: Workspace, image: Path | None = None, seed: int = 0) -> GalleryReport:
    """Write ``reports/gallery/index.html`` and ``gallery.json``.

    Parameters
    ----------
    workspace : Workspace
    image : Path or None
        A PNG or JPEG; None draws a board with boxes.
    seed : int

    Raises
    ------
    DataError
        If the image cannot be read.
    """
    picture, boxes = draw_scene() if image is None else (read_image(image), np.zeros((0, 4)))
    scale = min(1.0, SIDE / max(picture.shape[:2]))
    picture = np.asarray(
        cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
    boxes = np.asarray(boxes * scale, np.float32)
    difference: dict[str, list[float]] = {}
    groups = []
    for cause, rows in CAUSES.items():
        shown = []
        for name in track(list(rows), f"conditions of {cause}"):
            cells, difference[name] = _row(picture, boxes, name, seed)
            shown.append({"name": name, "pictures": cells, "boxes": changes_boxes(name)})
        groups.append({"cause": cause, "conditions": shown})
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    clean = embed_picture(_small(_with_boxes(picture, boxes)))
    page = environment.get_template("gallery.html.j2").render(groups=groups, clean=clean)
    report = GalleryReport(len(difference), 5 * len(difference), difference)
    write_json(workspace.reports / "gallery" / "gallery.json", dict(vars(report)))
    write_text(workspace.reports / "gallery" / "index.html", page)
    return report


def _row(
    picture: Image, boxes: Boxes, name: str, seed: int
) -> tuple[list[dict[str, object]], list[float]]:
    cells: list[dict[str, object]] = []
    differences = []
    for severity in range(1, 6):
        done = apply_condition_to_sample(picture, boxes, name, severity, seed)
        differences.append(round(float(cv2.absdiff(done.image, picture).mean()), 2))
        cells.append(
            {
                "picture": embed_picture(_small(_with_boxes(done.image, done.xyxy)), quality=75),
                "severity": severity,
                "difference": differences[-1],
                "lost": int((~done.kept).sum()),
            }
        )
    return cells, differences


def _with_boxes(image: Image, boxes: Boxes) -> Image:
    done = image.copy()
    for x1, y1, x2, y2 in np.rint(boxes).astype(int).tolist():
        cv2.rectangle(done, (x1, y1), (x2, y2), WHITE, 3)
        cv2.rectangle(done, (x1, y1), (x2, y2), GREEN, 2)
    return done


def _small(image: Image) -> Image:
    scale = min(1.0, SHOWN / max(image.shape[:2]))
    return np.asarray(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )


def draw_scene() -> tuple[Image, Boxes]:
    """A board in colour, with pads, traces and some boxes: uint8 (460, 460, 3), xyxy (N, 4)."""
    import random

    from visionloop.data.synthesis.board_template import Template
    from visionloop.data.synthesis.boards import draw_template
    from visionloop.data.synthesis.template_defects import draw_defect

    copper, _, _ = draw_template(random.Random("gallery"), dense=False)
    template = Template(copper > 0)
    generator = np.random.default_rng(5)
    board, taken = template.copper, np.zeros(template.shape, bool)
    boxes = []
    for kind in ("open", "short", "spur", "copper", "mousebite", "pin-hole"):
        drawn = draw_defect(template, kind, generator, board=board, taken=taken)
        if drawn is None:
            continue
        board = drawn.board
        boxes.append(drawn.xyxy)
        x1, y1, x2, y2 = (int(value) for value in drawn.xyxy)
        taken[y1:y2, x1:x2] = True
    lacquer, metal = np.array([60, 92, 28]), np.array([110, 176, 214])
    soft = cv2.GaussianBlur(board.astype(np.float32), (0, 0), 0.8)[..., None]
    grain = generator.normal(0, 3, (*template.shape, 1))
    light = np.linspace(1.08, 0.86, template.shape[1])[None, :, None]
    picture = ((lacquer * (1 - soft) + metal * soft + grain) * light).clip(0, 255)
    scale = SIDE / template.shape[0]
    small = cv2.resize(picture.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), np.asarray(boxes, np.float32) * np.float32(scale)
