"""COCO JSON, the format in which visionloop keeps annotations.

Boxes are standard COCO (``bbox`` is ``[x, y, width, height]`` in pixels). A class
of the whole image is an annotation without ``bbox``; an image that was looked at
and holds nothing carries ``"reviewed": true``. Outlines are standard ``segmentation``
rings. Our own fields (``sample_id``, ``annotator``, ``source``, ``action``,
``lead_time``, ``probabilities``) sit beside the standard ones and other tools pass
over them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import read_json, replace_file

__all__ = ["CocoImage", "load", "save", "save_ordered"]


@dataclass(frozen=True)
class CocoImage:
    """What COCO stores of an image: sample id, file name, width and height in pixels."""

    sample_id: str
    file_name: str
    width: int
    height: int


def save(
    path: Path,
    images: Iterable[CocoImage],
    annotations: Iterable[Annotation],
    classes: Sequence[str],
) -> Path:
    """Write a COCO file; images and annotations are ordered by sample id.

    Raises
    ------
    ValueError
        If an annotation names an unknown sample or class.
    """
    rows = sorted(annotations, key=lambda row: (row.sample_id, row.xyxy or (), row.class_name))
    reviewed = {row.sample_id for row in rows}
    ordered = sorted(images, key=lambda image: image.sample_id)
    return save_ordered(
        path, ((image, image.sample_id in reviewed) for image in ordered), rows, classes
    )


def save_ordered(
    path: Path,
    images: Iterable[tuple[CocoImage, bool]],
    annotations: Iterable[Annotation],
    classes: Sequence[str],
) -> Path:
    """Write a COCO file of any length, one row in memory at a time.

    Parameters
    ----------
    path : Path
    images : iterable of (CocoImage, bool)
        By rising sample id, each with whether somebody looked at it.
    annotations : iterable of Annotation
        By rising sample id. Read after all images.
    classes : sequence of str

    Raises
    ------
    ValueError
        If an annotation names an unknown sample or class; the file stays as it was.
    """
    image_numbers: dict[str, int] = {}
    class_numbers = {name: number for number, name in enumerate(classes, start=1)}

    def image_rows() -> Iterator[dict[str, Any]]:
        for number, (image, is_reviewed) in enumerate(images, start=1):
            image_numbers[image.sample_id] = number
            yield {
                "id": number,
                "file_name": image.file_name,
                "width": image.width,
                "height": image.height,
                "sample_id": image.sample_id,
                "reviewed": is_reviewed,
            }

    categories = ({"id": number, "name": name} for name, number in class_numbers.items())
    rows = (
        _to_row(number, row, image_numbers, class_numbers)
        for number, row in enumerate(annotations, start=1)
    )
    with replace_file(path) as file:
        file.write('{\n  "images": ')
        file.writelines(_json_list(image_rows()))
        file.write(',\n  "categories": ')
        file.writelines(_json_list(categories))
        file.write(',\n  "annotations": ')
        file.writelines(_json_list(rows))
        file.write("\n}\n")
    return path


def _json_list(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The pieces of a JSON list two levels deep, as :func:`write_json` would write it."""
    is_first = True
    for row in rows:
        yield ("[\n    " if is_first else ",\n    ") + _indented(row, "\n    ")
        is_first = False
    yield "[]" if is_first else "\n  ]"


