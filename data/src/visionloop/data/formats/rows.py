"""The checks that all formats share: boxes, outlines, pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.data.formats.pictures import Fault
from visionloop.data.formats.sources import SourceFiles
from visionloop.serving.images import ImageHeader

__all__ = [
    "RowReader",
    "box_of_polygon",
    "check_box",
    "check_polygon",
    "nothing_there",
    "picture_header",
    "read_rows_text",
    "split_of",
    "split_of_word",
    "splits_of_lists",
    "unused_pictures",
]

Box = tuple[float, float, float, float]
Polygon = tuple[tuple[float, ...], ...]

ROUNDING = 1.0
"""Pixels by which a box may stick out of its picture and be cut back, with a note."""
NOISE = 0.01
"""Pixels below which nothing is said: decimals of the file."""

SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder or list name, in small letters, to official split."""


def check_box(xyxy: Sequence[float], width: int, height: int) -> tuple[Box | None, str, str]:
    """Look at the corners of a box.

    Returns
    -------
    box : tuple of 4 floats or None
        Inside the picture; None if it is refused.
    kind, reason : str
        Of the fault, or of the note where a box was cut back; empty where all is well.
    """
    x1, y1, x2, y2 = (float(value) for value in xyxy)
    said = f"box {', '.join(f'{value:g}' for value in (x1, y1, x2, y2))}"
    if not all(math.isfinite(value) for value in (x1, y1, x2, y2)):
        return None, "not_finite", f"{said} is not four finite numbers"
    if x1 > x2 or y1 > y2:
        return None, "swapped_corners", f"{said}: the second corner comes before the first"
    if x1 == x2 or y1 == y2:
        return None, "degenerate_box", f"{said} has no area"
    beyond = max(-x1, -y1, x2 - width, y2 - height)
    if beyond > ROUNDING + 1e-6:
        size = f"{width} x {height}"
        return None, "outside", f"{said} sticks {beyond:g} px out of its picture of {size}"
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if box[0] >= box[2] or box[1] >= box[3]:
        return None, "outside", f"{said} lies outside its picture of {width} x {height}"
    if beyond > NOISE:
        return box, "clipped", f"{said} was cut back by {beyond:.2g} px to its picture"
    return box, "", ""


def check_polygon(
    rings: Sequence[Sequence[float]], width: int, height: int
) -> tuple[Polygon | None, str, str]:
    """Look at the rings of an outline; returns as :func:`check_box`."""
    checked: list[tuple[float, ...]] = []
    for ring in rings:
        if len(ring) < 6 or len(ring) % 2:
            return None, "degenerate_box", f"an outline of {len(ring) / 2:g} points has no area"
        if not all(math.isfinite(value) for value in ring):
            return None, "not_finite", "an outline holds a number that is not finite"
        xs, ys = ring[0::2], ring[1::2]
        beyond = max(-min(xs), -min(ys), max(xs) - width, max(ys) - height)
        if beyond > ROUNDING + 1e-6:
            return None, "outside", f"an outline sticks {beyond:g} px out of its picture"
        checked.append(
            tuple(
                min(max(float(value), 0.0), float(height if place % 2 else width))
                for place, value in enumerate(ring)
            )
        )
    if not checked:
        return None, "degenerate_box", "an outline without points"
    return tuple(checked), "", ""


def box_of_polygon(rings: Sequence[Sequence[float]]) -> Box:
    """The smallest upright box around an outline."""
    xs = [value for ring in rings for value in ring[0::2]]
    ys = [value for ring in rings for value in ring[1::2]]
    return min(xs), min(ys), max(xs), max(ys)


def nothing_there() -> Annotation:
    """The annotation that says: looked at, nothing there."""
    return Annotation("", "")


