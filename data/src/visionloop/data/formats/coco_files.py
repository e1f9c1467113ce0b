"""COCO as other tools write it: one JSON file or one a split, beside folders of pictures.

``formats.coco`` keeps our own store in the same format and is strict; this reader reports
what is wrong row by row. A JSON file is read as a whole (at most 256 MiB), pictures one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.data.formats import coco
from visionloop.data.formats.json_rows import as_numbers, as_text, read_json_object
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import (
    RowReader,
    picture_header,
    split_of,
    split_of_word,
    unused_pictures,
)
from visionloop.data.formats.sources import SourceFiles

__all__ = ["CocoFormat"]

Row = dict[str, Any]
KEYS = ("images", "annotations", "categories")


class CocoFormat:
    """The row ``coco`` of the format table."""

    holds = frozenset({"class", "box", "polygon", "probabilities"})

    def recognise(self, files: SourceFiles) -> str:
        """A JSON file with images, annotations and categories."""
        found = _json_files(files)
        return f"{found[0]} holds images, annotations and categories" if found else ""

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """Names of the categories in the order of their ids."""
        names: dict[str, None] = {}
        for name in _json_files(files):
            content, _ = read_json_object(files, name)
            known, _ = _categories(name, content)
            names |= dict.fromkeys(known[key] for key in sorted(known))
        return tuple(names)

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """Pictures in the order of each file's ``images``."""
        used: dict[str, str] = {}
        for name in _json_files(files) or files.with_suffix(".json"):
            content, faults = read_json_object(files, name)
            yield from faults
            if not content:
                continue
            missing = [key for key in KEYS if not isinstance(content.get(key), list)]
            if missing:
                yield Fault(name, "", f"has no list {', '.join(missing)}", "syntax")
                continue
            yield from _read(files, name, content, used)
        yield from unused_pictures(files, set(used), "is in no COCO file: left out")

    def place_of(self, picture: Picture) -> str:
        """``images/<name>``."""
        return f"images/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """``annotations/<split>.json``; ``all.json`` for pictures without a split."""
        by_split: dict[str, list[Picture]] = {}
        for picture in pictures:
            by_split.setdefault(picture.split or "all", []).append(picture)
        for split, rows in by_split.items():
            images: list[coco.CocoImage] = []
            annotations: list[Annotation] = []
            for row in rows:
                stem = PurePosixPath(row.file).stem
                images.append(coco.CocoImage(stem, row.file, row.width, row.height))
                annotations += [replace(one, sample_id=stem) for one in row.annotations]
            coco.save(folder / "annotations" / f"{split}.json", images, annotations, classes)


def _json_files(files: SourceFiles) -> list[str]:
    return [
        name
        for name in files.with_suffix(".json")
        if all(f'"{key}"'.encode() in _safe_read(files, name) for key in KEYS)
    ]


def _safe_read(files: SourceFiles, name: str) -> bytes:
    try:
        return files.read(name)
    except DataError:
        return b""


def _categories(name: str, content: Row) -> tuple[dict[Any, str], list[Fault]]:
    known: dict[Any, str] = {}
    faults: list[Fault] = []
    for number, row in enumerate(content.get("categories") or []):
        place = f"categories[{number}]"
        if not isinstance(row, dict) or not as_text(row.get("name")) or "id" not in row:
            faults.append(Fault(name, place, "has no id or no name", "syntax"))
        elif row["id"] in known:
            reason = f"id {row['id']} is taken by '{known[row['id']]}'"
            faults.append(Fault(name, place, reason, "duplicate_id"))
        else:
            known[row["id"]] = row["name"]
    return known, faults


def _read(files: SourceFiles, name: str, content: Row, used: dict[str, str]) -> Iterator[Loaded]:
    names, faults = _categories(name, content)
    yield from faults
    by_image, faults = _by_image(name, content)
    yield from faults
    seen: set[Any] = set()
    for number, row in enumerate(content["images"]):
        place = f"images[{number}]"
        if not isinstance(row, dict) or "id" not in row or not as_text(row.get("file_name")):
            yield Fault(name, place, "has no id or no file_name", "syntax")
            continue
        image = files.find_picture(row["file_name"], near=name)
        if row["id"] in seen:
            yield Fault(name, place, f"id {row['id']} is there already", "duplicate_id")
        elif not image:
            yield Fault(name, place, f"there is no picture '{row['file_name']}'", "missing_image")
        elif image in used:
            yield Fault(name, place, f"{image} is described twice", "duplicate_id")
        else:
            used[image] = name
            yield from _picture(files, name, place, row, image, by_image.get(row["id"], []), names)
        seen.add(row["id"])
    for number in (number for key in set(by_image) - seen for number, _ in by_image[key]):
        yield Fault(name, f"annotations[{number}]", "is of an unknown image", "missing_image")


def _by_image(name: str, content: Row) -> tuple[dict[Any, list[tuple[int, Row]]], list[Fault]]:
    found: dict[Any, list[tuple[int, Row]]] = {}
    faults: list[Fault] = []
    ids: set[Any] = set()
    for number, row in enumerate(content["annotations"]):
        place = f"annotations[{number}]"
        if not isinstance(row, dict) or not isinstance(row.get("image_id"), int | str):
            faults.append(Fault(name, place, "has no image_id", "syntax"))
        elif isinstance(row.get("id"), int | str) and row["id"] in ids:
            faults.append(Fault(name, place, f"id {row['id']} is there already", "duplicate_id"))
        else:
            if isinstance(row.get("id"), int | str):
                ids.add(row["id"])
            found.setdefault(row["image_id"], []).append((number, row))
    return found, faults


def _picture(
    files: SourceFiles,
    name: str,
    place: str,
    image_row: Row,
    image: str,
    rows: list[tuple[int, Row]],
    names: dict[Any, str],
) -> Iterator[Loaded]:
    header, fault = picture_header(files, image)
    if header is None:
        yield fault or Fault(image, "", "cannot be read", "bad_image")
        return
    said = as_numbers([image_row.get("width", header.width), image_row.get("height", 0)])
    reader = RowReader(name, header.width, header.height)
    height = said[1] or header.height if said else 0
    if not said or abs(said[0] - header.width) > 1 or abs(height - header.height) > 1:
        reason = f"says {image_row.get('width')} x {image_row.get('height')}, but {image} has "
        reader.refuse(place, "size_mismatch", f"{reason}{header.width} x {header.height} pixels")
        rows = []
    for number, row in rows:
        _read_row(reader, f"annotations[{number}]", row, names)
    annotations, places = reader.finish()
    if not rows and image_row.get("reviewed") is False:
        annotations, places = (), ()
    yield from reader.faults
    split = split_of(image) or split_of_word(PurePosixPath(name).stem)
    yield Picture(image, annotations, places, header.width, header.height, split)


def _read_row(reader: RowReader, place: str, row: Row, names: dict[Any, str]) -> None:
    class_name = names.get(row.get("category_id"), "") if "category_id" in row else ""
    if "category_id" in row and not class_name:
        reader.refuse(place, "unknown_class", f"unknown category {row['category_id']!r}")
        return
    rings = row.get("segmentation")
    if isinstance(rings, dict):
        reader.note(f"{place}.segmentation", "unread_mask", "is a run-length mask: box only")
    polygon = [as_numbers(ring) for ring in rings] if isinstance(rings, list) else []
    if any(ring is None for ring in polygon):
        reader.refuse(f"{place}.segmentation", "syntax", "is not a list of rings of numbers")
        return
    xyxy = None
    if "bbox" in row:
        box = as_numbers(row["bbox"], 4)
        if box is None:
            reader.refuse(f"{place}.bbox", "syntax", f"{row['bbox']!r} is not four numbers")
            return
        xyxy = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    kept = [ring for ring in polygon if ring is not None]
    if kept:
        reader.add_polygon(f"{place}.segmentation", class_name, kept, xyxy)
    elif xyxy is not None:
        reader.add_box(f"{place}.bbox", class_name, xyxy)
    else:
        _read_class(reader, place, class_name, row)


def _read_class(reader: RowReader, place: str, class_name: str, row: Row) -> None:
    """A class of the whole picture, perhaps with probabilities (our own addition to COCO)."""
    shares = row.get("probabilities") or {}
    numbers = as_numbers(list(shares.values())) if isinstance(shares, dict) else None
    if numbers is None or (numbers and abs(sum(numbers) - 1) > 1e-3) or min([*numbers, 0]) < 0:
        reader.refuse(f"{place}.probabilities", "syntax", "are not shares that sum to 1")
        return
    annotation = Annotation("", class_name, probabilities=tuple(zip(shares, numbers, strict=True)))
    reader.add_class(place, annotation)
