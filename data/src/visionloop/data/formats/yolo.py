"""YOLO text: ``class x y width height`` or ``class x1 y1 x2 y2 ...``, as shares of the picture.

``data.yaml`` names the classes; ``labels/`` mirrors ``images/``, one text file a picture. An
object in several parts is written as one line a part: the format knows no such objects.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from visionloop.core.files import write_text
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import (
    SPLIT_WORDS,
    RowReader,
    picture_header,
    read_rows_text,
    split_of,
    splits_of_lists,
    unused_pictures,
)
from visionloop.data.formats.sources import SourceFiles

__all__ = ["YoloFormat"]

NAME_FILES = ("classes.txt", "obj.names", "coco.names")


class YoloFormat:
    """The row ``yolo`` of the format table."""

    holds = frozenset({"box", "polygon"})

    def recognise(self, files: SourceFiles) -> str:
        """``data.yaml`` with names, or rows of shares between 0 and 1."""
        for name in files.with_suffix(".yaml", ".yml"):
            if _names_of_yaml(files, name):
                return f"{name} names classes"
        for name in _row_files(files)[:5]:
            lines = [line for line in read_rows_text(files, name)[0].splitlines() if line.strip()]
            # Shares have decimals; without any, the lines may be whole pixels of DeepPCB.
            if "." in "".join(lines) and all(_looks_like_row(line) for line in lines):
                return f"text files such as {name} hold a class and shares between 0 and 1"
        return ""

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """Those of ``data.yaml``, else of ``classes.txt``."""
        for name in files.with_suffix(".yaml", ".yml"):
            if found := _names_of_yaml(files, name):
                return found
        for name in files.names:
            if PurePosixPath(name).name in NAME_FILES:
                lines = read_rows_text(files, name)[0].splitlines()
                return tuple(line.strip() for line in lines if line.strip())
        return ()

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """Pictures in order of name."""
        classes = options.classes or self.classes(files)
        if not classes:
            reason = "no data.yaml or classes.txt names the classes"
            yield Fault("data.yaml", "", reason, "unknown_class")
            return
        splits = splits_of_lists(files)
        rows = {name: files.find_picture(_image_of(name), near=name) for name in _row_files(files)}
        by_image: dict[str, str] = {}
        for name, image in rows.items():
            if not image:
                yield Fault(name, "", "there is no one picture of this name", "missing_image")
            elif image in by_image:
                reason = f"a second file about {image}, after {by_image[image]}"
                yield Fault(name, "", reason, "duplicate_id")
            else:
                by_image[image] = name
        for image in files.pictures:
            split = splits.get(PurePosixPath(image).stem) or split_of(image)
            yield from _read(files, image, by_image.get(image, ""), classes, split)
        yield from unused_pictures(files, set(files.pictures), "")

    def place_of(self, picture: Picture) -> str:
        """``images/<split>/<name>``."""
        return f"images/{picture.split or 'train'}/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """``labels/<split>/<stem>.txt`` and ``data.yaml``."""
        numbers = {name: number for number, name in enumerate(classes)}
        splits: dict[str, None] = {}
        for picture in pictures:
            place = PurePosixPath(picture.file)
            splits[place.parent.name] = None
            if picture.annotations:
                text = "".join(f"{line}\n" for line in _lines(picture, numbers))
                write_text(folder / "labels" / place.parent.name / f"{place.stem}.txt", text)
        content: dict[str, Any] = {name: f"images/{name}" for name in splits}
        content["names"] = dict(enumerate(classes))
        write_text(folder / "data.yaml", yaml.safe_dump(content, sort_keys=False))


def _row_files(files: SourceFiles) -> list[str]:
    passed_over = {*SPLIT_WORDS, "classes", "readme", "license", "requirements"}
    return [
        name
        for name in files.with_suffix(".txt")
        if not {PurePosixPath(name).stem.lower(), *PurePosixPath(name).name.lower().split(".")}
        & passed_over
    ]


def _image_of(row_file: str) -> str:
    """The picture's place by the convention: ``labels`` becomes ``images``; without suffix."""
    parts = list(PurePosixPath(row_file).with_suffix("").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "labels":
            parts[place] = "images"
            break
    return PurePosixPath(*parts).as_posix()


def _names_of_yaml(files: SourceFiles, name: str) -> tuple[str, ...]:
    try:
        content = yaml.safe_load(read_rows_text(files, name)[0])
    except (yaml.YAMLError, RecursionError):
        return ()
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        return tuple(str(names[number]) for number in range(len(names)))
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _looks_like_row(line: str) -> bool:
    try:
        first, *values = [float(word) for word in line.split()]
    except ValueError:
        return False
    return len(values) >= 4 and first.is_integer() and all(-0.1 <= one <= 1.1 for one in values)


def _read(
    files: SourceFiles, image: str, name: str, classes: Sequence[str], split: str
) -> Iterator[Loaded]:
    header, fault = picture_header(files, image)
    if header is None:
        yield fault or Fault(image, "", "cannot be read", "bad_image")
        return
    size = header.width, header.height
    if not name:
        reason = "has no text file: taken in without annotation"
        yield Fault(image, "", reason, "without_annotation", is_note=True)
        yield Picture(image, (), (), *size, split)
        return
    text, faults = read_rows_text(files, name)
    yield from faults
    reader = RowReader(name, *size)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            _read_line(reader, f"line {number}", line, classes, size)
    annotations, places = reader.finish()
    if any(not fault.is_note for fault in faults):
        annotations, places = (), ()
    yield from reader.faults
    yield Picture(image, annotations, places, *size, split)


def _read_line(
    reader: RowReader, place: str, line: str, classes: Sequence[str], size: tuple[int, int]
) -> None:
    try:
        number, *shares = [float(word) for word in line.split()]
    except ValueError:
        reader.refuse(place, "syntax", f"{line[:60]!r} holds a word that is no number")
        return
    if not (number.is_integer() and 0 <= number < len(classes)):
        reader.refuse(place, "unknown_class", f"class {number:g} is not 0 to {len(classes) - 1}")
        return
    if not all(math.isfinite(one) for one in shares):
        reader.refuse(place, "not_finite", f"{line[:60]!r} holds a number that is not finite")
        return
    if shares and max(map(abs, shares)) > 2:
        reader.refuse(place, "outside", f"{line[:60]!r} are pixels, not shares of the picture")
        return
    class_name = classes[int(number)]
    if len(shares) == 4:
        x, y, width, height = (one * side for one, side in zip(shares, size * 2, strict=True))
        box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        reader.add_box(place, class_name, box)
    elif len(shares) >= 6 and len(shares) % 2 == 0:
        ring = [one * size[place % 2] for place, one in enumerate(shares)]
        reader.add_polygon(place, class_name, [ring])
    else:
        extra = " (a confidence?)" if len(shares) == 5 else ""
        reader.refuse(place, "syntax", f"has {len(shares)} numbers after the class{extra}")


def _lines(picture: Picture, numbers: dict[str, int]) -> Iterator[str]:
    width, height = picture.width, picture.height
    for row in picture.annotations:
        if row.xyxy is None:
            continue
        x1, y1, x2, y2 = row.xyxy
        shares = [
            [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
        ]
        if row.polygon:
            sides = (width, height)
            shares = [[one / sides[k % 2] for k, one in enumerate(ring)] for ring in row.polygon]
        for values in shares:
            yield " ".join([str(numbers[row.class_name]), *(f"{one:.8f}" for one in values)])
