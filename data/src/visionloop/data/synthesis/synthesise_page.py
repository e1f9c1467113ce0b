"""The page of ``synthesise``: what was made, with examples of every recipe."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.files import write_text
from visionloop.core.workspace import Workspace
from visionloop.data.raw import RawStore
from visionloop.data.synthesis.mark import is_synthetic
from visionloop.serving.images import read_image

if TYPE_CHECKING:
    from visionloop.data.synthesis.synthesise import SynthesiseReport

__all__ = ["draw_boxes", "embed_picture", "write_page"]

Image = NDArray[np.uint8]

EXAMPLES = 8
SIDE = 320
COLOURS = (
    (46, 108, 214),
    (30, 150, 90),
    (200, 60, 60),
    (30, 160, 200),
    (170, 80, 170),
    (90, 90, 90),
)
"""BGR, one a class, in order of name."""


def write_page(workspace: Workspace, report: SynthesiseReport) -> Path:
    """Write ``reports/synthesise/index.html`` with the first examples of each recipe."""
    store = RawStore.load(workspace)
    of_sample: dict[str, list[Annotation]] = {}
    for row in store.annotations:
        of_sample.setdefault(row.sample_id, []).append(row)
    groups = []
    if store.frame is not None:
        made = store.frame[is_synthetic(store.frame)]
        names = sorted(report.classes)
        for name, rows in made.groupby("synthesis_recipe") if len(made) else ():
            chosen = rows.iloc[:: max(1, len(rows) // EXAMPLES)].head(EXAMPLES)
            groups.append(
                {
                    "name": name,
                    "kind": rows["synthesis_kind"].iloc[0],
                    "count": len(rows),
                    "licence": ", ".join(sorted(set(rows["licence"]))),
                    "pictures": [
                        _example(workspace, one, of_sample.get(one["sample_id"], []), names)
                        for one in chosen.to_dict("records")
                    ],
                }
            )
    folder = Path(__file__).parent / "templates"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("synthesise.html.j2").render(report=report, groups=groups)
    return write_text(workspace.reports / "synthesise" / "index.html", page)


def _example(
    workspace: Workspace, row: dict[str, Any], annotations: list[Annotation], names: list[str]
) -> dict[str, str]:
    image = read_image(workspace.images / row["file_name"])
    boxed = draw_boxes(image, annotations, names)
    said = ", ".join(sorted({one.class_name for one in annotations}))
    return {"picture": embed_picture(boxed), "said": said, "sample": row["sample_id"][:12]}


def draw_boxes(image: Image, annotations: Iterable[Annotation], names: list[str]) -> Image:
    """The picture at a size for a page, its boxes in the colour of their class.

    Parameters
    ----------
    image : uint8 array (H, W, 3), BGR
    annotations : annotations of the image
    names : list of str
        Class names; their order decides colours.
    """
    scale = SIDE / max(image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    done = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=method), np.uint8)
    for row in annotations:
        if row.xyxy is None:
            continue
        x1, y1, x2, y2 = (round(value * scale) for value in row.xyxy)
        colour = COLOURS[names.index(row.class_name) % len(COLOURS)]
        cv2.rectangle(done, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
        above = (x1, y1 - 3 if y1 > 14 else y2 + 11)
        cv2.putText(done, row.class_name, above, 0, 0.34, colour, 1, cv2.LINE_AA)
    return done


def embed_picture(image: Image, *, quality: int = 85) -> str:
    """A ``data:`` address of the picture, JPEG."""
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return "data:image/jpeg;base64," + base64.b64encode(bytes(coded)).decode()