class RowReader:
    """Collects the annotations of one picture and the faults of its rows.

    Attributes
    ----------
    annotations : list of Annotation
    places : list of str
        Where each annotation stands.
    faults : list of Fault
    """

    def __init__(self, file: str, width: int, height: int) -> None:
        self._file, self._size = file, (width, height)
        self.annotations: list[Annotation] = []
        self.places: list[str] = []
        self.faults: list[Fault] = []

    def refuse(self, place: str, kind: str, reason: str) -> None:
        """A row that is wrong."""
        self.faults.append(Fault(self._file, place, reason, kind))

    def note(self, place: str, kind: str, reason: str) -> None:
        """A row that is taken in, with a word about it."""
        self.faults.append(Fault(self._file, place, reason, kind, is_note=True))

    def add_class(self, place: str, annotation: Annotation) -> None:
        """A whole-image annotation."""
        self.annotations.append(annotation)
        self.places.append(f"{self._file}{f', {place}' if place else ''}")

    def add_box(self, place: str, class_name: str, xyxy: Sequence[float]) -> None:
        """A box, if it passes."""
        box, kind, reason = check_box(xyxy, *self._size)
        self._add(place, class_name, box, (), kind, reason)

    def add_polygon(
        self,
        place: str,
        class_name: str,
        rings: Sequence[Sequence[float]],
        xyxy: Sequence[float] | None = None,
    ) -> None:
        """An outline, if it passes; its box is the one given, else the smallest around it."""
        polygon, kind, reason = check_polygon(rings, *self._size)
        if polygon is None:
            self.refuse(place, kind, reason)
            return
        box, kind, reason = check_box(xyxy or box_of_polygon(polygon), *self._size)
        self._add(place, class_name, box, polygon, kind, reason)

    def _add(
        self, place: str, class_name: str, box: Box | None, polygon: Polygon, kind: str, reason: str
    ) -> None:
        if not class_name:
            self.refuse(place, "unknown_class", "has no class")
            return
        if box is None:
            self.refuse(place, kind, reason)
            return
        if reason:
            self.note(place, kind, reason)
        annotation = Annotation("", class_name, box, polygon=polygon)
        if annotation in self.annotations:
            self.note(place, "doubled_row", f"says the same as an earlier row ({class_name})")
        self.add_class(place, annotation)

    def finish(self) -> tuple[tuple[Annotation, ...], tuple[str, ...]]:
        """Annotations and places; "nothing there" if there was no row at all."""
        if not self.annotations and all(fault.is_note for fault in self.faults):
            return (nothing_there(),), (self._file,)
        return tuple(self.annotations), tuple(self.places)


def read_rows_text(files: SourceFiles, name: str) -> tuple[str, list[Fault]]:
    """Text of an annotation file, and what is to be said about its encoding."""
    try:
        content = files.read(name)
        text = content.decode("utf-8-sig")
    except DataError as error:
        return "", [Fault(name, "", "; ".join(error.problems), "syntax")]
    except UnicodeDecodeError as error:
        return "", [Fault(name, f"byte {error.start}", "is not UTF-8 text", "syntax")]
    faults = []
    if content.startswith(b"\xef\xbb\xbf"):
        faults.append(
            Fault(name, "", "starts with a byte order mark, passed over", "encoding", True)
        )
    if "\r" in text:
        faults.append(Fault(name, "", "has CRLF line ends, read as LF", "encoding", True))
    if "\0" in text:
        faults.append(Fault(name, "", "holds NUL bytes: it is no text file", "syntax"))
        return "", faults
    return text.replace("\r\n", "\n").replace("\r", "\n"), faults


def picture_header(files: SourceFiles, name: str) -> tuple[ImageHeader | None, Fault | None]:
    """Size of a picture, or why it cannot be had."""
    try:
        return files.header(name), None
    except DataError as error:
        return None, Fault(name, "", "; ".join(error.problems), "bad_image")


def unused_pictures(files: SourceFiles, used: set[str], why: str) -> Iterator[Fault]:
    """A fault for each picture of a format that is not read, and notes for what is left over."""
    for name in files.other_pictures:
        reason = "is in a format that is not read (PNG and JPEG are): convert it"
        yield Fault(name, "", reason, "bad_image")
    for name in files.pictures:
        if name not in used:
            yield Fault(name, "", why, "without_annotation", is_note=True)


def split_of_word(text: str) -> str:
    """Official split that a file's stem names: ``instances_train2017`` says train."""
    for word in re.findall(r"[a-z]+", text.lower()):
        if split := SPLIT_WORDS.get(word):
            return split
    return ""


def split_of(name: str) -> str:
    """Official split that a path names by one of its folders; empty if none does."""
    for part in name.split("/")[:-1]:
        if word := SPLIT_WORDS.get(part.lower()):
            return word
    return ""


def splits_of_lists(files: SourceFiles) -> dict[str, str]:
    """Stem of a picture to official split, from lists such as ``ImageSets/Main/test.txt``.

    A line names a picture by stem, file name or path, perhaps with further words. What
    ``trainval.txt`` calls training, ``val.txt`` may call validation.
    """
    lists = [
        name
        for name in files.with_suffix(".txt")
        if PurePosixPath(name).stem.lower() in SPLIT_WORDS
    ]
    lists.sort(key=lambda name: PurePosixPath(name).stem.lower() != "trainval")
    found: dict[str, str] = {}
    for name in lists:
        text, _ = read_rows_text(files, name)
        split = SPLIT_WORDS[PurePosixPath(name).stem.lower()]
        for line in text.splitlines():
            if words := line.split():
                found[PurePosixPath(words[0].replace("\\", "/")).stem] = split
    return found
