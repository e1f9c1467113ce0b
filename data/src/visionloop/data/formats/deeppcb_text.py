"""DeepPCB text: one file a picture, ``x1 y1 x2 y2 type`` a line (spaces or commas).

``type`` counts from 1. Lists ``trainval.txt`` and ``test.txt`` name the splits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from visionloop.core.files import write_text
from visionloop.data.formats.pictures import Fault, Loaded, LoadOptions, Picture
from visionloop.data.formats.rows import (
    SPLIT_WORDS,
    RowReader,
    picture_header,
    read_rows_text,
    split_of,
    splits_of_lists,
)
from visionloop.data.formats.sources import SourceFiles

__all__ = ["CLASSES", "DeepPcbFormat"]

CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
"""Class of type 1, 2, ... where nothing else is said."""

LINE = re.compile(r"^\s*\d+[ ,]+\d+[ ,]+\d+[ ,]+\d+[ ,]+\d+\s*$")


class DeepPcbFormat:
    """The row ``deeppcb`` of the format table."""

    holds = frozenset({"box"})

    def recognise(self, files: SourceFiles) -> str:
        """Text files of five whole numbers a line, or empty ones beside ``trainval.txt``."""
        names = _row_files(files)
        for name in names[:20]:
            lines = [line for line in read_rows_text(files, name)[0].splitlines() if line.strip()]
            if lines:
                is_one = all(LINE.match(line) for line in lines)
                return f"text files such as {name} hold five whole numbers a line" * is_one
        return "trainval.txt lists pictures" if names and "trainval.txt" in files.names else ""

    def classes(self, files: SourceFiles) -> tuple[str, ...]:
        """Those of ``classes.txt``, else the six of DeepPCB."""
        if "classes.txt" not in files.names:
            return CLASSES
        lines = read_rows_text(files, "classes.txt")[0].splitlines()
        return tuple(line.strip() for line in lines if line.strip())

    def load(self, files: SourceFiles, options: LoadOptions) -> Iterator[Loaded]:
        """One picture a text file."""
        classes = options.classes or self.classes(files)
        splits = splits_of_lists(files)
        used: dict[str, str] = {}
        for name in _row_files(files):
            image = files.find_picture(PurePosixPath(name).stem, near=name)
            if not image:
                yield Fault(name, "", "there is no one picture of this name", "missing_image")
            elif image in used:
                reason = f"a second file about {image}, after {used[image]}"
                yield Fault(name, "", reason, "duplicate_id")
            else:
                used[image] = name
                split = splits.get(PurePosixPath(image).stem) or split_of(image)
                yield from _read(files, name, image, classes, split)

    def place_of(self, picture: Picture) -> str:
        """``test/<name>``, as in the published set."""
        return f"test/{PurePosixPath(picture.file).name}"

    def save(self, folder: Path, pictures: Iterable[Picture], classes: Sequence[str]) -> None:
        """``labels/<stem>.txt``, ``classes.txt``, ``trainval.txt`` and ``test.txt``."""
        lists: dict[str, list[str]] = {"trainval": [], "test": []}
        for picture in pictures:
            stem = PurePosixPath(picture.file).stem
            lists["test" if picture.split == "test" else "trainval"].append(stem)
            if picture.annotations:
                text = "".join(f"{line}\n" for line in _lines(picture, list(classes)))
                write_text(folder / "labels" / f"{stem}.txt", text)
        for name, stems in lists.items():
            write_text(folder / f"{name}.txt", "".join(f"{stem}\n" for stem in stems))
        write_text(folder / "classes.txt", "".join(f"{name}\n" for name in classes))


def _row_files(files: SourceFiles) -> list[str]:
    passed_over = {*SPLIT_WORDS, "classes", "readme", "license", "requirements"}
    return [
        name
        for name in files.with_suffix(".txt")
        if PurePosixPath(name).stem.lower() not in passed_over
    ]


def _read(
    files: SourceFiles, name: str, image: str, classes: tuple[str, ...], split: str
) -> Iterator[Loaded]:
    header, fault = picture_header(files, image)
    if header is None:
        yield fault or Fault(image, "", "cannot be read", "bad_image")
        return
    text, faults = read_rows_text(files, name)
    yield from faults
    if any(not fault.is_note for fault in faults):
        return
    reader = RowReader(name, header.width, header.height)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            _read_line(reader, f"line {number}", line, classes)
    annotations, places = reader.finish()
    yield from reader.faults
    yield Picture(image, annotations, places, header.width, header.height, split)


def _read_line(reader: RowReader, place: str, line: str, classes: tuple[str, ...]) -> None:
    parts = line.replace(",", " ").split()
    try:
        corners, number = [float(part) for part in parts[:4]], int(parts[4])
        if len(parts) != 5:
            raise ValueError
    except (ValueError, IndexError):
        reader.refuse(place, "syntax", f"{line[:60]!r} is not x1 y1 x2 y2 type")
        return
    if not 1 <= number <= len(classes):
        reader.refuse(place, "unknown_class", f"type {number} is not 1 to {len(classes)}")
        return
    reader.add_box(place, classes[number - 1], corners)


def _lines(picture: Picture, classes: list[str]) -> Iterator[str]:
    for row in picture.annotations:
        if row.xyxy is not None:
            corners = [round(value) for value in row.xyxy]
            thin = corners[0] == corners[2] or corners[1] == corners[3]
            words = [f"{value:.2f}" for value in row.xyxy] if thin else map(str, corners)
            yield " ".join([*words, str(classes.index(row.class_name) + 1)])
