"""LabelMe: one JSON file a picture, shapes with points in pixels.

Rectangles may be drawn from any corner. Parts of one object share a ``group_id``. A flag that
is set is a class of the whole picture.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import write_json
from visionloop.data.formats.json_rows import as_numbers, as_text, read_json_object
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import (
    RowReader,
    picture_header,
    split_of,
    splits_of_lists,
    unused_pictures,
)
from visionloop.data.formats.sources import SourceFiles

__all__ = ["LabelMeFormat"]


class LabelMeFormat:
    """The row ``labelme`` of the format table."""

    holds = frozenset({"class", "box", "polygon"})

    def recognise(self, files: SourceFiles) -> str:
        """JSON files with shapes and an image path."""
        for name in files.with_suffix(".json")[:3]:
            try:
                content = files.read(name)
            except DataError:
                continue
            if b'"shapes"' in content and b'"imagePath"' in content:
                return f"JSON files such as {name} hold shapes and an imagePath"
        return ""

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """The format lists none."""
        return ()

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """One picture a JSON file."""
        splits = splits_of_lists(files)
        used: dict[str, str] = {}
        for name in files.with_suffix(".json"):
            content, faults = read_json_object(files, name)
            yield from faults
            if not content:
                continue
            stem = PurePosixPath(name).stem
            said = as_text(content.get("imagePath"))
            image = files.find_picture(said or stem, near=name)
            image = image or files.find_picture(stem, near=name)
            if not isinstance(content.get("shapes"), list):
                yield Fault(name, "shapes", "is not a list", "syntax")
            elif not image:
                embedded = (
                    ": it is embedded, write it out first" if content.get("imageData") else ""
                )
                yield Fault(
                    name, "imagePath", f"there is no picture '{said}'{embedded}", "missing_image"
                )
            elif image in used:
                reason = f"a second file about {image}, after {used[image]}"
                yield Fault(name, "", reason, "duplicate_id")
            else:
                used[image] = name
                split = splits.get(PurePosixPath(image).stem) or split_of(image)
                yield from _read(files, name, content, image, split)
        yield from unused_pictures(files, set(used), "has no JSON file: left out")

    def place_of(self, picture: Picture) -> str:
        """``<split>/<name>``, the JSON file lies beside."""
        return f"{picture.split or 'train'}/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """One JSON file beside each picture."""
        for picture in pictures:
            place = PurePosixPath(picture.file)
            if not picture.annotations:
                continue
            content = {
                "version": "5.5.0",
                "flags": {
                    row.class_name: True
                    for row in picture.annotations
                    if row.xyxy is None and row.class_name
                },
                "shapes": list(_shapes(picture)),
                "imagePath": place.name,
                "imageData": None,
                "imageHeight": picture.height,
                "imageWidth": picture.width,
            }
            write_json(folder / place.parent / f"{place.stem}.json", content)


def _read(
    files: SourceFiles, name: str, content: dict[str, Any], image: str, split: str
) -> Iterator[Loaded]:
    header, fault = picture_header(files, image)
    if header is None:
        yield fault or Fault(image, "", "cannot be read", "bad_image")
        return
    reader = RowReader(name, header.width, header.height)
    said = [content.get("imageWidth", header.width), content.get("imageHeight", header.height)]
    if said != [header.width, header.height] and said != [None, None]:
        reason = f"says {said[0]} x {said[1]}, but the picture has "
        reader.refuse("imageWidth", "size_mismatch", f"{reason}{header.width} x {header.height}")
    else:
        _read_flags(reader, content.get("flags"))
        _read_shapes(reader, content["shapes"])
    annotations, places = reader.finish()
    yield from reader.faults
    yield Picture(image, annotations, places, header.width, header.height, split)


def _read_flags(reader: RowReader, flags: object) -> None:
    if isinstance(flags, dict):
        for class_name, is_set in flags.items():
            if is_set is True:
                reader.add_class(f"flags.{class_name}", Annotation("", class_name))


def _read_shapes(reader: RowReader, shapes: list[Any]) -> None:
    parts: dict[Any, list[tuple[str, str, list[float]]]] = defaultdict(list)
    for number, shape in enumerate(shapes):
        place = f"shapes[{number}]"
        if not isinstance(shape, dict):
            reader.refuse(place, "syntax", "is not an object")
            continue
        class_name, kind = as_text(shape.get("label")), shape.get("shape_type", "polygon")
        points = shape.get("points")
        pairs = [as_numbers(one, 2) for one in points] if isinstance(points, list) else [None]
        flat = [value for pair in pairs if pair is not None for value in pair]
        if None in pairs or not flat:
            reader.refuse(f"{place}.points", "syntax", "is not a list of pairs of numbers")
        elif kind == "rectangle":
            _read_rectangle(reader, place, class_name, flat)
        elif kind == "polygon":
            group = shape.get("group_id")
            key = (class_name, group) if isinstance(group, int | str) else number
            parts[key].append((place, class_name, flat))
        else:
            reader.refuse(place, "unknown_shape", f"shape '{kind}' is not read: draw a polygon")
    for rows in parts.values():
        reader.add_polygon(rows[0][0], rows[0][1], [ring for _, _, ring in rows])


def _read_rectangle(reader: RowReader, place: str, class_name: str, flat: list[float]) -> None:
    if len(flat) != 4:
        reader.refuse(f"{place}.points", "syntax", f"a rectangle of {len(flat) // 2} points")
        return
    x1, y1, x2, y2 = flat
    if any(value != value for value in flat):  # min and max would hide NaN
        reader.refuse(f"{place}.points", "not_finite", "a number is not finite")
        return
    reader.add_box(place, class_name, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)))


def _shapes(picture: Picture) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(picture.annotations):
        if row.xyxy is None:
            continue
        x1, y1, x2, y2 = row.xyxy
        rings = row.polygon or ((x1, y1, x2, y2),)
        for ring in rings:
            yield {
                "label": row.class_name,
                "points": [list(pair) for pair in zip(ring[0::2], ring[1::2], strict=True)],
                "group_id": number if len(rings) > 1 else None,
                "description": "",
                "shape_type": "polygon" if row.polygon else "rectangle",
                "flags": {},
            }