def _indented(value: Any, margin: str) -> str:
    """As ``json.dumps`` says it with an indent of two, in a quarter of its time.

    ``margin`` is the line break and the spaces before the line that the value ends on.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)
    inner = margin + "  "
    if value and isinstance(value, dict):
        pairs = [
            f"{encode_basestring(name)}: {_indented(one, inner)}" for name, one in value.items()
        ]
        return f"{{{inner}{f',{inner}'.join(pairs)}{margin}}}"
    if value and isinstance(value, list):
        return f"[{inner}{f',{inner}'.join([_indented(one, inner) for one in value])}{margin}]"
    return json.dumps(value, allow_nan=False)


def load(path: Path) -> tuple[list[CocoImage], list[Annotation], list[str]]:
    """Read a COCO file.

    Returns
    -------
    images, annotations, classes

    Raises
    ------
    DataError
        Naming every wrong row: an unknown image or category, a box that is not
        finite, has no area or lies outside its image.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not {"images", "categories", "annotations"} <= set(content):
        raise DataError(str(path), "is not COCO: images, categories, annotations are expected")
    images = {
        row["id"]: CocoImage(
            row.get("sample_id", row["file_name"].partition(".")[0]),
            row["file_name"],
            int(row["width"]),
            int(row["height"]),
        )
        for row in content["images"]
    }
    names = {row["id"]: row["name"] for row in content["categories"]}
    problems: list[str] = []
    annotations: list[Annotation] = []
    for row in content["annotations"]:
        problem = _problem(row, images, names)
        if problem:
            problems.append(f"annotation {row.get('id')}: {problem}")
        else:
            annotations.append(_from_row(row, images, names))
    if problems:
        raise DataError(str(path), problems, "correct or remove these rows; nothing was read")
    classes = [row["name"] for row in sorted(content["categories"], key=lambda row: row["id"])]
    return list(images.values()), annotations, classes


def _to_row(
    number: int,
    annotation: Annotation,
    image_numbers: dict[str, int],
    class_numbers: dict[str, int],
) -> dict[str, Any]:
    if annotation.sample_id not in image_numbers:
        raise ValueError(f"annotation of unknown sample {annotation.sample_id}")
    row: dict[str, Any] = {"id": number, "image_id": image_numbers[annotation.sample_id]}
    if annotation.class_name:
        if annotation.class_name not in class_numbers:
            raise ValueError(f"annotation of unknown class '{annotation.class_name}'")
        row["category_id"] = class_numbers[annotation.class_name]
    if annotation.xyxy is not None:
        x1, y1, x2, y2 = (float(value) for value in annotation.xyxy)
        row |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
    if annotation.polygon:
        row["segmentation"] = [[float(value) for value in ring] for ring in annotation.polygon]
    if annotation.probabilities:
        row["probabilities"] = {name: float(value) for name, value in annotation.probabilities}
    return row | {
        "annotator": annotation.annotator,
        "source": annotation.source,
        "action": annotation.action,
        "lead_time": annotation.lead_time,
    }


def _from_row(
    row: dict[str, Any], images: dict[int, CocoImage], names: dict[int, str]
) -> Annotation:
    xyxy = None
    if "bbox" in row:
        x, y, width, height = (float(value) for value in row["bbox"])
        xyxy = (x, y, x + width, y + height)
    return Annotation(
        sample_id=images[row["image_id"]].sample_id,
        class_name=names[row["category_id"]] if "category_id" in row else "",
        xyxy=xyxy,
        annotator=row.get("annotator", ""),
        source=row.get("source", "expert"),
        action=row.get("action", ""),
        lead_time=float(row.get("lead_time", 0)),
        polygon=tuple(tuple(map(float, ring)) for ring in row.get("segmentation", ())),
        probabilities=tuple(row.get("probabilities", {}).items()),
    )


def _problem(row: dict[str, Any], images: dict[int, CocoImage], names: dict[int, str]) -> str:
    if row.get("image_id") not in images:
        return f"unknown image {row.get('image_id')}"
    if "category_id" in row and row["category_id"] not in names:
        return f"unknown category {row['category_id']}"
    if "bbox" not in row:
        return ""
    box = row["bbox"]
    if len(box) != 4 or not all(math.isfinite(float(value)) for value in box):
        return f"box {box} is not four finite numbers"
    x, y, width, height = (float(value) for value in box)
    image = images[row["image_id"]]
    if width <= 0 or height <= 0:
        return f"box {box} has no area"
    if x < -1 or y < -1 or x + width > image.width + 1 or y + height > image.height + 1:
        return f"box {box} lies outside its image of {image.width} x {image.height}"
    return ""
